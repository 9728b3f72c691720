"""System calls with no use in a sandbox."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

KERNEL = (
    Attack(
        "kernel",
        "clone into namespaces",
        """
for kind in (0x10000000, 0x10000000 | 0x20000, 0x40000000):
    raw((56, 220), kind | 17, None, None, None, None)
raw(435, None, 0)
""",
    ),
    Attack(
        "kernel",
        "enter namespaces of process 1",
        """
import os
for kind in ("user", "mnt", "net", "pid"):
    attempt(kind, lambda: os.setns(os.open("/proc/1/ns/" + kind, os.O_RDONLY)))
    try:
        descriptor = os.open("/proc/1/ns/" + kind, os.O_RDONLY)
    except OSError:
        continue
    system("setns", descriptor, 0)
""",
    ),
    Attack(
        "kernel",
        "control groups",
        """
import os
for path in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/tasks", "/sys/fs/cgroup/release_agent"):
    attempt(path, lambda: open(path, "w").write("1"))
system("mount", b"none", b"/tmp", b"cgroup2", 0, None)
""",
    ),
    Attack(
        "kernel",
        "io_uring, bpf, keys and the like",
        """
for number in (425, 426, 427, (321, 280), (298, 241), (323, 282), (250, 219), (248, 217), (249, 218), (300, 262),
               (312, 272), (135, 92), (310, 270), (311, 271), 440, 447, 448, 453, 500):
    raw(number, 1, 0, 0, 0, 0, 0)
""",
    ),
    Attack(
        "kernel",
        "the machine",
        """
for number in ((169, 142), (167, 224), (168, 225), (175, 105), (313, 273), (176, 106), (246, 104), (320, 294),
               (163, 89), (103, 116), (164, 170), (227, 112), (170, 161), (153, 58)):
    raw(number, 0, 0, 0, 0, 0)
""",
    ),
    Attack(
        "kernel",
        "calls of another architecture",
        """
import ctypes, mmap, platform
if platform.machine() == "x86_64":
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, getpid of i386; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    print("BREACH", ctypes.CFUNCTYPE(ctypes.c_int)(address)())
""",
    ),
    Attack(
        "kernel",
        "calls of the x32 table",
        """
import platform
if platform.machine() == "x86_64":
    raw(0x40000000 | 39)
    raw(0x40000000 | 101, 16, 1, 0, 0)
""",
    ),
)
