"""/v1/responses with OpenAI's own client: events add up, tools run here or are handed out, chats go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import openai
import pytest
from openai import OpenAI

from herdsman.serving.options import ServerOptions
from herdsman.serving.places import find_models
from herdsman.serving.toolbox import stocked_toolbox
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tools.tool import File, Result, Source
from tests.generation.models import BYTES
from tests.serving.conftest import SAYS
from tests.serving.served import chain, serving, write_model
from tests.serving.test_chat_completions import WEATHER

WEATHER_TOOL: Any = {"type": "function", **WEATHER["function"]}
SERVER_TOOLS = ("code_interpreter", "web_search", "maths")
NAMES = {"python": "code_interpreter", "search": "brave_search", "maths": "wolfram_alpha"}
PNG = b"\x89PNG\r\n\x1a\n"


class Counter:
    """A tool that answers how often it was called, with a file and a source; it is what a chat holds."""

    open: ClassVar[list[Counter]] = []

    def __init__(self, kind: str):
        self.name, self.calls, self.closed = NAMES[kind], 0, False
        self.function: dict[str, Any] = {"name": self.name}
        Counter.open.append(self)

    def call(self, arguments: dict[str, Any]) -> Result:
        self.calls += 1
        files = (File("plot.png", "image/png", PNG), File("a.csv", "text/csv", b"1"))
        return Result(f"call {self.calls}", files, (Source("A page", "https://example.org/a", "about it"),))

    def close(self) -> None:
        self.closed = True


WRITES = {
    "code_interpreter": [b"print(1)"],
    "web_search": [b'brave_search.call(query="', b"sheep", b'")'],
    "maths": [b'wolfram_alpha.call(query="', b"1+1", b'")'],
}


@pytest.fixture(scope="module")
def caller_folders(model_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Beside the common models, one for each tool that calls it again and again, until the turn's steps are used up."""
    root = tmp_path_factory.mktemp("callers")
    folders = list(model_folders)
    for kind, parts in WRITES.items():
        ranks = BYTES | {part: 256 + rank for rank, part in enumerate(parts)}
        tokenizer = Tokenizer(ranks)
        written = [tokenizer.python_tag, *range(256, 256 + len(parts)), tokenizer.eom]
        model = chain(written, tokenizer.vocab_size, context_length=8192)
        folders.append(write_model(root / kind, model, tokenizer, ranks))
    return folders


@pytest.fixture(scope="module")
def client(caller_folders: list[Path]) -> Iterator[OpenAI]:
    offered = dict.fromkeys(SERVER_TOOLS, SERVER_TOOLS)
    options = ServerOptions(most_containers=2)
    with serving(caller_folders, options, offered=offered, make=lambda kind, _: Counter(kind)) as server:
        yield OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def ask(client: OpenAI, given: Any = "hello", model: str = "parrot", **more: Any) -> Any:
    return client.responses.create(model=model, input=given, temperature=0, **more)


def test_an_answer(client: OpenAI) -> None:
    answer = ask(client, instructions="Be brief.", metadata={"a": "b"})
    assert (answer.output_text, answer.status) == (SAYS.decode(), "completed")
    assert answer.usage.output_tokens == len(SAYS)
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"a": "b"})
    cut = ask(client, max_output_tokens=3)
    assert (cut.output_text, cut.status, cut.incomplete_details.reason) == ("Bad", "incomplete", "max_output_tokens")


def test_events_add_up_to_the_response(client: OpenAI) -> None:
    with client.responses.stream(model="parrot", input="hello", temperature=0) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == final.output_text == SAYS.decode()
    assert len(deltas) == len(SAYS)


def test_a_chat_goes_on_from_an_earlier_response(client: OpenAI) -> None:
    first = ask(client, "one")
    second = ask(client, "two", previous_response_id=first.id)
    whole = ask(
        client,
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [{"type": "output_text", "text": SAYS.decode(), "annotations": []}]},
            {"role": "user", "content": "two"},
        ],
    )
    assert second.usage.input_tokens == whole.usage.input_tokens > first.usage.input_tokens
    client.responses.delete(second.id)
    forgotten = ask(client, store=False).id
    for id in (second.id, forgotten, "resp_never"):
        with pytest.raises(openai.NotFoundError, match="previous_response_id"):
            ask(client, previous_response_id=id)


def test_instructions_are_not_carried_over(client: OpenAI) -> None:
    first = ask(client, "one", instructions="A long instruction that takes many tokens.")
    plain = ask(client, "one")
    assert (
        ask(client, "two", previous_response_id=first.id).usage.input_tokens
        == ask(client, "two", previous_response_id=plain.id).usage.input_tokens
    )


def test_functions_of_the_caller_are_handed_out_and_answered(client: OpenAI) -> None:
    first = ask(client, model="random", tools=[WEATHER_TOOL], tool_choice="required")
    [call] = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments).keys() == {"city", "days"}
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    more: Any = {"model": "random", "tools": [WEATHER_TOOL], "max_output_tokens": 5}
    second = ask(client, output, previous_response_id=first.id, **more)
    replayed: Any = [{"role": "user", "content": "hello"}, call.model_dump(exclude_none=True), *output]
    # The first has the call as the model wrote it, the other as we write it.
    assert second.usage.input_tokens == pytest.approx(ask(client, replayed, **more).usage.input_tokens, abs=30)
    with pytest.raises(openai.BadRequestError, match="no call before it"):
        ask(client, output, "random")


@pytest.mark.parametrize("kind", SERVER_TOOLS)
def test_a_tool_of_the_server_runs_and_its_item_can_be_sent_back(client: OpenAI, kind: str) -> None:
    tool: Any = {"type": kind} | ({"container": {"type": "auto"}} if kind == "code_interpreter" else {})
    events: list[Any] = list(ask(client, model=kind, stream=True, tools=[tool]))
    final = events[-1].response
    item = final.output[0]
    dumped = item.model_dump(exclude_none=True, warnings=False)
    types = [event.type for event in events]
    if kind == "code_interpreter":
        assert [output["type"] for output in dumped["outputs"]] == ["logs", "image", "file"]
        assert dumped["outputs"][0]["logs"] == "call 1"
        assert dumped["outputs"][1]["url"].startswith("data:image/png;base64,iVBOR")
        deltas = [event for event in events if event.type == "response.code_interpreter_call_code.delta"]
        code = [event.delta for event in deltas if event.output_index == 0]
        assert "".join(code) == item.code
        dumped["outputs"] = dumped["outputs"][:1]  # A client need not send pictures back.
    elif kind == "web_search":
        assert dumped["action"]["sources"] == [{"type": "url", "url": "https://example.org/a"}]
        assert dumped["results"] == [{"title": "A page", "url": "https://example.org/a", "text": "about it"}]
        assert types.index("response.web_search_call.searching") < types.index("response.web_search_call.completed")
    else:
        assert (item.type, item.name, item.output) == ("mcp_call", "wolfram_alpha", "call 1")
    assert item.status == "completed"
    sent_back: Any = [{"role": "user", "content": "hello"}, dumped]
    answered = ask(client, sent_back, "parrot")
    plain = ask(client, sent_back[:1], "parrot")
    assert answered.usage.input_tokens > plain.usage.input_tokens + len("call 1")


def test_an_interpreter_belongs_to_its_chat_and_ends_when_idle(client: OpenAI) -> None:
    def run(container: Any, **more: Any) -> Any:
        tools: Any = [{"type": "code_interpreter", "container": container}]
        return ask(client, model="code_interpreter", tools=tools, **more)

    def logs(answer: Any) -> str:
        return answer.output[0].outputs[0].logs

    auto = {"type": "auto"}
    first = run(auto)  # ten calls, for the model never answers
    assert (first.status, len(first.output)) == ("incomplete", 10)
    container = first.output[0].container_id
    assert logs(run(container)) == "call 11"
    assert logs(run(auto, previous_response_id=first.id)) == "call 21"
    assert logs(run(auto)) == "call 1"  # another chat
    third = run(auto)  # only two may live: the longest idle goes
    assert logs(third) == "call 1"
    with pytest.raises(openai.NotFoundError, match="no such container"):
        run(container)
    assert sum(not tool.closed for tool in Counter.open if tool.name == "code_interpreter") == 2
    assert all(tool.closed for tool in Counter.open if tool.name != "code_interpreter")


def test_the_oldest_questions_are_left_out_only_if_the_request_says_so(client: OpenAI) -> None:
    long: Any = [
        {"role": role, "content": f"{number} " + "x" * 400} for number in range(8) for role in ("user", "assistant")
    ]
    long.append({"role": "user", "content": "last"})
    with pytest.raises(openai.BadRequestError, match="context holds"):
        ask(client, long)
    assert ask(client, long, truncation="auto").output_text == SAYS.decode()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"tools": [{"type": "maths"}]}, "not offered for parrot"),
        ({"tools": [{"type": "file_search"}]}, "there are tools of type"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": [WEATHER_TOOL], "tool_choice": {"type": "function", "name": "gone"}}, "not among the tools"),
        ({"tools": [WEATHER_TOOL, WEATHER_TOOL]}, "same name"),
        ({"input": []}, "input"),
        ({"input": [{"type": "computer_call"}]}, "not read here"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "only text"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "log-probabilities"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "schema"),
        ({"previous_response_id": 5}, "previous_response_id"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(client: OpenAI, more: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(**{"model": "parrot", "input": "hello", **more})
    body: Any = error.value.body
    assert named in body["message"]
    assert "\n" not in body["message"]


def test_the_answer_has_the_form_that_was_asked_for(client: OpenAI) -> None:
    form: Any = {"type": "json_schema", "name": "w", "schema": WEATHER["function"]["parameters"]}
    assert json.loads(ask(client, model="random", text={"format": form}).output_text).keys() == {"city", "days"}


def test_the_servers_own_tools_are_offered_where_they_work(
    caller_folders: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The real maths tool, in its sandbox; an imported model has no documents to search."""
    options = ServerOptions(tools=("search", "maths"))
    toolbox = stocked_toolbox(find_models([str(caller_folders[-1])]).values(), options)
    if "maths" not in toolbox.offered["maths"]:
        pytest.skip(f"no sandbox works here: {caplog.text}")
    assert toolbox.offered == {"maths": ["maths"]}
    assert "search is not offered for maths" in caplog.text
    with serving(caller_folders[-1:], options, toolbox=toolbox) as server:
        client = OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
        assert client.models.retrieve("maths").model_dump()["tools"] == ["maths"]
        answer = ask(client, model="maths", tools=[{"type": "maths"}])
        assert "2" in answer.output[0].output
        with pytest.raises(openai.BadRequestError, match="web_search is not offered"):
            ask(client, model="maths", tools=[{"type": "web_search"}])
