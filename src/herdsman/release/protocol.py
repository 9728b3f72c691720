"""What whoever runs an exported model must know of its tokens: where a text begins and ends, how a chat is written."""

from __future__ import annotations

from dataclasses import dataclass

from herdsman.release.chat_template import CHAT_TEMPLATE
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Protocol:
    """Ids and the chat format of a model.

    Attributes:
        bos: what a text begins with; None for a model that was taught without.
        ends: tokens that end what it writes, the one that ends an answer first.
        pad: filler of batches.
        names: text of each special token.
        chat_template: as Jinja text; None for a model that does not chat.
    """

    bos: int | None
    ends: tuple[int, ...]
    pad: int
    names: dict[int, str]
    chat_template: str | None

    @property
    def special_tokens(self) -> dict[str, str]:
        """Names of the first of each, in the terms of transformers."""
        ids = {"bos_token": self.bos, "eos_token": next(iter(self.ends), None), "pad_token": self.pad}
        return {role: self.names[id] for role, id in ids.items() if id in self.names}


def protocol_of(tokenizer: Tokenizer | ForeignTokenizer, chats: bool = True) -> Protocol:
    """The protocol of a model over this tokenizer.

    Args:
        chats: it was taught to chat; a base model goes on with a text until the text's end.
    """
    names = {id: name for name, id in tokenizer.special.items()}
    if isinstance(tokenizer, Tokenizer):
        ends = (tokenizer.eot, tokenizer.end_of_text, tokenizer.eom) if chats else (tokenizer.end_of_text,)
        return Protocol(tokenizer.bos, ends, tokenizer.pad, names, CHAT_TEMPLATE if chats else None)
    template = tokenizer.chat_template if chats else None
    # The template of a chat model writes the token that ends an answer.
    by_use = sorted(tokenizer.stop_ids, key=lambda id: (names.get(id, "") not in (template or ""), id))
    return Protocol(next(iter(tokenizer.beginning), None), tuple(by_use), tokenizer.pad, names, template)
