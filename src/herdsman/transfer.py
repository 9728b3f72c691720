"""HTTP(S), file:// and object stores with the settings of one user: streamed, resumed where it broke off, retried."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3

from herdsman.errors import InputError, MachineError

CHUNK_BYTES = 1 << 18
STORE_CHUNK_BYTES = 8 << 20  # asked of an object store at once
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_ASKED_PAUSE_SECONDS = 300.0  # that a server may ask for with Retry-After


class TransferError(Exception):
    """An address did not give what it should; the message is a clause to be put into the user's sentence."""


class _Transient(Exception):
    """Worth another try: the connection broke, or the server said that it is busy and for how many seconds."""

    def __init__(self, message: str, pause: float = 0.0):
        super().__init__(message)
        self.pause = pause


@dataclass(frozen=True)
class Document:
    """A small page as it was answered; `url` is the address after redirects, against which its links are read."""

    url: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Client:
    """HTTP(S), file:// and, by `store_of`, object stores with the settings of one user.

    Attributes:
        proxy: address of a proxy; without one the usual environment variables hold.
        ca_bundle: file or folder of certificates to trust in place of the default ones.
        client_cert: file with a client certificate and its key.
        trusted_hosts: hosts (`name` or `name:port`) whose certificates are not checked.
        retries: tries after the first, counted anew whenever a download got further than before.
        backoff_seconds: pause before the first of them; it doubles from one to the next.
    """

    proxy: str | None = None
    ca_bundle: str | None = None
    client_cert: str | None = None
    trusted_hosts: frozenset[str] = frozenset()
    timeout_seconds: float = 30.0
    retries: int = 5
    backoff_seconds: float = 0.5

    def read(self, url: str, accept: str = "*/*") -> Document:
        """The whole content of a small page, such as an index page.

        Raises:
            TransferError: the address does not answer, or not with 200.
        """
        if is_local(url):
            try:
                return Document(url, "text/html", local_path(url).read_bytes())
            except OSError as error:
                raise TransferError(_reason(error)) from error
        for attempt in self._attempts():
            with attempt, self._get(url, {"Accept": accept}) as response:
                content = b"".join(response.iter_content(CHUNK_BYTES))
                return Document(response.url, response.headers.get("Content-Type", ""), content)
        raise AssertionError("the last attempt raises")

    def size(self, url: str) -> int | None:
        """Bytes of the file at `url` if the server tells, for a progress bar; whatever goes wrong shows later."""
        if not url.startswith(("http:", "https:")):
            return None
        try:
            with self._get(url, {"Accept-Encoding": "identity"}) as response:
                return int(response.headers["Content-Length"])
        except (_Transient, TransferError, requests.RequestException, KeyError, ValueError):
            return None

    def fetch_into(self, url: str, file: BinaryIO, advance: Callable[[int], None]) -> None:
        """Completes `file` with what is at `url`, going on after the bytes it already holds.

        `advance` is told of every byte written, with a negative number when bytes are thrown away.

        Raises:
            TransferError: the address does not give the file.
            MachineError: the disk is full.
        """
        for attempt in self._attempts():
            with attempt:
                start = file.seek(0, os.SEEK_END)
                if is_local(url):
                    _copy_local(url, file, start, advance)
                elif url.startswith(("http:", "https:")):
                    self._stream(url, file, start, advance, attempt)
                else:
                    _copy_stored(url, file, start, advance, attempt)
                return

    def _stream(self, url: str, file: BinaryIO, start: int, advance: Callable[[int], None], attempt: _Attempt) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._get(url, headers, accepted=(200, 206, 416)) as response:
            if start and (response.status_code != 206 or _range_start(response) != start):
                # The server does not resume, or has fewer bytes than we hold: begin anew.
                truncate(file, advance)
                if response.status_code != 200:
                    raise _Transient(f"the server cannot go on after byte {start:,}")
            elif response.status_code != (206 if start else 200):
                raise TransferError(f"the server answered {response.status_code}")
            # The raw bytes: some servers declare an archive's own gzip as a Content-Encoding, which must stay.
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                _write(file, chunk)
                advance(len(chunk))
                attempt.reach(file.tell())

    def _get(self, url: str, headers: dict[str, str], accepted: tuple[int, ...] = (200,)) -> requests.Response:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
        trusted = not self.trusted_hosts.isdisjoint({host, f"{host}:{port}"})
        if trusted:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        # Given with the request, because `requests` lets environment variables overrule a session's settings.
        response = requests.get(
            url,
            headers=headers,
            stream=True,
            timeout=self.timeout_seconds,
            verify=False if trusted else self.ca_bundle or True,
            cert=self.client_cert,
            proxies={"http": self.proxy, "https": self.proxy} if self.proxy else None,
        )
        if response.status_code in accepted:
            return response
        response.close()
        kind = _Transient if response.status_code in TRANSIENT_STATUSES else TransferError
        error = kind(f"the server answered {response.status_code} {response.reason or ''}".rstrip())
        if isinstance(error, _Transient):
            error.pause = min(retry_after(response.headers.get("Retry-After")), LONGEST_ASKED_PAUSE_SECONDS)
        raise error

    def _attempts(self) -> Iterator[_Attempt]:
        """Yields one attempt after the other with growing pauses; the last one raises TransferError."""
        failures, furthest = 0, 0
        while True:
            attempt = _Attempt(failures >= self.retries, furthest)
            yield attempt
            failures = 1 if attempt.furthest > furthest else failures + 1
            furthest = attempt.furthest
            time.sleep(max(attempt.pause, min(self.backoff_seconds * 2 ** (failures - 1), LONGEST_PAUSE_SECONDS)))


class _Attempt:
    """Swallows a transient error, so that the loop goes on, unless it is the last attempt and got no further.

    Further than any attempt before: a server that cannot resume and always breaks off at one place is given up.
    """

    def __init__(self, last: bool, furthest: int):
        self.last, self.before, self.furthest = last, furthest, furthest
        self.pause = 0.0

    def reach(self, position: int) -> None:
        """Says how many bytes of the file there are by now."""
        self.furthest = max(self.furthest, position)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        transient = (_Transient, requests.RequestException, urllib3.exceptions.HTTPError)
        if isinstance(error, (requests.exceptions.SSLError, ValueError)) and isinstance(error, transient):
            raise TransferError(_reason(error)) from error  # a wrong certificate or address stays wrong
        if not isinstance(error, transient):
            return False
        if self.last and self.furthest == self.before:
            raise TransferError(_reason(error)) from error
        self.pause = getattr(error, "pause", 0.0)
        return True


def is_local(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("", "file")
    except ValueError:  # https://[bad/
        return False


def local_path(url: str) -> Path:
    """Path of a file:// address or of a plain path."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else Path(url).expanduser()


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, a number or a date (RFC 9110, section 10.2.3); 0 without one."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header or "")
    except ValueError:
        return 0.0
    return max(0.0, (moment - datetime.now(moment.tzinfo and UTC)).total_seconds())


@cache
def store_of(protocol: str) -> Any:
    """The fsspec file system that reads addresses such as `s3://bucket/key`, with the user's settings for it.

    Those are the environment's (AWS_PROFILE, FSSPEC_S3_ENDPOINT_URL and the like) or fsspec's own files. Without any
    credentials, S3 buckets are read anonymously.

    Raises:
        InputError: nothing is known by that protocol, or the package for it is not installed.
    """
    import fsspec
    from fsspec.registry import known_implementations

    try:
        kind = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        if protocol not in known_implementations:
            raise InputError("no such protocol", where=f"{protocol}://", do="check the address") from error
        do = "pip install s3fs" if protocol in ("s3", "s3a") else known_implementations[protocol]["err"]
        raise InputError("needs a package that is not installed", where=f"{protocol}://", do=do) from error
    if protocol in ("s3", "s3a") and "anon" not in fsspec.config.conf.get(protocol, {}):
        from botocore.session import Session

        return kind(anon=Session().get_credentials() is None)
    return kind()


def _copy_stored(url: str, file: BinaryIO, start: int, advance: Callable[[int], None], attempt: _Attempt) -> None:
    store = store_of(urlsplit(url).scheme)
    try:
        size = store.info(url)["size"]
        if start > size:
            truncate(file, advance)
            start = 0
        while start < size:
            chunk = store.cat_file(url, start=start, end=min(start + STORE_CHUNK_BYTES, size))
            if not 0 < len(chunk) <= size - start:
                raise _Transient(f"the store gave {len(chunk):,} bytes where {size - start:,} are left")
            _write(file, chunk)
            advance(len(chunk))
            start += len(chunk)
            attempt.reach(start)
    except (_Transient, MachineError):
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise TransferError(_reason(error)) from error
    except Exception as error:  # each store has exceptions of its own for a network that fails
        raise _Transient(f"{type(error).__name__}: {_reason(error)}") from error


def shown(url: str) -> str:
    """The address without its user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _copy_local(url: str, file: BinaryIO, start: int, advance: Callable[[int], None]) -> None:
    try:
        with open(local_path(url), "rb") as source:
            source.seek(start)
            while chunk := source.read(CHUNK_BYTES):
                _write(file, chunk)
                advance(len(chunk))
    except OSError as error:
        raise TransferError(_reason(error)) from error


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        do = "free some space, or set HERDSMAN_CACHE to a folder that has it"
        what = "no space left on the disk" if error.errno == errno.ENOSPC else f"cannot be written ({_reason(error)})"
        raise MachineError(what, where=file.name, do=do) from error


def truncate(file: BinaryIO, advance: Callable[[int], None]) -> None:
    """Empties the file and takes its bytes back from `advance`."""
    advance(-file.seek(0, os.SEEK_END))
    file.truncate(0)


def _range_start(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: BaseException) -> str:
    """The innermost cause in its own words, without the addresses of objects that libraries print around it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    cause: object = error
    while isinstance(cause, BaseException):
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?|^\w+\([^)]*\): ", "", str(cause)).strip()
    return re.sub(r"//[^/@ ]*@", "//", text) or type(cause).__name__
