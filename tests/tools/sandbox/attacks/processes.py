"""Other processes, and rights over them."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

PROCESSES = (
    Attack(
        "processes",
        "kill one of the host",
        """
import os
attempt("kill", lambda: os.kill($pid, 9))
""",
    ),
    Attack(
        "processes",
        "kill all it can",
        """
import os
os.kill(-1, 9)
""",
    ),
    Attack(
        "processes",
        "kill its parents",
        """
import os
os.kill(os.getppid(), 9)
os.kill(1, 9)
os.kill(1, 19)
""",
    ),
    Attack(
        "processes",
        "trace its parent",
        """
import os
parent = os.getppid() if hasattr(os, "getppid") else 1
system("ptrace", 16, parent, None, None)
system("ptrace", 0x4206, parent, None, None)
""",
    ),
    Attack(
        "processes",
        "memory of its parent",
        """
import os, ctypes
parent = os.getppid() if hasattr(os, "getppid") else 1
system("process_vm_readv", parent, None, 0, None, 0, 0)
# Process 1 may be written to, for it is held by the same filter and has no more rights.
if os.path.exists("/proc/1/status"):
    filtered = [line.split()[1] for line in open("/proc/1/status") if line.startswith("Seccomp:")]
    print("held" if filtered == ["2"] else "BREACH", filtered)
""",
    ),
    Attack(
        "processes",
        "descriptors of its parent",
        """
import os
raw(434, os.getppid() if hasattr(os, "getppid") else 1, 0)
raw(438, 3, 1, 0)
""",
    ),
    Attack(
        "processes",
        "fork bomb that grows",
        """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
        ended=(
            "time",
            "killed",
            "memory",
            "raised",
        ),
    ),
    Attack(
        "processes",
        "threads",
        """
import threading, time
count = 0
try:
    while count < 4000:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        count += 1
except (RuntimeError, MemoryError) as error:
    print(error)
print("BREACH" if count > $processes else "held", count)
""",
    ),
    Attack(
        "processes",
        "a daemon stays behind",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        for number in (1, 2, 3, 13, 15):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
""",
    ),
    Attack(
        "processes",
        "raise its limits",
        """
import resource
for name in ("AS", "NPROC", "FSIZE", "NOFILE", "CPU", "CORE"):
    limit = getattr(resource, "RLIMIT_" + name)
    if resource.getrlimit(limit)[1] != resource.RLIM_INFINITY:
        attempt(name, lambda: resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
print("BREACH" if resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY else "held")
""",
    ),
    Attack(
        "processes",
        "become root",
        """
import os
for name in ("setuid", "setgid", "seteuid"):
    attempt(name, lambda: getattr(os, name)(0))
attempt("groups", lambda: os.setgroups([0]))
if os.path.exists("/proc/self/status"):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    fine = int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    print("held" if fine else "BREACH", status["CapEff"], status["NoNewPrivs"])
""",
    ),
    Attack(
        "processes",
        "programs that give rights",
        """
import subprocess
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["mount", "-t", "tmpfs", "none", "/tmp"],
                ["unshare", "-Ur", "id"],
                ["bwrap", "--bind", "/", "/", "id"], ["passwd", "-d", "root"]):
    attempt(command[0], lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=1))
""",
    ),
)
