"""The system calls that sandboxed code may not make, as a seccomp filter: a program for the kernel's packet filter.

It refuses rather than kills, so that an ordinary program that tries something else first goes on. It closes what the
namespaces leave open: memory that no limit counts (shared segments, memfd), sockets that no namespace holds (vsock),
and the parts of the kernel that most escapes went through (user namespaces, io_uring, bpf, keys). A call newer than
this file does not exist for the code.
"""

from __future__ import annotations

import platform
import struct

# Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
NONE = -1  # the machine has no such call
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}

DENIED: dict[str, tuple[int, int]] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mknod": (133, NONE),
    "mknodat": (259, 33),
    # memory that address space and disk limits do not count
    "memfd_create": (319, 279), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
    # parts of the kernel with no use here
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "fanotify_init": (300, 262), "personality": (135, 92),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "vmsplice": (278, 75), "io_setup": (206, 0), "modify_ldt": (154, NONE),
    "iopl": (172, NONE), "ioperm": (173, NONE), "uselib": (134, NONE),
    "ustat": (136, NONE), "sysfs": (139, NONE), "_sysctl": (156, NONE),
    # the machine itself
    "acct": (163, 89), "syslog": (103, 116), "quotactl": (179, 60), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "create_module": (174, NONE), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "vhangup": (153, 58), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162),
}  # fmt: skip
# What a fork server and its jobs may not do either: become another program, or touch each other. (That jobs cannot
# fork is a limit of theirs: the server has to.)
DENIED_TO_JOBS: dict[str, tuple[int, int]] = {
    "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "socket": (41, 198), "socketpair": (53, 199),
}  # fmt: skip
CLONE, IOCTL, SOCKET, PRLIMIT = (56, 220), (16, 29), (41, 198), (302, 261)

# From this number on both tables agree. Of the calls there only these exist: close_range, faccessat2, epoll_pwait2.
FIRST_NEW, NEW_ALLOWED = 424, (436, 439, 441)
X32_BIT = 0x40000000
CLONE_NEW_ANYTHING = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # type into the terminal
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = 0x50001, 0x50026, 0x50061
_ARCH, _NUMBER, _ARGUMENTS = 4, 0, 16  # offsets in struct seccomp_data


def filter_program(machine: str | None = None, job: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Args:
        machine: `platform.machine()` of the kernel; this machine's by default.
        job: the stricter filter for a fork server and its jobs.

    Raises:
        KeyError: there is no table for such a machine.
    """
    machine = machine or platform.machine()
    column = _COLUMN[machine]
    program = [_load(_ARCH), _unless(AUDIT_ARCH[machine], KILL), _load(_NUMBER)]
    if machine == "x86_64":
        program += [_jump(0x35, X32_BIT, 0, 1), _return(ENOSYS)]
    for number in NEW_ALLOWED:
        program += [_jump(0x15, number, 0, 1), _return(ALLOW)]
    program += [_jump(0x35, FIRST_NEW, 0, 1), _return(ENOSYS)]
    for numbers in {**DENIED, **(DENIED_TO_JOBS if job else {})}.values():
        if numbers[column] != NONE:
            program += [_jump(0x15, numbers[column], 0, 1), _return(EPERM)]
    # Arguments: only the low 32 bits count, as in the kernel, which takes them as int.
    refused_clone = [_load(_ARGUMENTS), _jump(0x45, CLONE_NEW_ANYTHING, 0, 1), _return(EPERM), _return(ALLOW)]
    refused_ioctl = [_load(_ARGUMENTS + 8)]
    for request in (TIOCSTI, TIOCLINUX):
        refused_ioctl += [_jump(0x15, request, 0, 1), _return(EPERM)]
    refused_socket = [_load(_ARGUMENTS)]
    for family in (AF_UNIX, AF_INET, AF_INET6):
        refused_socket += [_jump(0x15, family, 0, 1), _return(ALLOW)]
    others_limits = [_load(_ARGUMENTS), _jump(0x15, 0, 0, 1), _return(ALLOW)]  # 0 is the process itself
    for numbers, block in (
        (CLONE, refused_clone),
        (IOCTL, [*refused_ioctl, _return(ALLOW)]),
        (SOCKET, [*refused_socket, _return(EAFNOSUPPORT)]),
        (PRLIMIT, [*others_limits, _return(EPERM if job else ALLOW)]),
    ):
        program += [_jump(0x15, numbers[column], 0, len(block)), *block]
    return b"".join([*program, _return(ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", 0x20, 0, 0, offset)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    """0x15: equal, 0x35: at least, 0x45: has any of the bits; jumps count the instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _unless(value: int, action: int) -> bytes:
    return _jump(0x15, value, 1, 0) + _return(action)


def _return(action: int) -> bytes:
    return struct.pack("=HBBI", 0x06, 0, 0, action)
