"""The body of a request to /v1/responses, and its input as a dialog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from herdsman.generation.constraint import Constraint
from herdsman.serving.api_error import unsupported
from herdsman.serving.chat_body import MOST_MESSAGES, MOST_TOOLS, Content, Function, arguments_of
from herdsman.serving.fields import MOST_TOP_LOGPROBS, Body, DrawnBody, FormatName, json_constraint, wrong
from herdsman.tokens.messages import Call, Message

MALFORMED = "malformed_call"
"""Stands for what tried to be a call and could not be read."""

LOGPROBS = "message.output_text.logprobs"


class InputMessage(Body):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: str | None = None
    status: Any = None
    phase: Any = None


class FunctionCall(Body):
    """A call of the caller's function that the model made earlier."""

    type: Literal["function_call"]
    call_id: str = Field(max_length=256)
    name: str = Field(max_length=256)
    arguments: str
    id: str | None = None
    status: Any = None

    def call(self, where: str) -> Call:
        return Call(self.name, arguments_of(self.arguments, where))


class FunctionCallOutput(Body):
    type: Literal["function_call_output"]
    call_id: str = Field(max_length=256)
    output: Content
    id: str | None = None
    status: Any = None


class CodeLogs(Body):
    type: Literal["logs"]
    logs: str


class CodeImage(Body):
    type: Literal["image"]
    url: str


class CodeCall(Body):
    """Code that was run here earlier."""

    type: Literal["code_interpreter_call"]
    code: str | None
    outputs: list[Annotated[CodeLogs | CodeImage, Discriminator("type")]] | None = None
    container_id: str | None = None
    id: str | None = None
    status: Any = None

    def call(self, where: str) -> Call:
        return Call("code_interpreter", {"code": self.code or ""})

    @property
    def output(self) -> str:
        return "\n".join(output.logs for output in self.outputs or [] if isinstance(output, CodeLogs))


class SearchAction(Body):
    type: Literal["search"]
    query: str | None = None
    queries: list[str] | None = None
    sources: Any = None


class SearchCall(Body):
    """A search that was made here earlier. `output` is what the model read of it."""

    type: Literal["web_search_call"]
    action: SearchAction
    output: str = ""
    results: Any = None
    id: str | None = None
    status: Any = None

    def call(self, where: str) -> Call:
        return Call("brave_search", {"query": self.action.query or " ".join(self.action.queries or [])})


class ServerCall(Body):
    """Any other tool that was called here earlier."""

    type: Literal["mcp_call"]
    server_label: str
    name: str = Field(max_length=256)
    arguments: str
    output: str | None = None
    error: Any = None
    approval_request_id: Any = None
    id: str | None = None
    status: Any = None

    def call(self, where: str) -> Call:
        return Call(self.name, arguments_of(self.arguments, where))


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


def _kind(value: Any) -> str | None:
    kind = (value.get("type") or "message") if isinstance(value, dict) else getattr(value, "type", None)
    return f"={kind}" if isinstance(kind, str) else None


Item = Annotated[
    Annotated[InputMessage, Tag("=message")]
    | Annotated[FunctionCall, Tag("=function_call")]
    | Annotated[FunctionCallOutput, Tag("=function_call_output")]
    | Annotated[CodeCall, Tag("=code_interpreter_call")]
    | Annotated[SearchCall, Tag("=web_search_call")]
    | Annotated[ServerCall, Tag("=mcp_call")],
    Discriminator(_kind, custom_error_type="item", custom_error_message="this type of item is not read here"),
]


class CallerFunction(Function):
    """A function that the caller runs."""

    type: Literal["function"]


class SearchTool(Body):
    type: Literal["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]
    search_context_size: Any = None
    user_location: Any = None
    filters: None = None
    external_web_access: Any = None


class AutoContainer(Body):
    type: Literal["auto"]
    file_ids: list[str] | None = Field(None, max_length=0)
    memory_limit: Any = None


class CodeTool(Body):
    type: Literal["code_interpreter"]
    container: str | AutoContainer = AutoContainer(type="auto")


class MathsTool(Body):
    """Not of OpenAI's API: the maths tool of this server."""

    type: Literal["maths"]


def _tool_kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if not isinstance(kind, str):
        return None
    return "=web_search" if kind.startswith("web_search") else f"={kind}"


AnyTool = Annotated[
    Annotated[CallerFunction, Tag("=function")]
    | Annotated[SearchTool, Tag("=web_search")]
    | Annotated[CodeTool, Tag("=code_interpreter")]
    | Annotated[MathsTool, Tag("=maths")],
    Discriminator(
        _tool_kind,
        custom_error_type="tool",
        custom_error_message="there are tools of type function, web_search, code_interpreter and maths",
    ),
]


class ChosenTool(Body):
    type: str = Field(max_length=64)
    name: str | None = None


class Format(Body):
    type: FormatName
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Format:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise wrong("schema should be given for the type json_schema, and only for it")
        return self


class TextOptions(Body):
    format: Format | None = None
    verbosity: Any = None


class ResponseBody(DrawnBody):
    """The body of a request to /v1/responses."""

    input: Annotated[list[Item], BeforeValidator(_as_items)] = Field(min_length=1, max_length=MOST_MESSAGES)
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=256)
    max_output_tokens: int | None = Field(None, ge=1)
    max_tool_calls: None = None
    tools: list[AnyTool] = Field([], max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ChosenTool = "auto"
    parallel_tool_calls: bool | None = True
    text: TextOptions | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    include: list[str] | None = None
    store: bool | None = True
    truncation: Literal["auto", "disabled"] | None = None
    background: Literal[False] | None = None
    reasoning: Any = None
    moderation: Any = None
    context_management: None = None
    conversation: None = None
    prompt: None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ResponseBody:
        names = [tool.name for tool in self.functions_given()]
        if len(set(names)) < len(names):
            raise wrong("tools: two functions have the same name")
        if LOGPROBS in (self.include or []) or self.top_logprobs:
            raise wrong("top_logprobs: log-probabilities are given by /v1/chat/completions and /v1/completions alone")
        if self.must_call and not self.tools:
            raise wrong("tool_choice: a call is required and there are no tools")
        if self.must_call and self.text and self.text.format and self.text.format.type != "text":
            raise wrong("text.format: a call that is required cannot have a form of its own")
        return self

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, ChosenTool)

    def functions_given(self) -> list[CallerFunction]:
        return [tool for tool in self.tools if isinstance(tool, CallerFunction)]

    def form(self) -> Constraint | None:
        """The form that was asked for."""
        given = self.text.format if self.text else None
        if given is None or given.type == "text":
            return None
        return Constraint("json_object") if given.schema_ is None else json_constraint(given.schema_)

    def dialog(self, before: Sequence[Message], open_calls: frozenset[str]) -> tuple[list[Message], frozenset[str]]:
        """The dialog with this input behind `before`, and the calls that may be answered then.

        Raises:
            ApiError: an output answers no call, or the arguments of a call are no JSON object.
        """
        dialog = list(before)
        for number, item in enumerate(self.input):
            where = f"input.{number}"
            if isinstance(item, InputMessage):
                role = "system" if item.role == "developer" else item.role
                dialog.append(Message(role, item.content))
            elif isinstance(item, FunctionCallOutput):
                if item.call_id not in open_calls:
                    raise unsupported(f"{where}.call_id", "no call before it has this id")
                dialog.append(Message("ipython", item.output))
            elif isinstance(item, FunctionCall):
                open_calls |= {item.call_id}
                _add_call(dialog, item.call(where))
            elif not (isinstance(item, ServerCall) and item.name == MALFORMED):
                _add_call(dialog, item.call(where))
                dialog.append(Message("ipython", item.output or ""))
        return dialog, open_calls


def _add_call(dialog: list[Message], call: Call) -> None:
    """A call belongs to the message in which the model wrote it, with the text before it and other calls."""
    if dialog and dialog[-1].role == "assistant" and not dialog[-1].call:
        dialog[-1] = replace(dialog[-1], calls=(*dialog[-1].calls, call))
    else:
        dialog.append(Message("assistant", "", calls=(call,)))
