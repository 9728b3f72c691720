"""What previous_response_id can name: the dialogs of earlier responses, as many as fit into a bound of memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from herdsman.serving.api_error import ApiError
from herdsman.tokens.messages import Message

MESSAGE_BYTES = 512
"""About what a message takes beside its text."""


@dataclass(frozen=True)
class Remembered:
    """The end of a response.

    Attributes:
        dialog: all messages up to there, without instructions, which OpenAI's API does not carry over either.
        open_calls: ids of calls that the caller may answer.
        container: of its code interpreter, if it had one.
        caller: who may go on with it: nobody else, even one who learns its id.
    """

    dialog: list[Message]
    open_calls: frozenset[str]
    container: str | None
    caller: str

    @property
    def size_bytes(self) -> int:
        # Four bytes a character at most; the arguments of calls are small beside that.
        return sum(4 * len(message.content) + MESSAGE_BYTES for message in self.dialog)


class ResponseStore:
    """Responses by id; the ones unused for the longest time are forgotten first."""

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, Remembered] = OrderedDict()
        self._bytes = 0

    def keep(self, id: str, response: Remembered) -> None:
        self._kept[id] = response
        self._bytes += response.size_bytes
        while self._bytes > self.most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].size_bytes

    def recall(self, id: str, caller: str) -> Remembered:
        """
        Raises:
            ApiError: it was never there, has been forgotten, or is somebody else's.
        """
        kept = self._kept.get(id)
        if kept is None or kept.caller != caller:
            raise ApiError(
                404,
                "previous_response_id: there is no such response any more; send the dialog as input",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        self._kept.move_to_end(id)
        return kept

    def forget(self, id: str, caller: str) -> None:
        """
        Raises:
            ApiError: as `recall`.
        """
        self._bytes -= self.recall(id, caller).size_bytes
        del self._kept[id]
