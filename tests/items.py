"""What workers do in the tests of ordered work. Workers import it, so it needs a module of its own."""

from __future__ import annotations

import os
import signal
import time

from herdsman.errors import InputError


def slow_square(number: int) -> int:
    time.sleep(0.02 * (number * 7 % 3))
    return number * number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("is three", where=f"item {number}", do="take another")
    return number
