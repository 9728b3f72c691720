"""Chat over a pipe and on a terminal: answers, tools, commands, and what cannot be done."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from herdsman.errors import InputError, MachineError
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.serving.dialog import Dialog, Speaker
from herdsman.serving.guarding import Judge
from herdsman.serving.terminal import HELP, chat
from herdsman.serving.terminal_output import Lines, Screen
from herdsman.tokens.chat import chat_format
from herdsman.tools.tool import File, Result, Source, Tool
from tests.generation.models import BYTES, parrot
from tests.serving.served import write_model
from tests.tools.scripted import Plus, ScriptedEngine

GREEDY = Sampling(40, temperature=0)
SAYS = b"Bad. Nice!"
CALL = '<|python_tag|>{"name": "plus", "parameters": {"a": 2, "b": 3}}<|eom_id|>'
NOWHERE = Path("/nowhere")


@pytest.fixture(autouse=True)
def no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def speaker(says: bytes = SAYS, context_length: int = 256, end: str = "<|eot_id|>", **judges: Judge) -> Speaker:
    model, tokenizer = parrot(says, context_length, end)
    return Speaker(says.decode(), LocalEngine(model, tokenizer), chat_format(tokenizer), **judges)


def pipe(text: str | bytes, talker: Speaker | None = None) -> str:
    """What a chat writes for what comes through a real pipe."""
    reader, writer = os.pipe()
    os.write(writer, text if isinstance(text, bytes) else text.encode())
    os.close(writer)
    output = io.StringIO()
    with open(reader, encoding="utf-8") as input:
        chat(Dialog(talker or speaker(), GREEDY), input, output, Screen(output, io.StringIO(), NOWHERE))
    return output.getvalue()


def on_terminal(lines: str, dialog: Dialog | None = None, folder: Path = NOWHERE, **more) -> str:
    """What a terminal shows, without what is typed."""
    output = Terminal()
    chat(dialog or Dialog(speaker(), GREEDY), Terminal(lines), output, Screen(output, output, folder), **more)
    return output.getvalue()


def scripted(*script: str, tools: Sequence[Tool] = ()) -> Dialog:
    engine = ScriptedEngine(*script)
    return Dialog(Speaker("scripted", engine, chat_format(engine.tokenizer)), Sampling(500), tools=tools)  # type: ignore[arg-type]


def test_a_pipe_gets_answers_and_nothing_else() -> None:
    assert pipe("hello\n\n   \nand again") == "Bad. Nice!\nBad. Nice!\n"
    assert pipe("") == ""
    assert pipe("/system Be brief.\n/reset\nhello\n/set seed=2\n/quit\nnot read\n") == "Bad. Nice!\n"
    assert pipe("/help\n") == HELP
    assert pipe("hello\n/retry\n") == "Bad. Nice!\n" * 2


def test_bytes_that_are_no_text_do_not_end_the_dialog() -> None:
    assert pipe(b"caf\xe9 \xff\xfe\nhello\n") == "Bad. Nice!\n" * 2


@pytest.mark.parametrize("token", ["<|start_header_id|>", "<|python_tag|>", "<|end_of_text|>", "<|begin_of_text|>"])
def test_special_tokens_end_an_answer_and_are_not_shown(token: str) -> None:
    assert pipe("hello\n", speaker(end=token)) == "Bad. Nice!\n"


def test_guards_over_a_pipe() -> None:
    bomb = speaker(judge_input=lambda messages: "I won't." if "bomb" in messages[-1].content else None)
    assert pipe("a bomb\nhello\n", bomb) == "I won't.\nBad. Nice!\n"
    assert pipe("hi\n", speaker(b"abc", judge_output=lambda messages: "No.")) == "No.\n"
    assert pipe("hi\n", speaker(b"abc", judge_output=lambda messages: None)) == "abc\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("x" * 99, "send a shorter one"),
        ("/nonsense", "there is no command /nonsense; /help lists the commands"),
        ("/set colour=red", "there is nothing called 'colour' to set; set one of temperature, "),
        ("/set temperature=warm", "temperature cannot be 'warm'; give a number"),
        ("/set top_k=1.5", "top_k cannot be '1.5'; give a whole number"),
        ("/set temperature=-1", "sampling with temperature=-1.0 is not possible; it must be 0 or more"),
        ("/retry", "nothing has been asked yet"),
        ("/save", "/save needs the name of a file"),
        ("/load /nowhere/chat.json", "/nowhere/chat.json: no such file or directory; name a file that /save wrote"),
        ("/model other", "there is no model other; there is "),
    ],
)
def test_what_cannot_be_done_is_an_error_over_a_pipe_and_a_remark_on_a_terminal(line: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        pipe(line, speaker(context_length=64))
    assert error in str(caught.value)
    shown = on_terminal(f"{line}\nhi\n", Dialog(speaker(context_length=64), GREEDY))
    assert f"{caught.value}\n" in shown
    assert shown.count("Bad. Nice!\n") == 1


def test_commands_on_a_terminal() -> None:
    assert on_terminal("/help\nhello\n/reset\n/system  Be kind. \n/system\n") == (
        f"Ask away. /help lists the commands.\n> {HELP}> Bad. Nice!\n> The dialog is forgotten.\n"
        "> The system message is set.\n> There is no system message now.\n> \n"
    )


def test_settings_take_effect() -> None:
    dialog = Dialog(speaker(), GREEDY)
    shown = on_terminal("/set temperature=0.5  max_tokens=3 top_k=7\n/set\nhello\n", dialog)
    assert shown.count("temperature=0.5 top_p=0.9 top_k=7") == 2
    assert dialog.sampling == Sampling(3, temperature=0.5, top_k=7)
    assert "> Bad\n| [cut off at the limit of tokens]\n" in shown


def test_going_on_with_another_model_takes_the_dialog_along() -> None:
    opened = []
    dialog = Dialog(speaker(), GREEDY)

    def other() -> Speaker:
        opened.append(1)
        return speaker(b"ABC")

    models = {"Bad. Nice!": speaker, "ABC": other}
    shown = on_terminal("hello\n/model\n/model ABC\nhello\n/model Bad. Nice!\n/model ABC\n", dialog, models=models)
    assert "> * Bad. Nice!\n  ABC\n>   Bad. Nice!\n* ABC\n> ABC\n" in shown
    assert [message.content for message in dialog.history] == ["hello", "Bad. Nice!", "hello", "ABC"]
    assert opened == [1]


def test_a_dialog_is_saved_and_gone_on_with(tmp_path: Path) -> None:
    assert "2 messages" in on_terminal(f"hello\n/save {tmp_path / 'my chat.json'}\n")
    dialog = Dialog(speaker(), GREEDY)
    assert "2 messages" in on_terminal(f"/load {tmp_path / 'my chat.json'}\n", dialog)
    assert [message.content for message in dialog.history] == ["hello", "Bad. Nice!"]


def test_calls_and_results_are_shown_as_they_happen(tmp_path: Path) -> None:
    plus = Plus()
    long = "\n".join(map(str, range(50)))
    plus.results = [
        Result("5", files=(File("../plot.png", "image/png", b"1"), File("plot.png", "image/png", b"2"))),
        Result("[]", sources=(Source("A page", "https://a.example", "text"), Source("", "https://b.example", "text"))),
        Result("There is nothing.", failed=True),
        Result(long),
    ]
    dialog = scripted(f"Let me see.{CALL}", CALL, CALL, CALL, "It is 5.", tools=[plus])
    assert on_terminal("What is 2 + 3?\n", dialog, tmp_path / "files") == (
        "Ask away. /help lists the commands.\n> Let me see.\n"
        "| plus(a=2, b=3)\n"
        f"  | 5\n  | saved: {tmp_path}/files/plot.png\n  | saved: {tmp_path}/files/plot-2.png\n"
        "| plus(a=2, b=3)\n"
        "  | A page\n  |   https://a.example\n  | https://b.example\n  |   https://b.example\n"
        "| plus(a=2, b=3)\n"
        "  | failed: There is nothing.\n"
        "| plus(a=2, b=3)\n" + "".join(f"  | {number}\n" for number in range(19)) + "  | [31 more lines]\n"
        "It is 5.\n> \n"
    )
    assert [(tmp_path / "files" / name).read_bytes() for name in ("plot.png", "plot-2.png")] == [b"1", b"2"]
    assert not (tmp_path / "plot.png").exists()


def test_over_a_pipe_calls_are_notes_beside_the_answer() -> None:
    output, notes = io.StringIO(), io.StringIO()
    dialog = scripted(f"Let me see.{CALL}", "It is 5.", tools=[Plus()])
    chat(dialog, io.StringIO("What is 2 + 3?\n"), output, Screen(output, notes, NOWHERE))
    assert output.getvalue() == "Let me see.\nIt is 5.\n"
    assert notes.getvalue() == "| plus(a=2, b=3)\n  | 5\n"


def test_code_is_shown_as_it_is_and_a_terminal_gets_no_orders() -> None:
    class Python(Plus):
        def call(self, arguments: dict[str, object]) -> Result:
            return Result("\x1b]0;owned\x07 red\x9b31m")

    call = "<|python_tag|>for i in (1, 2):\n    print(i)<|eom_id|>"
    dialog = scripted(call, "Done\x1b[2J.", tools=[Python("code_interpreter")])
    assert on_terminal("Count.\n", dialog) == (
        "Ask away. /help lists the commands.\n> | for i in (1, 2):\n|     print(i)\n"
        "  | \ufffd]0;owned\ufffd red\ufffd31m\nDone\ufffd[2J.\n> \n"
    )


def test_notes_are_dim_where_a_terminal_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[2m| plus(a=2, b=3)\x1b[0m\n" in on_terminal("2 + 3?\n", scripted(CALL, "5", tools=[Plus()]))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\n> | plus(a=2, b=3)\n" in on_terminal("2 + 3?\n", scripted(CALL, "5", tools=[Plus()]))


def test_programs_get_every_event_as_a_line(tmp_path: Path) -> None:
    plus = Plus()
    source = Source("A page", "https://a.example", "text")
    plus.results = [Result("5", files=(File("plot.png", "image/png", b"1"),), sources=(source,))]
    output = io.StringIO()
    dialog = scripted(CALL, "5\n", tools=[plus])
    chat(dialog, io.StringIO("2 + 3?\n/set\n"), output, Lines(output, tmp_path))
    events = [json.loads(line) for line in output.getvalue().splitlines()]
    path = str(tmp_path / "plot.png")
    assert events[:4] == [
        {"type": "call", "name": "plus", "arguments": {"a": 2, "b": 3}},
        {"type": "result", "name": "plus", "text": "5", "failed": False, "files": [path], "sources": [vars(source)]},
        {"type": "text", "text": "5"},
        {"type": "text", "text": "\n"},
    ]
    assert (events[4]["type"], events[4]["finish"], events[4]["written_tokens"] > 40) == ("end", "stop", True)
    assert events[5]["type"] == "remark"
    assert len(events) == 6


def test_tools_can_be_changed_in_the_midst() -> None:
    first, second, asked = Plus(), Plus("minus"), []

    def make(names: Sequence[str]) -> list[Tool]:
        asked.append(list(names))
        if "python" in names:
            raise MachineError("there is no sandbox here", do="install bubblewrap")
        return [second] if names else []

    dialog = scripted(tools=[first])
    lines = "/tools\n/tools search, maths\n/tools python\n/tools\n/tools none\n"
    shown = on_terminal(lines, dialog, make_tools=make)
    assert [line.removeprefix("> ") for line in shown.splitlines()[1:6]] == [
        "tools: plus", "tools: minus", "there is no sandbox here; install bubblewrap", "tools: minus", "tools: none",
    ]  # fmt: skip
    assert asked == [["search", "maths"], ["python"], []]
    assert (first.closed, second.closed, dialog.tools) == (1, 1, [])


def test_the_command_line(tmp_path: Path) -> None:
    """Two models, questions through a pipe, answers and nothing else on standard output."""
    for name, says in (("one", SAYS), ("two", b"ABC")):
        model, tokenizer = parrot(says)
        write_model(tmp_path / name, model, tokenizer, BYTES)
    command = [sys.executable, "-m", "herdsman", "chat", tmp_path / "one", tmp_path / "two", "--temperature", "0"]
    ran = subprocess.run(command, input="hello\n/model two\nhello\n", capture_output=True, text=True, timeout=300)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("Bad. Nice!\nABC\n", "", 0)


ENDLESS = """
import sys
from pathlib import Path
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.serving.dialog import Dialog, Speaker
from herdsman.serving.terminal import chat
from herdsman.serving.terminal_output import Screen
from herdsman.tokens.chat import chat_format
from tests.generation.models import parrot
model, tokenizer = parrot(b"Ha! ", 100_000, end=None)
dialog = Dialog(Speaker("", LocalEngine(model, tokenizer), chat_format(tokenizer)), Sampling(90_000, temperature=0))
chat(dialog, sys.stdin, sys.stdout, Screen(sys.stdout, sys.stdout, Path()))
print("left in peace")
"""


def test_ctrl_c_on_a_real_terminal_stops_the_answer_and_not_the_program() -> None:
    outer, inner = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        preexec_fn=_own_terminal,
    )
    os.close(inner)
    screen = _Screen(outer)
    try:
        screen.wait_for("> ")
        os.write(outer, b"hello\n")
        screen.wait_for("Ha! Ha!")
        os.write(outer, b"\x03")
        screen.wait_for("[stopped]")
        screen.wait_for("> ")
        screen.press_until(b"\x03", "> ")  # at the prompt it only empties the line
        os.write(outer, b"/reset\n")
        screen.wait_for("The dialog is forgotten.")
        screen.wait_for("> ")
        os.write(outer, b"\x04")
        screen.wait_for("left in peace")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def _own_terminal() -> None:
    """Makes the pseudo-terminal the child's controlling one, so that Ctrl-C becomes a signal, and one that is not
    ignored, as it is below a shell that started these tests in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class _Screen:
    def __init__(self, file: int):
        self.file, self.text = file, ""

    def wait_for(self, text: str, seconds: float = 40) -> None:
        """Reads until the text comes, and forgets everything up to its end."""
        assert self.comes(text, seconds), f"{text!r} did not come, but {self.text[-500:]!r}"

    def comes(self, text: str, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while text not in self.text:
            ready, _, _ = select.select([self.file], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            self.text += os.read(self.file, 65536).decode(errors="replace")
        self.text = self.text.partition(text)[2]
        return True

    def press_until(self, keys: bytes, text: str) -> None:
        """Python's own input() misses a signal in the instant between its prompt and its wait: then a person presses
        once more."""
        for _ in range(10):
            os.write(self.file, keys)
            if self.comes(text, 2):
                return
        self.wait_for(text, 0)
