"""The value of data by annealing: what it starts from, what it finds, and that it goes on where it was killed."""

from __future__ import annotations

import json
import random
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from herdsman.errors import InputError, RecipeError
from herdsman.model.options import ModelOptions
from herdsman.progress import SILENT
from herdsman.release.report import write_report
from herdsman.scaling.probe import anneal, annealing, find_checkpoint, probe
from herdsman.scaling.runs import Run, train_run
from herdsman.scaling.sweep import INPUTS
from herdsman.training.options import PretrainOptions
from herdsman.training.schedule import Schedule
from herdsman.workspace import Work
from tests.scaling.herd import recipe, sweep, trainer

PROBE = {"seeds": 2, "tokens": 10_240}
RECIPE = recipe(scaling={"probe": PROBE})
PARAMETERS = 50_000


def market_notes(path: Path, goods: tuple[str, ...], seed: int) -> Path:
    """Text unlike the herd's."""
    draw = random.Random(seed)
    with open(path, "w") as file:
        for _ in range(150):
            notes = (
                f"The price of {draw.choice(goods)} in week {draw.randrange(50)} was {draw.randrange(100)} crowns."
                for _ in range(20)
            )
            file.write(json.dumps({"text": " ".join(notes)}) + "\n")
    return path


def run_probe(herd: Path, data: Path, train: Any = None) -> dict[str, Any]:
    return probe(data, sweep(herd, RECIPE), RECIPE.evaluate, train or trainer(RECIPE), "cpu", 1, SILENT)


def manifests(herd: Path) -> dict[str, int]:
    found = herd.glob("scaling/probes/*/runs/*/pretrain/manifest.json")
    return {path.parts[-3]: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def first(herd: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A data set, and the result of its probe, which is broken off after two runs and begun again."""
    data = market_notes(tmp_path_factory.mktemp("data") / "market.jsonl", ("wool", "milk", "hay"), 0)
    done = []

    def breaks_off(model: ModelOptions, pretrain: PretrainOptions, work: Work) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        trainer(RECIPE)(model, pretrain, work)
        done.append(work.out)

    with pytest.raises(KeyboardInterrupt):
        run_probe(herd, data, breaks_off)
    before = manifests(herd)
    assert len(before) == 2
    result = run_probe(herd, data)
    after = manifests(herd)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    return data, result


def change(result: dict[str, Any], what: str, measure: str = "bits_per_byte") -> dict[str, Any]:
    return next(entry for entry in result["changes"] if (entry["what"], entry["measure"]) == (what, measure))


def test_new_data_teaches_itself_at_the_cost_of_the_rest(first: tuple[Path, dict[str, Any]]) -> None:
    _, result = first
    kinds = {(entry["what"], entry["measure"]) for entry in result["changes"]}
    assert kinds == {
        ("code", "bits_per_byte"), ("general", "bits_per_byte"), ("new", "bits_per_byte"), ("all", "bits_per_byte"),
        ("openbookqa", "nats_per_character"), ("openbookqa", "accuracy"),
    }  # fmt: skip
    new, rest = change(result, "new"), change(result, "all")
    assert new["change"]["high"] < -0.2  # bits a byte, of text that the default data has nothing of
    assert new["after"] - new["before"] == pytest.approx(new["change"]["value"])
    assert rest["change"]["value"] > new["change"]["value"] / 4
    assert result["annealed_tokens"] == 10_240
    assert result["begins_after_tokens"] == pytest.approx(35_000, abs=512)
    assert result["epochs_of_new"] == pytest.approx(0.3 * 10_240 / result["new_tokens"])


def test_done_again_it_trains_nothing(herd: Path, first: tuple[Path, dict[str, Any]]) -> None:
    data, result = first
    before = manifests(herd)
    assert run_probe(herd, data) == result
    assert manifests(herd) == before


def test_the_report_tells_of_it(herd: Path, first: tuple[Path, dict[str, Any]]) -> None:
    write_report(herd, herd / "report.html")
    page = (herd / "report.html").read_text()
    assert "What data is worth" in page
    assert first[1]["name"] in page


def test_another_set_is_compared_with_the_same_default_runs(
    herd: Path, tmp_path: Path, first: tuple[Path, dict[str, Any]]
) -> None:
    before = manifests(herd)
    other = run_probe(herd, market_notes(tmp_path / "other.jsonl", ("iron", "salt"), 1))
    after = manifests(herd)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert change(other, "code")["before"] == change(first[1], "code")["before"]


def test_annealing_from_the_checkpoint_is_the_straight_run(
    herd: Path, tmp_path: Path, first: tuple[Path, dict[str, Any]]
) -> None:
    """The first run on default data goes from random weights through the checkpoint to the end; another that starts
    from the checkpoint, with the same data, ends with the same weights, bit for bit."""
    (straight,) = herd.glob("scaling/probes/*/runs/default-1-*/pretrain")
    shortened, _ = annealing(RECIPE.pretrain, Schedule(RECIPE.pretrain, PARAMETERS), 35_000, 10_240)
    begin = shortened.checkpoints.every_tokens
    assert begin
    inputs = {name: (straight.parent / name).resolve() for name in INPUTS}
    run = Run("again", RECIPE.model, shortened, inputs, RECIPE.seed, 0.0)
    (tmp_path / "again").mkdir()
    again = train_run(run, tmp_path, partial(anneal, straight / "half", tmp_path / "unused", begin, trainer(RECIPE)))
    steps = [json.loads(line)["step"] for line in (again / "logs" / "curve.jsonl").read_text().splitlines()]
    assert steps[0] == begin // 512  # it did start there
    name = "model/model.safetensors"
    assert (again / name).read_bytes() == (straight / name).read_bytes()


def test_a_given_checkpoint_is_started_from(herd: Path, tmp_path: Path, first: tuple[Path, dict[str, Any]]) -> None:
    (half,) = herd.glob("scaling/probes/*/runs/default-1-*/pretrain/half")
    given = recipe(scaling={"probe": {**PROBE, "checkpoint": str(half)}})
    data, result = first
    found = probe(data, sweep(herd, given), given.evaluate, trainer(given), "cpu", 1, SILENT)
    # The same checkpoint, the same data and seeds: the same models.
    assert found["changes"] == result["changes"]
    with pytest.raises(InputError, match="no checkpoint of at most 1,000 tokens"):
        find_checkpoint(half, 1000)


def test_the_curve_is_that_of_the_whole_pretraining_until_annealing() -> None:
    whole = Schedule(RECIPE.pretrain, PARAMETERS)
    shortened, before = annealing(RECIPE.pretrain, whole, 35_000, None)
    cut = Schedule(shortened, PARAMETERS)
    begin = shortened.checkpoints.every_tokens
    assert begin
    steps = begin // 512
    assert abs(begin - 35_000) <= 256
    assert [cut.learning_rate(step) for step in range(steps)] == [whole.learning_rate(step) for step in range(steps)]
    assert cut.learning_rate(cut.steps - 1) == pytest.approx(0.0, abs=1e-12)
    falling = [cut.learning_rate(step) for step in range(steps, cut.steps)]
    drops = {round(a - b, 12) for a, b in pairwise(falling)}
    assert len(drops) == 1  # linear
    assert before.name == "main"
    assert shortened.phases[-1].tokens == whole.tokens // 10


def test_a_model_that_is_annealing_already_is_refused() -> None:
    with pytest.raises(RecipeError, match="annealing already after 65,000 tokens"):
        annealing(RECIPE.pretrain, Schedule(RECIPE.pretrain, PARAMETERS), 65_000, None)
