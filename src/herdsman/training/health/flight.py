"""Who holds up whom in a hang: what each rank has queued and waits for, and the ranks behind it all.

PyTorch's flight recorder keeps the last collectives of a process (the paper, 3.3.4, finds hangs with it). A rank writes
an extract of its record; any rank, or a person later, reads all extracts. torch's own reader crashes on gloo's records,
which lack the members of the groups, so they are added here.

The record must be on before the process group is made: `cluster/launch.py` sets TORCH_FR_BUFFER_SIZE.
"""

from __future__ import annotations

import linecache
import pickle
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import distributed

from herdsman.files import write_json

RECORDERS = ("_dump_fr_trace", "_dump_nccl_trace")  # gloo and others; NCCL


def write_extract(folder: Path, rank: int) -> None:
    """Writes `flight_RANK.json`, and NCCL's whole record as `nccl_trace_rank_RANK` for torch's `torchfrtrace`."""
    waiting: list[dict[str, Any]] = []
    queued: dict[str, int] = {}
    for name in RECORDERS:
        record = _recorder(name)
        raw = record() if record else b""
        if not raw:
            continue
        if name == "_dump_nccl_trace":
            (folder / f"nccl_trace_rank_{rank}").write_bytes(raw)
        for entry in pickle.loads(raw).get("entries", []):  # bytes of this very process
            if entry["is_p2p"]:
                continue
            group, sequence = entry["process_group"][0], entry["collective_seq_id"]
            queued[group] = max(queued.get(group, 0), sequence)
            if entry["state"] != "completed" and not entry["retired"]:
                operation = f"{entry['profiling_name']} {entry['input_sizes']}"
                waiting.append({"group": group, "sequence": sequence, "operation": operation})
    groups = {name: {"ranks": ranks, "queued": queued.get(name, 0)} for name, ranks in _groups().items()}
    write_json(
        folder / f"flight_{rank}.json",
        {
            "rank": rank,
            "host": socket.gethostname(),
            "groups": groups,
            "waits_for": waiting[0] if waiting else None,
            "communicates": bool(waiting) or _in_communication(),
        },
    )


@dataclass(frozen=True)
class Culprits:
    """What a hang's extracts say.

    Attributes:
        ranks: the ranks that hold up the others; empty if the records do not tell.
        reason: a sentence for people.
    """

    ranks: list[int]
    reason: str


def find_culprits(extracts: Mapping[int, Mapping[str, Any]], world: int) -> Culprits:
    """Names the ranks at the root of a hang.

    A rank that waits in a collective waits for those members of its group that have not come to it yet. These may wait
    themselves, for others; who is waited for and does not wait is a root.

    Args:
        extracts: of each rank that could write one.
        world: number of ranks.
    """
    silent = sorted(set(range(world)) - extracts.keys())
    if silent:
        return Culprits(silent, "gave no sign of life: killed, stopped, or stuck outside of Python")
    idle = {rank for rank, extract in extracts.items() if not extract["communicates"]}
    waited_for = {late for rank in extracts for late in _late(rank, extracts)}
    roots = sorted(waited_for & idle)
    if roots:
        return Culprits(roots, "did not come to a collective that others wait in, and waits for nobody")
    if idle and len(idle) < world:
        return Culprits(sorted(idle), "does something else while all others communicate")
    if len(idle) == world:
        return Culprits([], "no rank communicates: all of them are slow, or the step is longer than the timeout")
    if waited_for:
        return Culprits(sorted(waited_for), "are waited for and wait themselves: ranks disagree on the order of work")
    return Culprits([], "all ranks are in the same collective: the network or a device is at fault")


def _late(rank: int, extracts: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Members of the collective this rank waits in that have not come to it."""
    waits_for = extracts[rank]["waits_for"]
    if waits_for is None:
        return []
    group, sequence = waits_for["group"], waits_for["sequence"]
    members = extracts[rank]["groups"].get(group, {"ranks": []})["ranks"]
    queued = {member: extracts[member]["groups"].get(group, {"queued": 0})["queued"] for member in members}
    return [member for member in members if queued[member] < sequence]


def _recorder(name: str) -> Any:
    from torch._C import _distributed_c10d

    return getattr(_distributed_c10d, name, None)


def _groups() -> dict[str, list[int]]:
    """Global ranks of every group this process belongs to, by the name that the record uses."""
    if not distributed.is_initialized():
        return {}
    names = distributed.distributed_c10d._world.pg_names
    return {name: distributed.get_process_group_ranks(group) for group, name in names.items()}


def _in_communication() -> bool:
    """True if the main thread stands inside torch.distributed or in a `.wait()`.

    gloo does not record what is sent from one rank to another, as in a pipeline; the stack still tells.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return False
    if ".wait(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
        return True
    for _ in range(4):
        if frame is None:
            return False
        if "/torch/distributed/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
