"""Programs that try to break out of a sandbox, as data: what each tries, and what must hold.

They are run in the sandbox alone, to find out whether it holds on this machine: a few by `herdsman doctor` and before
a sandbox is first used, all of them in the tests. What must hold after every one of them, see `siege.py`: the secret
is not told, nothing outside is changed, reached or left running, and the next call works.

In the programs `$name` is bait that the siege lays out: `$secret` a file anyone may read, `$folder` a folder anyone
may write to, `$port` a listener of the host, `$abstract` a Unix socket, `$pid` a process of the sandbox's own user,
`$processes` and `$disk` the limits, `$expected` a value that only the judge knows. `attempt(title, action)` reports a
breach if the action succeeds; a program may also print a line with BREACH itself. Parts that are called one after
another in the same session or server are divided by a line `#---`.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = ("finished", "raised", "exited", "time", "memory", "files", "answer", "killed", "form")


@dataclass(frozen=True)
class Attack:
    """One program.

    Attributes:
        group: what it is aimed at.
        kind: how it is run: "run", "session", "jobs", or as a candidate before the judge, "values" or "tests", which
            it must not pass.
        ended: how the last part may end.
        canary: one of the few that are tried before a sandbox is used.
    """

    group: str
    name: str
    code: str
    kind: str = "run"
    ended: tuple[str, ...] = ANY
    canary: bool = False


PRELUDE = '''
def attempt(title, action):
    try:
        found = action()
    except BaseException as error:
        print("held:", title, type(error).__name__)
    else:
        print("BREACH:", title, repr(found)[:200])

def system(name, *arguments):
    """A call of the C library that must fail."""
    import ctypes
    def action():
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)
    attempt(name, action)

def raw(number, *arguments):
    """A system call by number, of this machine's table or both tables', that must fail."""
    import ctypes, platform
    def action():
        numbers = number if isinstance(number, tuple) else (number, number)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(numbers[platform.machine() != "x86_64"], *arguments) == -1:
            raise OSError(ctypes.get_errno(), "refused")
    attempt("system call %s" % (number,), action)
'''

FILES = [
    Attack("files", "read a file of the host", 'attempt("read", lambda: open("$secret").read())', canary=True),
    Attack("files", "list a folder of the host", 'import os\nattempt("list", lambda: os.listdir("$folder"))'),
    Attack("files", "passwords", 'for name in ("/etc/passwd", "/etc/shadow", "/root/.ssh/id_rsa"):\n    attempt(name, lambda: open(name).read())', canary=True),
    Attack("files", "climb with dots", 'attempt("climb", lambda: open("../" * 40 + "$secret").read())'),
    Attack("files", "link to a file of the host", 'import os\nos.symlink("$secret", "link")\nattempt("follow", lambda: open("link").read())'),
    Attack("files", "link handed out", 'import os\nos.symlink("$secret", "out.txt")\nos.symlink("$folder", "folder")'),
    Attack("files", "relative link handed out", 'import os\nos.symlink("../" * 30 + "$secret", "out.txt")'),
    Attack("files", "hard link", 'import os\nattempt("link", lambda: os.link("$secret", "hard"))'),
    Attack("files", "through the root of process 1", 'attempt("root", lambda: open("/proc/1/root$secret").read())', canary=True),
    Attack("files", "through the folder of process 1", 'attempt("cwd", lambda: open("/proc/1/cwd/" + "../" * 30 + "$secret").read())'),
    Attack("files", "through its own root", 'attempt("root", lambda: open("/proc/self/root$secret").read())'),
    Attack("files", "through descriptors of all processes", """
import os
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        descriptors = os.listdir("/proc/%s/fd" % process)
    except OSError:
        continue
    for descriptor in descriptors:
        attempt("fd", lambda: open("/proc/%s/fd/%s/$secret" % (process, descriptor)).read())
        attempt("fd up", lambda: open("/proc/%s/fd/%s/../../../../../$secret" % (process, descriptor)).read())
"""),
    Attack("files", "descriptors left open", """
import os, stat
for descriptor in range(3, 256):
    try:
        status = os.fstat(descriptor)
    except OSError:
        continue
    if stat.S_ISDIR(status.st_mode) and os.path.exists("/proc"):
        attempt("descriptor", lambda: os.open("$secret".lstrip("/"), os.O_RDONLY, dir_fd=descriptor))
    print(descriptor, stat.filemode(status.st_mode))
"""),
    Attack("files", "by handle", """
import ctypes
handle = ctypes.create_string_buffer(bytes([8, 0, 0, 0, 1, 0, 0, 0, 2]) + bytes(32))
system("open_by_handle_at", 3, handle, 0)
"""),
    Attack("files", "write in a folder of the host", 'attempt("write", lambda: open("$folder/planted", "w"))', canary=True),
    Attack("files", "change the interpreter", """
import os, sys
for folder in ["/usr", "/usr/bin", "/usr/lib", "/lib64", "/bin", os.path.dirname(os.__file__), *sys.path]:
    attempt(folder, lambda: open(folder + "/planted.py", "w"))
"""),
    Attack("files", "overwrite the running program", """
import sys
for path in ("/proc/self/exe", "/proc/1/exe", sys.executable or "python"):
    attempt(path, lambda: open(path, "r+b").write(b"x"))
"""),
    Attack("files", "write beside the working folder", """
for path in ("/planted", "/dev/planted", "/dev/shm/planted", "/proc/planted", "/sys/planted", "/etc/planted", "/root/planted"):
    attempt(path, lambda: open(path, "w"))
"""),
    Attack("files", "kernel settings", """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches",
             "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register"):
    attempt(path, lambda: open(path, "w").write("1"))
"""),
    Attack("files", "mount", """
system("mount", b"none", b"/tmp", b"tmpfs", 0, None)
system("mount", None, b"/", None, 32, None)
system("mount", b"/", b"/tmp", None, 4096, None)
system("umount2", b"/usr", 2)
"""),
    Attack("files", "another root", 'import os\nattempt("chroot", lambda: os.chroot("/proc/1/root"))\nsystem("chroot", b".")\nraw((155, 41), b".", b".")'),
    Attack("files", "new mount calls", 'for number in range(428, 434):\n    raw(number, 0, b"/", 0, 0, 0)\nraw(442, -100, b"/", 0, 0, 0)'),
    Attack("files", "outlandish names", """
for name in ("a\\\\..\\\\b", "c:d", "line\\nbreak", "..hidden", "-rf", "\\x1b[2J", "e" * 250, " ", "~"):
    try:
        open(name, "w").write("x")
    except OSError:
        pass
""", ended=("finished", "raised")),
    Attack("files", "a tree without an end", """
import os
try:
    for _ in range(5000):
        os.mkdir("d")
        os.chdir("d")
except OSError as error:
    print(error)
"""),
    Attack("files", "an empty file of a terabyte", 'open("hole", "wb").truncate(1 << 40)'),
]  # fmt: skip

DEVICES = [
    Attack("devices", "disks and memory", """
for path in ("/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/proc/kcore", "/dev/kvm", "/dev/fuse",
             "/dev/loop-control", "/dev/net/tun", "/dev/vhost-vsock"):
    attempt(path, lambda: open(path, "rb").read(1))
"""),
    Attack("devices", "make one", """
import os
for kind in (0o060000, 0o020000):
    attempt("mknod", lambda: os.mknod("device", kind | 0o600, os.makedev(8, 0)))
"""),
    Attack("devices", "type into the terminal", """
import fcntl
for path in ("/dev/tty", "/dev/stdin", "/dev/pts/0", "/dev/console"):
    attempt(path, lambda: fcntl.ioctl(open(path, "r+b", buffering=0), 0x5412, b"x"))
attempt("descriptor 0", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("wide", lambda: fcntl.ioctl(0, 0x5412 | 1 << 32, b"x"))
"""),
    Attack("devices", "type into a terminal of its own", """
import fcntl, os
own, other = os.openpty()
attempt("TIOCSTI", lambda: fcntl.ioctl(other, 0x5412, b"x"))
attempt("TIOCLINUX", lambda: fcntl.ioctl(other, 0x541C, b"x"))
"""),
]  # fmt: skip

NETWORK = [
    Attack("network", "a listener of the host", 'import socket\nattempt("connect", lambda: socket.create_connection(("127.0.0.1", $port), 1))', canary=True),
    Attack("network", "the world", """
import socket
attempt("connect", lambda: socket.create_connection(("1.1.1.1", 53), 1))
def datagram():
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect(("1.1.1.1", 53))
    link.send(b"x")
attempt("datagram", datagram)
attempt("IPv6", lambda: socket.create_connection(("2606:4700:4700::1111", 53), 1))
"""),
    Attack("network", "names", 'import socket\nattempt("lookup", lambda: socket.getaddrinfo("example.com", 80))'),
    Attack("network", "an abstract socket of the host", 'import socket\nattempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("\\0$abstract"))', canary=True),
    Attack("network", "a socket file of the host", 'import socket\nattempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("$folder/socket"))'),
    Attack("network", "kinds of socket", """
import socket
for family in (3, 4, 5, 9, 16, 17, 21, 29, 30, 31, 38, 40, 41, 44):
    attempt("family %d" % family, lambda: socket.socket(family, socket.SOCK_RAW if family in (16, 17) else socket.SOCK_DGRAM))
    attempt("stream %d" % family, lambda: socket.socket(family, socket.SOCK_STREAM))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
"""),
    Attack("network", "cards", """
import os, socket
names = {name for _, name in socket.if_nameindex()} if hasattr(socket, "if_nameindex") else set()
print("BREACH" if names - {"lo"} else "held", names)
"""),
]  # fmt: skip

PROCESSES = [
    Attack("processes", "see the host's", """
import os
if os.path.isdir("/proc/1"):
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                print(open("/proc/%s/%s" % (process, name), errors="replace").read())
            except OSError as error:
                print(error)
""", canary=True),
    Attack("processes", "kill one of the host", """
import os
attempt("kill", lambda: os.kill($pid, 9))
"""),
    Attack("processes", "kill all it can", "import os\nos.kill(-1, 9)"),
    Attack("processes", "kill its parents", "import os\nos.kill(os.getppid(), 9)\nos.kill(1, 9)\nos.kill(1, 19)"),
    Attack("processes", "trace its parent", """
import os
parent = os.getppid() if hasattr(os, "getppid") else 1
system("ptrace", 16, parent, None, None)
system("ptrace", 0x4206, parent, None, None)
"""),
    Attack("processes", "memory of its parent", """
import os, ctypes
parent = os.getppid() if hasattr(os, "getppid") else 1
system("process_vm_readv", parent, None, 0, None, 0, 0)
# Process 1 may be written to: it is one of the sandbox's own, and held by the same filter.
if os.path.exists("/proc/1/status"):
    filtered = [line.split()[1] for line in open("/proc/1/status") if line.startswith("Seccomp:")]
    print("held" if filtered == ["2"] else "BREACH", filtered)
"""),
    Attack("processes", "descriptors of its parent", 'import os\nraw(434, os.getppid() if hasattr(os, "getppid") else 1, 0)\nraw(438, 3, 1, 0)'),
    Attack("processes", "fork bomb", """
import os, time
count = 0
try:
    while count < 4000:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        count += 1
except OSError as error:
    print(error)
print("BREACH" if count > $processes else "held", count)
""", canary=True),
    Attack("processes", "fork bomb that grows", "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", ended=("time", "killed", "memory")),
    Attack("processes", "threads", """
import threading, time
count = 0
try:
    while count < 4000:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        count += 1
except (RuntimeError, MemoryError) as error:
    print(error)
print("BREACH" if count > $processes else "held", count)
"""),
    Attack("processes", "a daemon stays behind", """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        for number in (1, 2, 3, 13, 15):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
"""),
    Attack("processes", "raise its limits", """
import resource
for name in ("AS", "NPROC", "FSIZE", "NOFILE", "CPU", "CORE"):
    limit = getattr(resource, "RLIMIT_" + name)
    if resource.getrlimit(limit)[1] != resource.RLIM_INFINITY:
        attempt(name, lambda: resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
print("BREACH" if resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY else "held")
"""),
    Attack("processes", "become root", """
import os
for name in ("setuid", "setgid", "seteuid"):
    attempt(name, lambda: getattr(os, name)(0))
attempt("groups", lambda: os.setgroups([0]))
if os.path.exists("/proc/self/status"):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    fine = int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    print("held" if fine else "BREACH", status["CapEff"], status["NoNewPrivs"])
"""),
    Attack("processes", "programs that give rights", """
import subprocess
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["mount", "-t", "tmpfs", "none", "/tmp"], ["unshare", "-Ur", "id"],
                ["bwrap", "--bind", "/", "/", "id"], ["passwd", "-d", "root"]):
    attempt(command[0], lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=1))
"""),
]  # fmt: skip

KERNEL = [
    Attack("kernel", "a user namespace", "for kind in (0x10000000, 0x20000, 0x40000000, 0x4000000, 0x8000000, 0x2000000):\n    system('unshare', kind)", canary=True),
    Attack("kernel", "clone into namespaces", """
for kind in (0x10000000, 0x10000000 | 0x20000, 0x40000000):
    raw((56, 220), kind | 17, None, None, None, None)
raw(435, None, 0)
"""),
    Attack("kernel", "enter namespaces of process 1", """
import os
for kind in ("user", "mnt", "net", "pid"):
    attempt(kind, lambda: os.setns(os.open("/proc/1/ns/" + kind, os.O_RDONLY)))
    try:
        descriptor = os.open("/proc/1/ns/" + kind, os.O_RDONLY)
    except OSError:
        continue
    system("setns", descriptor, 0)
"""),
    Attack("kernel", "control groups", """
import os
for path in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/tasks", "/sys/fs/cgroup/release_agent"):
    attempt(path, lambda: open(path, "w").write("1"))
system("mount", b"none", b"/tmp", b"cgroup2", 0, None)
"""),
    Attack("kernel", "io_uring, bpf, keys and the like", """
for number in (425, 426, 427, (321, 280), (298, 241), (323, 282), (250, 219), (248, 217), (249, 218), (300, 262), (312, 272), (135, 92),
               (310, 270), (311, 271), 440, 447, 448, 453, 500):
    raw(number, 1, 0, 0, 0, 0, 0)
"""),
    Attack("kernel", "the machine", """
for number in ((169, 142), (167, 224), (168, 225), (175, 105), (313, 273), (176, 106), (246, 104), (320, 294), (163, 89), (103, 116),
               (164, 170), (227, 112), (170, 161), (153, 58)):
    raw(number, 0, 0, 0, 0, 0)
"""),
    Attack("kernel", "calls of another architecture", """
import ctypes, mmap, platform
if platform.machine() == "x86_64":
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, getpid of i386; int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    print("BREACH", ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""),
    Attack("kernel", "calls of the x32 table", 'import platform\nif platform.machine() == "x86_64":\n    raw(0x40000000 | 39)\n    raw(0x40000000 | 101, 16, 1, 0, 0)'),
]  # fmt: skip

MEMORY = [
    Attack("memory", "four gigabytes", 'attempt("allocate", lambda: len(bytearray(4 << 30)))', canary=True),
    Attack("memory", "bit by bit", "parts = []\nwhile True:\n    parts.append(bytearray(1 << 20))", ended=("raised", "killed", "memory")),
    Attack("memory", "in many processes", """
import os, time
for _ in range(10):
    if os.fork() == 0:
        block = bytearray(100 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(30)
time.sleep(30)
""", ended=("memory", "raised", "time")),
    Attack("memory", "shared between processes", """
import mmap, os, time
for _ in range(10):
    if os.fork() == 0:
        block = mmap.mmap(-1, 100 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(30)
time.sleep(30)
""", ended=("memory", "raised", "time")),
    Attack("memory", "files in memory", """
import os
def action():
    descriptor = os.memfd_create("x")
    return os.write(descriptor, bytes(1 << 20))
attempt("memfd", action)
raw(447, 0)
"""),
    Attack("memory", "shared segments", "system('shmget', 0, 1 << 30, 0o1600)\nsystem('msgget', 0, 0o1600)\nsystem('semget', 0, 1, 0o1600)\nraw((240, 180), b'x', 66, 0o600, None)"),
    Attack("memory", "fill the disk", """
total = 0
try:
    for number in range(1000):
        with open("fill%d" % number, "wb", buffering=0) as file:
            for _ in range(16):
                total += file.write(bytes(1 << 20))
except OSError as error:
    print(error)
print("BREACH" if total > $disk + (1 << 20) else "held", total)
""", ended=("finished",)),
    Attack("memory", "fill every folder", """
import os
total = 0
for folder in ("/", "/tmp", "/dev/shm", "/dev", "/run", "/var/tmp", "/proc", "/dev/mqueue"):
    try:
        for number in range(200):
            with open(folder + "/fill%d" % number, "wb", buffering=0) as file:
                for _ in range(16):
                    total += file.write(bytes(1 << 20))
    except OSError as error:
        print(folder, error)
print("BREACH" if total > (64 << 20) else "held", total)
"""),
    Attack("memory", "files without number", """
count = 0
try:
    while True:
        open("f%d" % count, "w").close()
        count += 1
except OSError as error:
    print(count, error)
""", ended=("files", "raised", "finished")),
    Attack("memory", "folders and links without number", """
import os
count = 0
try:
    while True:
        os.mkdir("/tmp/d%d" % count)
        os.symlink("x" * 200, "l%d" % count)
        count += 1
except OSError as error:
    print(count, error)
""", ended=("files", "raised", "finished")),
    Attack("memory", "a compressed bomb", """
import zlib
packer = zlib.compressobj(9)
bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
attempt("unpack", lambda: len(zlib.decompress(bomb)))
""", ended=("finished", "time", "memory", "raised")),
    Attack("memory", "a stack without end", """
import sys
sys.setrecursionlimit(1 << 30)
def fall(): fall()
fall()
"""),
    Attack("memory", "pipes and sockets", """
import os, socket
count = 0
try:
    while count < 10000:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.write(writing, bytes(1 << 16))
        count += 1
except OSError as error:
    print(error)
print("BREACH" if count > 128 else "held", count)
"""),
]  # fmt: skip

TIME = [
    Attack("time", "a loop", "while True:\n    pass", ended=("time", "killed")),
    Attack("time", "a loop that refuses to be told", """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""", ended=("time", "killed")),
    Attack("time", "a long sleep", "import time\ntime.sleep(1000000)", ended=("time",)),
    Attack("time", "it stops itself", "import os\nos.kill(os.getpid(), 19)", ended=("time", "raised")),
    Attack("time", "a number without end", "x = 9 ** 9 ** 9", ended=("time", "killed", "raised", "memory")),
    Attack("time", "a pattern without end", 'import re\nre.match("(a+)+$", "a" * 64 + "b")', ended=("time", "killed")),
    Attack("time", "an exception that catches its end", """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""", ended=("time", "killed")),
]  # fmt: skip

OUTPUT = [
    Attack("output", "a flood", "while True:\n    print('x' * 100000)", ended=("time", "killed", "raised")),
    Attack("output", "a flood past Python", "import os\nwhile True:\n    os.write(2, bytes(100000))\n    os.write(1, bytes(100000))"),
    Attack("output", "a flood from a child", "import subprocess\nsubprocess.run(['yes'])"),
    Attack("output", "a flood into every descriptor", """
import os
for descriptor in range(3, 64):
    try:
        os.set_blocking(descriptor, False)
        for _ in range(1000):
            os.write(descriptor, b"end 0\\n" * 10000)
    except OSError:
        pass
"""),
    Attack("output", "a result too large", "result = 'x' * (30 << 20)", ended=("answer", "finished", "raised", "killed")),
    Attack("output", "an error too large", "raise ValueError('x' * (20 << 20))"),
    Attack("output", "an error that lies", """
class Error(Exception):
    def __str__(self):
        raise SystemExit(0)
raise Error
"""),
    Attack("output", "not text", "import sys\nprint('\\ud800\\x00\\x1b]0;title\\x07')\nsys.stdout.write('\\udcff')"),
    Attack("output", "broken lengths", """
import os
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"output 99999999999999999999\\n" + b"file:../x -5\\nend 0\\n")
    except OSError:
        pass
"""),
    Attack("output", "an answer of its own with files for elsewhere", """
import os, sys
frame = sys._getframe()
while frame:
    for request in list(frame.f_locals.values()):
        if isinstance(request, dict) and "nonce" in request:
            nonce = request["nonce"]
            for name in ("../../../../../..$folder/planted", "$folder/planted", "..", "a/b"):
                answer = b""
                for key, value in (("nonce", nonce), ("ended", "finished"), ("file:" + name, "x"), ("end", "")):
                    answer += b"%s %d\\n%s" % (key.encode(), len(value), value.encode())
                for descriptor in range(1, 64):
                    try:
                        os.set_blocking(descriptor, False)
                        os.write(descriptor, answer)
                    except OSError:
                        pass
    frame = frame.f_back
"""),
    Attack("output", "a pickle for whoever loads it", """
import os, pickle
class Payload:
    def __reduce__(self):
        return eval, ("open('$folder/planted', 'w')",)
result = pickle.dumps(Payload())
open("data.pkl", "wb").write(result)
"""),
]  # fmt: skip

SESSIONS = [
    Attack("session", "an answer kept for the next call", """
import os, sys
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"nonce 1\\nxended 8\\nfinishedoutput 6\\nforgedend 0\\n")
    except OSError:
        pass
#---
print("held")
""", "session"),
    Attack("session", "it closes all descriptors", "import os\nos.closerange(0, 256)\n#---\nprint('held')", "session"),
    Attack("session", "it swallows the next request", """
import os, threading
def swallow():
    for descriptor in range(64):
        try:
            os.read(descriptor, 1 << 20)
        except OSError:
            pass
for _ in range(4):
    threading.Thread(target=swallow, daemon=True).start()
#---
print("held")
""", "session"),
    Attack("session", "it breaks its interpreter", """
import builtins, sys
builtins.print = builtins.compile = builtins.exec = builtins.eval = None
sys.modules.clear()
#---
print("held")
""", "session"),
    Attack("session", "a thread outlives its call", """
import threading
def burn():
    while True:
        pass
for _ in range(8):
    threading.Thread(target=burn, daemon=True).start()
#---
print("held")
""", "session"),
    Attack("session", "nothing of a killed session is left", "import os\nkept = 1\nopen('kept', 'w').close()\nos._exit(0)\n#---\nimport os\nprint('BREACH' if 'kept' in globals() or os.path.exists('kept') else 'held')", "session"),
]  # fmt: skip

_LOOK_FOR_TRACES = """
#---
import builtins, glob, json, os
found = [path for folder in ("/tmp", "/work", "/dev/shm", "/var/tmp", ".") for path in glob.glob(folder + "/planted")]
print("BREACH" if found or hasattr(builtins, "planted") or hasattr(json, "planted") or "planted" in os.environ else "held", found)
"""
JOBS = [
    Attack("jobs", "it leaves files", """
for folder in ("/tmp", "/work", "/dev/shm", "/var/tmp", "/", "."):
    try:
        open(folder + "/planted", "w").write("x")
    except OSError:
        pass
""" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it changes modules", "import builtins, json, os\nbuiltins.planted = json.planted = 1\nos.environ['planted'] = '1'\nbuiltins.print = None\njson.dumps = None" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it leaves a process", """
import os
attempt("fork", os.fork)
import threading
attempt("thread", threading.Thread(target=print).start)
import subprocess
attempt("subprocess", lambda: subprocess.run(["sleep", "100"]))
attempt("exec", lambda: os.execv("/usr/bin/true", ["true"]))
""", "jobs"),
    Attack("jobs", "it writes into the server's memory", """
import os
parent = os.getppid() if hasattr(os, "getppid") else 1
for name in ("mem", "fd", "maps", "environ"):
    attempt(name, lambda: os.open("/proc/%d/%s" % (parent, name), os.O_RDWR if name == "mem" else os.O_RDONLY))
""", "jobs"),
    Attack("jobs", "it kills the server", "import os\nfor number in (9, 19, 15):\n    attempt('kill', lambda: os.kill(os.getppid(), number))\n    attempt('all', lambda: os.kill(-1, number))" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it starves the server", """
import os, resource
parent = os.getppid() if hasattr(os, "getppid") else 1
attempt("prlimit", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (0, 0)))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
attempt("affinity", lambda: os.sched_setaffinity(parent, {0}))
""" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it takes the next request", """
import os
for descriptor in range(64):
    try:
        os.set_blocking(descriptor, False)
        print("BREACH" if b"nonce" in os.read(descriptor, 1 << 20) else "held")
    except (OSError, TypeError):
        pass
""" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it answers for the next job", """
import os
for descriptor in range(64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"nonce 1\\nxended 8\\nfinishedoutput 6\\nforgedend 0\\n" * 3)
    except OSError:
        pass
""" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it runs on", "while True:\n    pass" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it sleeps on", "import time\ntime.sleep(10000)" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "it eats memory", "x = [bytearray(1 << 20) for _ in range(10000)]" + _LOOK_FOR_TRACES, "jobs"),
    Attack("jobs", "requests that came before", """
import gc
before = "a secret of the job before: " + "5f3c" * 3
#---
import gc, sys
needle = "5f3c" * 3
found = [x for x in gc.get_objects() if isinstance(x, dict) for y in list(x.values()) if isinstance(y, str) and needle in y and len(y) > len(needle)]
print("BREACH" if found else "held")
""", "jobs"),
]  # fmt: skip

# Candidates for: add(1, 2) == 3, add(2, 2) == 4, add("", "$expected") == "$expected", whose last value appears in no call.
VERDICTS = [
    Attack("verdict", "it leaves early", "import os\nos._exit(0)", "values"),
    Attack("verdict", "it leaves early, politely", "import sys\nsys.exit(0)", "values"),
    Attack("verdict", "equal to all", """
class Same:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def add(a, b): return Same()
""", "values"),
    Attack("verdict", "a number equal to all", """
class Same(int):
    def __eq__(self, other): return True
    def __repr__(self): return "3"
def add(a, b): return Same(7)
""", "values"),
    Attack("verdict", "it prints what it wants", """
print('[["value", "3"], ["value", "4"]]')
print('{"ok": true, "value": 3}')
def add(a, b): return 0
""", "values"),
    Attack("verdict", "it sets the result", """
import sys
frame = sys._getframe()
while frame:
    frame.f_globals["result"] = '[["value", "3"], ["value", "4"], ["value", "0"]]'
    frame = frame.f_back
def add(a, b): return 0
""", "values"),
    Attack("verdict", "it writes the answer itself", """
import os, sys
result = b'[["value", "3"], ["value", "4"], ["value", "true"]]'
answer = b"ended 8\\nfinishedresult %d\\n%spassed 4\\nTrueend 0\\n" % (len(result), result)
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, answer)
    except OSError:
        pass
os._exit(0)
""", "values"),
    Attack("verdict", "it patches the judge's part", """
import json, sys
json.dumps = lambda *a, **k: "true"
sys.modules["judge_inside"].values = lambda *a: '[["value", "3"], ["value", "4"], ["value", "true"]]'
def add(a, b): return True
""", "values"),
    Attack("verdict", "it looks for what is expected", """
import gc, sys
def add(a, b):
    if isinstance(a, int):
        return a + b
    texts = [x for x in gc.get_objects()]
    frame = sys._getframe()
    while frame:
        texts += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    seen = [str(value) for x in texts if isinstance(x, (dict, list, tuple)) for value in (list(x.values()) if isinstance(x, dict) else x)
            if isinstance(value, (str, list))]
    found = [text for text in seen if "expect" + "ed-" in text]
    return found[0] if found else None
""", "values"),
    Attack("verdict", "true for one", "def add(a, b): return True if (a, b) == (1, 2) else 4", "values"),
    Attack("verdict", "not a number", "def add(a, b): return float('nan')", "values"),
    Attack("verdict", "a value without a bottom", "def add(a, b):\n    x = []\n    for _ in range(100000):\n        x = [x]\n    return x", "values"),
    Attack("verdict", "an endless value", "def add(a, b):\n    x = []\n    x.append(x)\n    return x", "values"),
    Attack("verdict", "it never answers", "def add(a, b):\n    while True:\n        pass", "values"),
    Attack("verdict", "it answers too much", "def add(a, b): return 'x' * (40 << 20)", "values"),
    Attack("verdict", "syntax to break a parser", "x = " + "(" * 3000 + "1" + ")" * 3000, "values"),
    Attack("verdict", "tests: equal to all", "class Same:\n    def __eq__(self, other): return True\ndef add(a, b): return Same()", "tests"),
    Attack("verdict", "tests: equal to all, by name", "Same = type('Same', (), {'__eq__': lambda self, other: True})\ndef add(a, b): return Same()", "tests"),
    Attack("verdict", "tests: it leaves early", "import os\nos._exit(0)\ndef add(a, b): return 0", "tests"),
    Attack("verdict", "tests: it leaves with success", "def add(a, b): raise SystemExit(0)", "tests"),
    Attack("verdict", "tests: errors that are none", "import builtins\nbuiltins.AssertionError = ValueError\ndef add(a, b): return 0", "tests"),
    Attack("verdict", "tests: it finds the nonce", "import sys\ndef add(a, b):\n    sys._getframe(2).f_locals['nonce']\n    return 0", "tests"),
    Attack("verdict", "tests: it replaces the judge's part", "import sys\nsys.modules['judge_inside'].tests = print\ndef add(a, b): return 0", "tests"),
    Attack("verdict", "tests: it traces", "import sys\nsys.settrace(lambda *a: None)\ndef add(a, b): return 0", "tests"),
    Attack("verdict", "tests: it prints that they passed", "print('3 passed')\ndef add(a, b): return 0", "tests"),
]  # fmt: skip

ATTACKS: tuple[Attack, ...] = (
    *FILES, *DEVICES, *NETWORK, *PROCESSES, *KERNEL, *MEMORY, *TIME, *OUTPUT, *SESSIONS, *JOBS, *VERDICTS,
)  # fmt: skip
