"""Saving fastText models so that a full disk is noticed: the library itself writes half a file without a word."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any


def save_fasttext(model: Any, path: Path) -> None:
    """Writes a trained, not quantised model.

    Raises:
        OSError: the disk is full: the file's last bytes are those of the output matrix; here they are not.
    """
    model.save_model(str(path))
    end: bytes = model.get_output_matrix().tobytes()
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(end)))
        if file.read() != end:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
