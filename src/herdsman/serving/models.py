"""The models a server offers, each opened when it is first asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from herdsman.errors import HerdsmanError, InputError
from herdsman.generation.engine import TokenLogprob
from herdsman.generation.local import LocalEngine
from herdsman.generation.service import Service
from herdsman.model.store import load_model
from herdsman.safety.guard import Guard
from herdsman.serving.api_error import ApiError
from herdsman.serving.options import ServerOptions
from herdsman.serving.places import Place
from herdsman.tokens.chat import ChatFormat, chat_format
from herdsman.tokens.foreign import ForeignTokenizer, load_tokenizer
from herdsman.tokens.messages import Kind, Message, ToolSpecs

logger = logging.getLogger(__name__)

PYTHON_TAG = "<|python_tag|>"
TOKEN_CHARACTERS = 256
"""More than any token stands for."""

READERS = 4
"""Prompts whose log-probabilities are computed at a time."""


class Opened:
    """A model in memory, with the thread that writes with it.

    Attributes:
        chat: how it reads dialogs; None if it does not chat.
        beginning: what a text by itself begins with, as in training.
    """

    def __init__(self, place: Place, engine: LocalEngine, guard: Guard | None = None):
        self.place, self.engine, self.guard = place, engine, guard
        self.service = Service(engine)
        tokenizer = engine.tokenizer
        self.beginning = tokenizer.beginning if isinstance(tokenizer, ForeignTokenizer) else [tokenizer.bos]
        self.chat: ChatFormat | None = None
        if place.chats:
            try:
                self.chat = chat_format(tokenizer)
            except InputError as error:
                logger.info("%s does not chat: %s", place.name, error)
        self._readers = ThreadPoolExecutor(READERS, "read-prompts")

    @classmethod
    def load(cls, place: Place, device: str, options: ServerOptions) -> Opened:
        """
        Raises:
            InputError: the model, its tokenizer or its guard is damaged.
        """
        tokenizer = load_tokenizer(place.tokenizer)
        engine = LocalEngine(load_model(place.model, device), tokenizer, options.cache_bytes, options.weights)
        return cls(place, engine, Guard.load(place.guard) if place.guard else None)

    def chat_format(self) -> ChatFormat:
        """
        Raises:
            ApiError: the model does not chat.
        """
        if self.chat is None:
            raise ApiError(
                400,
                f"model: {self.place.name} was not taught to answer; let it go on with a text: POST /v1/completions",
                param="model",
                code="model_does_not_chat",
            )
        return self.chat

    def encode(self, dialog: Sequence[Message], tools: ToolSpecs | None = None, continues: bool = False) -> list[int]:
        """The dialog as the model reads it, up to where it is to write.

        Args:
            continues: the last message is the assistant's, and the model goes on with it.

        Raises:
            ApiError: the model does not chat.
            InputError: its format cannot express the dialog.
        """
        self.check_characters(sum(len(message.content) for message in dialog), "messages")
        ids, kinds = self.chat_format().encode(dialog, reply=not continues, tools=tools or None)
        if continues:
            while kinds and kinds[-1] not in (Kind.BODY, Kind.HEADER):
                del ids[-1], kinds[-1]
        return ids

    def stop_ids(self, tools: ToolSpecs | None = None) -> frozenset[int]:
        """What ends an answer: any special token, but for that before a call where there are tools."""
        special = self.engine.tokenizer.special
        kept = {special.get(PYTHON_TAG)} if tools else set()
        return self.chat_format().stop_ids | (frozenset(special.values()) - kept)

    def check_ids(self, ids: Iterable[int], param: str) -> None:
        """
        Raises:
            ApiError: an id is not in the vocabulary.
        """
        size = self.engine.tokenizer.vocab_size
        if max(ids, default=0) >= size:
            raise ApiError(400, f"{param}: the vocabulary has only {size:,} ids", param=param, code="invalid_value")

    def check_characters(self, count: int, param: str) -> None:
        """Refuses what cannot fit, before it is encoded.

        Raises:
            ApiError: the text is far too long.
        """
        if count > self.engine.context_length * TOKEN_CHARACTERS:
            raise ApiError(
                400,
                f"{param}: {count:,} characters do not fit into a context of {self.engine.context_length:,} tokens",
                param=param,
                code="context_length_exceeded",
            )

    def check_length(self, prompt: Sequence[int], param: str, room: bool = True) -> None:
        """
        Args:
            room: something is to be written after it.

        Raises:
            ApiError: the prompt does not fit, or leaves no room.
        """
        length = self.engine.context_length
        if len(prompt) + room > length:
            raise ApiError(
                400,
                f"{param}: these are {len(prompt):,} tokens, and the model's context holds {length:,} with the answer",
                param=param,
                code="context_length_exceeded",
            )

    async def prompt_logprobs(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        """See `Engine.prompt_logprobs`. A few prompts at a time, so that those who write get their turns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.engine.prompt_logprobs, ids, top)

    def close(self) -> None:
        self.service.close()
        self._readers.shutdown(wait=False, cancel_futures=True)


class Models:
    """All models of a server. Each is opened once, when it is first asked for, without holding up the others."""

    def __init__(self, places: Mapping[str, Place], device: str, options: ServerOptions):
        self.places, self._device, self._options = dict(places), device, options
        self._opening: dict[str, asyncio.Task[Opened]] = {}
        self.opened: dict[str, Opened] = {}

    def place(self, name: str) -> Place:
        """
        Raises:
            ApiError: there is no such model.
        """
        if name not in self.places:
            raise ApiError(
                404,
                f"model: there is no model {name[:80]!r}; there is {', '.join(self.places)}",
                param="model",
                code="model_not_found",
            )
        return self.places[name]

    async def open(self, name: str) -> Opened:
        """
        Raises:
            ApiError: there is no such model, or it is damaged.
        """
        place = self.place(name)
        if name in self.opened:
            return self.opened[name]
        if name not in self._opening:
            self._opening[name] = asyncio.create_task(self._open(place))
        # A client that leaves meanwhile must not stop what others may wait for.
        return await asyncio.shield(self._opening[name])

    async def _open(self, place: Place) -> Opened:
        try:
            logger.info("opening %s", place.name)
            try:
                opened = await asyncio.to_thread(Opened.load, place, self._device, self._options)
            except HerdsmanError as error:  # The operator's to mend, who alone may read of the server's files.
                logger.error("%s cannot be opened: %s", place.name, error)
                raise ApiError(
                    503, f"model: {place.name} cannot be opened; the server's log says why", code="model_damaged"
                ) from error
            self.opened[place.name] = opened
            return opened
        finally:
            del self._opening[place.name]

    def close(self) -> None:
        for opened in self.opened.values():
            opened.close()
