"""Chat over a pipe and on a terminal: answers, guards, commands, and questions that do not fit."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.generation.terminal import HELP, Chat, chat
from herdsman.tokens.chat import Message, encode
from tests.generation.models import parrot, random_model, small_tokenizer

GREEDY = Sampling(40, temperature=0)
SAYS = b"Bad. Nice!"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pipe(text: str | bytes, says: bytes = SAYS, context_length: int = 256, **more) -> str:
    """What a chat writes for what comes through a real pipe."""
    model, tokenizer = parrot(says, context_length, more.pop("end", "<|eot_id|>"))
    reader, writer = os.pipe()
    os.write(writer, text if isinstance(text, bytes) else text.encode())
    os.close(writer)
    output = io.StringIO()
    with open(reader, encoding="utf-8") as input:
        chat(LocalEngine(model, tokenizer), tokenizer, input, output, **{"sampling": GREEDY} | more)
    return output.getvalue()


def dialog(context_length: int = 256, **more) -> Chat:
    model, tokenizer = parrot(SAYS, context_length)
    return Chat(LocalEngine(model, tokenizer), tokenizer, more.pop("sampling", GREEDY), **more)


def test_a_pipe_gets_answers_and_nothing_else() -> None:
    assert pipe("hello\n\n   \nand again") == "Bad. Nice!\nBad. Nice!\n"
    assert pipe("") == ""
    assert pipe("/system Be brief.\n/reset\nhello\n/quit\nnot read\n") == "Bad. Nice!\n"
    assert pipe("/help\n") == HELP


def test_bytes_that_are_no_text_do_not_end_the_dialog() -> None:
    assert pipe(b"caf\xe9 \xff\xfe\nhello\n") == "Bad. Nice!\n" * 2


@pytest.mark.parametrize("token", ["<|start_header_id|>", "<|python_tag|>", "<|end_of_text|>", "<|begin_of_text|>"])
def test_special_tokens_end_an_answer_and_are_not_shown(token: str) -> None:
    assert pipe("hello\n", end=token) == "Bad. Nice!\n"


def test_a_line_that_cannot_be_done_is_an_error_over_a_pipe_and_a_remark_on_a_terminal() -> None:
    model, tokenizer = parrot(SAYS, 64)
    for line, error in (("x" * 99, "send a shorter one"), ("/nonsense", "there is no command /nonsense; /help")):
        with pytest.raises(InputError, match=error) as caught:
            pipe(line, context_length=64)
        output = io.StringIO()
        chat(LocalEngine(model, tokenizer), tokenizer, Terminal(f"{line}\nhi\n"), output, sampling=GREEDY)
        assert f"{caught.value}\n" in output.getvalue()
        assert output.getvalue().count("Bad. Nice!\n") == 1


def test_the_history_is_what_the_model_reads() -> None:
    model, tokenizer = random_model(512), small_tokenizer()
    sampling = Sampling(12, temperature=1.0, seed=5, stop_ids=frozenset(tokenizer.special.values()))
    engine = LocalEngine(model, tokenizer)
    talk = Chat(engine, tokenizer, Sampling(12, temperature=1.0, seed=5), system="Be brief.")
    messages = [Message("system", "Be brief.")]
    for turn, question in enumerate(("one", "two é", "three")):
        messages.append(Message("user", question))
        expected = engine.generate([encode(tokenizer, messages, reply=True)[0]], sampling, rows=[turn])[0].text
        assert "".join(talk.answer(question)) == expected
        messages.append(Message("assistant", expected))
    assert talk.history == messages[1:]
    talk.reset()
    assert talk.history == []
    assert talk.system == "Be brief."


def test_commands_on_a_terminal() -> None:
    model, tokenizer = parrot(SAYS)
    output = io.StringIO()
    lines = "/help\nhello\n/reset\n/system  Be kind. \n/system\n"
    chat(LocalEngine(model, tokenizer), tokenizer, Terminal(lines), output, sampling=GREEDY)
    assert output.getvalue() == (
        f"Ask away. /help lists the commands.\n> {HELP}> Bad. Nice!\n> The dialog is forgotten.\n"
        "> The system message is set.\n> There is no system message now.\n> \n"
    )


def test_the_oldest_exchanges_are_forgotten_when_the_context_is_full() -> None:
    talk = dialog(context_length=128, system="S")
    held = []
    for number in range(9):
        question = f"{number}" * (1 + number * 5 % 23)
        assert "".join(talk.answer(question)) == "Bad. Nice!"
        assert talk.history[-2] == Message("user", question)
        assert [message.role for message in talk.history] == ["user", "assistant"] * (len(talk.history) // 2)
        held.append(len(talk.history) // 2)
    assert 1 < max(held) < 6, "some exchanges fit, not all"


def test_a_blocked_question_never_reaches_the_model() -> None:
    seen: list[list[Message]] = []

    def guard(messages: list[Message]) -> str | None:
        seen.append(messages)
        return "I won't." if "bomb" in messages[-1].content else None

    talk = dialog(guard_input=guard)
    assert "".join(talk.answer("hello")) == "Bad. Nice!"
    assert "".join(talk.answer("a bomb")) == "I won't."
    assert talk.history == [Message("user", "hello"), Message("assistant", "Bad. Nice!")]
    assert seen[1] == [*talk.history, Message("user", "a bomb")]
    assert pipe("a bomb\nhello\n", guard_input=guard) == "I won't.\nBad. Nice!\n"


@pytest.mark.parametrize(
    ("forbidden", "shown"),
    [("Bad", ["No."]), ("Bad. Nice", ["Bad.", "\nNo."]), ("else", ["Bad.", " Nice!"])],
)
def test_the_output_guard_sees_each_sentence_before_it_is_shown(forbidden: str, shown: list[str]) -> None:
    def guard(messages: list[Message]) -> str | None:
        assert messages[-2] == Message("user", "hello")
        return "No." if forbidden in messages[-1].content else None

    talk = dialog(guard_output=guard)
    assert list(talk.answer("hello")) == shown
    assert talk.history[-1] == Message("assistant", "".join(shown))


def test_the_output_guard_sees_an_answer_without_an_end() -> None:
    assert pipe("hi\n", says=b"abc", guard_output=lambda messages: "No.") == "No.\n"
    assert pipe("hi\n", says=b"abc", guard_output=lambda messages: None) == "abc\n"


def test_an_answer_given_up_half_way_stays_in_the_history() -> None:
    talk = dialog()
    pieces = talk.answer("hello")
    assert [next(pieces), next(pieces)] == ["B", "a"]
    pieces.close()
    assert talk.history == [Message("user", "hello"), Message("assistant", "Ba")]
    assert "".join(talk.answer("again")) == "Bad. Nice!"


ENDLESS = """
import sys
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.generation.terminal import chat
from tests.generation.models import parrot
model, tokenizer = parrot(b"Ha! ", 100_000, end=None)
chat(LocalEngine(model, tokenizer), tokenizer, sys.stdin, sys.stdout, sampling=Sampling(90_000, temperature=0))
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
