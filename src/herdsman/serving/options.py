"""How the server behaves: where it listens, whom it lets in, and how much it takes on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from herdsman.options import Options


class ServerOptions(Options):
    """Settings of `herdsman serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; only this machine can reach 127.0.0.1.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose a free one.")
    tools: tuple[Literal["python", "search", "maths"], ...] = Field(
        ("python", "search", "maths"), description="Tools that models may use on this server, if a request says so."
    )
    weights: Literal["auto", "float32", "bfloat16", "int8", "float8"] = Field(
        "auto", description="How weights are held in memory."
    )
    cache_bytes: int | None = Field(
        None, ge=2**20, description="Memory of each model's cache of keys and values; the engine's default if left out."
    )
    allow_hosts: tuple[str, ...] = Field(
        (), description="Further names a request's Host header may carry, such as that of a proxy on this machine."
    )
    allow_origins: tuple[str, ...] = Field(
        (), description="Web sites (https://example.org) whose pages may use the API; none by default."
    )
    requests_per_minute: int = Field(
        0, ge=0, description="Most requests a minute from one key, or one address without keys; 0: no limit."
    )
    most_requests: int = Field(
        256, ge=1, description="Most requests under way at a time; further ones are refused with 429."
    )
    most_choices: int = Field(128, ge=1, description="Most completions of one request, over all its prompts.")
    most_prompts: int = Field(1024, ge=1, description="Most prompts of one request to /v1/completions.")
    body_bytes: int = Field(8 * 2**20, ge=1024, description="Longest body of a request.")
    body_seconds: float = Field(30, gt=0, description="Longest time a client may take to send a request.")
    stop_seconds: float = Field(
        20, ge=0, description="How long answers under way may go on after SIGTERM or Ctrl-C; then they are cut off."
    )
    memory_bytes: int = Field(
        64 * 2**20, ge=0, description="Memory for responses that previous_response_id can name; the oldest go first."
    )
    container_seconds: float = Field(
        1200, gt=0, description="How long an idle code interpreter keeps its variables and files."
    )
    most_containers: int = Field(16, ge=1, description="Most code interpreters alive; the longest idle goes first.")
