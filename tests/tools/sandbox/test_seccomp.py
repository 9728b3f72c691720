"""The filter against a small reading of the kernel's packet filter, and its numbers against the kernel's headers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from herdsman.tools.sandbox import seccomp
from herdsman.tools.sandbox.seccomp import ALLOW, AUDIT_ARCH, EAFNOSUPPORT, ENOSYS, EPERM, KILL, NONE, filter_program

MACHINES = tuple(AUDIT_ARCH)
COLUMN = {"x86_64": 0, "aarch64": 1}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: BPF over `struct seccomp_data`, of which our filters use four operations."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return value
        else:
            hit = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if hit else if_false


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("job", [False, True])
def test_each_call_gets_its_answer(machine: str, job: bool) -> None:
    program, arch, column = filter_program(machine, job), AUDIT_ARCH[machine], COLUMN[machine]
    denied = {**seccomp.DENIED, **(seccomp.DENIED_TO_JOBS if job else {})}
    numbers = {pair[column] for pair in denied.values()} - {NONE}
    special = {pair[column] for pair in (seccomp.CLONE, seccomp.IOCTL, seccomp.SOCKET, seccomp.PRLIMIT)}
    for number in range(424):
        expected = EPERM if number in numbers else EAFNOSUPPORT if number == seccomp.SOCKET[column] else ALLOW
        assert verdict(program, arch, number) == expected, number
    for number in range(424, 600):
        assert verdict(program, arch, number) == (ALLOW if number in seccomp.NEW_ALLOWED else ENOSYS)
    assert job or not numbers & special


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_are_looked_at_as_the_kernel_takes_them(machine: str) -> None:
    program, arch, column = filter_program(machine), AUDIT_ARCH[machine], COLUMN[machine]
    clone, ioctl, socket = (pair[column] for pair in (seccomp.CLONE, seccomp.IOCTL, seccomp.SOCKET))
    assert verdict(program, arch, clone, 0x1200011) == ALLOW  # fork
    assert verdict(program, arch, clone, 0x3D0F00) == ALLOW  # a thread
    for flag in (0x10000000, 0x20000, 0x40000000, 0x2000000, 0x4000000, 0x8000000, 0x20000000):
        assert verdict(program, arch, clone, 0x11 | flag) == EPERM
    for request in (0x5412, 0x541C, 0x5412 | 7 << 32):
        assert verdict(program, arch, ioctl, 0, request) == EPERM
    assert verdict(program, arch, ioctl, 0, 0x5401) == ALLOW
    for family in range(50):
        assert verdict(program, arch, socket, family) == (ALLOW if family in (1, 2, 10) else EAFNOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_job_sets_no_limits_but_its_own(machine: str) -> None:
    arch, number = AUDIT_ARCH[machine], seccomp.PRLIMIT[COLUMN[machine]]
    for job, other in ((False, ALLOW), (True, EPERM)):
        assert verdict(filter_program(machine, job), arch, number, 0) == ALLOW
        assert verdict(filter_program(machine, job), arch, number, 17) == other


def test_other_tables_of_calls_are_closed() -> None:
    program = filter_program("x86_64")
    assert verdict(program, 0x40000003, 20) == KILL  # i386
    assert verdict(program, AUDIT_ARCH["aarch64"], 0) == KILL
    assert verdict(program, AUDIT_ARCH["x86_64"], 0x40000000 | 39) == ENOSYS  # x32
    assert verdict(program, AUDIT_ARCH["x86_64"], 39) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    text = HEADERS[machine].read_text()
    kernel = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    ours = {**seccomp.DENIED, **seccomp.DENIED_TO_JOBS,
            "clone": seccomp.CLONE, "ioctl": seccomp.IOCTL, "socket": seccomp.SOCKET,
            "prlimit64": seccomp.PRLIMIT}  # fmt: skip
    for name, pair in ours.items():
        assert pair[COLUMN[machine]] == kernel.get(name, NONE), name
    assert {kernel[name] for name in ("close_range", "faccessat2", "epoll_pwait2")} == set(seccomp.NEW_ALLOWED)


def test_a_machine_without_a_table_has_no_filter() -> None:
    with pytest.raises(KeyError):
        filter_program("vax")
