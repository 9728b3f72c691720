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
    filter      the seccomp filter of a job, as an array of sock_filter

A request: `nonce`; `code`; `name` of it in tracebacks; `keep` the variables for the next request and show the last
expression, as a notebook does; `variables` to set before; `stdin`; `files` to write into the current folder first;
`collect` files that are new or changed; `output_bytes` and `answer_bytes` as in `Limits`.
"""

import builtins
import io
import os
import sys

NATIVE = hasattr(os, "fork")  # not under WebAssembly, where the process that runs this does the forking


def send(channel, fields):
    """Writes one answer to a file descriptor."""
    parts = []
    for name, value in [*fields, ("end", b"")]:
        value = value if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace")
        parts += [b"%s %d\n" % (name.encode("utf-8", "backslashreplace"), len(value)), value]
    data = memoryview(b"".join(parts))
    while data:
        data = data[os.write(channel, data) :]


class Output(io.BytesIO):
    """Keeps the first bytes written to it and the last: of a flood the middle is lost."""

    def __init__(self, keep_bytes):
        super().__init__()
        self.half, self.tail, self.written = keep_bytes // 2, b"", 0

    def write(self, data):
        data = bytes(data)
        self.written += len(data)
        room = max(0, self.half - self.tell())
        super().write(data[:room])
        if len(data) > room:
            self.tail = (self.tail + data[room:])[-self.half :]
        return len(data)

    def text(self):
        head = self.getvalue()
        lost = self.written - len(head) - len(self.tail)
        middle = b"\n... (%d bytes cut out) ...\n" % lost if lost else b""
        return head + middle + self.tail


class Shared:
    """The descriptors 1 and 2 in a file, so that what child processes print is kept too."""

    def __init__(self, path="/tmp/.output"):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(self.file, 1)
        os.dup2(self.file, 2)

    def take(self, keep_bytes):
        output = Output(keep_bytes)
        size = os.fstat(self.file).st_size
        output.write(os.pread(self.file, output.half, 0))
        if size > output.half:
            start = max(output.half, size - output.half)
            output.tail, output.written = os.pread(self.file, size - start, start), size
        os.ftruncate(self.file, 0)
        return output.text()


def changed_files(before, room_bytes):
    """Fields for the plain files of the current folder that `before` lacks or has with another time or size."""
    fields = []
    for entry in sorted(os.scandir(), key=lambda entry: entry.name):
        if not entry.name.isprintable() or not entry.is_file(follow_symlinks=False) or before.get(entry.name) == stamp(entry):
            continue
        room_bytes -= entry.stat().st_size
        if room_bytes < 0:
            fields.append(("toolarge:" + entry.name, ""))
            continue
        with open(entry.path, "rb") as file:
            fields.append(("file:" + entry.name, file.read()))
    return fields


def stamp(entry):
    status = entry.stat(follow_symlinks=False)
    return status.st_mtime_ns, status.st_size


def save_figures():
    """Open matplotlib figures become files, as a notebook shows them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    number = 1
    for figure in pyplot.get_fignums() if pyplot else ():
        while os.path.exists("figure-%d.png" % number):
            number += 1
        pyplot.figure(figure).savefig("figure-%d.png" % number, dpi=100, bbox_inches="tight")
    if pyplot:
        pyplot.close("all")


def execute(code, name, namespace, show):
    """Runs the code; with `show` the value of a last expression is printed."""
    if not show:
        exec(compile(code, name, "exec"), namespace)
        return
    import ast

    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
        if value is not None:
            namespace["_"] = value
            print(repr(value))


def describe(error, code, name):
    """A traceback that begins in the code, with its lines."""
    import linecache
    import traceback

    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace, limit=20))[-8000:]


class Interpreter:
    """Runs requests one after another and keeps the variables of those that say so."""

    def __init__(self, shared):
        self.shared = shared
        self.kept = {"__name__": "__main__", "__builtins__": __builtins__}

    def answer(self, request):
        """The fields that answer a request."""
        output = Output(request["output_bytes"])
        sys.stdin = io.StringIO(request.get("stdin", ""))
        if self.shared is None:
            sys.stdout = sys.stderr = io.TextIOWrapper(output, "utf-8", "backslashreplace", write_through=True)
        else:
            sys.stdout = io.TextIOWrapper(
                io.FileIO(1, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
            )
            sys.stderr = io.TextIOWrapper(
                io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
            )
        fields = [("ended", "finished")]
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
            fields = [("ended", "finished" if status == 0 else "exited"), ("error", "exit status %s" % (status,))]
        except BaseException as error:
            fields = [("ended", "raised"), ("error", describe(error, code, name))]
        result = namespace.get("result")
        if isinstance(result, (str, bytes)) and not keep:
            fields.append(("result", result))
        if request.get("collect"):
            fields += changed_files(before, request["answer_bytes"] - len(result or ""))
        fields.append(("output", self.shared.take(request["output_bytes"]) if self.shared else output.text()))
        return fields


def set_limits(limits):
    if limits:
        import resource

        for name, value in limits.items():
            hard = value + 1 if name == "CPU" else value  # XCPU at the first, which says why; KILL at the second
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, hard))


def relay(channel, nonce, reading, child, most_bytes):
    """Hands on what a forked job wrote, as one field of an answer, and how the job ended. The job is not trusted."""
    parts, size = [], 0
    while size <= most_bytes:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        parts.append(part)
        size += len(part)
    os.close(reading)
    if size > most_bytes:
        os.kill(child, 9)
        parts = []
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    send(channel, [("nonce", nonce), ("status", status), ("large", size > most_bytes), ("job", b"".join(parts))])


def lock_down(libc, filter_program, limits):
    """Takes from a forked job what could reach the server or the jobs after it."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    set_limits(limits)
    if not filter_program:  # a kernel without filters, or a machine without a list of its system calls
        return
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, without which the kernel takes no filter
    program = Program(len(filter_program) // 8, filter_program)
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        os._exit(71)


def supervise():
    """Leaves process 1 to adopt orphans and to say how its child ended; returns in the child, which runs the code.

    It takes the place of bubblewrap's own process 1, which has no seccomp filter, and into whose memory the code could
    write.
    """
    child = os.fork()
    while child:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def serve_jobs(requests, channel, settings):
    """Answers each request from a process forked for it, which inherits nothing of the requests before."""
    import ctypes
    import gc
    import traceback  # noqa: F401  jobs find it ready

    libc = ctypes.CDLL(None, use_errno=True)
    gc.freeze()  # a job's collections then leave the shared pages as they are
    if libc.prctl(4, 0, 0, 0, 0):  # PR_SET_DUMPABLE: no job may open the server's memory
        os._exit(71)
    interpreter = Interpreter(shared=None)
    for line in requests:
        request = eval(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            for descriptor in (reading, channel, requests.fileno()):
                os.close(descriptor)
            lock_down(libc, settings["filter"], settings["jobs"])
            send(writing, interpreter.answer(request))
            os._exit(0)
        os.close(writing)
        relay(channel, request["nonce"], reading, child, request["answer_bytes"] + 2 * request["output_bytes"] + 65536)


def sleep(seconds):
    """`time.sleep` under WebAssembly, whose Python has none that works: each yield is a short pause outside."""
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.sched_yield()


def main():
    requests = os.fdopen(os.dup(0) if NATIVE else 0, "rb")
    settings = eval(requests.readline())
    channel = os.dup(1) if NATIVE else 1
    if NATIVE:
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
    else:
        import time

        time.sleep = sleep
    set_limits(settings["limits"])
    if settings.get("folder"):
        os.chdir(settings["folder"])
    sys.path += settings["paths"]
    builtins.exit = builtins.quit = sys.exit  # as `import site` does, which a start without it has saved
    for name, source in settings["modules"].items():
        sys.modules[name] = type(sys)(name)
        exec(compile(source, name + ".py", "exec"), vars(sys.modules[name]))
    send(channel, [("ready", "")])
    if settings["jobs"] is not None:
        return serve_jobs(requests, channel, settings)
    if NATIVE:
        supervise()
    interpreter = Interpreter(Shared() if NATIVE else None)
    for line in requests:
        request = eval(line)
        send(channel, [("nonce", request["nonce"]), *interpreter.answer(request)])


if __name__ == "__main__":
    main()
