"""How often a model's likeliest answer to a held-out prompt passes all checks, with 95% Wilson intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from herdsman.evaluation.statistics import wilson
from herdsman.posttraining.preferences import Response
from herdsman.synthesis.prompt import Prompt

Answers = Mapping[str, Sequence[Response]]
"""Answers of each model, by its name, to the same prompts in the same order."""


def rate(passed: int, count: int) -> dict[str, Any]:
    """A share with its interval; nothing but the counts where there is nothing to share."""
    if count == 0:
        return {"passed": 0, "rate": None, "low": None, "high": None}
    low, high = wilson(passed, count)
    return {"passed": passed, "rate": round(passed / count, 4), "low": round(low, 4), "high": round(high, 4)}


def success(prompts: Sequence[Prompt], answers: Answers) -> dict[str, Any]:
    """Rates over all prompts, by source, and by family, each in the order in which they first appear."""

    def entry(source: str | None = None, family: str | None = None) -> dict[str, Any]:
        places = [
            place
            for place, prompt in enumerate(prompts)
            if source in (None, prompt.source) and family in (None, prompt.family)
        ]
        models = {
            name: rate(sum(given[place].passed for place in places), len(places)) for name, given in answers.items()
        }
        return {"prompts": len(places), "models": models}

    sources = dict.fromkeys(prompt.source for prompt in prompts)
    families = dict.fromkeys((prompt.source, prompt.family) for prompt in prompts)
    return {
        "all": entry(),
        "sources": [{"source": source, **entry(source)} for source in sources],
        "families": [{"source": source, "family": family, **entry(source, family)} for source, family in families],
    }


def answer_rows(prompts: Sequence[Prompt], answers: Answers) -> list[dict[str, Any]]:
    """Every prompt with every model's answer and what was found about it."""
    return [
        {
            "id": prompt.id,
            "source": prompt.source,
            "family": prompt.family,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "reference": prompt.reference,
            "answers": {name: _answer(given[place]) for name, given in answers.items()},
        }
        for place, prompt in enumerate(prompts)
    ]


def _answer(response: Response) -> dict[str, Any]:
    return {
        "text": response.text,
        "ended": response.ended,
        "passed": response.passed,
        "checks": [check.as_json() for check in response.checks],
    }
