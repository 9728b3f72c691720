"""Best-fit packing: rows of whole documents, in which little is left over (Ding et al., 2024, "Fewer truncations
improve language modeling").

A stream is cut between documents into windows. The documents of a window that are longer than a row are cut into pieces
of a row and a rest; then, from the longest piece to the shortest, each is laid into the row that has the least room but
enough (best-fit decreasing). The rows of a window come in a shuffled order. Only the windows being read are in memory;
that a row can be found at all needs the number of rows of each window, an index that is counted once and kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from herdsman.tokens.passes import Covered, Piece
from herdsman.tokens.shards import Intervals, Stream
from herdsman.tokens.shuffle import order_of_epoch, shuffled

WINDOW_TOKENS = 1 << 25


@dataclass(frozen=True)
class Packing:
    """Rows of pieces: those of row r are stretches[firsts[r] : firsts[r + 1]]."""

    stretches: Intervals
    firsts: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.firsts) - 1

    def before(self, row: int) -> Intervals:
        return self.stretches[: self.firsts[row]]

    def after(self, row: int) -> Intervals:
        """The pieces from this row on."""
        return self.stretches[self.firsts[row] :]


def rows_of_pieces(sizes: Sequence[int], length: int) -> list[int]:
    """The row of each piece by best-fit decreasing; pieces of one size in the order given.

    Which amounts of room there are is kept as the bits of one whole number, so the least that is enough is found at
    the speed of a shift.
    """
    rows_with: dict[int, list[int]] = {}
    room_bits, rows = 0, 0
    row_of = [0] * len(sizes)
    for piece in sorted(range(len(sizes)), key=lambda piece: -sizes[piece]):
        size = sizes[piece]
        enough = room_bits >> size
        if enough:
            room = size + (enough & -enough).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                room_bits ^= 1 << room
        else:
            room, row, rows = length, rows, rows + 1
        row_of[piece] = row
        if left := room - size:
            if not rows_with.setdefault(left, []):
                room_bits |= 1 << left
            rows_with[left].append(row)
    return row_of


def cut(documents: Intervals, length: int) -> Intervals:
    """The documents as pieces of at most `length` tokens, in order."""
    starts, sizes = documents[:, 0], documents[:, 1] - documents[:, 0]
    pieces = -(-sizes // length)
    firsts = np.cumsum(pieces) - pieces
    within = np.arange(pieces.sum()) - np.repeat(firsts, pieces)
    begins = np.repeat(starts, pieces) + within * length
    return np.stack([begins, np.minimum(begins + length, np.repeat(documents[:, 1], pieces))], axis=1)


def pack_rows(documents: Intervals, length: int, *key: int | str) -> Packing:
    """Rows for these documents, or parts of documents, in the order that belongs to the key."""
    pieces = cut(documents, length)
    rows = np.array(rows_of_pieces((pieces[:, 1] - pieces[:, 0]).tolist(), length), np.int64)
    count = int(rows.max()) + 1 if len(rows) else 0
    places = np.empty(count, np.int64)
    places[shuffled(count, *key)] = np.arange(count)
    rows = places[rows]
    order = np.lexsort((pieces[:, 0], rows))
    return Packing(pieces[order], np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]))


@dataclass(frozen=True)
class Leg:
    """A part of the run in which the rows of a stream have one length.

    Attributes:
        at: tokens that the stream gave before it, padding included.
        epoch, turn: pass and turn of the window with which it begins.
        first: what is left of that window.
    """

    length: int
    at: int
    epoch: int
    turn: int
    first: Packing


@dataclass(frozen=True)
class Spot:
    """A row of a leg: in which pass, at which window's turn, in which packing."""

    epoch: int
    turn: int
    packing: Packing
    row: int


class BestFit:
    """The endless sequence of rows that a stream gives to a run; in later passes the windows come in another order.

    Where the length of the rows changes, what is left of the window being read is packed anew, so that each token still
    comes once a pass.

    Args:
        lengths: (tokens that the stream gave before, row length from there on), in order.
        index: for each of the lengths, how many rows each window has.
    """

    def __init__(
        self, stream: Stream, seed: int, lengths: Sequence[tuple[int, int]], index: Mapping[int, NDArray[np.int64]]
    ):
        self.stream, self.seed, self.lengths, self.index = stream, seed, lengths, index
        self.bounds = window_bounds(stream)
        self._window = lru_cache(maxsize=4)(self._pack_window)
        self._ends = lru_cache(maxsize=4)(self._rows_so_far)
        self._leg = lru_cache(maxsize=None)(self._begin_leg)

    def pieces(self, at: int, count: int) -> list[Piece]:
        """Where `count` tokens lie in the stream, after the `at` ones given before, and where there is padding."""
        leg = self._leg(self._leg_at(at))
        found: list[Piece] = []
        while count:
            row, inside = divmod(at - leg.at, leg.length)
            spot = self._spot(leg, row)
            column = 0
            for start, end in spot.packing.stretches[spot.packing.firsts[spot.row] : spot.packing.firsts[spot.row + 1]]:
                skip = max(0, inside - column)
                take = min(count, int(end - start) - skip)
                if take > 0:
                    found.append(Piece(int(start) + skip, take))
                    at, count, inside = at + take, count - take, inside + take
                column += int(end - start)
            if pad := min(count, leg.length - inside):
                found.append(Piece(None, pad))
                at, count = at + pad, count - pad
        return found

    def taken(self, at: int) -> Covered:
        """What the first `at` tokens given are, padding left out; rows that are cut by `at` count up to there."""
        rounds, parts = 0, list[Intervals]()
        last = self._leg_at(at)
        for number in range(last + 1):
            leg, end = self._leg(number), at if number == last else self.lengths[number + 1][0]
            row, inside = divmod(end - leg.at, leg.length)
            spot = self._spot(leg, row)
            if (spot.epoch, spot.turn) == (leg.epoch, leg.turn):
                parts.append(leg.first.before(spot.row))
            else:
                parts += [leg.first.stretches, spot.packing.before(spot.row)]
                turns = [(leg.epoch, leg.turn + 1, spot.turn)]
                if spot.epoch > leg.epoch:
                    rounds += spot.epoch - leg.epoch - 1
                    turns = [(leg.epoch, leg.turn + 1, self.windows), (spot.epoch, 0, spot.turn)]
                for epoch, begin, until in turns:
                    windows = self._order(epoch)[begin:until]
                    parts.append(np.stack([self.bounds[windows], self.bounds[windows + 1]], axis=1))
            cut_row = self.pieces(end - inside, inside)
            stretches = [(start, start + tokens) for start, tokens in cut_row if start is not None]
            parts.append(np.array(stretches, np.int64).reshape(-1, 2))
        return Covered(rounds, np.concatenate(parts))

    @property
    def windows(self) -> int:
        return len(self.bounds) - 1

    def _leg_at(self, at: int) -> int:
        return max(0, bisect_right(self.lengths, at, key=lambda entry: entry[0]) - 1)

    def _begin_leg(self, number: int) -> Leg:
        at, length = self.lengths[number]
        if not number:
            return Leg(length, at, 0, 0, self._window(0, 0, length))
        before = self._leg(number - 1)
        spot = self._spot(before, (at - before.at) // before.length)
        rest = self._whole(spot.packing.after(spot.row))
        packing = pack_rows(rest, length, self.seed, self.stream.name, spot.epoch, spot.turn, at)
        return Leg(length, at, spot.epoch, spot.turn, packing)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Windows in the order of a pass."""
        return order_of_epoch(self.windows, self.seed, self.stream.name, epoch)

    def _rows_so_far(self, epoch: int, length: int) -> NDArray[np.int64]:
        """Rows of a pass up to the end of each window's turn. [windows]"""
        return np.cumsum(self.index[length][self._order(epoch)])

    def _spot(self, leg: Leg, row: int) -> Spot:
        if row < leg.first.rows:
            return Spot(leg.epoch, leg.turn, leg.first, row)
        of_epoch = self._ends(leg.epoch, leg.length)
        passes, row = divmod(row - leg.first.rows + int(of_epoch[leg.turn]), int(of_epoch[-1]))
        epoch = leg.epoch + passes
        ends = self._ends(epoch, leg.length)
        turn = int(np.searchsorted(ends, row, side="right"))
        packing = self._window(epoch, turn, leg.length)
        return Spot(epoch, turn, packing, row - int(ends[turn]) + packing.rows)

    def _pack_window(self, epoch: int, turn: int, length: int) -> Packing:
        documents = window_documents(self.stream, self.bounds, int(self._order(epoch)[turn]))
        return pack_rows(documents, length, self.seed, self.stream.name, epoch, turn)

    def _whole(self, pieces: Intervals) -> Intervals:
        """Pieces of one document that follow each other, as one."""
        pieces = pieces[np.argsort(pieces[:, 0])]
        owners = np.array([self.stream.document_at(int(start)) for start in pieces[:, 0]])
        joined = (pieces[1:, 0] == pieces[:-1, 1]) & (owners[1:] == owners[:-1])
        firsts = np.flatnonzero(np.concatenate([[True], ~joined]))
        lasts = np.flatnonzero(np.concatenate([~joined, [True]]))
        return np.stack([pieces[firsts, 0], pieces[lasts, 1]], axis=1)


def window_bounds(stream: Stream) -> NDArray[np.int64]:
    """Where the windows of a stream begin, always between documents, and where the last one ends. [windows + 1]"""
    windows = max(1, stream.tokens // WINDOW_TOKENS)
    edges = [stream.tokens * number // windows for number in range(1, windows)]
    inner = [int(stream.offsets[stream.document_at(edge)]) for edge in edges]
    return np.array([0, *inner, stream.tokens], np.int64)


def window_documents(stream: Stream, bounds: NDArray[np.int64], window: int) -> Intervals:
    first = stream.document_at(int(bounds[window]))
    last = stream.document_at(int(bounds[window + 1]) - 1) + 1
    offsets = np.asarray(stream.offsets[first : last + 1])
    return np.stack([offsets[:-1], offsets[1:]], axis=1)


def count_rows(stream: Stream, length: int, windows: range) -> NDArray[np.int64]:
    """How many rows each of these windows has. [windows]"""
    bounds = window_bounds(stream)
    counts = []
    for window in windows:
        pieces = cut(window_documents(stream, bounds, window), length)
        counts.append(max(rows_of_pieces((pieces[:, 1] - pieces[:, 0]).tolist(), length), default=-1) + 1)
    return np.array(counts, np.int64)
