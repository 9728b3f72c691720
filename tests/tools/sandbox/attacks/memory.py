"""Memory and disk without end."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

MEMORY = (
    Attack(
        "memory",
        "bit by bit",
        """
parts = []
while True:
    parts.append(bytearray(1 << 20))
""",
        ended=(
            "raised",
            "killed",
            "memory",
        ),
    ),
    Attack(
        "memory",
        "in many processes",
        """
import os, time
for _ in range(10):
    if os.fork() == 0:
        block = bytearray(100 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(30)
time.sleep(30)
""",
        ended=(
            "memory",
            "raised",
            "time",
        ),
    ),
    Attack(
        "memory",
        "shared between processes",
        """
import mmap, os, time
for _ in range(10):
    if os.fork() == 0:
        block = mmap.mmap(-1, 100 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(30)
time.sleep(30)
""",
        ended=(
            "memory",
            "raised",
            "time",
        ),
    ),
    Attack(
        "memory",
        "files in memory",
        """
import os
def action():
    descriptor = os.memfd_create("x")
    return os.write(descriptor, bytes(1 << 20))
attempt("memfd", action)
raw(447, 0)
""",
    ),
    Attack(
        "memory",
        "shared segments",
        """
system('shmget', 0, 1 << 30, 0o1600)
system('msgget', 0, 0o1600)
system('semget', 0, 1, 0o1600)
raw((240, 180), b'x', 66, 0o600, None)
""",
    ),
    Attack(
        "memory",
        "fill the disk",
        """
total = 0
try:
    for number in range(1000):
        with open("fill%d" % number, "wb", buffering=0) as file:
            for _ in range(16):
                total += file.write(bytes(1 << 20))
except OSError as error:
    print(error)
print("BREACH" if total > $disk + (1 << 20) else "held", total)
""",
        ended=("finished",),
    ),
    Attack(
        "memory",
        "fill every folder",
        """
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
""",
    ),
    Attack(
        "memory",
        "files without number",
        """
count = 0
try:
    while True:
        open("f%d" % count, "w").close()
        count += 1
except OSError as error:
    print(count, error)
""",
        ended=(
            "files",
            "raised",
            "finished",
        ),
    ),
    Attack(
        "memory",
        "folders and links without number",
        """
import os
count = 0
try:
    while True:
        os.mkdir("/tmp/d%d" % count)
        os.symlink("x" * 200, "l%d" % count)
        count += 1
except OSError as error:
    print(count, error)
""",
        ended=(
            "files",
            "raised",
            "finished",
        ),
    ),
    Attack(
        "memory",
        "a compressed bomb",
        """
import zlib
packer = zlib.compressobj(9)
bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
attempt("unpack", lambda: len(zlib.decompress(bomb)))
""",
        ended=(
            "finished",
            "time",
            "memory",
            "raised",
        ),
    ),
    Attack(
        "memory",
        "a stack without end",
        """
import sys
sys.setrecursionlimit(1 << 30)
def fall(): fall()
fall()
""",
    ),
    Attack(
        "memory",
        "pipes and sockets",
        """
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
""",
    ),
)
