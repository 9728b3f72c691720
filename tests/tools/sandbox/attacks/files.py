"""What lies on the host's disks, and its devices."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

FILES = (
    Attack(
        "files",
        "list a folder of the host",
        """
import os
attempt("list", lambda: os.listdir("$folder"))
""",
    ),
    Attack(
        "files",
        "climb with dots",
        """
attempt("climb", lambda: open("../" * 40 + "$secret").read())
""",
    ),
    Attack(
        "files",
        "link to a file of the host",
        """
import os
os.symlink("$secret", "link")
attempt("follow", lambda: open("link").read())
""",
    ),
    Attack(
        "files",
        "link handed out",
        """
import os
os.symlink("$secret", "out.txt")
os.symlink("$folder", "folder")
""",
    ),
    Attack(
        "files",
        "relative link handed out",
        """
import os
os.symlink("../" * 30 + "$secret", "out.txt")
""",
    ),
    Attack(
        "files",
        "hard link",
        """
import os
attempt("link", lambda: os.link("$secret", "hard"))
""",
    ),
    Attack(
        "files",
        "through the folder of process 1",
        """
attempt("cwd", lambda: open("/proc/1/cwd/" + "../" * 30 + "$secret").read())
""",
    ),
    Attack(
        "files",
        "through its own root",
        """
attempt("root", lambda: open("/proc/self/root$secret").read())
""",
    ),
    Attack(
        "files",
        "through descriptors of all processes",
        """
import os
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        descriptors = os.listdir("/proc/%s/fd" % process)
    except OSError:
        continue
    for descriptor in descriptors:
        attempt("fd", lambda: open("/proc/%s/fd/%s/$secret" % (process, descriptor)).read())
        attempt("fd up", lambda: open("/proc/%s/fd/%s/../../../../../$secret" % (process, descriptor)).read())
""",
    ),
    Attack(
        "files",
        "descriptors left open",
        """
import os, stat
for descriptor in range(3, 256):
    try:
        status = os.fstat(descriptor)
    except OSError:
        continue
    if stat.S_ISDIR(status.st_mode) and os.path.exists("/proc"):
        attempt("descriptor", lambda: os.open("$secret".lstrip("/"), os.O_RDONLY, dir_fd=descriptor))
    print(descriptor, stat.filemode(status.st_mode))
""",
    ),
    Attack(
        "files",
        "by handle",
        """
import ctypes
handle = ctypes.create_string_buffer(bytes([8, 0, 0, 0, 1, 0, 0, 0, 2]) + bytes(32))
system("open_by_handle_at", 3, handle, 0)
""",
    ),
    Attack(
        "files",
        "change the interpreter",
        """
import os, sys
for folder in ["/usr", "/usr/bin", "/usr/lib", "/lib64", "/bin", os.path.dirname(os.__file__), *sys.path]:
    attempt(folder, lambda: open(folder + "/planted.py", "w"))
""",
    ),
    Attack(
        "files",
        "overwrite the running program",
        """
import sys
for path in ("/proc/self/exe", "/proc/1/exe", sys.executable or "python"):
    attempt(path, lambda: open(path, "r+b").write(b"x"))
""",
    ),
    Attack(
        "files",
        "write beside the working folder",
        """
for path in ("/planted", "/dev/planted", "/dev/shm/planted", "/proc/planted", "/sys/planted", "/etc/planted",
             "/root/planted"):
    attempt(path, lambda: open(path, "w"))
""",
    ),
    Attack(
        "files",
        "kernel settings",
        """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
             "/proc/sys/vm/drop_caches",
             "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register"):
    attempt(path, lambda: open(path, "w").write("1"))
""",
    ),
    Attack(
        "files",
        "mount",
        """
system("mount", b"none", b"/tmp", b"tmpfs", 0, None)
system("mount", None, b"/", None, 32, None)
system("mount", b"/", b"/tmp", None, 4096, None)
system("umount2", b"/usr", 2)
""",
    ),
    Attack(
        "files",
        "another root",
        """
import os
attempt("chroot", lambda: os.chroot("/proc/1/root"))
system("chroot", b".")
raw((155, 41), b".", b".")
""",
    ),
    Attack(
        "files",
        "new mount calls",
        """
for number in range(428, 434):
    raw(number, 0, b"/", 0, 0, 0)
raw(442, -100, b"/", 0, 0, 0)
""",
    ),
    Attack(
        "files",
        "outlandish names",
        r"""
for name in ("a\\..\\b", "c:d", "line\nbreak", "..hidden", "-rf", "\x1b[2J", "e" * 250, " ", "~"):
    try:
        open(name, "w").write("x")
    except OSError:
        pass
""",
        ended=(
            "finished",
            "raised",
        ),
    ),
    Attack(
        "files",
        "a tree without an end",
        """
import os
try:
    for _ in range(5000):
        os.mkdir("d")
        os.chdir("d")
except OSError as error:
    print(error)
""",
    ),
    Attack(
        "files",
        "an empty file of a terabyte",
        """
open("hole", "wb").truncate(1 << 40)
""",
    ),
)

DEVICES = (
    Attack(
        "devices",
        "disks and memory",
        """
for path in ("/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/proc/kcore", "/dev/kvm",
             "/dev/fuse",
             "/dev/loop-control", "/dev/net/tun", "/dev/vhost-vsock"):
    attempt(path, lambda: open(path, "rb").read(1))
""",
    ),
    Attack(
        "devices",
        "make one",
        """
import os
for kind in (0o060000, 0o020000):
    attempt("mknod", lambda: os.mknod("device", kind | 0o600, os.makedev(8, 0)))
""",
    ),
    Attack(
        "devices",
        "type into the terminal",
        """
import fcntl
for path in ("/dev/tty", "/dev/stdin", "/dev/pts/0", "/dev/console"):
    attempt(path, lambda: fcntl.ioctl(open(path, "r+b", buffering=0), 0x5412, b"x"))
attempt("descriptor 0", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("wide", lambda: fcntl.ioctl(0, 0x5412 | 1 << 32, b"x"))
""",
    ),
    Attack(
        "devices",
        "type into a terminal of its own",
        """
import fcntl, os
own, other = os.openpty()
attempt("TIOCSTI", lambda: fcntl.ioctl(other, 0x5412, b"x"))
attempt("TIOCLINUX", lambda: fcntl.ioctl(other, 0x541C, b"x"))
""",
    ),
)
