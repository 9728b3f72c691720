"""How torch's checkpoint writer reaches the disk: hashed on the way, synced, and with errors kept for the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from torch.distributed.checkpoint.filesystem import FileSystem

from herdsman.training.checkpoints.integrity import File


class HashedFiles(FileSystem):
    """File system for `FileSystemWriter.fs` that knows the digest of all it wrote.

    Hashing what is on its way to the disk costs no second read, and also finds what the disk gets wrong. The first
    OSError is kept in `error` and everything after it is thrown away: all ranks go through the writer's collectives
    to the end, where they learn of it together. (torch would hide it behind a remark on positions in the file.)

    Attributes:
        files: by name, what was written whole.
        error: the first OSError, or None.
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.error: OSError | None = None

    @contextmanager
    def create_stream(self, path: str | os.PathLike, mode: str) -> Iterator[Any]:
        stream = _HashedStream(Path(path), self)
        try:
            yield stream
        finally:
            stream.close()
        self.files[Path(path).name] = File(bytes=stream.bytes, sha256=stream.hash.hexdigest())

    def rename(self, path: str | os.PathLike, new_path: str | os.PathLike) -> None:
        with self.keeping_errors():
            super().rename(path, new_path)
        self.files[Path(new_path).name] = self.files.pop(Path(path).name)

    @contextmanager
    def keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


class _HashedStream:
    """What torch uses of a file open for writing."""

    def __init__(self, path: Path, owner: HashedFiles):
        self.owner = owner
        self.hash = hashlib.sha256()
        self.bytes = 0
        self.file: BinaryIO | None = None
        with owner.keeping_errors():
            self.file = open(path, "wb")  # noqa: SIM115

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        self.hash.update(data)
        self.bytes += length
        if self.file and not self.owner.error:
            with self.owner.keeping_errors():
                self.file.write(data)
        return length

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        if self.file and not self.owner.error:
            with self.owner.keeping_errors():
                self.file.flush()

    def close(self) -> None:
        if not self.file:
            return
        self.flush()
        if not self.owner.error:
            with self.owner.keeping_errors():
                os.fsync(self.file.fileno())
        with suppress(OSError):  # flushes again what could not be flushed
            self.file.close()
        self.file = None
