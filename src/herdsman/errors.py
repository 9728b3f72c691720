"""The few kinds of error a user sees: one sentence that says what is wrong, where, and what to do.

Everything a user can cause or cure is raised as a `HerdsmanError`; the command line prints its sentence and exits
with its status. Anything else that reaches the command line is a defect of Herdsman and shows its traceback.
"""

from __future__ import annotations

import errno


class HerdsmanError(Exception):
    """Base of all errors a user can act on.

    Args:
        what: what is wrong, as a clause without a final full stop.
        where: the file, key, line or address concerned, shown in front.
        do: what the user can do about it.
    """

    exit_status = 1

    def __init__(self, what: str, *, where: object = None, do: str | None = None):
        self.what, self.where, self.do = what, where, do
        sentence = f"{where}: {what}" if where is not None else what
        super().__init__(f"{sentence}; {do}" if do else sentence)


class RecipeError(HerdsmanError):
    """The recipe cannot be read or does not validate."""

    exit_status = 2


class InputError(HerdsmanError):
    """Something the user pointed at (a file, a folder, an address) is missing or unusable."""

    exit_status = 2


class WorkspaceError(HerdsmanError):
    """The workspace is in use, unfinished for what was asked, or damaged."""


class NetworkError(HerdsmanError):
    """A download failed for good: no network, not found, or the wrong bytes."""


class MachineError(HerdsmanError):
    """This machine lacks something: memory, disk, a program, a library."""


# What a disk or its rights can refuse: the user's to mend, not a defect.
MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def machine_error(error: OSError) -> MachineError | None:
    """What the machine refused, as a sentence; None if the error is of another kind, and so a defect."""
    if error.errno not in MACHINE_ERRORS:
        return None
    reason = (error.strerror or "cannot be written").lower()
    return MachineError(reason, where=error.filename, do="mend that and run again: finished work is kept")
