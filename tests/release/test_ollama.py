"""The Ollama export. Ollama itself is not to be had from a package registry, so its Modelfile is held against the
grammar that Ollama documents, and the template in it is run by the engine that Ollama runs it with, Go's own, if there
is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from herdsman.errors import InputError
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import save_model
from herdsman.release.ollama import LLAMA3_TEMPLATE, export, modelfile
from herdsman.tokens.chat import chat_format
from herdsman.tokens.foreign import ForeignTokenizer, write_tokenizer
from herdsman.tokens.messages import Call, Message, ToolSpecs
from herdsman.tokens.tokenizer import Tokenizer
from tests.release.conftest import make_model
from tests.tokens.vocabularies import foreign_json

WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where?"}},
        "required": ["city"],
    },
}
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe {{good}}.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DIALOGS = [
    [Message("user", "Hi {{ there }}")],
    [Message("system", "Be brief."), Message("user", "Hi\n\nyou")],
    [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "  Who?  ")],
    [Message("system", "S"), Message("user", "1"), Message("assistant", "2"), Message("user", "3")],
]


def parsed(text: str) -> list[tuple[str, str]]:
    """Instructions of a Modelfile with their arguments, as docs/modelfile describes them: what three quotes enclose may
    have any number of lines."""
    found = re.compile(r'(FROM|TEMPLATE|PARAMETER|LICENSE) ("""(.*?)"""|[^\n]+)\n', re.S)
    instructions, place = [], 0
    while place < len(text):
        match = found.match(text, place)
        assert match, f"no instruction at {text[place:][:50]!r}"
        instructions.append((match[1], match[3] if match[3] is not None else match[2]))
        place = match.end()
    return instructions


def foreign(folder: Path, template: str | None = CHATML) -> ForeignTokenizer:
    folder.mkdir(exist_ok=True)
    tokenizer = write_tokenizer(foreign_json(), frozenset({2}), None, template, folder)
    assert isinstance(tokenizer, ForeignTokenizer)
    return tokenizer


def test_modelfile_of_a_herd(tokenizer_folder: Path, tmp_path: Path) -> None:
    make_model(tokenizer_folder, tmp_path / "model")
    export(tmp_path / "model", tokenizer_folder, tmp_path / "out", licence="apache-2.0")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Modelfile", "model.gguf"}
    assert parsed((tmp_path / "out/Modelfile").read_text()) == [
        ("FROM", "./model.gguf"),
        ("TEMPLATE", LLAMA3_TEMPLATE),
        ("PARAMETER", 'stop "<|eot_id|>"'),
        ("PARAMETER", 'stop "<|end_of_text|>"'),
        ("PARAMETER", 'stop "<|eom_id|>"'),
        ("PARAMETER", "temperature 0.6"),
        ("PARAMETER", "top_p 0.9"),
        ("PARAMETER", "top_k 0"),
        ("PARAMETER", "min_p 0.0"),
        ("PARAMETER", "repeat_penalty 1.0"),
        ("PARAMETER", "num_ctx 64"),
        ("LICENSE", '"apache-2.0"'),
    ]


def test_what_does_not_chat_goes_on_with_the_prompt(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    base = dict(parsed(modelfile(tokenizer, 64, False, None, tokenizer_folder)))
    assert base["TEMPLATE"] == dict(parsed(modelfile(foreign(tmp_path, None), 64, True, None, tmp_path)))["TEMPLATE"]
    assert base["TEMPLATE"] == "{{ .Prompt }}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
        "{{ messages[-1]['content'] }}",
        "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}",
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}",
    ],
    ids=["numbered", "forgetful", "twice", "no system"],
)
def test_templates_that_are_no_frames_are_refused(tmp_path: Path, template: str) -> None:
    tokenizer = foreign(tmp_path / "tokenizer", template)
    with pytest.raises(InputError, match="more than a frame around each message"):
        modelfile(tokenizer, 64, True, None, tmp_path / "tokenizer")
    options = ModelOptions(layers=1, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=64)
    save_model(Llama(options, tokenizer.vocab_size), tmp_path / "model")
    with pytest.raises(InputError):
        export(tmp_path / "model", tmp_path / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def go_rendered(template: str, cases: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """What Go's `text/template` makes of it, with the one function that Ollama adds."""
    if not shutil.which("go"):
        pytest.skip("Go is not installed (Debian's package golang-go)")
    (folder / "main.go").write_text(GO)
    (folder / "input.json").write_text(json.dumps({"Template": template, "Cases": cases}))
    ran = subprocess.run(["go", "run", "main.go"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found: list[str] = json.loads(ran.stdout)
    return found


GO = """
package main

import ("bytes"; "encoding/json"; "os"; "text/template")

func main() {
    var input struct { Template string; Cases []map[string]any }
    raw, _ := os.ReadFile("input.json")
    if err := json.Unmarshal(raw, &input); err != nil { panic(err) }
    asJson := func(value any) string { text, _ := json.Marshal(value); return string(text) }
    functions := template.FuncMap{"json": asJson}
    parsed := template.Must(template.New("").Option("missingkey=zero").Funcs(functions).Parse(input.Template))
    found := []string{}
    for _, values := range input.Cases {
        var text bytes.Buffer
        if err := parsed.Execute(&text, values); err != nil { panic(err) }
        found = append(found, text.String())
    }
    json.NewEncoder(os.Stdout).Encode(found)
}
"""


def values(messages: Sequence[Message], functions: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """What Ollama gives a template (docs/template): roles of OpenAI's API, the system messages by themselves too."""

    def calls(message: Message) -> list[dict[str, Any]]:
        return [{"Function": {"Name": call.name, "Arguments": call.arguments}} for call in message.calls]

    return {
        "System": "\n\n".join(message.content for message in messages if message.role == "system"),
        "Messages": [
            {
                "Role": "tool" if message.role == "ipython" else message.role,
                "Content": message.content,
                "ToolCalls": calls(message),
            }
            for message in messages
        ],
        "Tools": [{"type": "function", "function": function} for function in functions],
    }


def test_go_writes_what_the_chat_format_writes(tokenizer_folder: Path, tmp_path: Path) -> None:
    for tokenizer in (Tokenizer.load(tokenizer_folder), foreign(tmp_path)):
        text = modelfile(tokenizer, 64, True, None, tmp_path)
        found = go_rendered(dict(parsed(text))["TEMPLATE"], [values(dialog) for dialog in DIALOGS], tmp_path)
        expected = [tokenizer.decode(chat_format(tokenizer).encode(dialog, reply=True)[0]) for dialog in DIALOGS]
        assert found == [text.removeprefix("<|begin_of_text|>") for text in expected]
        begun = [Message("user", "Hi"), Message("assistant", "Hel")]
        (left_open,) = go_rendered(dict(parsed(text))["TEMPLATE"], [values(begun)], tmp_path)
        assert left_open.endswith("Hel")


def test_go_writes_tools_and_calls_as_the_chat_format_does(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    calls = (Call("weather", {"city": "Köln"}), Call("weather", {"city": 'A "B"'}))
    dialog = [
        Message("user", "Weather?"),
        Message("assistant", "", calls=calls),
        Message("ipython", '{"sun": 1}'),
        Message("ipython", "rain"),
        Message("assistant", "Both."),
        Message("user", "Thanks"),
    ]
    for front in ([], [Message("system", "Be brief.")]):
        messages = [*front, *dialog]
        (found,) = go_rendered(LLAMA3_TEMPLATE, [values(messages, [WEATHER])], tmp_path)
        ids, _ = chat_format(tokenizer).encode(messages, True, ToolSpecs(functions=(WEATHER,)))
        expected = tokenizer.decode(ids).removeprefix("<|begin_of_text|>")
        # Go writes JSON without spaces and line ends, its keys in the order of the alphabet.
        defined = json.dumps({"type": "function", "function": WEATHER}, indent=4)
        compact = json.dumps({"type": "function", "function": WEATHER}, separators=(",", ":"), sort_keys=True)
        assert found == expected.replace(defined, compact).replace('{"city": ', '{"city":')


def test_ollama_can_tell_that_the_model_knows_tools_and_how_a_call_begins() -> None:
    """It looks for `.Tools`, and for the first text behind `if .ToolCalls`, up to a brace."""
    assert ".Tools" in LLAMA3_TEMPLATE
    _, behind = LLAMA3_TEMPLATE.split("{{ if .ToolCalls }}")
    assert behind.split("{")[0] == "<|python_tag|>"
