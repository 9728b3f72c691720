"""API keys: where they come from, and when there must be one."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from herdsman.errors import InputError
from herdsman.serving.options import ServerOptions

KEY_VARIABLE = "HERDSMAN_API_KEY"


def read_keys(file: Path | None) -> list[str]:
    """API keys: a line each of the file, and those of the environment, separated by commas.

    They are not taken from the command line, which every user of a machine can read.

    Raises:
        InputError: the file cannot be read or holds no key.
    """
    keys = os.environ.get(KEY_VARIABLE, "").split(",")
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("cannot be read", where=file, do="give a text file with a key a line") from error
        if not any(lines):
            raise InputError("holds no key", where=file, do="write a key a line into it")
        keys += [line for line in lines if not line.startswith("#")]
    return [key.strip() for key in keys if key.strip()]


def check_keys(options: ServerOptions, keys: Sequence[str]) -> None:
    """
    Raises:
        InputError: others could reach the server and there is no key.
    """
    if not is_loopback(options.host) and not keys:
        raise InputError(
            "anybody who reaches this address could use the server",
            where=f"--host {options.host}",
            do=f"give it a key: {KEY_VARIABLE}=... or --api-keys FILE",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach such an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
