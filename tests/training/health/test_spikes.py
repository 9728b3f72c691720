"""Which steps are skipped, when training rolls back, and that a healthy run is left alone."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import distributed

from herdsman.errors import HerdsmanError
from herdsman.training.health.options import SpikeOptions
from herdsman.training.health.rollback import LeftOut
from herdsman.training.health.spikes import SpikeDetector, Verdict
from tests.processes import run

KEEP, SKIP, ROLL_BACK = Verdict.KEEP, Verdict.SKIP, Verdict.ROLL_BACK


def curve(steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient norm of a pretraining run without noise: a steep fall, then a power law."""
    step = np.arange(steps)
    return 1.8 + 4 * np.exp(-step / 300) + 2 * (1 + step) ** -0.25, np.exp(-1.2 + 1.5 * np.exp(-step / 200))


def noisy(steps: int, kind: str, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    noise = {
        "normal": lambda: draw.standard_normal(steps),
        "laplace": lambda: draw.laplace(size=steps) / math.sqrt(2),
        "student 5": lambda: draw.standard_t(5, steps) / math.sqrt(5 / 3),
        "drifting": lambda: _drift(draw.standard_normal(steps)),
    }[kind]()
    loss, norm = curve(steps)
    return loss * (1 + share * noise), norm * np.exp(0.4 * draw.standard_normal(steps))


def _drift(white: np.ndarray, memory: float = 0.95) -> np.ndarray:
    """Noise that stays on one side for some 20 steps, as when documents of one kind follow one another."""
    out, value = np.empty_like(white), 0.0
    for step, now in enumerate(white):
        value = memory * value + math.sqrt(1 - memory**2) * now
        out[step] = value
    return out


def verdicts(detector: SpikeDetector, loss: np.ndarray, norm: np.ndarray) -> Counter[Verdict]:
    return Counter(detector.judge(a, b) for a, b in zip(loss.tolist(), norm.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["normal", "laplace", "student 5", "drifting"])
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_healthy_run_is_left_alone(kind: str, share: float) -> None:
    share *= 0.6 if kind == "drifting" else 1
    assert verdicts(SpikeDetector(SpikeOptions()), *noisy(6_000, kind, share, seed=1)) == {KEEP: 6_000}


def ready(steps: int = 1000) -> tuple[SpikeDetector, float]:
    detector = SpikeDetector(SpikeOptions())
    loss, norm = noisy(steps, "normal", 0.01, seed=2)
    assert verdicts(detector, loss, norm) == {KEEP: steps}
    return detector, float(curve(steps)[0][-1])


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 0.3), (math.inf, 0.3), (2.2, math.nan), (2.2, math.inf)])
def test_what_is_not_finite_is_skipped_from_the_first_step(loss: float, norm: float) -> None:
    assert SpikeDetector(SpikeOptions()).judge(loss, norm) is SKIP
    assert ready()[0].judge(loss, norm) is SKIP


def test_spikes_are_skipped_and_leave_no_trace() -> None:
    detector, level = ready()
    before = detector.state()
    assert detector.judge(level * 1.4, 0.3) is SKIP
    assert "the loss is" in detector.reason
    assert detector.judge(level, 40.0) is SKIP
    assert "gradient norm" in detector.reason
    assert detector.state() == {**before, "skips_in_a_row": 2}
    assert detector.judge(level, 0.3) is KEEP
    assert detector.judge(level * 0.5, 0.01) is KEEP  # what falls is no spike


def test_skips_in_a_row_roll_back() -> None:
    detector, level = ready()
    assert [detector.judge(math.nan, 1.0) for _ in range(8)] == [SKIP] * 7 + [ROLL_BACK]
    detector, level = ready()
    given = [detector.judge(math.nan if step % 2 else level, 0.3) for step in range(40)]
    assert set(given) == {KEEP, SKIP}  # never in a row


def test_a_loss_that_creeps_up_rolls_back() -> None:
    detector, level = ready()
    draw = np.random.default_rng(3)
    given = []
    for step in range(600):
        given.append(detector.judge(level * (1 + 0.2 * min(1, step / 300) + 0.01 * draw.standard_normal()), 0.3))
        if given[-1] is ROLL_BACK:
            break
    assert given[-1] is ROLL_BACK
    assert 150 < len(given) < 450
    assert "stays at" in detector.reason


def test_a_new_mix_may_begin_higher_once_the_detector_is_told() -> None:
    detector, level = ready()
    assert detector.judge(level * 1.5, 0.3) is SKIP
    detector.forget()
    assert {detector.judge(level * 1.5, 0.3) for _ in range(200)} == {KEEP}


def test_a_resumed_detector_decides_alike() -> None:
    detector, level = ready()
    detector.judge(math.nan, 0.3)
    twin = SpikeDetector(SpikeOptions())
    twin.load(json.loads(json.dumps(detector.state())))
    draw = np.random.default_rng(4)
    for step in range(700):
        loss = level * (1 + 0.03 * draw.standard_normal() + (0.3 if step % 50 == 0 else 0) + step / 2000)
        norm = math.exp(draw.standard_normal())
        assert detector.judge(loss, norm) is twin.judge(loss, norm)
        assert detector.state() == twin.state()


def test_tokens_left_out_are_never_read_again() -> None:
    left_out = LeftOut(SpikeOptions())
    assert left_out.position(700) == 700
    left_out.add(step=100, begin=1000, end=1300, reason="spike")
    read = [left_out.position(trained) for trained in range(0, 2000, 100)]
    assert read == [*range(0, 1000, 100), *range(1300, 2300, 100)]
    # The same again from the same checkpoint, now past the window: the two become one.
    assert left_out.position(1000) == 1300
    left_out.add(step=100, begin=1300, end=1400, reason="spike")
    left_out.add(step=900, begin=5000, end=5100, reason="spike")
    # A roll-back further than an earlier one takes it in.
    left_out.add(step=80, begin=800, end=1500, reason="spike")
    assert left_out.windows == [(800, 1500), (5000, 5100)]
    twin = LeftOut(SpikeOptions())
    twin.load(json.loads(json.dumps(left_out.state())))
    assert [twin.position(trained) for trained in (700, 800, 4299, 4300)] == [700, 1500, 4999, 5100]


def test_rolling_back_to_one_place_again_and_again_stops_the_run() -> None:
    left_out = LeftOut(SpikeOptions(rollbacks_before_stop=2))
    left_out.add(step=1000, begin=0, end=10, reason="the loss is nan")
    left_out.add(step=1004, begin=10, end=20, reason="the loss is nan")
    left_out.add(step=9000, begin=90, end=99, reason="the loss is nan")
    with pytest.raises(HerdsmanError, match="does not get past step 1002: the loss is nan") as error:
        left_out.add(step=1002, begin=20, end=30, reason="the loss is nan")
    assert "learning rate" in str(error.value)


def steps_with_one_bad_rank() -> tuple[list[Verdict], float]:
    """A parameter trained by gradients that all ranks sum up; on rank 1 one of them is not a number."""
    detector, weight = SpikeDetector(SpikeOptions()), 1.0
    given = []
    for step in range(20):
        gradient = math.nan if (distributed.get_rank(), step) == (1, 7) else 0.1
        sums = torch.tensor([weight**2, gradient])
        distributed.all_reduce(sums)
        given.append(detector.judge(float(sums[0]), abs(float(sums[1]))))
        if given[-1] is KEEP:
            weight -= 0.1 * float(sums[1])
    return given, weight


def test_a_gradient_that_is_no_number_on_one_rank_is_skipped_on_all() -> None:
    (given, weight), other = run(steps_with_one_bad_rank, 2)
    assert given == [KEEP] * 7 + [SKIP] + [KEEP] * 12
    assert weight == pytest.approx(1 - 19 * 0.02)
    assert other == (given, weight)
