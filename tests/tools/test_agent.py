"""The tool loop: every kind of call, every way to end, and what is shown of it on the way."""

from __future__ import annotations

from typing import Any

import pytest

from herdsman.errors import InputError, MachineError
from herdsman.generation.constraint import Constraint
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.tokens.chat import ChatFormat, chat_format
from herdsman.tokens.messages import Call, Message
from herdsman.tools.agent import Answered, Called, Ended, Event, Text, TurnLimits, converse
from herdsman.tools.tool import Result
from tests.generation.models import random_model, small_tokenizer
from tests.tools.scripted import Builtin, Plus, ScriptedEngine

ASKED = [Message("user", "How much is it?")]
LONG = Sampling(max_new_tokens=10_000, temperature=0)
CLIENT = {"name": "light", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}


def plus(a: Any, b: Any) -> str:
    return f'{{"type": "function", "name": "plus", "parameters": {{"a": {a}, "b": {b}}}}}'


def turn(engine: ScriptedEngine, tools: list[Any], limits: TurnLimits | None = None, **more: Any) -> list[Event]:
    sampling = more.pop("sampling", LONG)
    return list(converse(engine, chat_format(engine.tokenizer), ASKED, tools, sampling, limits, **more))


def ended(events: list[Event]) -> Ended:
    assert [isinstance(event, Ended) for event in events] == [False] * (len(events) - 1) + [True]
    last = events[-1]
    assert isinstance(last, Ended)
    return last


def shown(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def contents(events: list[Event]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in ended(events).messages]


def test_an_answer_without_calls_is_streamed_as_it_comes() -> None:
    engine = ScriptedEngine("Four, {or} [so].")
    events = turn(engine, [Plus()])
    assert shown(events) == "Four, {or} [so]."
    assert len(events) > 10
    prompt_tokens = len(engine.ids(engine.prompts[0]))
    assert ended(events) == Ended((Message("assistant", "Four, {or} [so]."),), "stop", (), prompt_tokens, 16)


FORMS = {
    "json": plus(2, 3),
    "json, prose before": f"Let me see. {plus(2, 3)}",
    "json in a fence": f"```json\n{plus(2, 3)}\n```",
    "json behind the tag": f"<|python_tag|>{plus(2, 3)}",
    "tag, prose before": f"Let me see.<|python_tag|>{plus(2, 3)}",
    "function": '<function=plus>{"a": 2, "b": 3}</function>',
    "python list": "[plus(a=2, b=3)]",
    "python": "plus(a=2, b=3)",
    "tool_call": '<tool_call>\n{"name": "plus", "arguments": {"a": 2, "b": 3}}\n</tool_call>',
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_in_any_form_is_run_and_never_shown(form: str) -> None:
    engine, tool = ScriptedEngine(FORMS[form], "It is 5."), Plus()
    events = turn(engine, [tool])
    prose = "Let me see." if "prose" in form else ""
    assert shown(events).replace("Let me see. ", "Let me see.") == prose + "It is 5."
    call = Call("plus", {"a": 2, "b": 3})
    assert [event for event in events if not isinstance(event, Text)][:2] == [Called(call), Answered(call, Result("5"))]
    assert tool.given == [{"a": 2, "b": 3}]
    roles = [message.role for message in ended(events).messages]
    assert roles == ["assistant", "ipython", "assistant"]
    assert engine.prompts[1].endswith(
        "<|start_header_id|>ipython<|end_header_id|>\n\n5<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_the_next_prompt_goes_on_where_the_reply_ended() -> None:
    """Nothing that was read is read again: the cache of the first step serves the second."""
    for form in FORMS.values():
        engine = ScriptedEngine(form, "5")
        turn(engine, [Plus()])
        assert engine.prompts[1].startswith(engine.prompts[0])


def test_built_in_tools_and_code() -> None:
    search, maths, python = (Builtin(name) for name in ("brave_search", "wolfram_alpha", "code_interpreter"))
    engine = ScriptedEngine(
        '<|python_tag|>brave_search.call(query="cats")',
        '<|python_tag|>wolfram_alpha.call(query="2 + 2")',
        "<|python_tag|>x = 1\nprint(x)",
        "Done.",
    )
    events = turn(engine, [search, maths, python])
    assert (search.asked, maths.asked, python.asked) == (["cats"], ["2 + 2"], ["x = 1\nprint(x)"])
    assert shown(events) == "Done."
    assert [role for role, _ in contents(events)] == ["assistant", "ipython"] * 3 + ["assistant"]
    assert "Environment: ipython" in engine.prompts[0]


def test_several_calls_in_a_message_are_run_in_order() -> None:
    tool = Plus()
    events = turn(ScriptedEngine(f"{plus(1, 2)}; {plus(3, 4)}", "3 and 7."), [tool])
    assert tool.given == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert [content for role, content in contents(events) if role == "ipython"] == ["3", "7"]


def test_a_nested_call_is_run_first_and_its_result_takes_its_place() -> None:
    tool = Plus()
    events = turn(ScriptedEngine("[plus(a=1, b=plus(a=2, b=plus(a=3, b=4)))]", "10."), [tool])
    assert tool.given == [{"a": 3, "b": 4}, {"a": 2, "b": 7}, {"a": 1, "b": 9}]
    assert [content for role, content in contents(events) if role == "ipython"] == ["10"]
    assert [event.result.text for event in events if isinstance(event, Answered)] == ["7", "9", "10"]


def test_a_nested_call_that_fails_or_fits_not_leaves_the_outer_one_undone() -> None:
    for bad, sentence in (
        (Result("no", failed=True), "plus failed"),
        (Result("many"), "plus.b: 'many' is not of type"),
    ):
        tool = Plus(results=[bad])
        events = turn(ScriptedEngine("[plus(a=1, b=plus(a=2, b=3))]", "Sorry."), [tool])
        assert tool.given == [{"a": 2, "b": 3}]
        ((_, told),) = [entry for entry in contents(events) if entry[0] == "ipython"]
        assert told.startswith("plus was not called: ")
        assert sentence in told


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ('{"type": "function", "name": "minus", "parameters": {}}', "there is no tool 'minus'; there are plus"),
        ('{"type": "function", "name": "plus", "parameters": {"a": 1}}', "'b' is a required property"),
        ('{"type": "function", "name": "plus", "parameters": {"a": 1, "b": }}', "no JSON that can be read"),
        ("[plus(1, 2)]", "must be given by name"),
        (plus('"one"', 2), "'one' is not of type 'number'"),
    ],
)
def test_a_malformed_call_is_answered_with_a_sentence_and_may_be_mended(said: str, sentence: str) -> None:
    events = turn(ScriptedEngine(said, plus(1, 2), "3."), [Plus()])
    (failed, done) = (event for event in events if isinstance(event, Answered))
    assert failed.call is None
    assert failed.result.failed
    assert sentence in failed.result.text
    assert contents(events)[1] == ("ipython", failed.result.text)
    assert done.result == Result("3")
    assert shown(events) == "3."


def test_a_tool_that_fails_is_told_of_and_a_machine_that_fails_too() -> None:
    tool = Plus(results=[Result("it broke", failed=True)])
    events = turn(ScriptedEngine(plus(1, 2), "Sorry."), [tool])
    assert contents(events)[1] == ("ipython", "it broke")

    class Broken(Plus):
        def call(self, arguments: dict[str, Any]) -> Result:
            raise MachineError("no sandbox works here", do="run herdsman doctor")

    events = turn(ScriptedEngine(plus(1, 2), "Sorry."), [Broken()])
    assert contents(events)[1] == (
        "ipython", "plus does not work here: no sandbox works here; run herdsman doctor.",
    )  # fmt: skip
    assert ended(events).finish == "stop"


def test_steps_are_limited() -> None:
    engine = ScriptedEngine(*(plus(1, number) for number in range(9)))
    events = turn(engine, [Plus()], TurnLimits(steps=4))
    assert ended(events).finish == "steps"
    assert len(engine.prompts) == 4
    assert [role for role, _ in contents(events)] == ["assistant", "ipython"] * 4


def test_a_model_that_goes_round_in_circles_is_stopped() -> None:
    for said in (plus(1, 2), plus(1, '"x"')):
        tool = Plus()
        events = turn(ScriptedEngine(*[said] * 20), [tool], TurnLimits(steps=20))
        assert ended(events).finish == "steps"
        assert len(contents(events)) == 6


def test_the_same_call_with_other_results_is_no_circle() -> None:
    tool = Plus(results=[Result(str(number)) for number in range(6)])
    assert ended(turn(ScriptedEngine(*[plus(1, 2)] * 6, "Done."), [tool])).finish == "stop"


def test_time_is_limited_while_the_model_writes_and_while_tools_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("herdsman.tools.agent.monotonic", lambda: clock[0])

    def wait(seconds: float) -> None:
        clock[0] += seconds

    engine = ScriptedEngine("and so on " * 10, wait=wait)
    events = turn(engine, [Plus()], TurnLimits(seconds=30))
    assert ended(events).finish == "time"
    assert engine.open == 0
    assert shown(events) == "and so on and so on and so on a"
    assert contents(events) == [("assistant", shown(events))]

    class Slow(Plus):
        def call(self, arguments: dict[str, Any]) -> Result:
            wait(60)
            return super().call(arguments)

    tool = Slow()
    calls = "; ".join(plus(1, number) for number in range(4))
    events = turn(ScriptedEngine(calls), [tool], TurnLimits(seconds=100))
    assert ended(events).finish == "time"
    assert len(tool.given) == 2


def test_tokens_are_limited_over_the_whole_turn() -> None:
    call = plus(1, 2)
    engine = ScriptedEngine(call, "and so on " * 20)
    events = turn(engine, [Plus()], sampling=Sampling(max_new_tokens=len(call) + 7, temperature=0))
    assert ended(events).finish == "length"
    assert shown(events) == "and so "
    assert ended(events).written_tokens == len(call) + 7
    assert ended(turn(ScriptedEngine(call), [Plus()], sampling=Sampling(max_new_tokens=len(call)))).finish == "length"


@pytest.mark.parametrize("said", [plus(1, 2), "<|python_tag|>import os\nos.remove('x') # or not"])
def test_a_call_that_was_cut_is_neither_run_nor_shown(said: str) -> None:
    tools = [Plus(), Builtin("code_interpreter")]
    events = turn(ScriptedEngine(said), tools, sampling=Sampling(max_new_tokens=len(said) - 20))
    assert ended(events).finish == "length"
    assert shown(events) == ""
    assert len(events) == 1


def test_long_results_are_cut_in_the_middle() -> None:
    tool = Plus(results=[Result("a" * 5_000 + "b" * 5_000)])
    events = turn(ScriptedEngine(plus(1, 2), "So long."), [tool], TurnLimits(result_characters=100))
    told = contents(events)[1][1]
    assert told == "a" * 75 + "\n[9,900 characters left out]\n" + "b" * 25
    assert TurnLimits.for_context(512).result_characters == 512
    assert TurnLimits.for_context(131_072) == TurnLimits()


def test_results_that_fill_the_context_end_the_turn_but_a_dialog_that_does_is_refused() -> None:
    tool = Plus(results=[Result("x" * 3000)])
    events = turn(ScriptedEngine(plus(1, 2), "never said", context_length=1500), [tool])
    assert ended(events).finish == "length"
    assert [role for role, _ in contents(events)] == ["assistant", "ipython"]
    with pytest.raises(InputError, match="no room"):
        turn(ScriptedEngine("never said", context_length=100), [tool])


def test_calls_of_the_callers_functions_are_handed_out_after_the_others_were_run() -> None:
    light = '{"name": "light", "parameters": {"on": true}}'
    engine, tool = ScriptedEngine(f"On it. {light}; {plus(1, 2)}; {light}"), Plus()
    events = turn(engine, [tool], functions=[CLIENT])
    assert ended(events).finish == "calls"
    assert ended(events).calls == (Call("light", {"on": True}),) * 2
    assert tool.given == [{"a": 1, "b": 2}]
    assert [role for role, _ in contents(events)] == ["assistant", "ipython"]
    assert shown(events) == "On it. "

    nested = turn(ScriptedEngine("[plus(a=1, b=light(on=True))]", "I see."), [Plus()], functions=[CLIENT])
    assert contents(nested)[1][1] == "plus was not called: light has to be called by itself."


def test_a_constraint_is_for_the_first_message_alone() -> None:
    engine, form = ScriptedEngine(plus(1, 2), "3."), Constraint("regex", ".*")
    turn(engine, [Plus()], sampling=Sampling(max_new_tokens=500, constraint=form))
    assert [sampling.constraint for sampling in engine.samplings] == [form, None]


def test_closing_the_turn_closes_the_stream() -> None:
    engine = ScriptedEngine("a long answer")
    events = converse(engine, chat_format(engine.tokenizer), ASKED, [], LONG)
    next(events)
    assert engine.open == 1
    events.close()  # type: ignore[attr-defined]
    assert engine.open == 0


def test_two_tools_with_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two tools called plus"):
        turn(ScriptedEngine("x"), [Plus(), Plus()])


def test_a_real_model_that_must_call_calls_and_reads_the_result() -> None:
    """A model of random weights, held to a form, writes a call token by token; its next message is free."""
    tokenizer = small_tokenizer()
    engine = LocalEngine(random_model(context_length=4096), tokenizer)
    format: ChatFormat = chat_format(tokenizer)
    tool = Plus()
    form = Constraint("regex", r'\{"type": "function", "name": "plus", "parameters": \{"a": [1-9], "b": [1-9]\}\}')
    sampling = Sampling(max_new_tokens=150, temperature=1.0, seed=3, constraint=form)
    events = list(converse(engine, format, ASKED, [tool], sampling))
    (given,) = tool.given
    called, answered = (event for event in events if isinstance(event, Called | Answered))
    assert called == Called(Call("plus", given))
    assert answered == Answered(Call("plus", given), Result(str(given["a"] + given["b"])))
    assert [role for role, _ in contents(events)] == ["assistant", "ipython", "assistant"]
    assert ended(events).finish in ("length", "stop")
    again = list(converse(engine, format, ASKED, [Plus()], sampling))
    assert again == events
