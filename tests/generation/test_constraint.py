"""Constrained output from models that would write anything but what they are allowed to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.generation.constraint import Constraint
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.tokens.foreign import ForeignTokenizer
from tests.generation.models import random_model, small_tokenizer

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["cat", "dog"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        },
        "required": ["name", "age", "kind", "tags"],
        "additionalProperties": False,
    }
)


def foreign_tokenizer() -> ForeignTokenizer:
    """Byte-level BPE with tokens of one byte and a few special ones, as models from elsewhere bring."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    whole = tokenizers.Tokenizer(tokenizers.models.BPE({letter: id for id, letter in enumerate(letters)}, []))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = tokenizers.decoders.ByteLevel()
    whole.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return ForeignTokenizer(whole.to_str(), frozenset([257]), 257)


@pytest.fixture(scope="module", params=["ours", "foreign"])
def engine(request: pytest.FixtureRequest) -> LocalEngine:
    if request.param == "ours":
        return LocalEngine(random_model(1000), small_tokenizer())
    tokenizer = foreign_tokenizer()
    options = ModelOptions(layers=1, dim=32, heads=2, kv_heads=1, ffn_multiple_of=16, context_length=1000)
    return LocalEngine(Llama(options, tokenizer.vocab_size + 6).initialise(0).eval(), tokenizer)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_is_kept_and_other_rows_are_left_alone(engine: LocalEngine, temperature: float) -> None:
    free = Sampling(40, temperature=temperature, stop_ids=frozenset())
    bound = Sampling(400, temperature=temperature, constraint=Constraint("json_schema", SCHEMA))
    before = engine.generate([[1, 2]], free)
    found = engine.generate([[number, 4] for number in range(1, 6)], bound)
    assert engine.generate([[1, 2]], free) == before
    for completion in found:
        assert completion.finish == "stop"
        value = json.loads(completion.text)
        assert list(value) == ["name", "age", "kind", "tags"]
        assert len(value["name"]) <= 8
        assert 0 <= value["age"] <= 150
        assert value["kind"] in ("cat", "dog")
        assert len(value["tags"]) <= 2


def test_expressions_and_grammars_are_kept(engine: LocalEngine) -> None:
    regex = r"[A-Z][a-z]{2,5} is \d{1,3} years old\."
    lark = 'start: item (", " item)*\nitem: "red" | "green" | /[0-9]+px/'
    for text in (regex, lark):
        kind = "regex" if text is regex else "lark"
        wish = Sampling(200, temperature=1.0, constraint=Constraint(kind, text))
        for completion in engine.generate([[1], [2], [3]], wish):
            pattern = regex if text is regex else r"(red|green|\d+px)(, (red|green|\d+px))*"
            if completion.finish == "stop":
                assert re.fullmatch(pattern, completion.text)
            else:
                assert kind == "lark", "a list may go on for ever"


def test_spaces_between_the_parts_of_json_have_an_end(engine: LocalEngine) -> None:
    """A model that wants nothing but spaces must come to an end all the same."""
    space = engine.tokenizer.encode(" ")[0]
    wish = Sampling(300, temperature=0, constraint=Constraint("json_schema", SCHEMA), logit_bias={space: 100.0})
    [completion] = engine.generate([[1]], wish)
    assert completion.finish == "stop"
    assert json.loads(completion.text)


def test_any_json_object(engine: LocalEngine) -> None:
    wish = Sampling(700, temperature=1.0, constraint=Constraint("json_object"), logit_bias={ord("}"): 8.0})
    ended = [each for each in engine.generate([[n] for n in range(1, 9)], wish) if each.finish == "stop"]
    for completion in ended:
        assert isinstance(json.loads(completion.text), dict)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        (Constraint("json_schema", "{"), "the JSON schema cannot be read"),
        (Constraint("json_schema", '{"type": "nonsense"}'), "Invalid type: nonsense"),
        (Constraint("regex", "[a"), "unclosed character class"),
        (Constraint("lark", "start: foo"), "unknown name"),
    ],
)
def test_a_bad_constraint_is_refused_in_one_sentence(engine: LocalEngine, constraint: Constraint, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        engine.generate([[1]], Sampling(constraint=constraint))
    assert "\n" not in str(caught.value)


def test_every_stop_token_may_end_a_form(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    engine = LocalEngine(random_model(100), tokenizer)
    form = Constraint("regex", "(ab)+")
    for stop in (tokenizer.eot, tokenizer.eom):
        wish = Sampling(50, temperature=0, constraint=form, logit_bias={stop: 1000.0})
        assert engine.generate([[1]], wish)[0].text == "ab"
    endless = Sampling(50, temperature=0, constraint=form, logit_bias={tokenizer.eot: 1000.0}, stop_ids=frozenset())
    assert engine.generate([[1]], endless)[0].text == "ab", "without any, the tokenizer's own do"
    bare = Sampling(50, temperature=0, constraint=form, logit_bias={tokenizer.bos: 1000.0})
    assert re.fullmatch("(ab)+", engine.generate([[1]], bare)[0].text), "no other special token may"
