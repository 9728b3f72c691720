"""A herd's forecast: made from the sweep's models on real questions, kept once the herd is trained, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdsman.errors import InputError, WorkspaceError
from herdsman.files import read_json, read_jsonl, write_json
from herdsman.generation.local import LocalEngine
from herdsman.model.count import model_flops
from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model
from herdsman.progress import SILENT
from herdsman.scaling.forecast import FORECAST
from herdsman.scaling.herd_forecast import forecast_herd
from herdsman.scaling.measure import Yardstick
from herdsman.scaling.scores import evaluated, nats_per_character
from herdsman.tokens.tokenizer import Tokenizer
from tests.scaling.herd import recipe

RECIPE = recipe()
BUDGETS = (1e9, 2e9, 4e9, 8e9)


@pytest.fixture
def swept(herd: Path, tmp_path: Path) -> Path:
    """A workspace with a sweep of two models at each of four budgets, none of them trained."""
    for name in ("documents", "tokenizer", "tokens"):
        (tmp_path / name).symlink_to(herd / name)
    rows = []
    for number, budget in enumerate(budget for budget in BUDGETS for _ in range(2)):
        name = f"run-{number}"
        model = Llama(RECIPE.model, Tokenizer.load(herd / "tokenizer").vocab_size).initialise(number).eval()
        save_model(model, tmp_path / "scaling" / "runs" / name / "pretrain" / "model")
        write_json(tmp_path / "scaling" / "runs" / name / "pretrain" / "manifest.json", {"fingerprint": name})
        rows.append({"name": name, "budget": budget, "flops": budget, "loss": 5 - number / 10})
    write_json(tmp_path / "scaling" / "runs.json", rows)
    return tmp_path


def forecast_it(root: Path) -> dict:
    return forecast_herd(root, RECIPE.model, RECIPE.pretrain, RECIPE.evaluate, "cpu", SILENT)


def test_the_sweeps_models_are_measured_on_real_questions(swept: Path) -> None:
    record = forecast_it(swept)
    assert record == read_json(swept / FORECAST)
    assert record["before_run"]
    assert [row["model"] for row in record["fitted_on"]] == [f"run-{number}" for number in range(8)]
    assert [row["optimal"] for row in record["fitted_on"]] == [False, True] * 4  # the lower loss of each budget
    tokenizer = Tokenizer.load(swept / "tokenizer")
    questions = Yardstick.of([], swept / "tokenizer", RECIPE.evaluate, SILENT).questions["openbookqa"]
    engine = LocalEngine(load_model(swept / "scaling" / "runs" / "run-3" / "pretrain" / "model", "cpu"), tokenizer)
    total = 0.0
    for question in questions:
        context, answer = question.context, " " + question.choices[question.right]
        whole = tokenizer.encode(context + answer)
        head = tokenizer.encode(context)
        assert whole[: len(head)] == head
        ids = torch.tensor([[tokenizer.bos, *whole]])
        with torch.inference_mode():
            logprobs = engine.model.logits(engine.model(ids[:, :-1])).log_softmax(-1)[0]  # type: ignore[union-attr]
        total -= float(logprobs[len(head) :].gather(-1, ids[0, len(head) + 1 :, None]).sum()) / (len(answer) - 1)
    assert record["fitted_on"][3]["nats_per_character"] == pytest.approx(total / len(questions), rel=1e-4)
    rows, phases = tokenizer.vocab_size, RECIPE.pretrain.phases
    steps = sum(phase.steps for phase in phases)
    assert record["flops"] == model_flops(RECIPE.model, rows, 32) * steps * 512


def test_a_forecast_made_before_the_run_stays(swept: Path) -> None:
    record = forecast_it(swept)
    write_json(swept / "pretrain" / "manifest.json", {})
    (swept / "scaling" / "runs.json").write_text("[]")  # nothing would come of it now
    assert forecast_it(swept) == record


def test_one_made_after_the_run_says_so(swept: Path) -> None:
    write_json(swept / "pretrain" / "manifest.json", {})
    assert not forecast_it(swept)["before_run"]


def test_the_outcome_is_that_of_the_evaluate_stage(swept: Path) -> None:
    record = forecast_it(swept)
    assert evaluated(swept, ["openbookqa"], record["flops"]) == {}
    measured = next(swept.glob("scaling/measured/*/openbookqa.jsonl"))
    target = swept / "evaluate" / "predictions" / "base.openbookqa.jsonl"
    target.parent.mkdir(parents=True)
    target.write_bytes(measured.read_bytes())
    found = evaluated(swept, ["openbookqa"], record["flops"])["openbookqa"]
    rows = read_jsonl(measured)
    assert found.nats_per_character == pytest.approx(sum(map(nats_per_character, rows)) / len(rows))
    assert found.accuracy == sum(row["acc_norm"] for row in rows) / len(rows)


def test_too_small_a_sweep_is_refused_before_anything_is_measured(swept: Path) -> None:
    write_json(swept / "scaling" / "runs.json", read_json(swept / "scaling" / "runs.json")[:6])
    with pytest.raises(InputError, match="the sweep has 3 budgets, a forecast needs 4"):
        forecast_it(swept)
    assert not (swept / "scaling" / "measured").exists()


def test_without_a_sweep_it_says_what_to_do(herd: Path) -> None:
    with pytest.raises(WorkspaceError, match="run herdsman scale first"):
        forecast_it(herd)
