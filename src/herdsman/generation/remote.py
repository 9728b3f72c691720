"""An engine behind HTTP: any server with OpenAI's completions, such as Herdsman's own, vLLM's or a hosted one."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from herdsman.errors import InputError, NetworkError
from herdsman.generation.engine import Completion, Finish, Piece, Score, TokenLogprob
from herdsman.generation.sampling import Sampling
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

BUSY = (408, 429, 500, 502, 503, 504)
"""Answers after which it is worth asking again."""

TOKEN_ID = "token_id:"

# Fields beyond OpenAI's that servers for open models have in common, as vLLM names them, with their neutral values.
ADDED_FIELDS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class RemoteEngine:
    """Generates with and scores by a model on a server; see `engine.Engine`.

    Args:
        address: up to and including the version, such as "http://127.0.0.1:8000/v1".
        model: its name there.
        tokenizer: the model's own: prompts are sent as token ids.
        context_length: the model's, in tokens.
        key: secret that the server asks for, if any.
        added_fields: whether the server knows what vLLM adds to OpenAI's fields (token ids in answers among them). If
            not, ids are the tokenizer's reading of the text, and settings that need such a field are refused.
        timeout_seconds: how long the server may be silent.
        retries: how often a request that found nobody or a busy server is sent again, each time after a longer pause.
        parallel: how many requests are on their way at a time.
    """

    def __init__(
        self,
        address: str,
        model: str,
        tokenizer: Tokenizer | ForeignTokenizer,
        context_length: int,
        key: str | None = None,
        added_fields: bool = True,
        timeout_seconds: float = 300.0,
        retries: int = 4,
        parallel: int = 16,
    ):
        self.address, self.model, self.tokenizer = address.rstrip("/"), model, tokenizer
        self._context_length, self._added, self._parallel = context_length, added_fields, parallel
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        retry = Retry(retries, status_forcelist=BUSY, allowed_methods=None, backoff_factor=0.5, raise_on_status=False)
        timeout = Timeout(connect=min(10.0, timeout_seconds), read=timeout_seconds)
        self._pool = urllib3.PoolManager(maxsize=parallel, block=True, retries=retry, timeout=timeout)

    @property
    def context_length(self) -> int:
        return self._context_length

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_progress: Callable[[int], object] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Completion]:
        numbers = range(len(prompts)) if rows is None else rows
        bodies = [self._body(prompt, sampling, row) for prompt, row in zip(prompts, numbers, strict=True)]
        return list(
            self._each(lambda body: self._completion(self._ask("completions", body), sampling), bodies, on_progress)
        )

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        body = self._body(prompt, sampling, row) | {"stream": True}
        response = self._send("completions", body, stream=True)
        try:
            yield from self._pieces(_events(response), sampling)
        except HTTPError as error:
            raise NetworkError(f"the connection broke ({error})", where=self.address, do="try again") from error
        finally:
            response.close()  # The server must notice that nobody listens any more.

    def score(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_tokens: int = 4096,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Score]:
        """See `engine.Engine`; `batch_tokens` is the server's business here."""

        def score(pair: tuple[Sequence[int], Sequence[int]]) -> Score:
            context, continuation = pair
            if not context or not continuation:
                raise InputError("a scored pair needs at least one token of context and one of continuation")
            if len(continuation) >= self.context_length:
                raise InputError(
                    f"a continuation of {len(continuation)} tokens leaves no room in the context of "
                    f"{self.context_length} for the one that a server wants to write"
                )
            found = self._read([*context, *continuation][-(self.context_length - 1) :], 1)[-len(continuation) :]
            greedy = all(each.logprob >= each.top[0][1] for each in found if each and each.top)
            return Score(sum(each.logprob for each in found if each), len(continuation), greedy)

        return list(self._each(score, pairs, on_progress))

    def prompt_logprobs(self, ids: Sequence[int], top: int = 0) -> list[TokenLogprob | None]:
        return self._read(ids, top)

    def chat(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling, row: int = 0) -> str:
        """The answer of a model that is known by its chat only, for judges and the like.

        Args:
            messages: as OpenAI has them, with role and content.

        Raises:
            NetworkError: the server cannot be reached or refuses.
        """
        body = {"messages": list(messages), **self._settings(sampling, row)}
        answer = self._ask("chat/completions", body)["message"]["content"]
        return str(answer or "")

    def _settings(self, sampling: Sampling, row: int) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "model": self.model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            # One number for both, since a server knows seeds only.
            "seed": (sampling.seed * 2**32 + row) % 2**63,
        }
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        if sampling.logit_bias:
            settings["logit_bias"] = {str(id): bias for id, bias in sampling.logit_bias.items()}
        added = {name: getattr(sampling, name) for name, neutral in ADDED_FIELDS.items()
                 if getattr(sampling, name) != neutral}  # fmt: skip
        if sampling.stop_ids is not None:
            added["stop_token_ids"] = sorted(sampling.stop_ids)
        form = sampling.constraint
        if form and form.kind == "json_object":
            settings["response_format"] = {"type": "json_object"}
        elif form and form.kind == "json_schema":
            schema = {"name": "answer", "schema": json.loads(form.text)}
            settings["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form:
            added["structured_outputs"] = {"regex" if form.kind == "regex" else "grammar": form.text}
        if added and not self._added:
            raise InputError(f"OpenAI's protocol has no {', '.join(added)}", where=self.address, do="leave that out")
        return settings | added

    def _body(self, prompt: Sequence[int], sampling: Sampling, row: int) -> dict[str, Any]:
        if not prompt:
            raise InputError("a prompt needs at least one token")
        room = self.context_length - len(prompt)
        if room < 1:
            raise InputError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {self.context_length}")
        body = {"prompt": list(prompt), **self._settings(sampling, row)}
        body["max_tokens"] = min(room, sampling.max_new_tokens)
        if sampling.logprobs is not None:
            body["logprobs"] = sampling.logprobs
        return body | self._asks_for_ids()

    def _asks_for_ids(self) -> dict[str, Any]:
        return {"return_token_ids": True, "return_tokens_as_token_ids": True} if self._added else {}

    def _read(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        if not 1 <= len(ids) < self.context_length:
            raise InputError(f"{len(ids)} tokens cannot be read with a context of {self.context_length}")
        # One new token is asked for, as not every server can do without, and ignored.
        body = {"model": self.model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "echo": True}
        choice = self._ask("completions", body | {"logprobs": top} | self._asks_for_ids())
        found = choice.get("logprobs")
        if not found or len(found["token_logprobs"]) < len(ids):
            raise NetworkError("the server does not give log-probabilities of prompts", where=self.address)
        tops = found.get("top_logprobs") or [None] * len(ids)
        return [
            None if place == 0 else TokenLogprob(id, found["token_logprobs"][place], self._top(tops[place]))
            for place, id in enumerate(ids)
        ]

    def _completion(self, choice: Mapping[str, Any], sampling: Sampling) -> Completion:
        piece = self._piece(choice, sampling)
        if piece.finish is None:
            raise NetworkError("the server sent a completion without its end", where=self.address, do="try again")
        logprobs = None if piece.logprobs is None else list(piece.logprobs)
        return Completion(list(piece.ids), piece.text, piece.finish == "stop", piece.finish, logprobs)

    def _pieces(self, choices: Iterator[Mapping[str, Any]], sampling: Sampling) -> Iterator[Piece]:
        for choice in choices:
            piece = self._piece(choice, sampling)
            if piece.text or piece.finish:
                yield piece
            if piece.finish:
                return
        raise NetworkError("the stream ended before the completion did", where=self.address, do="try again")

    def _piece(self, choice: Mapping[str, Any], sampling: Sampling) -> Piece:
        reason, logprobs = choice.get("finish_reason"), self._logprobs(choice)
        finish: Finish | None = None if reason is None else "length" if reason == "length" else "stop"
        ids = choice.get("token_ids")
        if ids is None:
            ids = self.tokenizer.encode(choice["text"])
        else:
            stops = self.tokenizer.stop_ids if sampling.stop_ids is None else sampling.stop_ids
            ids = ids[:-1] if finish and ids and ids[-1] in stops else ids  # Some servers name the token that ended it.
            logprobs = logprobs and logprobs[: len(ids)]
        return Piece(choice["text"], tuple(ids), None if logprobs is None else tuple(logprobs), finish)

    def _logprobs(self, choice: Mapping[str, Any]) -> list[TokenLogprob] | None:
        found = choice.get("logprobs")
        if not found:
            return None
        tops = found.get("top_logprobs") or [None] * len(found["tokens"])
        return [
            TokenLogprob(self._id(token), logprob, self._top(top))
            for token, logprob, top in zip(found["tokens"], found["token_logprobs"], tops, strict=True)
        ]

    def _top(self, top: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
        named = ((self._id(token), logprob) for token, logprob in (top or {}).items())
        return tuple(sorted(named, key=lambda each: -each[1]))

    def _id(self, token: str) -> int:
        """Of a token given by name or as text; the first of several if its text is not a token of its own."""
        if token.startswith(TOKEN_ID):
            return int(token.removeprefix(TOKEN_ID))
        return self.tokenizer.special.get(token) or next(iter(self.tokenizer.encode(token)), 0)

    def _each(self, work: Callable[[Any], Any], items: Sequence[Any], on_progress: Any) -> Iterator[Any]:
        with ThreadPoolExecutor(self._parallel) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                for future in futures:
                    yield future.result()
                    if on_progress:
                        on_progress(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The only choice of an answer."""
        try:
            choice: Mapping[str, Any] = self._send(path, body, stream=False).json()["choices"][0]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise NetworkError("the answer is none of OpenAI's protocol", where=self.address) from error
        return choice

    def _send(self, path: str, body: Mapping[str, Any], stream: bool) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(
                "POST", f"{self.address}/{path}", json=body, headers=self._headers, preload_content=not stream
            )
        except HTTPError as error:
            raise NetworkError(
                f"no answer ({error})", where=self.address, do="see that the server runs, or wait longer"
            ) from error
        if response.status == 200:
            return response
        reason = _reason(response)
        if response.status in (401, 403):
            raise NetworkError(f"the server refuses the key ({reason})", where=self.address, do="give it the right one")
        if response.status in BUSY:
            raise NetworkError(f"the server cannot answer ({reason})", where=self.address, do="try again later")
        raise InputError(f"the server refuses the request ({reason})", where=self.address, do="change it")


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[Mapping[str, Any]]:
    """Choices of a stream of server-sent events."""
    rest = b""
    while chunk := response.read1(2**16):  # what has come, without waiting for more
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                event = json.loads(data)
                if "error" in event:
                    raise NetworkError(f"the server gave up ({event['error'].get('message')})", do="try again")
                yield from event["choices"][:1]


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    """The server's own sentence, else the status."""
    text = response.data.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError):
        pass
    return f"{response.status}: {' '.join(text.split())[:200]}" if text.strip() else str(response.status)
