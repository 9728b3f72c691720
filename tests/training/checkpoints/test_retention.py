"""Which checkpoints stay, by rule and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdsman.training.checkpoints.integrity import Manifest
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.retention import kept
from tests.training.checkpoints.material import load_plain, save_plain


def manifest(step: int, score: float | None = None) -> Manifest:
    return Manifest(save="", run="", step=step, tokens=10 * step, score=score, state={}, world=1)


@pytest.mark.parametrize(
    ("options", "stays"),
    [
        (CheckpointOptions(keep_last=1), {9}),
        (CheckpointOptions(keep_last=3), {7, 8, 9}),
        (CheckpointOptions(keep_last=20), set(range(1, 10))),
        (CheckpointOptions(keep_last=1, keep_every_tokens=30), {3, 6, 9}),
        (CheckpointOptions(keep_last=1, keep_every_tokens=35), {4, 7, 9}),
        (CheckpointOptions(keep_last=1, keep_best=2), {2, 4, 9}),
        (CheckpointOptions(keep_last=2, keep_best=20), {2, 4, 6, 8, 9}),
    ],
)
def test_the_newest_the_regular_and_the_best_stay(options: CheckpointOptions, stays: set[int]) -> None:
    scores = {2: 1.0, 4: 2.0, 6: 3.0, 8: 2.0, 1: float("nan")}
    manifests = [manifest(step, scores.get(step)) for step in (5, 1, 9, 3, 7, 2, 8, 4, 6)]
    assert kept(manifests, options) == stays


def test_pruning_after_every_save_keeps_what_pruning_at_the_end_would() -> None:
    options = CheckpointOptions(keep_last=2, keep_every_tokens=70, keep_best=1)
    manifests = [manifest(step, score=float(abs(step - 12))) for step in range(1, 40)]
    present: dict[int, Manifest] = {}
    for item in manifests:
        present[item.step] = item
        stays = kept(present.values(), options)
        present = {step: item for step, item in present.items() if step in stays}
    assert set(present) == kept(manifests, options) == {7, 12, 14, 21, 28, 35, 38, 39}


def on_disk(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def test_folders_go_after_each_durable_save(tmp_path: Path) -> None:
    save_plain(tmp_path, 7, keep_last=2, keep_every_tokens=30)
    assert on_disk(tmp_path) == [3, 6, 7]


def test_the_checkpoint_resumed_from_outlives_newer_ones_that_are_torn(tmp_path: Path) -> None:
    """Torn ones neither count among those kept nor push out the one that is known to be intact."""
    save_plain(tmp_path, 4, keep_last=4)
    for step in (3, 4):
        (tmp_path / f"step-{step:010d}" / ".metadata").unlink()
    loaded, checkpoints = load_plain(tmp_path, keep_last=2)
    assert loaded
    assert loaded.step == 2
    assert [path.name for path, _ in checkpoints.refused] == ["step-0000000004", "step-0000000003"]
    assert on_disk(tmp_path) == [1, 2, 3, 4]
    checkpoints.save(3, 30, {"model.weight": torch.full((100, 8), 3.0)}, {"at": 3})
    assert checkpoints.wait()
    assert on_disk(tmp_path) == [2, 3]
    assert load_plain(tmp_path)[0].step == 3  # type: ignore[union-attr]
