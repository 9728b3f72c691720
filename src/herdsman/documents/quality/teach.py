"""Teaching the classifiers of documents, and scoring with them: quality, reference-likeness, category and topic.

Labels come from the judge of the recipe where it is asked, else: quality from both ends of the rubric within each
language, reference-likeness from a list of addresses, category from the rules, topics from their telling words.

    models.json                       where labels came from, how many, and how well each was learned
    quality.bin, quality-de.bin, …    fastText models: all languages together, and one of each language with many labels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.quality import rubric as quality
from herdsman.documents.quality.categories import ENGLISH
from herdsman.documents.quality.labels import CLASSES, Example, label, label_by_judge, rule_category, survey
from herdsman.documents.quality.student import (
    HIGHEST_GRADE,
    Student,
    measure_classes,
    measure_scores,
    prepared,
    spearman,
    train,
)
from herdsman.documents.quality.topics import weak_topic
from herdsman.files import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from herdsman.documents.options import DocumentsOptions
    from herdsman.workspace import Work

MODELS_FILE = "models.json"
SCORES = ("quality", "reference")
MIN_OF_CLASS = 10  # labels without which a class is not learned
LANGUAGE_LABELS = 1_000  # labels from which on a language has classifiers of its own
SURE = 0.9  # probability from which on the classifier overrules rules that saw nothing
LIKELY = 0.5  # probability from which on the classifier gives a topic that no telling words give


def teach(cleaned: list[Path], options: DocumentsOptions, work: Work) -> Path:
    """Labels documents, trains and measures the classifiers; the folder they lie in. Resumable: it is done or not, and
    a judge's answers are kept.

    Args:
        cleaned: Parquet files with the columns id, url, language, text, kinds, features, rubric and split.

    Raises:
        InputError: the list of addresses cannot be read, or no answer of the judge can.
        NetworkError: the judge does not answer.
    """
    folder, chosen = work.scratch / "models", options.quality
    if not (folder / MODELS_FILE).exists():
        corpus = survey(cleaned, chosen)
        asked = chosen.tasks if chosen.judge != "rubric" else ()
        sources = {"quality": "judge" if "quality" in asked else "rubric"}
        if "reference" in asked or corpus.listed.any():
            sources["reference"] = "judge" if "reference" in asked else "list of addresses"
        sources["category"] = "judge" if "category" in asked else "rules"
        sources["topic"] = "judge" if "category" in asked else "telling words"
        examples, answers = label_by_judge(cleaned, corpus, chosen, work.progress) if asked else ([], {})
        examples += label(cleaned, corpus, sources)
        with atomic_folder(folder) as beside, work.progress.task("teach", len(sources), "classifiers") as task:
            tasks = {}
            for name, source in sources.items():
                tasks[name] = {"labels": source, **_teach_one(name, examples, beside, work.seed)}
                task.advance()
            write_json(beside / MODELS_FILE, {"judge": chosen.judge, "answers": answers, "tasks": tasks})
    return folder


def _teach_one(task: str, examples: list[Example], folder: Path, seed: int) -> dict[str, Any]:
    """Trains and measures the classifiers of a task; what `models.json` says of it."""
    labelled = [example for example in examples if task in example.labels]
    learned = [example for example in labelled if not example.held]
    if task in CLASSES:
        sizes = Counter(example.labels[task] for example in learned)
        learned = [example for example in learned if sizes[example.labels[task]] >= MIN_OF_CLASS]
    languages = Counter(example.language for example in learned)
    own = [name for name, count in sorted(languages.items()) if count >= LANGUAGE_LABELS and len(languages) > 1]
    models: dict[str, str] = {}
    if len(learned) >= quality.MIN_LABELLED:
        for language in ("", *own):
            file = f"{task}-{language}.bin" if language else f"{task}.bin"
            lessons = [example for example in learned if language in ("", example.language)]
            if train([e.line for e in lessons], [e.labels[task] for e in lessons], folder / file, seed):
                models[language] = file
    counts: dict[str, Counter[str]] = {}
    for example in labelled:
        counts.setdefault(example.language, Counter())[_label_name(task, example.labels[task])] += 1
    found: dict[str, Any] = {
        "learned": len(learned),
        "counts": {language: dict(sorted(count.items())) for language, count in sorted(counts.items())},
        "languages": sorted(languages),
        "models": models if "" in models else {},
    }
    if found["models"]:
        students = _Students(folder, models)
        held = [example for example in labelled if example.held]
        found["evaluation"] = _measured(task, held, students)
        found["by_language"] = {
            language: _measured(task, [example for example in held if example.language == language], students)
            for language in sorted({example.language for example in held})
            if sum(example.language == language for example in held) >= MIN_OF_CLASS
        }
        ranked = [example for example in examples if example.rubric is not None]
        if task == "quality" and ranked:
            scores = students.scores([e.line for e in ranked], [e.language for e in ranked])
            found["evaluation"]["spearman"] = spearman(scores, np.array([e.rubric for e in ranked], np.float64))
    return found


def _label_name(task: str, label: int) -> str:
    return CLASSES[task][label] if task in CLASSES else str(label)


def _measured(task: str, held: list[Example], students: _Students) -> dict[str, Any]:
    lines, languages = [example.line for example in held], [example.language for example in held]
    truth = np.array([example.labels[task] for example in held], np.int64)
    if task in SCORES:
        return measure_scores(students.scores(lines, languages), truth / HIGHEST_GRADE)
    return measure_classes(*students.classes(lines, languages), truth, CLASSES[task])


class _Students:
    """The classifiers of one task: each language its own, where there is one, else that of all languages."""

    def __init__(self, folder: Path, files: dict[str, str]):
        self._folder, self._files = folder, files
        self._open: dict[str, Student] = {}

    def scores(self, lines: list[str], languages: list[str]) -> NDArray[np.float64]:
        found = np.zeros(len(lines))
        for student, places in self._by_student(languages):
            found[places] = student.scores([lines[place] for place in places])
        return found

    def classes(self, lines: list[str], languages: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        labels, sure = np.zeros(len(lines), np.int64), np.zeros(len(lines))
        for student, places in self._by_student(languages):
            labels[places], sure[places] = student.classes([lines[place] for place in places])
        return labels, sure

    def _by_student(self, languages: list[str]) -> Iterator[tuple[Student, list[int]]]:
        places: dict[str, list[int]] = {}
        for place, language in enumerate(languages):
            places.setdefault(language if language in self._files else "", []).append(place)
        for language, chosen in places.items():
            if language not in self._open:
                self._open[language] = Student(self._folder / self._files[language])
            yield self._open[language], chosen


class Scorer:
    """The taught classifiers, for worker processes."""

    def __init__(self, folder: Path):
        self._tasks: dict[str, dict[str, Any]] = read_json(folder / MODELS_FILE)["tasks"]
        self._students = {
            name: _Students(folder, task["models"]) for name, task in self._tasks.items() if task["models"]
        }

    def score(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Scores and classes of documents.

        Args:
            rows: with text, kinds, language, features and rubric.

        Returns:
            "quality" (0 to 1; the rubric's grade if nothing was learned), "reference" (0 to 1, None without labels),
            "category" and "topic" ("" if it was not learned, or not from documents of this language), each [rows].
        """
        lines, languages = [prepared(row["text"]) for row in rows], [row["language"] for row in rows]
        scores: dict[str, list[Any]] = {
            name: self._students[name].scores(lines, languages).tolist() for name in SCORES if name in self._students
        }
        return {
            "quality": scores.get("quality", [float(row["rubric"]) for row in rows]),
            "reference": scores.get("reference", [None] * len(rows)),
            "category": self._categories(rows, lines, languages),
            "topic": self._topics(lines, languages),
        }

    def _categories(self, rows: list[dict[str, Any]], lines: list[str], languages: list[str]) -> list[str]:
        """Rules see formulas and code as such; the classifier speaks where they saw none, or for a judge."""
        found = [rule_category(row) for row in rows]
        if "category" in self._students:
            judged = self._tasks["category"]["labels"] == "judge"
            places = [
                place
                for place, category in enumerate(found)
                if category == "general" or (judged and category != "multilingual")
            ]
            labels, sure = self._students["category"].classes(
                [lines[place] for place in places], [languages[place] for place in places]
            )
            for place, label, chance in zip(places, labels.tolist(), sure.tolist(), strict=True):
                if judged or chance >= SURE:
                    found[place] = CLASSES["category"][label]
        return found

    def _topics(self, lines: list[str], languages: list[str]) -> list[str]:
        """Telling words decide clear cases, and the classifier those where one topic is likelier than all others; for a
        judge, the classifier alone."""
        task = self._tasks["topic"]
        judged = task["labels"] == "judge"
        found = [
            "" if judged or language not in ENGLISH else weak_topic(line)
            for line, language in zip(lines, languages, strict=True)
        ]
        if "topic" in self._students:
            places = [
                place for place, language in enumerate(languages) if not found[place] and language in task["languages"]
            ]
            labels, sure = self._students["topic"].classes(
                [lines[place] for place in places], [languages[place] for place in places]
            )
            for place, label, chance in zip(places, labels.tolist(), sure.tolist(), strict=True):
                if judged or chance >= LIKELY:
                    found[place] = CLASSES["topic"][label]
        return found
