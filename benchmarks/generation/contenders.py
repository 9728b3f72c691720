"""Who generates in `speed.py`, each in a process of its own that does a round whenever it is told to.

    python contenders.py CONTENDER TASK FOLDER THREADS

prints "ready", then answers every line on standard input with one of JSON: CPU milliseconds of each step (decode),
or CPU seconds of the whole (requests, samples). All use the same weights and greedy choice, but for `samples`, which
draws. Herdsman and transformers are imported only where a contender needs them: llama.cpp may live elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

PROMPT_TOKENS, STEPS = 128, 24
REQUESTS, NEW_TOKENS = 16, 64
LONG_PROMPT_TOKENS, SAMPLES, SAMPLE_TOKENS = 1000, 16, 32
HIGHEST_ID = 32_000
Round = Callable[[], list[float]]


def prompts(count: int, length: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(3, HIGHEST_ID) for _ in range(length)] for _ in range(count)]


def herdsman(weights: str, task: str, folder: Path) -> Round:
    from herdsman.generation.local import LocalEngine
    from herdsman.generation.sampling import Sampling
    from herdsman.model.store import load_model
    from herdsman.tokens.foreign import load_tokenizer

    engine = LocalEngine(load_model(folder / "model"), load_tokenizer(folder / "tokenizer"), weights=weights)  # type: ignore[arg-type]
    never: frozenset[int] = frozenset()
    rows = 0

    def steps(batch: int) -> list[float]:
        nonlocal rows
        rows += batch  # Other prompts every time: what is known of earlier ones must not help.
        sampling = Sampling(STEPS + 8, temperature=0, stop_ids=never)
        texts = [[rows + n, *prompt] for n, prompt in enumerate(prompts(batch, PROMPT_TOKENS - 1))]
        requests = [engine.request(text, sampling, 0, lambda piece: None) for text in texts]
        engine.add(requests)
        while not all(request.ids[PROMPT_TOKENS:] for request in requests):
            engine.step()
        taken = []
        for _ in range(STEPS):
            start = time.process_time()
            engine.step()
            taken.append(1e3 * (time.process_time() - start))
        engine.cancel(requests)
        return taken

    def whole(count: int, length: int, new: int, temperature: float, same: bool) -> list[float]:
        nonlocal rows
        rows += 1
        texts = [[rows, *prompt] for prompt in prompts(1 if same else count, length - 1)] * (count if same else 1)
        start = time.process_time()
        sampling = Sampling(new, temperature=temperature, top_p=1.0, stop_ids=never, seed=rows)
        done = engine.generate(texts, sampling)
        assert all(len(completion.ids) == new for completion in done)
        return [time.process_time() - start]

    if task.startswith("decode"):
        return lambda: steps(int(task.removeprefix("decode")))
    if task == "requests":
        return lambda: whole(REQUESTS, PROMPT_TOKENS, NEW_TOKENS, 0, same=False)
    return lambda: whole(SAMPLES, LONG_PROMPT_TOKENS, SAMPLE_TOKENS, 1, same=True)


def transformers(kind: str, task: str, folder: Path) -> Round:
    import torch
    from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM, StoppingCriteria

    from herdsman.model.huggingface import NAMES, to_config
    from herdsman.model.store import load_model

    torch.set_grad_enabled(False)
    ours = load_model(folder / "model")
    model = LlamaForCausalLM(LlamaConfig(**to_config(ours.options, ours.vocab_size)))
    model.load_state_dict({NAMES.theirs(name): value for name, value in ours.state_dict().items()}, strict=False)
    model.tie_weights()
    model = model.bfloat16().eval()
    del ours

    class Times(StoppingCriteria):
        def __init__(self) -> None:
            self.at: list[float] = []

        def __call__(self, ids: Any, scores: Any, **_: Any) -> Any:
            self.at.append(time.process_time())
            return torch.zeros(len(ids), dtype=torch.bool)

    def generate(texts: list[list[int]], new: int, **more: Any) -> tuple[list[float], float]:
        times, ids = Times(), torch.tensor(texts)
        start = time.process_time()
        settings: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "pad_token_id": 1, "do_sample": False}
        model.generate(ids, attention_mask=torch.ones_like(ids), stopping_criteria=[times], **settings | more)
        return times.at, time.process_time() - start

    def batched(texts: list[list[int]]) -> list[float]:
        config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=1)
        blocks = ContinuousBatchingConfig(block_size=32, num_blocks=8 * REQUESTS + 8, max_batch_tokens=512)
        start = time.process_time()
        done = model.generate_batch(
            texts, generation_config=config, continuous_batching_config=blocks, progress_bar=False
        )
        taken = time.process_time() - start
        assert sum(len(each.generated_tokens) for each in done.values()) == REQUESTS * NEW_TOKENS
        return [taken]

    if task.startswith("decode"):
        texts = prompts(int(task.removeprefix("decode")), PROMPT_TOKENS)

        def steps() -> list[float]:
            at, _ = generate(texts, STEPS + 1)
            return [1e3 * (after - before) for before, after in pairwise(at)]

        return steps
    if task == "requests":
        texts = prompts(REQUESTS, PROMPT_TOKENS)
        return (lambda: batched(texts)) if kind == "continuous" else (lambda: [generate(texts, NEW_TOKENS)[1]])
    texts = prompts(1, LONG_PROMPT_TOKENS)
    more = {"num_return_sequences": SAMPLES, "do_sample": True, "top_k": 0}
    return lambda: [generate(texts, SAMPLE_TOKENS, **more)[1]]


def llama_cpp(file: str, task: str, folder: Path, threads: int) -> Round:
    """Through its own C interface, a call of `llama_decode` a step. Weights are not rearranged for AMX: with that its
    product crashes on the machine this was written on, built by gcc 12 or by clang 16."""
    import llama_cpp as lib
    import numpy as np

    batch = int(task.removeprefix("decode"))
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    wanted = lib.llama_model_default_params()
    wanted.use_extra_bufts = False
    model = lib.llama_model_load_from_file(str(folder / file).encode(), wanted)
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = (PROMPT_TOKENS + STEPS + 16) * batch, batch
    settings.n_threads = settings.n_threads_batch = threads
    context = lib.llama_init_from_model(model, settings)
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    fed = lib.llama_batch_init(PROMPT_TOKENS, 0, batch)

    def decode(rows: list[tuple[int, int, int]]) -> None:
        fed.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            fed.token[i], fed.pos[i], fed.n_seq_id[i], fed.seq_id[i][0], fed.logits[i] = token, position, 1, sequence, 1
        assert lib.llama_decode(context, fed) == 0
        lib.llama_synchronize(context)

    def steps() -> list[float]:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        for sequence, text in enumerate(prompts(batch, PROMPT_TOKENS)):
            decode([(token, position, sequence) for position, token in enumerate(text)])
        tokens, taken = [3] * batch, []
        for step in range(STEPS):
            start = time.process_time()
            decode([(token, PROMPT_TOKENS + step, sequence) for sequence, token in enumerate(tokens)])
            rows = [np.ctypeslib.as_array(lib.llama_get_logits_ith(context, n), (vocabulary,)) for n in range(batch)]
            tokens = [int(row.argmax()) for row in rows]
            taken.append(1e3 * (time.process_time() - start))
        return taken

    steps.quiet = quiet  # type: ignore[attr-defined]  # The library calls it as long as it runs.
    return steps


def memory(size: str) -> Round:
    """Reading as many bytes as the packed weights have."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(__file__).with_name("bandwidth.c")
        subprocess.run(
            ["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", f"{folder}/read.so"], check=True
        )
        read = ctypes.CDLL(f"{folder}/read.so").read_through
    bytes = int(size)
    space = mmap.mmap(-1, bytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        space.madvise(mmap.MADV_HUGEPAGE)
    first = ctypes.c_char.from_buffer(space)
    for place in range(0, bytes, 4096):
        space[place] = 1

    def steps() -> list[float]:
        taken = []
        for _ in range(STEPS):
            start = time.process_time()
            read(ctypes.byref(first), ctypes.c_size_t(bytes // 8))
            taken.append(1e3 * (time.process_time() - start))
        return taken

    return steps


def main() -> None:
    name, task, folder, threads = sys.argv[1:]
    kind, _, detail = name.partition(":")
    if kind in ("herdsman", "transformers"):
        import torch

        torch.set_num_threads(int(threads))
    rounds = {
        "herdsman": lambda: herdsman(detail, task, Path(folder)),
        "torch": lambda: herdsman(detail, task, Path(folder)),
        "transformers": lambda: transformers(detail, task, Path(folder)),
        "llama.cpp": lambda: llama_cpp(detail, task, Path(folder), int(threads)),
        "memory": lambda: memory(detail),
    }[kind]()
    rounds()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(rounds()), flush=True)


if __name__ == "__main__":
    main()
