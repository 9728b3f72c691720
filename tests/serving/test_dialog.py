"""A dialog: what the model reads, what is kept of an answer, what the guard lets through, what a file keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.serving.dialog import Dialog, Speaker
from herdsman.serving.guarding import Judge
from herdsman.tokens.chat import chat_format, encode
from herdsman.tokens.messages import Call, Message
from herdsman.tools.agent import Ended, Text
from herdsman.tools.calling import Answered, Called
from tests.generation.models import parrot, random_model, small_tokenizer
from tests.tools.scripted import Plus, ScriptedEngine

GREEDY = Sampling(40, temperature=0)
CALL = '<|python_tag|>{"name": "plus", "parameters": {"a": 2, "b": 3}}<|eom_id|>'


def dialog(context_length: int = 256, system: str | None = None, **judges: Judge) -> Dialog:
    """With a parrot, which answers everything with `Bad. Nice!`."""
    model, tokenizer = parrot(b"Bad. Nice!", context_length)
    return Dialog(Speaker("parrot", LocalEngine(model, tokenizer), chat_format(tokenizer), **judges), GREEDY, system)


def scripted(*script: str, **more: int) -> tuple[ScriptedEngine, Plus, Dialog]:
    engine, plus = ScriptedEngine(*script, **more), Plus()
    speaker = Speaker("scripted", engine, chat_format(engine.tokenizer))  # type: ignore[arg-type]
    return engine, plus, Dialog(speaker, Sampling(200), tools=[plus])


def said(talk: Dialog, question: str) -> list[str]:
    return [event.text for event in talk.answer(question) if isinstance(event, Text)]


def test_the_history_is_what_the_model_reads() -> None:
    model, tokenizer = random_model(512), small_tokenizer()
    engine, format = LocalEngine(model, tokenizer), chat_format(tokenizer)
    sampling = Sampling(12, temperature=1.0, seed=5, stop_ids=frozenset(tokenizer.special.values()))
    talk = Dialog(Speaker("random", engine, format), Sampling(12, temperature=1.0, seed=5), system="Be brief.")
    messages = [Message("system", "Be brief.")]
    for turn, question in enumerate(("one", "two é", "three")):
        messages.append(Message("user", question))
        expected = engine.generate([encode(tokenizer, messages, reply=True)[0]], sampling, rows=[turn])[0]
        assert "".join(said(talk, question)) == expected.text
        messages.append(format.decode(expected.ids))
    assert talk.history == messages[1:]
    talk.reset()
    assert talk.history == []
    assert talk.system == "Be brief."


def test_the_oldest_exchanges_are_forgotten_when_the_context_is_full() -> None:
    talk = dialog(context_length=128, system="S")
    held = []
    for number in range(9):
        question = f"{number}" * (1 + number * 5 % 23)
        assert "".join(said(talk, question)) == "Bad. Nice!"
        assert talk.history[-2] == Message("user", question)
        assert [message.role for message in talk.history] == ["user", "assistant"] * (len(talk.history) // 2)
        held.append(len(talk.history) // 2)
    assert 1 < max(held) < 6, "some exchanges fit, not all"
    before = list(talk.history)
    with pytest.raises(InputError, match="and the model's context leaves 88 for them; send a shorter one"):
        said(talk, "x" * 99)
    assert talk.history in (before, [])


def test_a_turn_with_calls_is_forgotten_as_a_whole() -> None:
    engine, _, talk = scripted(CALL, "It is 5.", "Yes.", "No.", context_length=1200)
    for question in ("What is 2 + 3?", "Sure?", "x" * 120):
        said(talk, question)
    assert [message.role for message in talk.history] == ["user", "assistant"] * 2
    assert "2 + 3" in engine.prompts[-2]
    assert "2 + 3" not in engine.prompts[-1]
    assert "Sure?" in engine.prompts[-1]


def test_a_blocked_question_never_reaches_the_model() -> None:
    seen: list[list[Message]] = []

    def guard(messages: list[Message]) -> str | None:
        seen.append(messages)
        return "I won't." if "bomb" in messages[-1].content else None

    talk = dialog(judge_input=guard)
    assert "".join(said(talk, "hello")) == "Bad. Nice!"
    assert said(talk, "a bomb") == ["I won't."]
    assert talk.history == [Message("user", "hello"), Message("assistant", "Bad. Nice!")]
    assert seen[1] == [*talk.history, Message("user", "a bomb")]


@pytest.mark.parametrize(
    ("forbidden", "shown"),
    [("Bad", ["No."]), ("Bad. Nice", ["Bad.", "\nNo."]), ("else", ["Bad.", " Nice!"])],
)
def test_the_output_guard_sees_each_sentence_before_it_is_shown(forbidden: str, shown: list[str]) -> None:
    def guard(messages: list[Message]) -> str | None:
        assert messages[-2] == Message("user", "hello")
        return "No." if forbidden in messages[-1].content else None

    talk = dialog(judge_output=guard)
    events = list(talk.answer("hello"))
    assert [event.text for event in events if isinstance(event, Text)] == shown
    assert isinstance(events[-1], Ended)
    assert talk.history[-1] == Message("assistant", "".join(shown))


def test_the_output_guard_sees_prose_before_a_call_and_at_the_end_without_a_full_stop() -> None:
    engine, plus, talk = scripted(f"Let me see{CALL}", "Five")
    judged: list[str] = []
    talk.speaker = Speaker("s", engine, talk.speaker.format, None, lambda messages: judged.append(messages[-1].content))  # type: ignore[arg-type, func-returns-value]
    kinds = [type(event) for event in talk.answer("2 + 3?")]
    assert kinds == [Text, Called, Answered, Text, Ended]
    assert judged == ["Let me see", "Let me seeFive"]
    engine.script, plus.given = [f"Let me see{CALL}"], []
    talk.speaker = Speaker("s", engine, talk.speaker.format, None, lambda messages: "No.")
    assert said(talk, "2 + 3?") == ["No."]
    assert plus.given == []
    assert engine.open == 0


def test_calls_and_results_are_kept_for_the_next_question() -> None:
    engine, plus, talk = scripted(CALL, "It is 5.", "I added.")
    events = list(talk.answer("What is 2 + 3?"))
    assert [type(event) for event in events if not isinstance(event, Text)] == [Called, Answered, Ended]
    assert plus.given == [{"a": 2, "b": 3}]
    assert [message.role for message in talk.history] == ["user", "assistant", "ipython", "assistant"]
    assert said(talk, "How?") == list("I added.")
    assert '"parameters": {"a": 2, "b": 3}' in engine.prompts[-1]
    assert "<|start_header_id|>ipython<|end_header_id|>\n\n5<|eot_id|>" in engine.prompts[-1]


def test_an_answer_given_up_half_way_stays_in_the_history() -> None:
    talk = dialog()
    events = talk.answer("hello")
    assert [next(events), next(events)] == [Text("B"), Text("a")]
    events.close()
    assert talk.history == [Message("user", "hello"), Message("assistant", "Ba")]
    assert "".join(said(talk, "again")) == "Bad. Nice!"


def test_an_answer_that_is_stopped_ends_also_where_nothing_is_shown() -> None:
    engine, plus, talk = scripted(f"So{CALL}")
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20  # in the midst of the call, which is held back

    events = list(talk.answer("2 + 3?", stopped))
    assert [type(event) for event in events[-1:]] == [Ended]
    assert "".join(event.text for event in events if isinstance(event, Text)) == "So"
    assert (plus.given, engine.open) == ([], 0)
    assert talk.history == [Message("user", "2 + 3?"), Message("assistant", "So")]


def test_asking_again_draws_again() -> None:
    model, tokenizer = random_model(512), small_tokenizer()
    talk = Dialog(
        Speaker("random", LocalEngine(model, tokenizer), chat_format(tokenizer)), Sampling(20, temperature=1.0)
    )
    with pytest.raises(InputError, match="nothing has been asked yet"):
        talk.ask_again()
    first, second = said(talk, "one"), said(talk, "two")
    assert talk.ask_again() == "two"
    assert len(talk.history) == 2
    assert said(talk, "two") != second
    assert len(talk.history) == 4
    assert first != second


def test_a_saved_dialog_goes_on_where_it_was(tmp_path: Path) -> None:
    _, _, talk = scripted(CALL, "It is 5.")
    talk.instruct("Add. 日本")
    list(talk.answer("What is 2 + 3?"))
    talk.history.append(Message("assistant", "", calls=(Call("plus", {"a": 1}),)))
    talk.save(tmp_path / "chat.json")
    talk.save(tmp_path / "chat.json")
    engine, _, other = scripted("Yes.")
    other.load(tmp_path / "chat.json")
    assert (other.system, other.history) == (talk.system, talk.history)
    said(other, "Sure?")
    assert "What is 2 + 3?" in engine.prompts[0]
    letter = tmp_path / "letter.txt"
    for content in (b"dear", b"{}", b"\xff", json.dumps({"system": None, "messages": [{"role": "x", "content": ""}]})):
        letter.write_bytes(content if isinstance(content, bytes) else content.encode())
        before = letter.read_bytes()
        for act in (talk.save, talk.load):
            with pytest.raises(InputError, match="this is no saved dialog"):
                act(letter)
        assert letter.read_bytes() == before
    with pytest.raises(InputError, match="no such file"):
        talk.load(tmp_path / "none")


def test_a_model_without_a_chat_format_goes_on_with_each_text() -> None:
    model, tokenizer = random_model(512), small_tokenizer()
    engine = LocalEngine(model, tokenizer)
    talk = Dialog(Speaker("base", engine, None), GREEDY)
    stops = frozenset(tokenizer.special.values())
    for text in ("once upon", "another text"):
        expected = engine.generate(
            [[tokenizer.bos, *tokenizer.encode(text)]], Sampling(40, temperature=0, stop_ids=stops)
        )
        assert "".join(said(talk, text)) == expected[0].text
    with pytest.raises(InputError, match="it takes no system message"):
        talk.instruct("Be brief.")
