"""The program inside every sandbox: takes requests on standard input, runs their code, answers on standard output.

It runs under whatever Python the sandbox has, so it uses the standard library alone, and it imports late what a cold
start need not pay for. Nothing it says is trusted outside: the code that it runs may have changed it.

The first line in are its settings, each later line a request, all of them Python literals from the trusted side. An
answer is a list of fields, each a line `name length` and that many bytes, and a last field `end 0`; whoever reads that
needs no parser that hostile text could break. Settings:

    limits      resource limits by name ("AS", "NPROC", ...) of the process
    folder      to work in, where that is not set from outside
    paths       folders to import from, added to the interpreter's own
    modules     sources by name, to be imported at the start, so that a job finds them ready
    jobs        None, or the limits of a job: each request then runs in a process forked for it alone
    filter      the seccomp filter of a server of jobs, as an array of sock_filter

A request: `nonce`; `code`; `name` of it in tracebacks; `keep` the variables for the next request and show the last
expression, as a notebook does; `variables` to set before; `stdin`; `files` to write into the current folder first;
`collect` files that are new or changed; `output_bytes` and `answer_bytes` as in `Limits`.
"""

from __future__ import annotations

import builtins
import io
import os
import sys

TYPE_CHECKING = False  # `typing` is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

NATIVE = hasattr(os, "fork")  # not under WebAssembly, where the process that runs this does the forking


def send(channel: int, fields: Iterable[tuple[str, object]]) -> None:
    """Writes one answer to a file descriptor."""
    parts = []
    for name, value in [*fields, ("end", b"")]:
        content = value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")
        parts += [b"%s %d\n" % (name.encode("utf-8", "backslashreplace"), len(content)), content]
    data = memoryview(b"".join(parts))
    while data:
        data = data[os.write(channel, data) :]


class Output(io.BytesIO):
    """Keeps the first bytes written to it and the last: of a flood the middle is lost."""

    def __init__(self, keep_bytes: int):
        super().__init__()
        self.half, self.tail, self.written = keep_bytes // 2, b"", 0

    def write(self, data: Any) -> int:
        data = bytes(data)
        self.written += len(data)
        room = max(0, self.half - self.tell())
        super().write(data[:room])
        if len(data) > room:
            self.tail = (self.tail + data[room:])[-self.half :]
        return len(data)

    def text(self) -> bytes:
        head = self.getvalue()
        lost = self.written - len(head) - len(self.tail)
        middle = b"\n... (%d bytes cut out) ...\n" % lost if lost else b""
        return head + middle + self.tail


class Shared:
    """The descriptors 1 and 2 in a file, so that what child processes print is kept too."""

    def __init__(self, path: str = "/tmp/.output"):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(self.file, 1)
        os.dup2(self.file, 2)

    def take(self, keep_bytes: int) -> bytes:
        output = Output(keep_bytes)
        size = os.fstat(self.file).st_size
        output.write(os.pread(self.file, output.half, 0))
        if size > output.half:
            start = max(output.half, size - output.half)
            output.tail, output.written = os.pread(self.file, size - start, start), size
        os.ftruncate(self.file, 0)
        return output.text()


def changed_files(before: dict[str, tuple[int, int]], room_bytes: int) -> list[tuple[str, object]]:
    """Fields for the plain files of the current folder that `before` lacks or has with another time or size."""
    fields: list[tuple[str, object]] = []
    for entry in sorted(os.scandir(), key=lambda entry: entry.name):
        plain = entry.is_file(follow_symlinks=False) and entry.name.isprintable()
        if not plain or before.get(entry.name) == stamp(entry):
            continue
        room_bytes -= entry.stat().st_size
        if room_bytes < 0:
            fields.append(("toolarge:" + entry.name, ""))
            continue
        with open(entry.path, "rb") as file:
            fields.append(("file:" + entry.name, file.read()))
    return fields


def stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    status = entry.stat(follow_symlinks=False)
    return status.st_mtime_ns, status.st_size


def save_figures() -> None:
    """Open matplotlib figures become files, as a notebook shows them."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    number = 1
    for figure in pyplot.get_fignums() if pyplot else ():
        while os.access(f"figure-{number}.png", os.F_OK):
            number += 1
        pyplot.figure(figure).savefig(f"figure-{number}.png", dpi=100, bbox_inches="tight")
    if pyplot:
        pyplot.close("all")


def execute(code: str, name: str, namespace: dict[str, Any], show: bool) -> None:
    """Runs the code; with `show` the value of a last expression is printed."""
    if not show:
        exec(compile(code, name, "exec"), namespace)
        return
    import ast

    tree = ast.parse(code, name)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, name, "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        if value is not None:
            namespace["_"] = value
            print(repr(value))


def describe(error: BaseException, code: str, name: str) -> str:
    """A traceback that begins in the code, with its lines."""
    import linecache
    import traceback

    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace, limit=20))[-8000:]


def text_of(file: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, "utf-8", "backslashreplace", write_through=True)


class Interpreter:
    """Runs requests one after another and keeps the variables of those that say so."""

    def __init__(self, shared: Shared | None):
        self.shared = shared
        self.kept: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}

    def answer(self, request: dict[str, Any]) -> list[tuple[str, object]]:
        """The fields that answer a request."""
        output = Output(request["output_bytes"])
        sys.stdin = io.StringIO(request.get("stdin", ""))
        if self.shared is None:
            sys.stdout = sys.stderr = text_of(output)
        else:
            sys.stdout, sys.stderr = (text_of(io.FileIO(descriptor, "w", closefd=False)) for descriptor in (1, 2))
        fields: list[tuple[str, object]] = [("ended", "finished")]
        for name, data in request.get("files", {}).items():
            with open(name, "wb") as file:
                file.write(data)
        before = {entry.name: stamp(entry) for entry in os.scandir()} if request.get("collect") else {}
        keep, code, name = request.get("keep", False), request["code"], request.get("name", "main.py")
        namespace = self.kept if keep else {"__name__": "__main__", "__builtins__": __builtins__}
        namespace.update(request.get("variables", {}))
        try:
            execute(code, name, namespace, show=keep)
            if keep:
                save_figures()
        except SystemExit as exit:
            status = 0 if exit.code is None else exit.code
            fields = [("ended", "finished" if status == 0 else "exited"), ("error", f"exit status {status}")]
        except BaseException as error:
            fields = [("ended", "raised"), ("error", describe(error, code, name))]
        result = namespace.get("result") if not keep else None
        if isinstance(result, (str, bytes)):
            fields.append(("result", result))
        if request.get("collect"):
            fields += changed_files(
                before, request["answer_bytes"] - (len(result) if isinstance(result, (str, bytes)) else 0)
            )
        fields.append(("output", self.shared.take(request["output_bytes"]) if self.shared else output.text()))
        return fields


def set_limits(limits: dict[str, int]) -> None:
    if limits:
        import resource

        for name, value in limits.items():
            hard = value + 1 if name == "CPU" else value  # XCPU at the first, which says why; KILL at the second
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, hard))


def next_job(requests: Any, channel: int) -> tuple[bytes, int]:
    """Returns in a process forked for one request: its line, and the descriptor for its answer. The server itself stays
    here until there are no more requests.

    A process is forked before its request is there, so that no call waits for it.
    """
    while True:
        asking, give = os.pipe()
        take, answering = os.pipe()
        child = os.fork()
        if child == 0:
            for descriptor in (give, take, channel, requests.fileno()):
                os.close(descriptor)
            with os.fdopen(asking, "rb") as file:
                line = file.read()
            if not line:
                os._exit(0)
            return line, answering
        os.close(asking)
        os.close(answering)
        line = requests.readline()
        if not line:
            os._exit(0)
        left = memoryview(line)
        while left:
            left = left[os.write(give, left) :]
        os.close(give)
        relay(channel, eval(line), take, child)


def relay(channel: int, request: dict[str, Any], take: int, child: int) -> None:
    """Hands on what a forked job wrote, as one field of an answer, and how the job ended. The job is not trusted."""
    most_bytes = request["answer_bytes"] + 2 * request["output_bytes"] + 65536
    parts, size = [], 0
    while part := os.read(take, 1 << 16):
        size += len(part)
        if size <= most_bytes:
            parts.append(part)
    os.close(take)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    large = size > most_bytes
    send(channel, [("nonce", request["nonce"]), ("status", status), ("large", large), ("job", b"".join(parts))])


def lock_down(libc: Any, filter_program: bytes) -> None:
    """Puts a seccomp filter on this process and those it forks. Once in a server: a filter for each job costs 3 ms."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    if not filter_program:  # a kernel without filters, or a machine without a list of its system calls
        return
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, without which the kernel takes no filter
    program = Program(len(filter_program) // 8, filter_program)
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        os._exit(71)


def serve_jobs(requests: Any, channel: int, settings: dict[str, Any]) -> NoReturn:
    """Answers each request from a process forked for it, which inherits nothing of the requests before."""
    import ctypes
    import gc
    import traceback  # noqa: F401  jobs find it ready

    libc = ctypes.CDLL(None, use_errno=True)
    gc.freeze()  # a job's collections then leave the shared pages as they are
    if libc.prctl(4, 0, 0, 0, 0):  # PR_SET_DUMPABLE: no job may open the server's memory
        os._exit(71)
    lock_down(libc, settings["filter"])
    interpreter = Interpreter(shared=None)
    line, answering = next_job(requests, channel)
    set_limits(settings["jobs"])
    send(answering, interpreter.answer(eval(line)))
    os._exit(0)


def sleep(seconds: float) -> None:
    """`time.sleep` under WebAssembly, whose Python has none that works: each yield is a short pause outside."""
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.sched_yield()


def main() -> None:
    requests = os.fdopen(os.dup(0) if NATIVE else 0, "rb")
    settings = eval(requests.readline())
    channel = os.dup(1) if NATIVE else 1
    if NATIVE:
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
    else:
        import time

        vars(time)["sleep"] = sleep
    set_limits(settings["limits"])
    if settings.get("folder"):
        os.chdir(settings["folder"])
    sys.path += settings["paths"]
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as `import site` does, which a start without it has saved
    for name, source in settings["modules"].items():
        sys.modules[name] = type(sys)(name)
        exec(compile(source, name + ".py", "exec"), vars(sys.modules[name]))
    compile("0", "", "eval")  # the first call in a process takes a millisecond, which forked jobs then need not
    send(channel, [("ready", "")])
    if settings["jobs"] is not None:
        serve_jobs(requests, channel, settings)
    interpreter = Interpreter(Shared() if NATIVE else None)
    for line in requests:
        request = eval(line)
        send(channel, [("nonce", request["nonce"]), *interpreter.answer(request)])


if __name__ == "__main__":
    main()
