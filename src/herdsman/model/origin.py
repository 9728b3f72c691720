"""What an imported model is and where it came from: `origin.json`, beside its `model/` and `tokenizer/`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from herdsman.files import write_json
from herdsman.model.options import ModelOptions

MODEL, TOKENIZER, ORIGIN = "model", "tokenizer", "origin.json"


@dataclass(frozen=True)
class Origin:
    """What was imported.

    Attributes:
        source: as the user gave it.
        name, licence, stored_as: what the source says of itself; `stored_as` is the type of its weights.
        sha256: digests of its files of weights, by name.
        parameters: of the model, tied embeddings counted once.
        model: its dimensions, as in a recipe.
        vocab_size: rows of its embedding.
        llama3_tokenizer: the vocabulary has Llama 3's form, so the chat protocol of a herd fits it.
    """

    source: str
    name: str | None
    licence: str | None
    stored_as: str | None
    sha256: dict[str, str]
    parameters: int
    model: dict[str, Any]
    vocab_size: int
    llama3_tokenizer: bool

    def write(self, folder: Path) -> None:
        write_json(folder / ORIGIN, asdict(self))

    def describe(self) -> str:
        """Two lines for people."""
        model = ModelOptions(**self.model)
        vocabulary = (
            "in Llama 3's form: it is used as a herd's own, in Llama 3's chat format"
            if self.llama3_tokenizer
            else "of another form than Llama 3's: it is kept as it is, with the chat format that came with it, if any"
        )
        return (
            f"{self.name or self.source}: {self.parameters:,} parameters, {model.layers} layers, width {model.dim:,}, "
            f"{model.heads} heads ({model.kv_heads} of keys and values), context {model.context_length:,} tokens; "
            f"stored as {self.stored_as or 'it does not say'}; licence: {self.licence or 'it does not say'}\n"
            f"  vocabulary: {self.vocab_size:,} ids, {vocabulary}"
        )


def is_imported(folder: Path) -> bool:
    return (folder / ORIGIN).is_file()
