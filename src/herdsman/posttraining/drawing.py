"""Drawing K responses to each prompt from a policy, and checking every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from herdsman.files import read_jsonl, write_jsonl
from herdsman.generation.engine import Engine
from herdsman.generation.sampling import Sampling
from herdsman.posttraining.preferences import Response
from herdsman.progress import Progress
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.verify import verify
from herdsman.tokens.chat import encode

CHUNK_PROMPTS = 256


def draw(
    engine: Engine,
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
    with progress.task("sample responses", total=len(prompts) * samples, unit="samples") as task:
        for start in range(0, len(prompts), CHUNK_PROMPTS):
            chunk = prompts[start : start + CHUNK_PROMPTS]
            path = folder / f"{start // CHUNK_PROMPTS:06}.jsonl"
            if path.exists():
                task.advance(len(chunk) * samples)
            else:
                write_jsonl(path, _draw_chunk(engine, chunk, start, library, samples, sampling, task.advance))
            for prompt, row in zip(chunk, read_jsonl(path), strict=True):
                yield prompt, [Response.from_json(response) for response in row]


def _draw_chunk(engine, chunk, start, library, samples, sampling, on_progress):  # type: ignore[no-untyped-def]
    prompts = [encode(engine.tokenizer, prompt.messages, reply=True)[0] for prompt in chunk for _ in range(samples)]
    rows = range(start * samples, (start + len(chunk)) * samples)
    completions = engine.generate(prompts, sampling, on_progress, rows)
    for number, prompt in enumerate(chunk):
        mine = range(number * samples, (number + 1) * samples)
        verdicts = {}  # Equal answers have equal checks.
        for index in mine:
            key = completions[index].text, completions[index].stopped
            if key not in verdicts:
                verdicts[key] = verify(prompt, *key, library)
        yield [
            asdict(Response(completions[i].text, completions[i].stopped, verdicts[completions[i].text, completions[i].stopped], rows[i]))
            for i in mine
        ]  # fmt: skip
