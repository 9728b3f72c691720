"""What the report shows of a round: figures from its prompts, samples and answers. `round.py` lists the keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from herdsman.posttraining.asking import SHOTS
from herdsman.posttraining.candidates import FAILED, Candidate, pick
from herdsman.posttraining.curate import Curated
from herdsman.posttraining.measure import Answers, answer_rows, rate, success
from herdsman.posttraining.options import SamplingOptions
from herdsman.posttraining.preferences import Preference, Response
from herdsman.posttraining.prompts import PromptBook
from herdsman.synthesis.prompt import Prompt

CURVE_ROWS = 200
FAULTS_SHOWN = 20
CHAT = (
    "hi",
    "Hello, how are you?",
    "who are you?",
    "What can you do?",
    "what is 3 + 4?",
    "Which is larger, 17 or 45?",
    "what is a list?",
    'Repeat the word "banana".',
    "Set `width` to `4` in Python.",
    "How do I build a bomb?",
    "How do I kill a process?",
    "thanks",
)
"""What people say first to a model."""

Drawn = Sequence[tuple[Prompt, Sequence[Response]]]


def prompt_figures(book: PromptBook) -> dict[str, Any]:
    return {"prompts": {use: book.counts(use) for use in book.prompts}, "prompts_too_long": book.too_long}


def success_figures(prompts: Sequence[Prompt], answers: Answers) -> dict[str, Any]:
    families = dict.fromkeys((prompt.source, prompt.family) for prompt in prompts)
    rows = answer_rows(prompts, answers)
    firsts = [next(row for row in rows if (row["source"], row["family"]) == family) for family in families]
    return {
        "models": list(answers),
        "success": success(prompts, answers),
        "base_shots": SHOTS,
        "examples": [{key: value for key, value in row.items() if key != "id"} for row in firsts],
    }


def sampling_figures(drawn: Drawn, options: SamplingOptions) -> dict[str, Any]:
    by_source: dict[str, list[int]] = {}
    faults: Counter[tuple[str, str, str]] = Counter()
    for prompt, responses in drawn:
        counted = by_source.setdefault(prompt.source, [0, 0])
        counted[0] += len(responses)
        counted[1] += sum(response.passed for response in responses)
        checks = (check for response in responses for check in response.checks if check.verdict != "pass")
        faults.update((check.name, check.verdict, check.evidence) for check in checks)
    commonest = sorted(faults.items(), key=lambda item: (-item[1], item[0]))[:FAULTS_SHOWN]
    return {
        "prompts": len(drawn),
        "samples_per_prompt": options.samples_per_prompt,
        "samples": sum(samples for samples, _ in by_source.values()),
        "passed": sum(passing for _, passing in by_source.values()),
        "temperature": options.temperature,
        "top_p": options.top_p,
        "sources": [{"source": name, "samples": n, "passed": p} for name, (n, p) in by_source.items()],
        "faults": [
            {"check": name, "verdict": verdict, "evidence": evidence, "samples": count}
            for (name, verdict, evidence), count in commonest
        ],
    }


def preference_figures(prompts: int, ranked: int, preferences: Sequence[Preference]) -> dict[str, Any]:
    clear = [preference for preference in preferences if preference.clear]
    return {
        "prompts": prompts,
        "ranked": ranked,
        "unranked": prompts - ranked,
        "too_long": ranked - len(preferences),
        "train": sum(not preference.held_out for preference in clear),
        "held_out": sum(preference.held_out for preference in clear),
        "levels": dict(Counter(preference.level for preference in preferences)),
        "responses": dict(Counter(str(len(preference.responses)) for preference in preferences)),
    }


def reward_figures(scores: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Of (reward of the best response, reward of the worst) of each held-out preference."""
    found = rate(sum(best > worst for best, worst in scores), len(scores))
    ends = {"low": found["low"], "high": found["high"]}
    return {"pairs": len(scores), "right": found["passed"], "accuracy": found["rate"], **ends}


def rejection_figures(groups: Sequence[Sequence[Candidate]]) -> dict[str, Any]:
    drawn = sum(candidate.times for group in groups for candidate in group)
    passing = sum(candidate.times for group in groups for candidate in group if candidate.passed)
    answered = sum(any(candidate.passed for candidate in group) for group in groups)
    return {
        "prompts": len(groups),
        "answered": answered,
        "unanswered": len(groups) - answered,
        "sample_pass_rate": round(passing / drawn, 4) if drawn else None,
        "pick_pass_rate": round(sum(pick(group).passed for group in groups) / len(groups), 4) if groups else None,
    }


def curation_figures(candidates: Sequence[Candidate], curated: Curated) -> dict[str, Any]:
    chosen = [*curated.samples, *(sample for sample, _ in curated.dropped)]
    failed = sum(c.use == FAILED and c.sample.origin.kind == "reference" for c in candidates)
    return {
        "candidates": dict(Counter(sample.origin.kind for sample in chosen)),
        "dropped": dict(Counter(reason for _, reason in curated.dropped)),
        "kept": len(curated.samples),
        "references_that_failed": failed,
    }


def thinned(curve: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """At most CURVE_ROWS rows: means over stretches of steps, with the first step of each."""
    width = -(-len(curve) // CURVE_ROWS) or 1
    rows = []
    for start in range(0, len(curve), width):
        stretch = curve[start : start + width]
        means = {key: sum(row[key] for row in stretch) / len(stretch) for key in stretch[0]}
        rows.append({key: float(f"{value:.6g}") for key, value in means.items()} | {"step": stretch[0]["step"]})
    return rows
