"""Text that is shown while it comes: whole characters, and nothing of a stop string."""

from __future__ import annotations

from random import Random

import pytest

from herdsman.generation.text import TextStream


def shown(data: bytes, stop: tuple[str, ...], sizes: list[int]) -> tuple[list[str], bool]:
    stream, pieces = TextStream(stop), []
    for size in sizes:
        pieces.append(stream.feed(data[:size]))
        data = data[size:]
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream.stopped


@pytest.mark.parametrize("seed", range(40))
def test_pieces_add_up_to_the_text_before_the_first_stop_string(seed: int) -> None:
    random = Random(seed)
    text = "".join(random.choice("ab\né日🐑") for _ in range(30))
    stop = tuple("".join(random.choice("ab\né") for _ in range(random.randint(1, 4))) for _ in range(2))
    data = text.encode() + random.choice([b"", b"\xe6", b"\xff\xf0\x9f"])
    pieces, stopped = shown(data, stop, [random.randint(1, 3) for _ in range(len(data))])
    whole = data.decode(errors="replace")
    ends = [whole.find(each) for each in stop if each in whole]
    assert stopped == bool(ends)
    assert "".join(pieces) == whole[: min(ends, default=len(whole))]


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(["<end>", "\n\n"])
    assert [stream.feed(each) for each in (b"a", b"<", b"en", b"x", b"\n", b"b", b"<end", b">c")] == [
        "a", "", "", "<enx", "", "\nb", "", "",
    ]  # fmt: skip
    assert stream.stopped
    assert stream.feed(b"more") == stream.finish() == ""


def test_the_first_of_several_in_one_token_counts() -> None:
    assert shown(b"one STOP two END", ("END", "STOP"), [20]) == (["one ", ""], True)
