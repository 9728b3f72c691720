"""The files of a WebAssembly guest: a folder in memory, behind the file calls of WASI (preview 1).

The guest sees nothing of this machine's file system, so there is nothing there to get out of, to fill or to tidy up;
and a fork copies the folder with the guest. There are no links of any kind. Numbers and layouts are those of WASI's
`witx/typenames.witx`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

BADF, EXIST, FAULT, INVAL, ISDIR, MFILE, NAMETOOLONG, NOENT = 8, 20, 21, 28, 31, 33, 37, 44
NOSPC, NOTDIR, NOTEMPTY, PERM, NOTCAPABLE = 51, 54, 55, 63, 76
CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8  # of path_open
APPEND = 1
CHARACTERS, FOLDER, FILE = 2, 3, 4  # kinds of file
ALL_RIGHTS = (1 << 30) - 1
MOUNT, MOUNT_DESCRIPTOR = b"/work", 3
MOST_OPEN, MOST_NAME_BYTES, MOST_PIECES = 128, 255, 1024


class Refusal(Exception):
    """The errno of a call that is not carried out."""


class Node:
    """A file or a folder."""

    def __init__(self, number: int, folder: bool):
        self.number, self.modified = number, time.time_ns()
        self.content = bytearray()
        self.entries: dict[str, Node] | None = {} if folder else None
        self.linked, self.opened = True, 0

    def folder(self) -> dict[str, Node]:
        if self.entries is None:
            raise Refusal(NOTDIR)
        return self.entries


class Open:
    """What a descriptor stands for."""

    def __init__(self, node: Node, append: bool):
        self.node, self.append, self.position = node, append, 0


class Files:
    """The calls. Each takes the guest's memory (`read(at, length)` and
    `write(at, data)`, which refuse what lies outside it) and the call's own arguments.

    Args:
        disk_bytes: of all files together.
        most_files: files and folders.
    """

    def __init__(self, disk_bytes: int, most_files: int):
        self.bytes_left, self.files_left = disk_bytes, most_files
        self.numbers = 1
        self.open = {MOUNT_DESCRIPTOR: Open(Node(self.numbers, folder=True), append=False)}

    def calls(self) -> dict[str, Callable[..., None]]:
        return {name: getattr(self, name) for name in vars(Files) if name.startswith(("fd_", "path_"))}

    # descriptors

    def fd_prestat_get(self, memory: Any, descriptor: int, out: int) -> None:
        if descriptor != MOUNT_DESCRIPTOR:
            raise Refusal(BADF)
        memory.write(out, struct.pack("<II", 0, len(MOUNT)))

    def fd_prestat_dir_name(self, memory: Any, descriptor: int, out: int, length: int) -> None:
        if descriptor != MOUNT_DESCRIPTOR:
            raise Refusal(BADF)
        memory.write(out, MOUNT[:length])

    def fd_fdstat_get(self, memory: Any, descriptor: int, out: int) -> None:
        kind, flags = CHARACTERS, 0
        if descriptor > 2:
            file = self._file(descriptor)
            kind, flags = _kind(file.node), APPEND if file.append else 0
        memory.write(out, struct.pack("<BxHxxxxQQ", kind, flags, ALL_RIGHTS, ALL_RIGHTS))

    def fd_fdstat_set_flags(self, memory: Any, descriptor: int, flags: int) -> None:
        self._file(descriptor).append = bool(flags & APPEND)

    def fd_filestat_get(self, memory: Any, descriptor: int, out: int) -> None:
        node = None if descriptor <= 2 else self._file(descriptor).node
        memory.write(out, _status(node))

    def fd_filestat_set_size(self, memory: Any, descriptor: int, size: int) -> None:
        self._resize(self._plain(descriptor).node, size)

    def fd_filestat_set_times(self, memory: Any, descriptor: int, *times: int) -> None:
        self._file(descriptor)

    def fd_read(self, memory: Any, descriptor: int, vectors: int, count: int, done: int) -> None:
        file = self._plain(descriptor)
        size = self._read(memory, file.node, file.position, vectors, count)
        file.position += size
        memory.write(done, struct.pack("<I", size))

    def fd_pread(self, memory: Any, descriptor: int, vectors: int, count: int, offset: int, done: int) -> None:
        size = self._read(memory, self._plain(descriptor).node, offset, vectors, count)
        memory.write(done, struct.pack("<I", size))

    def fd_write(self, memory: Any, descriptor: int, vectors: int, count: int, done: int) -> None:
        file = self._plain(descriptor)
        if file.append:
            file.position = len(file.node.content)
        size = self._write(memory, file.node, file.position, vectors, count)
        file.position += size
        memory.write(done, struct.pack("<I", size))

    def fd_pwrite(self, memory: Any, descriptor: int, vectors: int, count: int, offset: int, done: int) -> None:
        size = self._write(memory, self._plain(descriptor).node, offset, vectors, count)
        memory.write(done, struct.pack("<I", size))

    def fd_seek(self, memory: Any, descriptor: int, offset: int, whence: int, out: int) -> None:
        file = self._plain(descriptor)
        start = (0, file.position, len(file.node.content))[whence] if 0 <= whence <= 2 else -1
        if start < 0 or start + offset < 0:
            raise Refusal(INVAL)
        file.position = start + offset
        memory.write(out, struct.pack("<Q", file.position))

    def fd_tell(self, memory: Any, descriptor: int, out: int) -> None:
        memory.write(out, struct.pack("<Q", self._plain(descriptor).position))

    def fd_close(self, memory: Any, descriptor: int) -> None:
        if descriptor == MOUNT_DESCRIPTOR or descriptor <= 2:
            return
        node = self._file(descriptor).node
        del self.open[descriptor]
        node.opened -= 1
        self._release(node)

    def fd_readdir(self, memory: Any, descriptor: int, out: int, length: int, cookie: int, used: int) -> None:
        data = b""
        for at, (name, node) in enumerate(self._file(descriptor).node.folder().items()):
            if at >= cookie and len(data) < length:
                encoded = name.encode("utf-8", "surrogateescape")
                data += struct.pack("<QQIBxxx", at + 1, node.number, len(encoded), _kind(node)) + encoded
        data = data[:length]
        memory.write(out, data)
        memory.write(used, struct.pack("<I", len(data)))

    def fd_sync(self, memory: Any, descriptor: int) -> None:
        pass

    def fd_datasync(self, memory: Any, descriptor: int) -> None:
        pass

    def fd_advise(self, memory: Any, descriptor: int, *advice: int) -> None:
        pass

    def fd_allocate(self, memory: Any, descriptor: int, offset: int, length: int) -> None:
        raise Refusal(PERM)

    # paths

    def path_open(
        self, memory: Any, at: int, _links: int, path: int, length: int, how: int, _rights: int, _inherited: int,
        flags: int, out: int,
    ) -> None:  # fmt: skip
        if len(self.open) >= MOST_OPEN:
            raise Refusal(MFILE)
        parent, name = self._find(memory, at, path, length)
        node = parent.folder().get(name) if name else parent
        if node is None:
            if not how & CREATE:
                raise Refusal(NOENT)
            node = self._make(parent, name, folder=False)
        elif how & CREATE and how & EXCLUSIVE:
            raise Refusal(EXIST)
        if how & DIRECTORY:
            node.folder()
        if how & TRUNCATE:
            if node.entries is not None:
                raise Refusal(ISDIR)
            self._resize(node, 0)
        descriptor = next(number for number in range(MOUNT_DESCRIPTOR + 1, 1 << 16) if number not in self.open)
        self.open[descriptor] = Open(node, bool(flags & APPEND))
        node.opened += 1
        memory.write(out, struct.pack("<I", descriptor))

    def path_create_directory(self, memory: Any, at: int, path: int, length: int) -> None:
        parent, name = self._find(memory, at, path, length)
        if not name or name in parent.folder():
            raise Refusal(EXIST)
        self._make(parent, name, folder=True)

    def path_remove_directory(self, memory: Any, at: int, path: int, length: int) -> None:
        parent, name = self._find(memory, at, path, length)
        node = self._child(parent, name)
        if node.folder():
            raise Refusal(NOTEMPTY)
        self._unlink(parent, name)

    def path_unlink_file(self, memory: Any, at: int, path: int, length: int) -> None:
        parent, name = self._find(memory, at, path, length)
        if self._child(parent, name).entries is not None:
            raise Refusal(ISDIR)
        self._unlink(parent, name)

    def path_rename(
        self, memory: Any, at: int, path: int, length: int, new_at: int, new_path: int, new_length: int
    ) -> None:
        parent, name = self._find(memory, at, path, length)
        node = self._child(parent, name)
        new_parent, new_name = self._find(memory, new_at, new_path, new_length, not_through=node)
        known = new_parent.folder().get(new_name)
        if not new_name or new_parent is node:
            raise Refusal(INVAL)
        if known is node:
            return
        if known is not None:
            if known.entries:
                raise Refusal(NOTEMPTY)
            if (known.entries is None) != (node.entries is None):
                raise Refusal(NOTDIR if known.entries is None else ISDIR)
            self._unlink(new_parent, new_name)
        del parent.folder()[name]
        new_parent.folder()[new_name] = node

    def path_filestat_get(self, memory: Any, at: int, _links: int, path: int, length: int, out: int) -> None:
        parent, name = self._find(memory, at, path, length)
        memory.write(out, _status(self._child(parent, name) if name else parent))

    def path_filestat_set_times(self, memory: Any, at: int, _links: int, path: int, length: int, *times: int) -> None:
        self._find(memory, at, path, length)

    def path_readlink(self, memory: Any, *arguments: int) -> None:
        raise Refusal(INVAL)

    def path_symlink(self, memory: Any, *arguments: int) -> None:
        raise Refusal(PERM)

    def path_link(self, memory: Any, *arguments: int) -> None:
        raise Refusal(PERM)

    # what the calls share

    def _file(self, descriptor: int) -> Open:
        if descriptor not in self.open:
            raise Refusal(BADF)
        return self.open[descriptor]

    def _plain(self, descriptor: int) -> Open:
        file = self._file(descriptor)
        if file.node.entries is not None:
            raise Refusal(ISDIR)
        return file

    def _find(self, memory: Any, at: int, path: int, length: int, not_through: Node | None = None) -> tuple[Node, str]:
        """The folder a path leads to, and the name there; no name for the folder itself."""
        way = [self._file(at).node]
        if length > 4096:
            raise Refusal(NAMETOOLONG)
        parts = memory.read(path, length).decode("utf-8", "surrogateescape").split("/")
        parts = [part for part in parts if part not in ("", ".")]
        for place, part in enumerate(parts):
            if way[-1] is not_through:
                raise Refusal(INVAL)
            if part == "..":
                if len(way) == 1:
                    raise Refusal(NOTCAPABLE)
                way.pop()
            elif place == len(parts) - 1:
                if len(part.encode("utf-8", "surrogateescape")) > MOST_NAME_BYTES:
                    raise Refusal(NAMETOOLONG)
                way[-1].folder()
                return way[-1], part
            else:
                way.append(self._child(way[-1], part))
        way[-1].folder()
        return way[-1], ""

    def _child(self, parent: Node, name: str) -> Node:
        if not name:
            raise Refusal(INVAL)
        node = parent.folder().get(name)
        if node is None:
            raise Refusal(NOENT)
        return node

    def _make(self, parent: Node, name: str, folder: bool) -> Node:
        if self.files_left <= 0 or not parent.linked:
            raise Refusal(NOSPC)
        self.files_left -= 1
        self.numbers += 1
        parent.folder()[name] = Node(self.numbers, folder)
        return parent.folder()[name]

    def _unlink(self, parent: Node, name: str) -> None:
        node = parent.folder().pop(name)
        node.linked = False
        self._release(node)

    def _release(self, node: Node) -> None:
        """A file takes space until it has neither a name nor a descriptor."""
        if not node.linked and not node.opened:
            self.files_left += 1
            self.bytes_left += len(node.content)
            node.content = bytearray()

    def _resize(self, node: Node, size: int) -> None:
        more = size - len(node.content)
        if size < 0:
            raise Refusal(INVAL)
        if more > self.bytes_left:
            raise Refusal(NOSPC)
        self.bytes_left -= more
        if more > 0:
            node.content.extend(bytes(more))
        else:
            del node.content[size:]
        node.modified = time.time_ns()

    def _read(self, memory: Any, node: Node, position: int, vectors: int, count: int) -> int:
        size = 0
        for start, length in pieces(memory, vectors, count):
            part = bytes(node.content[position + size : position + size + length])
            memory.write(start, part)
            size += len(part)
        return size

    def _write(self, memory: Any, node: Node, position: int, vectors: int, count: int) -> int:
        if position < 0:
            raise Refusal(INVAL)
        wanted = pieces(memory, vectors, count)
        end = position + sum(length for _, length in wanted)
        if end > len(node.content):
            self._resize(node, end)
        at = position
        for start, length in wanted:
            node.content[at : at + length] = memory.read(start, length)
            at += length
        node.modified = time.time_ns()
        return at - position


def pieces(memory: Any, at: int, count: int) -> list[tuple[int, int]]:
    """Starts and lengths of the pieces of memory that a read or write names."""
    count &= (1 << 32) - 1
    if count > MOST_PIECES:
        raise Refusal(INVAL)
    raw = memory.read(at, 8 * count)
    return [struct.unpack_from("<II", raw, 8 * index) for index in range(count)]


def _kind(node: Node) -> int:
    return FILE if node.entries is None else FOLDER


def _status(node: Node | None) -> bytes:
    """A `filestat`; of a standard stream without a node."""
    if node is None:
        return struct.pack("<QQBxxxxxxxQQQQQ", 0, 0, CHARACTERS, 1, 0, 0, 0, 0)
    times = (node.modified,) * 3
    return struct.pack("<QQBxxxxxxxQQQQQ", 1, node.number, _kind(node), 1, len(node.content), *times)
