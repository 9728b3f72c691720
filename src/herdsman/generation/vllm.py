"""An engine over vLLM, for those who have it installed: a model exported by `herdsman export`, on its GPUs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from herdsman.errors import InputError, MachineError
from herdsman.generation.engine import Completion, Piece, Score, TokenLogprob
from herdsman.generation.sampling import Sampling
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

FORMS = {"json_schema": "json", "regex": "regex", "lark": "grammar"}


class VLLMEngine:
    """Generates with and scores by a Hugging Face folder; see `engine.Engine`.

    Args:
        folder: an exported model.
        tokenizer: its tokenizer.
        settings: more arguments of `vllm.LLM`, such as tensor_parallel_size.

    Raises:
        MachineError: vLLM is not installed.
    """

    def __init__(self, folder: Path | str, tokenizer: Tokenizer | ForeignTokenizer, **settings: Any):
        try:
            import vllm
        except ImportError as error:
            raise MachineError("vLLM is not installed", do="pip install vllm, or use Herdsman's own engine") from error
        self._vllm, self.tokenizer = vllm, tokenizer
        self._model = vllm.LLM(model=str(folder), max_logprobs=20, **settings)

    @property
    def context_length(self) -> int:
        length: int = self._model.llm_engine.model_config.max_model_len
        return length

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_progress: Callable[[int], object] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        for prompt in prompts:
            if not 1 <= len(prompt) < self.context_length:
                raise InputError(f"a prompt of {len(prompt)} tokens does not fit into {self.context_length}")
        numbers = range(len(prompts)) if rows is None else rows
        outputs = self._run(prompts, [self._settings(sampling, row) for row in numbers])
        if on_progress:
            on_progress(len(outputs))
        return [self._completion(output.outputs[0]) for output in outputs]

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        """One piece: vLLM streams from its server, which `remote.RemoteEngine` speaks to."""
        [whole] = self.generate([prompt], sampling, rows=[row])
        logprobs = None if whole.logprobs is None else tuple(whole.logprobs)
        yield Piece(whole.text, tuple(whole.ids), logprobs, whole.finish)

    def score(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_tokens: int = 4096,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Score]:
        """See `engine.Engine`; `batch_tokens` is vLLM's business here."""
        for context, continuation in pairs:
            if not context or not 1 <= len(continuation) < self.context_length:
                raise InputError("a scored pair needs a context and a continuation that fit into the model's context")
        # One place is left for the token that vLLM cannot help writing.
        read = [[*context, *continuation][-(self.context_length - 1) :] for context, continuation in pairs]
        scores = []
        for found, (_, continuation) in zip(self._read(read, 1), pairs, strict=True):
            own = [each for each in found[-len(continuation) :] if each is not None]
            greedy = all(each.top[0][0] == each.id for each in own)
            scores.append(Score(sum(each.logprob for each in own), len(continuation), greedy))
        if on_progress:
            on_progress(len(scores))
        return scores

    def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> list[TokenLogprob | None]:
        return self._read([ids], top)[0]

    def _read(self, prompts: Sequence[Sequence[int]], top: int) -> list[list[TokenLogprob | None]]:
        settings = self._vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=top)
        outputs = self._run(prompts, [settings] * len(prompts))
        return [
            [None if found is None else _logprob(id, found, top)
             for id, found in zip(prompt, output.prompt_logprobs, strict=True)]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]  # fmt: skip

    def _run(self, prompts: Sequence[Sequence[int]], settings: Sequence[Any]) -> list[Any]:
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        return list(self._model.generate(asked, list(settings), use_tqdm=False))

    def _settings(self, sampling: Sampling, row: int) -> Any:
        form, more = sampling.constraint, {}
        if form:
            from vllm.sampling_params import StructuredOutputsParams

            wish = {"json_object": True} if form.kind == "json_object" else {FORMS[form.kind]: form.text}
            more["structured_outputs"] = StructuredOutputsParams(**wish)
        return self._vllm.SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=dict(sampling.logit_bias) or None,
            stop=list(sampling.stop),
            stop_token_ids=sorted(self.tokenizer.stop_ids if sampling.stop_ids is None else sampling.stop_ids),
            ignore_eos=sampling.stop_ids is not None,
            seed=(sampling.seed * 2**32 + row) % 2**63,
            logprobs=sampling.logprobs,
            skip_special_tokens=False,
            **more,
        )

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        if isinstance(output.stop_reason, int) or (output.finish_reason == "stop" and output.stop_reason is None):
            ids = ids[:-1]  # vLLM keeps the stop token.
        logprobs = None
        if output.logprobs is not None:
            logprobs = [_logprob(id, found, len(found)) for id, found in zip(ids, output.logprobs, strict=False)]
        finish = "length" if output.finish_reason == "length" else "stop"
        text = output.text if isinstance(output.stop_reason, str) else self.tokenizer.decode(ids)
        return Completion(ids, text, finish == "stop", finish, logprobs)  # type: ignore[arg-type]


def _logprob(id: int, found: Mapping[int, Any], top: int) -> TokenLogprob:
    """vLLM names the token itself and the likeliest ones in one table, with their ranks from 1 on."""
    named = sorted((each.rank, other, each.logprob) for other, each in found.items() if each.rank <= top)
    return TokenLogprob(id, found[id].logprob, tuple((other, logprob) for _, other, logprob in named))
