"""Parts of OpenAI's JSON that several answers share."""

from __future__ import annotations

import secrets
import time
from typing import Any

from herdsman.generation.engine import TokenLogprob
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0

AnyTokenizer = Tokenizer | ForeignTokenizer


def new_id(prefix: str) -> str:
    """A name that cannot be guessed."""
    return f"{prefix}{secrets.token_hex(16)}"


def now() -> int:
    return int(time.time())


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def token_text(tokenizer: AnyTokenizer, id: int) -> str:
    """A token by itself; one that is no whole text is written as OpenAI does, `bytes:\\xe2\\x90`."""
    data = tokenizer.decode_bytes([id])
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def token_entry(tokenizer: AnyTokenizer, token: TokenLogprob) -> dict[str, Any]:
    """A token of /v1/chat/completions and /v1/responses, with its likeliest alternatives."""
    return _entry(tokenizer, token.id, token.logprob) | {
        "top_logprobs": [_entry(tokenizer, id, logprob) for id, logprob in token.top]
    }


def finite(logprob: float) -> float:
    """JSON has no infinity: a token that was impossible has -9999, as in OpenAI's API."""
    return max(logprob, LEAST_LOGPROB)


def _entry(tokenizer: AnyTokenizer, id: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.decode_bytes([id])
    return {"token": token_text(tokenizer, id), "logprob": finite(logprob), "bytes": list(data)}
