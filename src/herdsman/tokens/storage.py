"""Where the files of token streams lie: on this machine, read through memory maps, or in an object store by fsspec."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import InputError, NetworkError, WorkspaceError
from herdsman.transfer import is_local, local_path, shown, store_of

BLOCK_BYTES = 1 << 20
MOST_BLOCKS = 256  # kept of one folder: 256 MiB
READERS = 8  # requests under way at once
HEADER_BYTES = 4096
TRIES, FIRST_PAUSE_SECONDS = 5, 0.5


class Array(Protocol):
    """What memory maps and remote arrays have in common: parts of them are read by whole rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, where: Any, /) -> Any: ...


class Folder(Protocol):
    """A folder of arrays; names are relative paths with slashes."""

    address: str

    def bytes_of(self, name: str) -> bytes:
        """A small file as a whole.

        Raises:
            InputError: it is not there.
        """

    def array(self, name: str) -> Array:
        """An array in NumPy's own format.

        Raises:
            WorkspaceError: it is missing or damaged.
        """

    def tokens(self, name: str, dtype: np.dtype[Any], count: int) -> Array:
        """A flat array of a known length.

        Raises:
            WorkspaceError: it is missing, or has another length; a remote one is only found out when it is read.
        """


def open_folder(address: Path | str) -> Folder:
    """The folder at a path or at any address that fsspec knows (`s3://bucket/herd/tokens`).

    Raises:
        InputError: nothing is known by that protocol, or the package for it is not installed.
    """
    if is_local(str(address)):
        return LocalFolder(local_path(str(address)))
    return RemoteFolder(str(address))


def damaged(what: object, where: object, do: str = "remove this folder and raise again") -> WorkspaceError:
    return WorkspaceError(f"the token stream cannot be read ({what})", where=where, do=do)


class LocalFolder:
    """Files of this machine; nothing of them is loaded until it is read."""

    def __init__(self, root: Path):
        self.root, self.address = root, str(root)

    def bytes_of(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise InputError(error.strerror or str(error), where=self.root / name) from error

    def array(self, name: str) -> Array:
        try:
            return np.asarray(np.load(self.root / name, mmap_mode="r"))
        except (OSError, ValueError, EOFError) as error:
            raise damaged(error, (self.root / name).parent) from error

    def tokens(self, name: str, dtype: np.dtype[Any], count: int) -> Array:
        try:
            found = np.asarray(np.memmap(self.root / name, dtype, "r"))  # a plain array is sliced faster than a map
        except (OSError, ValueError) as error:
            raise damaged(error, (self.root / name).parent) from error
        if len(found) != count:
            what = f"{len(found)} tokens in {Path(name).name} where there should be {count}"
            raise damaged(what, (self.root / name).parent)
        return found


class RemoteFolder:
    """Files of an object store, read in blocks.

    The least recently used blocks are forgotten. Where tokens are read, the next block is fetched in the background,
    since streams are read from front to back. Any number of threads may read.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        self.store = store_of(urlsplit(address).scheme)
        self.threads = ThreadPoolExecutor(READERS, thread_name_prefix="herdsman-tokens")
        self.lock = threading.Lock()
        self.blocks: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def bytes_of(self, name: str) -> bytes:
        return self._fetch(name, None, None)

    def array(self, name: str) -> Array:
        try:
            header = BytesIO(self._fetch(name, 0, HEADER_BYTES))
            version = np.lib.format.read_magic(header)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(header)
        except (ValueError, InputError) as error:
            raise self._damaged(error.what if isinstance(error, InputError) else error, name) from error
        return RemoteArray(self, name, dtype, shape, header.tell(), ahead=False)

    def tokens(self, name: str, dtype: np.dtype[Any], count: int) -> Array:
        return RemoteArray(self, name, dtype, (count,), 0, ahead=True)

    def read(self, name: str, start: int, end: int, size: int, ahead: bool) -> bytes:
        """Bytes of a file whose size is known.

        Raises:
            WorkspaceError: the file is missing or shorter than that.
            NetworkError: the store does not answer.
        """
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        wanted = [self._block(name, number, size) for number in range(first, last + 1)]
        if ahead and (last + 1) * BLOCK_BYTES < size:
            self._block(name, last + 1, size)
        data = b"".join(block.result() for block in wanted) if len(wanted) > 1 else wanted[0].result()
        return data[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _block(self, name: str, number: int, size: int) -> Future[bytes]:
        start, end = number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, size)
        with self.lock:
            block = self.blocks.get((name, number))
            if block is None or (block.done() and block.exception() is not None):
                block = self.blocks[name, number] = self.threads.submit(self._whole, name, start, end)
            self.blocks.move_to_end((name, number))
            while len(self.blocks) > MOST_BLOCKS:
                self.blocks.popitem(last=False)
        return block

    def _whole(self, name: str, start: int, end: int) -> bytes:
        try:
            data = self._fetch(name, start, end)
        except InputError as error:
            raise self._damaged(error.what, name) from error
        if len(data) != end - start:
            raise self._damaged(f"{len(data)} bytes came where {end - start} were asked for", name)
        return data

    def _fetch(self, name: str, start: int | None, end: int | None) -> bytes:
        for attempt in range(TRIES):
            try:
                data: bytes = self.store.cat_file(f"{self.address}/{name}", start=start, end=end)
                return data
            except (FileNotFoundError, PermissionError) as error:
                what = "no such file" if isinstance(error, FileNotFoundError) else f"may not be read ({error})"
                raise InputError(what, where=self._shown(name)) from error
            except Exception as error:  # each store has exceptions of its own
                if attempt == TRIES - 1:
                    what, do = f"cannot be read ({error})", "check the address and the network, then run again"
                    raise NetworkError(what, where=self._shown(name), do=do) from error
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("the last attempt raises")

    def _damaged(self, what: object, name: str) -> WorkspaceError:
        return damaged(what, self._shown(name), "copy the tokens folder there again")

    def _shown(self, name: str) -> str:
        return shown(f"{self.address}/{name}")


class RemoteArray:
    """An array in a file of an object store, read by whole rows."""

    def __init__(
        self, folder: RemoteFolder, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, ahead: bool
    ):
        self.folder, self.name, self.dtype, self.shape = folder, name, dtype, shape
        self.start, self.ahead = start, ahead
        self.row_bytes = dtype.itemsize * prod(shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: int | slice) -> NDArray[Any]:
        if not isinstance(where, slice):
            row: NDArray[Any] = self[where : where + 1][0]
            return row
        first, last, _ = where.indices(len(self))
        if last <= first:
            return np.empty((0, *self.shape[1:]), self.dtype)
        begin, end = (self.start + row * self.row_bytes for row in (first, last))
        size = self.start + len(self) * self.row_bytes
        data = self.folder.read(self.name, begin, end, size, self.ahead)
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:])
