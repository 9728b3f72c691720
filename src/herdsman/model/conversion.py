"""What it takes to read a Llama that others wrote, in whatever form: names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.model.options import ModelOptions
from herdsman.model.store import weight_shapes

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class NameMap:
    """Names of weights here and in another form. The number of a layer is written N in the table.

    Args:
        table: their name of each of ours, such as {"blocks.N.ffn_norm.weight": "blk.N.ffn_norm.weight"}.
    """

    def __init__(self, table: Mapping[str, str]):
        self._theirs, self._ours = dict(table), {theirs: ours for ours, theirs in table.items()}

    def theirs(self, name: str) -> str:
        """Raises KeyError for a name that no weight of ours has."""
        found = _look_up(name, self._theirs)
        if found is None:
            raise KeyError(name)
        return found

    def ours(self, name: str) -> str | None:
        """None for a name that no weight of a dense Llama has in that form."""
        return _look_up(name, self._ours)


def _look_up(name: str, table: Mapping[str, str]) -> str | None:
    number = _NUMBER.search(name)
    if number is None:
        return table.get(name)
    found = table.get(f"{name[: number.start()]}N{name[number.end() :]}")
    return found and found.replace(".N.", f".{number[0]}.")


def collect(
    tensors: Iterable[tuple[str, Tensor]], names: NameMap, options: ModelOptions, vocab_size: int, where: object
) -> dict[str, Tensor]:
    """The weights of a Llama of these dimensions by our names, in float32: all of them, each once, each in its shape.

    Args:
        tensors: names of the other form and their tensors, in any order and any floating-point type.
        where: the file or folder, for complaints.

    Raises:
        InputError: a tensor is missing, unknown, of the wrong shape or type, or holds infinities or NaN.
    """
    shapes = weight_shapes(options, vocab_size)
    if options.tied_embeddings:  # Some files repeat the embedding as the output matrix; that is all it may be.
        shapes["output.weight"] = shapes["embedding.weight"]
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        ours = names.ours(name)
        if ours is None or ours not in shapes:
            raise InputError(
                f"a Llama of {options.layers} layers has no tensor {name}",
                where=where,
                do="only dense models of Llama's architecture can be imported",
            )
        if ours in found:
            raise InputError(f"the tensor {name} is there twice", where=where, do="fetch the files again")
        if tensor.shape != shapes[ours]:
            raise InputError(
                f"the tensor {name} is {list(tensor.shape)} and the dimensions ask for {list(shapes[ours])}",
                where=where,
                do="fetch weights and configuration that belong together",
            )
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"the tensor {name} is of type {str(tensor.dtype).removeprefix('torch.')}",
                where=where,
                do="import the model in float32, bfloat16 or float16",
            )
        found[ours] = tensor.float()
        if not torch.isfinite(found[ours]).all():
            raise InputError(f"the tensor {name} holds infinities or NaN", where=where, do="fetch the files again")
    if options.tied_embeddings and "output.weight" in found:
        output = found.pop("output.weight")
        if "embedding.weight" in found and not torch.equal(output, found["embedding.weight"]):
            raise InputError(
                f"{names.theirs('output.weight')} differs from the embedding, though the two are said to be tied",
                where=where,
                do="set tie_word_embeddings to false if the model has an output matrix of its own",
            )
    missing = [
        name for name in shapes if name not in found and not (options.tied_embeddings and name == "output.weight")
    ]
    if missing:
        more = f" and {len(missing) - 1} more tensors are" if len(missing) > 1 else " is"
        raise InputError(f"{names.theirs(missing[0])}{more} missing", where=where, do="fetch all of its files")
    return found
