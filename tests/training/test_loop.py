"""The loop: gradients do not depend on micro-batches, resumed runs equal undisturbed ones bit for bit."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from herdsman.errors import HerdsmanError
from herdsman.files import read_jsonl
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.training.averaging import average_models
from herdsman.training.loop import CHECKPOINT, train
from herdsman.training.losses import Loss, cross_entropy
from herdsman.training.options import OptimizerOptions

OPTIONS = ModelOptions(layers=2, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=32)


def fresh() -> Llama:
    return Llama(OPTIONS, 64).initialise(0)


def tokens_of(step: int) -> torch.Tensor:
    return torch.randint(0, 64, (8, 17), generator=torch.Generator().manual_seed(step))


def loss_of(model: Llama, tokens: torch.Tensor) -> Loss:
    weights = (tokens[:, 1:] % 3 > 0).float()
    return cross_entropy(model.logits(model(tokens[:, :-1])), tokens[:, 1:], weights)


def run(folder: Path, steps: int, rows: int = 8, **changes):
    model = fresh()
    settings = {
        "steps": steps,
        "batch_at": lambda step: list(tokens_of(step).split(rows)),
        "loss_of": loss_of,
        "learning_rate": lambda step: 1e-2,
        "optimizer": OptimizerOptions(),
        "scratch": folder,
        "log": folder / "logs" / "curve.jsonl",
        "checkpoint_seconds": 0.0,
    }
    folder.mkdir(exist_ok=True)
    train(model, **settings | changes)
    return model


def weights(model: Llama) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_micro_batches_do_not_change_the_result(tmp_path: Path) -> None:
    # Adam divides by the gradient's size: a small epsilon would blow rounding noise of idle weights up to steps.
    calm = OptimizerOptions(epsilon=1e-2)
    whole, uneven = run(tmp_path / "a", 4, optimizer=calm), run(tmp_path / "b", 4, rows=3, optimizer=calm)
    assert torch.allclose(weights(whole), weights(uneven), atol=1e-6)
    losses = [[row["loss"] for row in read_jsonl(tmp_path / name / "logs/curve.jsonl")] for name in "ab"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_resume_equals_the_straight_run_bit_for_bit(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", 9)

    class Killed(Exception):
        pass

    def kill(step: int, model: Llama) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", 9, after_step=kill)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    with open(tmp_path / "killed/logs/curve.jsonl", "a") as log:
        log.write('{"step": 5, "loss": 3.')  # the line the process was writing when it died
    resumed = run(tmp_path / "killed", 9)
    assert torch.equal(weights(straight), weights(resumed))
    steps = [row["step"] for row in read_jsonl(tmp_path / "killed/logs/curve.jsonl")]
    assert steps == list(range(9))


def test_it_learns(tmp_path: Path) -> None:
    model = run(tmp_path, 40, batch_at=lambda step: [tokens_of(0)])
    rows = read_jsonl(tmp_path / "logs/curve.jsonl")
    assert rows[0]["loss"] == pytest.approx(math.log(64), abs=0.1)
    assert rows[-1]["loss"] < 2.0
    assert not model.training


def test_a_loss_that_is_no_number_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HerdsmanError, match="lower the learning rate"):
        run(tmp_path, 2, loss_of=lambda model, tokens: Loss(loss_of(model, tokens).total * float("nan"), 1.0))


def test_average_of_models(tmp_path: Path) -> None:
    from herdsman.model.store import save_model

    models = [Llama(OPTIONS, 64).initialise(seed) for seed in range(3)]
    for i, model in enumerate(models):
        save_model(model, tmp_path / str(i))
    average = average_models([tmp_path / str(i) for i in range(3)], tmp_path / "average")
    expected = torch.stack([weights(model) for model in models]).double().mean(0).float()
    assert torch.allclose(weights(average), expected, atol=1e-7)


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    """torch hides the disk's error behind one of its own; a file-size limit stands in for the full disk."""
    code = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from herdsman.training.loop import _save\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "model = torch.nn.Linear(100, 100)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "_save(model, torch.optim.AdamW(model.parameters()), 1, Path(sys.argv[1]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "it.pt")], capture_output=True, text=True)
    assert result.stderr.strip().splitlines()[-1].startswith("OSError: [Errno 27]"), result.stderr
    assert not list(tmp_path.iterdir())
