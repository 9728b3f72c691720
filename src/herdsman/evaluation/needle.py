"""Needle in a haystack, in a form that a base model can be asked: facts hidden in long text, and one begun again.

    ... held-out text ...
    The secret number of Lisbon is 48213.
    ... held-out text ...
    The secret number of Lisbon is

A needle is found if the model would go on with its number, greedily. Depth is how much of the text comes before it. In
the multi-needle form (paper, table 21: four needles, of which two are asked for) the other needles mislead, for they
differ in the name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from herdsman.errors import InputError
from herdsman.generation.engine import Score
from herdsman.tokens.tokenizer import Tokenizer

NAMES = (
    "Accra Athens Bogota Bremen Cairo Calais Dakar Delhi Dublin Geneva Hanoi Havana Jakarta Kabul Kyoto Lagos Lima "
    "Lisbon Lyon Madrid Malmo Manila Milan Mumbai Nairobi Naples Oslo Paris Perth Prague Quito Riga Rome Seoul Sofia "
    "Tunis Turin Vienna Warsaw Zagreb"
)
DIGITS = 5

Pair = tuple[list[int], list[int]]
Scorer = Callable[[Sequence[Pair]], Sequence[Score]]
"""Scores each (context, continuation) pair of token ids, as `Engine.score` does."""


@dataclass(frozen=True)
class Needle:
    """A question to a model: the needle's depth, from 0 to 1, all that comes before its number, and the number."""

    depth: float
    context: list[int]
    answer: list[int]


def hide_needles(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    length: int,
    seed: int,
    depths: int = 10,
    facts: int = 2,
    needles: int = 1,
    asked: int = 1,
) -> list[Needle]:
    """Questions whose context and answer have together `length` tokens each; the same for the same arguments.

    Args:
        texts: held-out text; it is read round and round, from another place for every haystack.
        depths: depths, evenly from the beginning to the end.
        facts: haystacks for each depth, each with facts of its own.
        needles: facts in a haystack; all but the first stand at other depths, evenly apart.
        asked: how many of them are asked for.

    Raises:
        InputError: there is no text, or `length` has no room for the facts.
    """
    text = tokenizer.encode("\n\n".join(texts))
    if not text:
        raise InputError("there is no held-out text to hide needles in", do="raise documents.held_out_share")
    found: list[Needle] = []
    for haystack in range(depths * facts):
        random = Random(f"{seed} {haystack}")
        first = haystack % depths / max(1, depths - 1)
        places = [first, *((first + number / needles) % 1 for number in range(1, needles))]
        names = random.sample(NAMES.split(), needles)
        numbers = [str(number) for number in random.sample(range(10 ** (DIGITS - 1), 10**DIGITS), needles)]
        start = random.randrange(len(text))
        questions = [f"\nThe secret number of {name} is" for name in names]
        lines = [tokenizer.encode(f"{q} {n}.\n") for q, n in zip(questions, numbers, strict=True)]
        for place, question, number in list(zip(places, questions, numbers, strict=True))[:asked]:
            end, answer = tokenizer.encode(question), tokenizer.encode(f" {number}")
            room = length - 1 - sum(map(len, lines)) - len(end) - len(answer)
            if room < 0:
                raise InputError(
                    f"{length} tokens have no room for {needles} needles", do=f"make sequences {-room} tokens longer"
                )
            hay = [text[(start + position) % len(text)] for position in range(room)]
            found.append(Needle(place, [tokenizer.bos, *_hidden(hay, lines, places), *end], answer))
    return found


def _hidden(hay: list[int], lines: list[list[int]], places: list[float]) -> list[int]:
    """The text with a line at each of the places, shares of its length."""
    result, done = [], 0
    for place, line in sorted(zip(places, lines, strict=True)):
        cut = round(place * len(hay))
        result += hay[done:cut] + line
        done = cut
    return result + hay[done:]


def needles_found(score: Scorer, needles: Sequence[Needle]) -> float:
    """Share of the needles whose number is the likeliest continuation, token by token."""
    scores = score([(needle.context, needle.answer) for needle in needles])
    return sum(each.greedy for each in scores) / len(needles)
