"""What the herd's guard lets through: questions before the model reads them, answers sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from herdsman.tokens.chat import Message

Judge = Callable[[list[Message]], str | None]
"""Judges a dialog that ends with the message in question: None if it may pass, else the text to show in its place."""

SENTENCE_ENDS = (".", "!", "?", "\n")


class Watched:
    """An answer that is shown sentence by sentence, each when the answer up to its end has passed the guard.

    Args:
        dialog: what the answer answers.
        judge: the guard; None lets everything through at once.

    Attributes:
        blocked: a sentence did not pass; a notice took its place, and nothing may follow.
    """

    def __init__(self, dialog: Sequence[Message], judge: Judge | None):
        self.dialog, self.judge = list(dialog), judge
        self.blocked = False
        self._shown, self._held = "", ""

    def feed(self, text: str, ended: bool = False) -> str:
        """What may be shown now that `text` has been written too, or with `ended` at last."""
        if self.judge is None or self.blocked:
            return "" if self.blocked else text
        self._held += text
        if not self._held or not (ended or self._held.endswith(SENTENCE_ENDS)):
            return ""
        notice = self.judge([*self.dialog, Message("assistant", self._shown + self._held)])
        if notice is not None:
            self.blocked = True
            return notice if not self._shown or self._shown.endswith("\n") else f"\n{notice}"
        passed, self._held = self._held, ""
        self._shown += passed
        return passed
