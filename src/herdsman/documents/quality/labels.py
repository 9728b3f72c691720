"""Labels for the classifiers of documents: from the judge of the recipe, or from rules that need no model.

A tenth of the labelled documents, by a hash of their ids, and all that no model may learn from are held out, to measure
the classifiers. A document costs 20 bytes of memory, a labelled one two kilobytes; labelled are some tens of thousands.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents.quality import judge as judges
from herdsman.documents.quality import rubric as quality
from herdsman.documents.quality.categories import ENGLISH, categorise
from herdsman.documents.quality.quality_options import QualityOptions
from herdsman.documents.quality.student import HIGHEST_GRADE, prepared
from herdsman.documents.quality.topics import TOPICS, weak_topic
from herdsman.errors import InputError
from herdsman.progress import Progress

CLASSES: dict[str, tuple[str, ...]] = {"category": judges.JUDGED_CATEGORIES, "topic": TOPICS}
EVALUATED_SHARE = 0.1  # of the labelled documents, by a hash of the id
POOL = 10_000  # English documents that rules and telling words label
REFERENCES = 5_000  # documents of listed addresses, and as many others
RANKED = 2_000  # documents of all grades on which the order of quality is compared with the rubric's
MOST_OF_TOPIC = 500  # labels by telling words
ROWS_AT_ONCE = 256
JUDGED_AT_ONCE = 2_048


@dataclass
class Example:
    """A labelled document.

    Attributes:
        line: its prepared text.
        held: whether it is held out.
        labels: by task, a grade or the place of a class.
        rubric: its grade by the rubric, 0 to 1, if its rank is compared.
    """

    line: str
    language: str
    held: bool
    labels: dict[str, int] = field(default_factory=dict)
    rubric: float | None = None


@dataclass
class Corpus:
    """What is known of each cleaned document, in stored order; each an array [documents].

    Attributes:
        keys: hashes of the ids, which order them at random.
        listed: whether its address is among the references.
    """

    keys: NDArray[np.uint64]
    languages: NDArray[np.str_]
    rubric: NDArray[np.float64]
    held: NDArray[np.bool_]
    listed: NDArray[np.bool_]

    def drawn(self, among: NDArray[np.bool_], count: int, seed: int = 0) -> set[int]:
        """Places of `count` documents drawn from some."""
        places = np.flatnonzero(among)
        odd = 0x9E3779B97F4A7C15
        mixed = (self.keys[places] ^ np.uint64((seed + 1) * odd % 2**64)) * np.uint64(odd)  # modulo 2^64
        return set(places[np.argsort(mixed, kind="stable")[:count]].tolist())


def survey(cleaned: list[Path], options: QualityOptions) -> Corpus:
    """Reads what is needed of all documents.

    Raises:
        InputError: the list of addresses cannot be read.
    """
    is_listed = _listed(options.reference_urls)
    columns = ["id", "url", "language", "rubric", "split"]
    parts: list[tuple[Any, ...]] = []
    for path in cleaned:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                ids, urls, languages, grades, splits = (batch[name].to_pylist() for name in columns)
                hashes = [blake2b(id.encode(), digest_size=8, person=b"teach").digest() for id in ids]
                keys = np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64)
                held = (np.array(splits) == "held_out") | (keys < EVALUATED_SHARE * 2.0**64)
                listed = np.fromiter(map(is_listed, urls), bool, len(urls))
                parts.append((keys, np.array(languages, "U8"), np.array(grades, np.float64), held, listed))
    return Corpus(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _listed(path: str | None) -> Callable[[str], bool]:
    """Whether an address is of a listed domain or its subdomains, or begins as listed, without scheme and `www.`."""
    if path is None:
        return lambda url: False
    try:
        lines = [line.strip() for line in Path(path).expanduser().read_text(encoding="utf-8").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read ({error})", where="documents.quality.reference_urls", do="correct it"
        ) from error
    entries = [
        (line.partition("://")[2] or line).removeprefix("www.").rstrip("/")
        for line in lines
        if line[:1] not in ("", "#")
    ]
    domains = {entry.lower() for entry in entries if "/" not in entry}
    beginnings = tuple(entry for entry in entries if "/" in entry)

    def is_listed(url: str) -> bool:
        try:
            parts = (urlsplit(url).hostname or "").split(".")
        except ValueError:  # no address at all
            return False
        if any(".".join(parts[at:]) in domains for at in range(len(parts))):
            return True
        return url.partition("://")[2].removeprefix("www.").startswith(beginnings)

    return is_listed


def label(cleaned: list[Path], corpus: Corpus, sources: dict[str, str]) -> list[Example]:
    """Examples labelled by rubric, list, rules and telling words.

    Args:
        sources: who gives the labels of each task; those of the judge are left to `label_by_judge`.
    """
    wanted: dict[int, dict[str, int]] = {}
    if sources["quality"] == "rubric":
        for place, best in quality.choose_ends(corpus.rubric, corpus.languages):
            wanted.setdefault(place, {})["quality"] = HIGHEST_GRADE * best
    if sources.get("reference") == "list of addresses":
        for among, grade in ((corpus.listed, HIGHEST_GRADE), (~corpus.listed, 0)):
            for place in corpus.drawn(among, min(REFERENCES, int(corpus.listed.sum()))):
                wanted.setdefault(place, {})["reference"] = grade
    by_rules = sources["category"] == "rules"
    pool = corpus.drawn(np.isin(corpus.languages, ENGLISH), POOL if by_rules else 0)
    ranked = corpus.drawn(corpus.held, RANKED if sources["quality"] == "rubric" else 0)
    examples = []
    of_topic: Counter[str] = Counter()
    for place, row in _rows(cleaned, wanted.keys() | pool | ranked, ["text", "kinds", "language", "features"]):
        example = Example(prepared(row["text"]), row["language"], bool(corpus.held[place]), wanted.get(place, {}))
        if place in ranked:
            example.rubric = float(corpus.rubric[place])
        if place in pool:
            example.labels["category"] = CLASSES["category"].index(rule_category(row))
            topic = weak_topic(example.line)
            of_topic[topic] += not example.held
            # How easily telling words are found in a topic says little of how common it is.
            if topic and (example.held or of_topic[topic] <= MOST_OF_TOPIC):
                example.labels["topic"] = TOPICS.index(topic)
        examples.append(example)
    return examples


def rule_category(row: dict[str, Any]) -> str:
    """The category of a document by the rules; `features` as they are or as JSON."""
    features = json.loads(row["features"]) if isinstance(row["features"], str) else row["features"]
    return categorise(row["language"], row["text"], row["kinds"], features)


def label_by_judge(
    cleaned: list[Path], corpus: Corpus, options: QualityOptions, progress: Progress
) -> tuple[list[Example], dict[str, Any]]:
    """Examples labelled by the judge, and how many answers of each task were read, unreadable and refused. Resumable.

    Raises:
        InputError: no answer can be read.
        NetworkError: the judge does not answer.
    """
    sample = corpus.drawn(np.ones(len(corpus.keys), bool), options.max_documents, options.sample_seed)
    judge = judges.open_judge(options)
    counts: dict[str, Any] = {task: {"read": 0, "unreadable": 0, "refused": 0} for task in options.tasks}
    examples: list[Example] = []
    rows = _rows(cleaned, sample, ["text", "language"])
    with progress.task("judge", len(sample) * len(options.tasks), "answers") as shown:
        while chunk := list(islice(rows, JUDGED_AT_ONCE)):
            for place, row in chunk:
                examples.append(Example(prepared(row["text"]), row["language"], bool(corpus.held[place])))
            texts = [row["text"] for _, row in chunk]
            for task in options.tasks:
                found = judges.answers(judge, options, task, texts, shown)
                for example, answer in zip(examples[-len(chunk) :], found, strict=True):
                    labels = {} if answer is None else _labels_in(task, answer, example.language)
                    counts[task]["refused" if answer is None else "unreadable" if labels is None else "read"] += 1
                    example.labels |= labels or {}
    if not any(count["read"] for count in counts.values()):
        raise InputError(
            "no answer of the judge can be read",
            where="documents.quality.model",
            do="choose a model that follows instructions, or raise max_answer_tokens",
        )
    return examples, counts


def _labels_in(task: str, answer: str, language: str) -> dict[str, int] | None:
    """The labels that an answer gives; None if it cannot be read."""
    if task == "category":
        if (found := judges.parse_category(answer)) is None:
            return None
        labels = {"category": CLASSES["category"].index(found[0])} if language in ENGLISH else {}
        return labels | ({"topic": TOPICS.index(found[1])} if found[1] else {})
    if task == "quality":
        grade = judges.parse_grade(answer)
    else:
        yes = judges.parse_yes(answer)
        grade = None if yes is None else HIGHEST_GRADE * yes
    return None if grade is None else {task: grade}


def _rows(cleaned: list[Path], places: set[int], columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The wanted rows of the files, in stored order."""
    start = 0
    for path in cleaned:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                here = [at for at in range(len(batch)) if start + at in places]
                for at, row in zip(here, batch.take(here).to_pylist() if here else (), strict=True):
                    yield start + at, row
                start += len(batch)
