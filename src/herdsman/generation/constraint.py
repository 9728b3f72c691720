"""Output that must have a form: JSON schema, any JSON object, regular expression or Lark grammar, through llguidance.

llguidance says at every step which tokens keep the text within its grammar; all others get no probability.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.generation.text import token_bytes
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    import llguidance


ANY_OBJECT = '{"type": "object"}'
WHITESPACE = r" ?|\n {0,16}"
"""Between the parts of JSON. A model that may write spaces without end will."""


@dataclass(frozen=True)
class Constraint:
    """A form that a completion must have from its first token to its last.

    Attributes:
        kind: the language of `text`; "json_object" needs none.
        text: a JSON schema, a regular expression of Rust's kind, or a Lark grammar.
    """

    kind: Literal["json_schema", "json_object", "regex", "lark"]
    text: str = ""


class Matcher:
    """Follows one completion through its grammar.

    Args:
        constraint: the form.
        tokenizer: the model's.
        stop_ids: tokens that may end the completion once the form is whole; one at least.

    Raises:
        InputError: the constraint cannot be understood.
    """

    def __init__(self, constraint: Constraint, tokenizer: Tokenizer | ForeignTokenizer, stop_ids: frozenset[int]):
        from llguidance import LLMatcher

        self._tokenizer = _vocabulary(tokenizer, stop_ids)
        self._matcher = LLMatcher(self._tokenizer, _grammar(constraint))
        if self._matcher.is_error():
            # The first line says what is wrong, but of an expression the one that begins with "error:" does.
            first, *more = self._matcher.get_error().strip().splitlines()
            reason = next((line for line in more if line.startswith("error:")), first)
            raise InputError(f"the {constraint.kind} constraint cannot be used ({reason})", do="correct it")

    @property
    def is_over(self) -> bool:
        """Whether the form is whole and nothing may follow."""
        return self._matcher.is_stopped()

    def forbid(self, logits: Tensor) -> None:
        """Gives no probability to the tokens that would leave the form. logits: [vocab], changed in place."""
        mask = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        allowed = (mask != 0).to(logits.device)
        logits[: len(allowed)].masked_fill_(~allowed[: len(logits)], -torch.inf)
        logits[len(allowed) :] = -torch.inf

    def accept(self, token: int) -> None:
        """The token that was drawn."""
        self._matcher.consume_token(token)


def _grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher

    if constraint.kind == "regex":
        return LLMatcher.grammar_from_regex(constraint.text)
    if constraint.kind == "lark":
        return LLMatcher.grammar_from_lark(constraint.text)
    schema = constraint.text if constraint.kind == "json_schema" else ANY_OBJECT
    try:
        return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": WHITESPACE})
    except ValueError as error:
        raise InputError(f"the JSON schema cannot be read ({error})", do="correct it") from error


class _Vocabulary:
    """A tokenizer in the form llguidance asks for."""

    def __init__(self, tokenizer: Tokenizer | ForeignTokenizer, end: int):
        special = set(tokenizer.special.values())
        # llguidance knows special tokens by this byte, which no text has.
        self.tokens = [
            (b"\xff" if id in special else b"") + token_bytes(tokenizer, id) for id in range(tokenizer.vocab_size)
        ]
        self.special_token_ids = sorted(special)
        self.eos_token_id, self.bos_token_id = end, None
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


_known: weakref.WeakKeyDictionary[Tokenizer | ForeignTokenizer, dict[frozenset[int], llguidance.LLTokenizer]]
_known = weakref.WeakKeyDictionary()


def _vocabulary(tokenizer: Tokenizer | ForeignTokenizer, stop_ids: frozenset[int]) -> llguidance.LLTokenizer:
    """Made once for each tokenizer, for it takes a pass over the vocabulary."""
    from llguidance import LLTokenizer, TokenizerWrapper

    made = _known.setdefault(tokenizer, {})
    if stop_ids not in made:
        ends = sorted(stop_ids)
        made[stop_ids] = LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, ends[0])), eos_token=ends)
    return made[stop_ids]
