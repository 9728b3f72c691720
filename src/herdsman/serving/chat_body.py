"""The body of a request to /v1/chat/completions, and its messages as the model's chat format takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from herdsman.generation.constraint import Constraint
from herdsman.serving.api_error import ApiError, unsupported
from herdsman.serving.fields import (
    MOST_TOP_LOGPROBS,
    Body,
    CompletionBody,
    FormatName,
    JsonSchema,
    json_constraint,
    wrong,
)
from herdsman.tokens.calls import Call
from herdsman.tokens.chat import Message

MOST_MESSAGES = 4096
MOST_TOOLS = 128
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def joined_text(value: Any) -> str:
    """The text of a message's content, which is a string or a list of parts.

    Raises:
        PydanticCustomError: it is of another kind, or a part is no text.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise wrong("should be a string or a list of parts")
    for part in value:
        kind = part.get("type")
        if kind not in TEXT_PARTS:
            raise wrong(f"the models here read only text, so a part's type should be one of {', '.join(TEXT_PARTS)}")
        if not isinstance(part.get("refusal" if kind == "refusal" else "text"), str):
            raise wrong(f"a part of type {kind} should carry its text")
    return "\n".join(part["refusal" if part["type"] == "refusal" else "text"] for part in value)


Content = Annotated[str, BeforeValidator(joined_text)]


class CalledFunction(Body):
    name: str = Field(max_length=256)
    arguments: str


class ToolCall(Body):
    """A call that the assistant made earlier."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class SystemMessage(Body):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Body):
    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: Content = ""
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(None, max_length=MOST_TOOLS)
    annotations: Any = None
    audio: None = None
    function_call: None = None


class ToolMessage(Body):
    role: Literal["tool"]
    content: Content
    tool_call_id: str = Field(max_length=256)


def _role(value: Any) -> str | None:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return f"={role}" if isinstance(role, str) else None


AnyMessage = Annotated[
    Annotated[SystemMessage, Tag("=system")]
    | Annotated[SystemMessage, Tag("=developer")]
    | Annotated[UserMessage, Tag("=user")]
    | Annotated[AssistantMessage, Tag("=assistant")]
    | Annotated[ToolMessage, Tag("=tool")],
    Discriminator(
        _role,
        custom_error_type="role",
        custom_error_message="role should be system, developer, user, assistant or tool",
    ),
]


class Function(Body):
    """A function the model may call."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def described(self) -> dict[str, Any]:
        """As OpenAI's function object, with a schema also where the function takes nothing."""
        empty = {"type": "object", "properties": {}}
        return {"name": self.name, "description": self.description or "", "parameters": self.parameters or empty}


class FunctionTool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(Body):
    type: FormatName
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise wrong("json_schema should be given for the type json_schema, and only for it")
        return self


class ChatBody(CompletionBody):
    """The body of a request to /v1/chat/completions."""

    messages: list[AnyMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    tools: list[FunctionTool] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = True
    response_format: ResponseFormat | None = None
    continue_final_message: bool | None = False
    modalities: list[str] | None = None
    audio: None = None
    functions: None = None
    function_call: None = None
    web_search_options: None = None
    moderation: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    store: Any = None
    verbosity: Any = None

    @model_validator(mode="after")
    def _fits_together(self) -> ChatBody:
        if self.modalities not in (None, ["text"]):
            raise wrong("modalities: only text can be written here")
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong("top_logprobs: needs logprobs to be true")
        if self.continue_final_message and (self.messages[-1].role != "assistant" or self.messages[-1].tool_calls):
            raise wrong("continue_final_message: the last message should be the assistant's text")
        names = [tool.function.name for tool in self.tools or []]
        if len(set(names)) < len(names):
            raise wrong("tools: two functions have the same name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise wrong("tool_choice: names a function that is not among the tools")
        if self.tool_choice == "required" and not names:
            raise wrong("tool_choice: a call is required and there are no tools")
        if self.must_call and self.response_format and self.response_format.type != "text":
            raise wrong("response_format: a call that is required cannot have a form of its own")
        return self

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def functions_offered(self) -> tuple[dict[str, Any], ...]:
        """Functions that the model may call in this request, as OpenAI's function objects."""
        if self.tool_choice == "none":
            return ()
        chosen = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        return tuple(tool.function.described() for tool in self.tools or [] if chosen in (None, tool.function.name))

    def constraint(self) -> Constraint | None:
        """What the text must be: a call of one of the functions, or of the form that was asked for."""
        if self.must_call:
            return call_constraint(self.functions_offered())
        if self.response_format is None or self.response_format.type == "text":
            return None
        if self.response_format.json_schema is None:
            return Constraint("json_object")
        return json_constraint(self.response_format.json_schema.schema_)

    def dialog(self) -> list[Message]:
        """
        Raises:
            ApiError: the arguments of an earlier call are no JSON object, or a tool's message answers no call.
        """
        dialog: list[Message] = []
        open_calls: set[str] = set()
        for number, message in enumerate(self.messages):
            where = f"messages.{number}"
            if isinstance(message, ToolMessage):
                if message.tool_call_id not in open_calls:
                    raise unsupported(f"{where}.tool_call_id", "no call before it has this id")
                dialog.append(Message("ipython", message.content))
            elif isinstance(message, AssistantMessage):
                calls = tuple(
                    Call(call.function.name, arguments_of(call.function.arguments, f"{where}.tool_calls.{place}"))
                    for place, call in enumerate(message.tool_calls or [])
                )
                open_calls |= {call.id for call in message.tool_calls or []}
                dialog.append(Message("assistant", message.content or message.refusal or "", calls=calls))
            else:
                role = "user" if isinstance(message, UserMessage) else "system"
                dialog.append(Message(role, message.content))
        return dialog


def arguments_of(text: str, where: str) -> dict[str, Any]:
    """
    Raises:
        ApiError: the text is no JSON object.
    """
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ApiError(
            400, f"{where}: the arguments should be a JSON object in a string", param=where, code="invalid_value"
        )
    return arguments


def call_constraint(functions: Sequence[dict[str, Any]]) -> Constraint:
    """One call of one of these functions, in the JSON that Llama 3.1 writes calls in (its prompt format, zero-shot)."""
    forms = [
        {
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "parameters": function["parameters"]},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return json_constraint(forms[0] if len(forms) == 1 else {"anyOf": forms})
