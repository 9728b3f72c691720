"""Calls in every form: written and read back, the mistakes of other parsers, and what is wrong said in a sentence."""

from __future__ import annotations

import keyword
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdsman.errors import InputError
from herdsman.tokens.call_forms import read_calls
from herdsman.tokens.calls import CallForm, MalformedCall, check_call, parse_calls, write_calls
from herdsman.tokens.messages import BUILTIN_TOOLS, Call, Message, ToolSpecs
from tests.tokens.dialogs import BUILTIN, EVERYTHING, FUNCTIONS, NOW, WEATHER

SEARCH = {"name": "search", "parameters": {"type": "object", "additionalProperties": True}}
TOOLS = ToolSpecs(BUILTIN, (WEATHER, NOW, SEARCH))


def parse(text: str, call: bool = False, tools: ToolSpecs = TOOLS) -> list[Call]:
    return parse_calls(Message("assistant", text, call), tools)


def weather(city: str, **more: Any) -> Call:
    return Call("get_weather", {"city": city, **more})


def brave(query: str) -> Call:
    return Call("brave_search", {"query": query})


def code(text: str) -> Call:
    return Call("code_interpreter", {"code": text})


NOW_CALL = Call("clock.now", {})
A_JSON = '{"name": "get_weather", "parameters": {"city": "A"}}'
NOW_JSON = '{"name": "clock.now", "parameters": {}}'
A_NOW = [weather("A"), NOW_CALL]
FOUND: dict[str, tuple[str, list[Call]]] = {
    # llama-models: the arguments end at the first closing brace
    "a tag with nested JSON": (
        '<function=get_weather>{"city": "A", "options": {"a": {"b": {"c": "}"}}, "d": "{"}}</function>',
        [weather("A", options={"a": {"b": {"c": "}"}}, "d": "{"})],
    ),
    # llama-models: a query ends at the first quotation mark
    "a query with escaped quotes": ('brave_search.call(query="the \\"best\\" \\\\ one")', [brave('the "best" \\ one')]),
    "a query with bare quotes": ('brave_search.call(query="the "best" pizza")', [brave('the "best" pizza')]),
    "a query with one quote": ('brave_search.call(query="5" pipe (steel)")', [brave('5" pipe (steel)')]),
    # llama-models: every apostrophe becomes a quotation mark
    "apostrophes in a tag": ('<function=get_weather>{"city": "L\'Aquila"}</function>', [weather("L'Aquila")]),
    "Python's quotes in a tag": ("<function=get_weather>{'city': \"L'Aquila\"}</function>", [weather("L'Aquila")]),
    "Python's quotes in JSON": (
        "{'name': 'get_weather', 'parameters': {'city': \"L'Aquila\", 'options': {'a': None}}}",
        [weather("L'Aquila", options={"a": None})],
    ),
    # llama-models: only the first call is returned
    "two tags": ('<function=get_weather>{"city": "A"}</function><function=clock.now>{}</function>', A_NOW),
    "a list of calls": ('[get_weather(city="A"), clock.now(), get_weather(city="B")]', [*A_NOW, weather("B")]),
    # llama-models: `arguments` is a KeyError
    "arguments": ('{"name": "get_weather", "arguments": {"city": "A"}}', [weather("A")]),
    "arguments as text": ('{"name": "get_weather", "arguments": "{\\"city\\": \\"A\\"}"}', [weather("A")]),
    # llama-models: dictionaries are written {k=v}, strings unescaped
    "a dictionary in a list": (
        "[get_weather(city='A\\'s', options={'k': [1, -2.5, None, True, 'x\\n']})]",
        [weather("A's", options={"k": [1, -2.5, None, True, "x\n"]})],
    ),
    # vLLM: parallel calls and those beside prose are dropped
    "calls between semicolons": (f"{A_JSON}; {NOW_JSON}", A_NOW),
    "calls on lines": (f"{A_JSON}\n\n{NOW_JSON}\n", A_NOW),
    "calls in an array": (f"[{A_JSON}, {NOW_JSON}]", A_NOW),
    "prose around": (f"Sure, I will look.\n{A_JSON}\nOne moment.", [weather("A")]),
    "prose around a list": ('Sure:\n[get_weather(city="A")]\nOne moment.', [weather("A")]),
    "prose around a search": ('Sure:\nbrave_search.call(query="A")\n', [brave("A")]),
    "a fence": (f"```json\n{A_JSON}\n```", [weather("A")]),
    # vLLM: nested lists are refused
    "nested lists": ("[search(grid=[[1, [2]], (3, 4)])]", [Call("search", {"grid": [[1, [2]], [3, 4]]})]),
    "OpenAI's frame": (
        '{"type": "function", "function": {"name": "clock.now", "arguments": "{}"}, "id": "call_1"}',
        [NOW_CALL],
    ),
    "the name as function": ('{"function": "get_weather", "parameters": {"city": "A"}}', [weather("A")]),
    "no arguments": ('{"type": "function", "name": "clock.now"}', [NOW_CALL]),
    "no arguments and no type": ('{"name": "clock.now"}', [NOW_CALL]),
    "no arguments in a tag": ("<function=clock.now></function>", [NOW_CALL]),
    "a tag without its bracket": ('<function=get_weather{"city": "A"}</function>', [weather("A")]),
    "ChatML": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "A </tool_call> B"}}\n</tool_call>\n'
        '<tool_call>{"name": "clock.now", "arguments": {}}</tool_call>',
        [weather("A </tool_call> B"), NOW_CALL],
    ),
    "ChatML with an array": (f"<tool_call>[{A_JSON}, {NOW_JSON}]</tool_call>", A_NOW),
    "ChatML left open": ('<tool_call>\n{"name": "clock.now", "arguments": {}}', [NOW_CALL]),
    "ChatML with Python": ('<tool_call>[get_weather(city="A")]</tool_call>', [weather("A")]),
    "calls without brackets": ('get_weather(city="A"); clock.now()\nclock.now()', [*A_NOW, NOW_CALL]),
    "JSON's words in Python": ("[search(a=true, b=[false, null])]", [Call("search", {"a": True, "b": [False, None]})]),
    "Python's keywords": ('[search(from="A", class=[2])]', [Call("search", {"from": "A", "class": [2]})]),
    "three quotes": ('[search(text="""a "b"\n)]""")]', [Call("search", {"text": 'a "b"\n)]'})]),
    "a built-in tool as a function": ('{"name": "brave_search", "parameters": {"query": "A"}}', [brave("A")]),
    "code as a call": ('code_interpreter.call(code="print(1)\\n")', [code("print(1)\n")]),
    "a nested call": (
        '[get_weather(city=search(q="A"), days=2)]',
        [Call("get_weather", {"city": Call("search", {"q": "A"}), "days": 2})],
    ),
    "letters and emoji": ('{"name": "get_weather", "parameters": {"city": "K\\u00f6ln 😀"}}', [weather("Köln 😀")]),
}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("tagged", [False, True])
def test_calls_are_found(name: str, tagged: bool) -> None:
    text, calls = FOUND[name]
    if tagged and name.startswith("prose"):
        assert parse(text, call=True) == [code(text)]
    else:
        assert parse(text, call=tagged) == calls


NO_CALLS = {
    "nothing": "",
    "prose": "It is sunny. I would use get_weather(city), but you said not to.",
    "a line that begins with a name": "get_weather(city) gives the weather.\nclock.now() is the time.",
    "an answer in JSON": '{"name": "Bob", "age": 3}',
    "an answer in JSON with a name only": '{"name": "Bob"}',
    "a definition": '{"name": "f", "description": "d", "parameters": {"type": "object"}}',
    "a list": "[1, 2, 3] and [see](https://example.org)",
    "another function": 'def f():\n    return g(a=1)\n[print(i) for i in range(3)]\n[print("a")]',
    "brackets": "{{[[((" * 20,
    "code in a fence": "```python\nprint(1)\n```",
}


@pytest.mark.parametrize("name", NO_CALLS)
def test_other_text_calls_nothing(name: str) -> None:
    assert parse(NO_CALLS[name]) == []
    assert parse_calls(Message("user", FOUND["arguments"][0]), TOOLS) == []


def test_behind_the_tag_other_text_is_code() -> None:
    for text in (
        "print(1)",
        "  if x:\n    y()\n",
        'brave_search.call(query="x")\nprint(1)',
        'data = {"name": "clock.now", "parameters": {}}\nprint(data)',
        "[print(i) for i in range(3)]",
        "def f():\n    '<tool_call>'",
        "",
    ):
        assert parse(text, call=True) == [code(text)]
    with pytest.raises(MalformedCall, match="there is no tool 'code_interpreter'; there are get_weather"):
        parse("print(1)", call=True, tools=FUNCTIONS)
    with pytest.raises(MalformedCall, match="there is no tool 'code_interpreter'; there are none"):
        parse("print(1)", call=True, tools=ToolSpecs())


WRONG = {
    '[get_wether(city="A")]': "there is no tool 'get_wether'; there are brave_search, wolfram_alpha",
    '{"name": "nix", "parameters": {}}': "there is no tool 'nix'",
    '{"name": "get_weather", "parameters": {}}': "get_weather: 'city' is a required property",
    '{"name": "get_weather", "parameters": {"city": 3}}': "get_weather.city: 3 is not of type 'string'",
    '{"name": "get_weather", "parameters": {"city": "A", "days": "3"}}': "get_weather.days: '3' is not of type",
    '{"name": "get_weather", "parameters": {"city": "A", "days": true}}': "get_weather.days: True is not of type",
    '{"name": "get_weather", "parameters": {"city": "A", "days": 0}}': "get_weather.days: 0 is less than the minimum",
    '{"name": "get_weather", "parameters": {"city": "A", "unit": "K"}}': "get_weather.unit: 'K' is not one of",
    '{"name": "get_weather", "parameters": {"city": "A", "town": "B"}}': "get_weather has no argument 'town'; it",
    '{"name": "clock.now", "parameters": {"zone": "A"}}': "clock.now has no argument 'zone'; it takes none",
    '{"name": "get_weather", "parameters": ["A"]}': "the arguments of `get_weather` are not one JSON object",
    '{"name": "get_weather", "arguments": "city=A"}': "the arguments of `get_weather` are not one JSON object",
    '{"name": "get_weather", "arguments": {}, "parameters": {"city": "A"}}': "are not one JSON object",
    '{"name": "get_weather", "parameters": {"city": "A"': "this is no JSON that can be read: `{",
    '{"name": "get_weather", "parameters": {"city": NaN}}': "this is no JSON that can be read",
    "<function=get_weather>city=A</function>": "behind <function=get_weather> stands no JSON object: `city=A",
    '<function=get_weather>{"city": "A"': "stands no JSON object",
    "<tool_call>clock</tool_call>": "between <tool_call> and </tool_call> stands no call in JSON: `clock`",
    '[get_weather(city="A"': "this is no call that can be read: `[get_weather",
    'get_weather(city="A" "B" 3)': "this is no call that can be read",
    "[get_weather(city=x)]": "must be plain values, with no variables",
    "[get_weather(city='a' + 'b')]": "must be plain values",
    "[get_weather(city=f'{x}')]": "must be plain values",
    "[get_weather(city=1e999)]": "must be plain values",
    "[search(a={1: 2})]": "the keys of a dictionary must be strings",
    'get_weather("A")': "the arguments of `get_weather` must be given by name",
    "[get_weather(**x)]": "must be given by name",
    "[get_weather(city=nix())]": "there is no tool 'nix'",
    "[get_weather(city=get_weather(days=1))]": "get_weather: 'city' is a required property",
    'wolfram_alpha.call("1 + 1")': "must be given by name",
    '{"name": "brave_search", "parameters": {"q": "A"}}': "brave_search has no argument 'q'; it takes query",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said(text: str) -> None:
    for tagged in (False, True):
        with pytest.raises(MalformedCall) as error:
            parse(text, call=tagged)
        assert WRONG[text] in str(error.value)
        assert len(str(error.value)) <= 400


def test_a_tool_that_is_not_switched_on() -> None:
    with pytest.raises(MalformedCall, match="no tool 'brave_search'; there are get_weather"):
        parse('brave_search.call(query="A")', tools=FUNCTIONS)


# Each step refers to the next one twice: two to the power of 40 checks, if all were made.
LAUGHS = {
    "properties": {"a": {"$ref": "#/$defs/0"}},
    "$defs": {str(step): {"allOf": [{"$ref": f"#/$defs/{step + 1}"}] * 2} for step in range(40)} | {"40": {}},
}


def test_definitions_that_cannot_be_checked_are_no_crash() -> None:
    for parameters in (
        {"type": "object", "properties": {"a": {"type": "dict"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema.json"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": True},
        {"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}},
        {"properties": [{"a": 1}]},
        {"properties": {"a": {"enum": 3}}},
        {"properties": {"a": {"multipleOf": 0}}},
        LAUGHS,
    ):
        with pytest.raises(MalformedCall, match=r"f cannot be checked|f has no argument"):
            check_call(Call("f", {"a": 1}), ToolSpecs((), ({"name": "f", "parameters": parameters},)))


def test_a_regular_expression_of_a_stranger_is_not_run() -> None:
    slow = {"pattern": "(a+)+$"}
    for parameters in (
        {"properties": {"a": slow}},
        {"properties": {"a": {"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}}},
    ):
        tools = ToolSpecs((), ({"name": "f", "parameters": parameters},))
        for value in ("a" * 40 + "b", {"a" * 40 + "b": 1}):
            check_call(Call("f", {"a": value}), tools)


def test_hostile_texts_come_to_an_end() -> None:
    """Each is read in a time that grows with its length and not with its square."""
    for text in (
        "[" * 100_000,
        '{"name":' * 20_000,
        '{"name": "f", "parameters": ' + '{"a":' * 50_000,
        "<function=f>" * 20_000,
        "<tool_call>" * 20_000,
        "[f(" * 20_000,
        'brave_search.call(query="' * 10_000,
        "clock.now(\n" * 20_000,
        "print(\n" * 20_000,
        "clock.now" + ".a" * 50_000 + "()",
        "clock.now(" + "-" * 50_000 + "1)",
        "clock.now(a=" + "[" * 5_000 + "]" * 5_000 + ")",
        '"' * 100_000 + "'" * 100_000,
        '{"id": ' * 20_000,
    ):
        for tagged in (False, True):
            with suppress(MalformedCall):
                parse(text, call=tagged)


texts = st.text(max_size=30)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
python_names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(keyword.kwlist)
plain_names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}(\.[a-z_]{1,5})?", fullmatch=True).filter(
    lambda name: not any(map(keyword.iskeyword, name.split("."))) and name not in BUILTIN_TOOLS
)
FORMS: tuple[CallForm, ...] = ("json", "function_tag", "python_list", "tool_call")


@given(
    form=st.sampled_from(FORMS),
    calls=st.lists(
        st.builds(Call, plain_names, st.dictionaries(python_names, values, max_size=3)), min_size=1, max_size=3
    ),
)
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_read(form: CallForm, calls: list[Call]) -> None:
    text = write_calls(calls, form)
    names = {call.name for call in calls}
    assert read_calls(text, names) == calls
    assert read_calls(text, names, alone=True) == calls


@given(call=st.builds(lambda name, query: Call(name, {"query": query}), st.sampled_from(BUILTIN_TOOLS[:2]), st.text()))
@settings(max_examples=200, deadline=None)
def test_any_query_is_read(call: Call) -> None:
    text = write_calls([call, call], "builtin")
    assert parse(text) == parse(text, call=True) == [call, call]


nested = st.recursive(
    st.builds(Call, st.just("search"), st.dictionaries(python_names, values, max_size=2)),
    lambda inner: st.builds(
        Call, st.just("search"), st.dictionaries(python_names, inner | st.lists(inner), max_size=2)
    ),
    max_leaves=5,
)


@given(call=nested)
@settings(max_examples=100, deadline=None)
def test_nested_calls_are_read_where_a_form_has_them(call: Call) -> None:
    assert parse(write_calls([call], "python_list")) == [call]


def test_each_kind_of_call_has_its_form() -> None:
    assert write_calls([brave('a "b"')]) == 'brave_search.call(query="a \\"b\\"")'
    assert write_calls([code("x = 1\n")]) == "x = 1\n"
    assert write_calls([weather("A"), brave("B")]) == (
        '{"type": "function", "name": "get_weather", "parameters": {"city": "A"}}; '
        '{"type": "function", "name": "brave_search", "parameters": {"query": "B"}}'
    )
    assert write_calls([Call("f", {"x": Call("g", {"y": 1})})]) == "[f(x=g(y=1))]"


@pytest.mark.parametrize(
    ("calls", "form", "sentence"),
    [
        ([weather("A")], "builtin", "call of get_weather: it is no call of a built-in tool; write it as JSON"),
        ([code("1"), brave("A")], "builtin", "code fills a message"),
        ([Call("f", {"x": NOW_CALL})], "json", "call of f: the arguments cannot be written as JSON"),
        ([Call("f", {"x": float("nan")})], "tool_call", "call of f: the arguments cannot be written as JSON"),
        ([Call("f", {"x": float("inf")})], "python_list", "inf is no value of JSON"),
        ([Call("f", {"x": {1}})], "python_list", "{1} is no value of JSON"),
        ([Call("f", {"a b": 1})], "python_list", "call of f: 'a b' is no name in Python; write it as JSON"),
    ],
)
def test_what_a_form_cannot_express(calls: list[Call], form: CallForm, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        write_calls(calls, form)
    assert str(error.value).startswith(sentence)


def test_calls_given_as_data_are_checked_too() -> None:
    good = Message("assistant", "", calls=(weather("A"), NOW_CALL))
    assert parse_calls(good, EVERYTHING) == [weather("A"), NOW_CALL]
    with pytest.raises(MalformedCall, match="required"):
        parse_calls(Message("assistant", "", calls=(Call("get_weather", {}),)), EVERYTHING)


def test_reading_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    assert parse('[search(path="C:\\data")]') == [Call("search", {"path": "C:\\data"})]
    assert not recwarn.list
