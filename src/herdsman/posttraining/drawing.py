"""Drawing responses to prompts from a model, and checking every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from herdsman.files import read_jsonl, write_jsonl
from herdsman.generation.engine import Engine
from herdsman.generation.sampling import Sampling
from herdsman.posttraining.asking import Manner
from herdsman.posttraining.preferences import Response
from herdsman.progress import Progress, Task
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import Check
from herdsman.synthesis.verify import verify

CHUNK_PROMPTS = 256


def draw(
    label: str,
    engine: Engine,
    manner: Manner,
    prompts: Sequence[Prompt],
    library: Mapping[str, str],
    samples: int,
    sampling: Sampling,
    folder: Path,
    progress: Progress,
) -> Iterator[tuple[Prompt, list[Response]]]:
    """Each prompt with its responses, in order. Chunks of prompts whose file is in `folder` are read, not drawn again.

    Every response has its own stream of random draws: number (place of the prompt) * samples + (which sample).
    """
    with progress.task(label, total=len(prompts) * samples, unit="answers") as task:
        for start in range(0, len(prompts), CHUNK_PROMPTS):
            chunk = prompts[start : start + CHUNK_PROMPTS]
            path = folder / f"{start // CHUNK_PROMPTS:06}.jsonl"
            if path.exists():
                task.advance(len(chunk) * samples)
            else:
                write_jsonl(path, _draw_chunk(engine, manner, chunk, start, library, samples, sampling, task))
            for prompt, row in zip(chunk, read_jsonl(path), strict=True):
                yield prompt, [Response.from_json(response) for response in row]


def _draw_chunk(
    engine: Engine,
    manner: Manner,
    chunk: Sequence[Prompt],
    start: int,
    library: Mapping[str, str],
    samples: int,
    sampling: Sampling,
    task: Task,
) -> Iterator[list[dict[str, Any]]]:
    asked = [ids for prompt in chunk for ids in [manner.ids(prompt)] * samples]
    rows = range(start * samples, (start + len(chunk)) * samples)
    completions = engine.generate(asked, sampling, task.advance, rows)
    for number, prompt in enumerate(chunk):
        checked: dict[tuple[str, bool], tuple[Check, ...]] = {}  # Equal answers have equal checks.
        responses = []
        for index in range(number * samples, (number + 1) * samples):
            answer = manner.answer(completions[index])
            if answer not in checked:
                checked[answer] = verify(prompt, *answer, library)
            responses.append(asdict(Response(*answer, checked[answer], rows[index])))
        yield responses
