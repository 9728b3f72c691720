"""The journey, in order: which stage needs what, and which function does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdsman.errors import HerdsmanError, RecipeError
from herdsman.files import digest_of, read_json, write_json
from herdsman.model.options import ModelOptions
from herdsman.parallel import available_cores, connect_ray
from herdsman.progress import Progress
from herdsman.recipe import MachineOptions, Recipe
from herdsman.training.options import MANNER, PretrainOptions
from herdsman.workspace import PLAN, Work, Workspace

if TYPE_CHECKING:
    import torch

    from herdsman.model.llama import Llama

MOST_THREADS = 8
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage of the journey.

    Attributes:
        version: raised when the stage's code changes what it writes, so that older results no longer stand.
        options: the part of the recipe, and anything else outside the inputs, that shapes the result.
        told: one line about a finished stage, from the counts and metrics of its manifest.
        run: does the work.
    """

    name: str
    needs: tuple[str, ...]
    version: int
    options: Callable[[Recipe], Any]
    run: Callable[[Recipe, Work], None]
    told: Callable[[Figures, Figures], str]


def resolve_device(machine: MachineOptions) -> torch.device:
    """The device models run on, with the number of CPU threads set."""
    import torch

    torch.set_num_threads(machine.threads or min(available_cores(), MOST_THREADS))
    cuda = torch.cuda.is_available() if machine.device == "auto" else machine.device == "cuda"
    return torch.device("cuda" if cuda else "cpu")


def _pages_identity(recipe: Recipe) -> Any:
    from herdsman.pages.sources import source_identity

    manners = {"contact", "delay_seconds", "timeout_seconds", "retries"}  # of a crawler: they change no page
    shaping = recipe.pages.model_dump(exclude={"keep_fetched": True, "crawl": manners})
    return [shaping | {"sources": sorted(recipe.pages.sources)}, source_identity(recipe.pages)]


def _pages(recipe: Recipe, work: Work) -> None:
    from herdsman.pages.gather import gather

    gather(recipe.pages, work)


def _documents(recipe: Recipe, work: Work) -> None:
    from herdsman.documents.refine import refine

    refine(recipe.documents, work)


def _tokenizer(recipe: Recipe, work: Work) -> None:
    from herdsman.tokens.learn import learn_tokenizer

    learn_tokenizer(recipe.tokenizer, work)


def _tokens(recipe: Recipe, work: Work) -> None:
    from herdsman.tokens.pack import pack

    pack(recipe.tokens, work)


def _search(recipe: Recipe, work: Work) -> None:
    from herdsman.tools.make_index import make_index

    make_index(recipe.search, work)


def _pretrain(recipe: Recipe, work: Work) -> None:
    if recipe.machine.processes == 1 and recipe.machine.nodes == "1":
        train_base(recipe, work, resolve_device(recipe.machine))
        return
    from herdsman.ranks import run_on_ranks

    run_on_ranks(recipe, work)


def train_model(recipe: Recipe, model: ModelOptions, pretrain: PretrainOptions, work: Work) -> None:
    """Training as in the `pretrain` stage, of another model on another schedule: one run of a sweep."""
    _pretrain(recipe.model_copy(update={"model": model, "pretrain": pretrain, "seed": work.seed}), work)


def train_base(recipe: Recipe, work: Work, device: torch.device) -> None:
    """The training of the `pretrain` stage, on this process or on every rank of a group."""
    from herdsman.documents.store import read_documents
    from herdsman.evaluation.needle import hide_needles
    from herdsman.generation.local import LocalEngine
    from herdsman.generation.sampling import Sampling
    from herdsman.tokens.tokenizer import Tokenizer
    from herdsman.training.pretrain import pretrain

    tokenizer = Tokenizer.load(work.inputs["tokenizer"])

    def sampler(model: Llama, prompts: list[str]) -> list[str]:
        sampling = Sampling(
            max_new_tokens=60, temperature=0.6, top_p=0.9, seed=recipe.seed, stop_ids=tokenizer.stop_ids
        )
        ids = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
        return [completion.text for completion in LocalEngine(model, tokenizer).generate(ids, sampling)]

    def needles(length: int) -> list[tuple[list[int], list[int]]]:
        texts = (row["text"] for row in read_documents(work.inputs["documents"], "held_out", ["text"]))
        return [(each.context, each.answer) for each in hide_needles(texts, tokenizer, length, recipe.seed)]

    pretrain(recipe.pretrain, recipe.model, work, device, sampler, needles)


def _posttrain(recipe: Recipe, work: Work) -> None:
    from herdsman.posttraining.round import posttrain

    posttrain(recipe.posttrain, work, resolve_device(recipe.machine))


def _evaluate(recipe: Recipe, work: Work) -> None:
    from herdsman.evaluation.evaluate import evaluate

    evaluate(recipe.evaluate, work, resolve_device(recipe.machine))


def _safety(recipe: Recipe, work: Work) -> None:
    from herdsman.safety.assess import assess

    assess(recipe.safety, work, resolve_device(recipe.machine))


def _release(recipe: Recipe, work: Work) -> None:
    from herdsman.release.publish import publish

    publish(recipe.release, work, described(recipe))


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it was resolved, without what shapes no stage: the machine, and sweeps of other models."""
    manner = {"pretrain": MANNER, "posttrain": {"checkpoint_seconds": True}}
    return recipe.model_dump(exclude={"machine": True, "scaling": True, **manner})


JOURNEY: tuple[Stage, ...] = (
    Stage(
        "pages", (), 3, _pages_identity, _pages,
        lambda c, m: f"{c['pages']:,} pages, {c['html_bytes'] / 1e6:,.0f} MB of HTML; {c['skipped']:,} files skipped",
    ),
    Stage(
        "documents", ("pages",), 2, lambda r: r.documents.model_dump(), _documents,
        lambda c, m: f"{c['documents']:,} documents of {c['characters'] / 1e6:,.1f} million characters kept, "
        f"{c['dropped']:,} dropped, {c['near_duplicates']:,} of them near-duplicates",
    ),
    Stage(
        "tokenizer", ("documents",), 1, lambda r: r.tokenizer.model_dump(), _tokenizer,
        lambda c, m: f"{c['rows']:,} ids; {m['held_out']['bytes_per_token']:.2f} bytes a token on unseen text",
    ),
    Stage(
        "tokens", ("documents", "tokenizer"), 2, lambda r: r.tokens.model_dump(), _tokens,
        lambda c, m: f"{c['tokens']:,} tokens in {c['streams']} streams",
    ),
    Stage(
        "search", ("documents",), 1, lambda r: r.search.model_dump(), _search,
        lambda c, m: f"{c['passages']:,} passages of {c['documents']:,} documents, {c['bytes'] / 1e6:,.1f} MB",
    ),
    Stage(
        "pretrain",
        ("documents", "tokenizer", "tokens"),
        2,
        lambda r: [r.model.model_dump(), r.pretrain.model_dump(exclude=MANNER)],
        _pretrain,
        lambda c, m: f"{c['parameters']:,} parameters, {c['tokens']:,} tokens; held-out loss "
        f"{m['validation_loss']['untrained']:.2f} before, {m['validation_loss']['average']:.2f} after",
    ),
    Stage(
        "posttrain",
        ("documents", "tokenizer", "pretrain"),
        1,
        lambda r: r.posttrain.model_dump(exclude={"checkpoint_seconds"}),
        _posttrain,
        lambda c, m: f"{c['sft_dialogs']:,} dialogs, {c['dpo_pairs']:,} preference pairs; verified tasks solved "
        f"{m['success']['base']:.0%} before, {m['success']['final']:.0%} after",
    ),
    Stage(
        "evaluate",
        ("documents", "tokenizer", "pretrain", "posttrain"),
        1,
        lambda r: r.evaluate.model_dump(),
        _evaluate,
        lambda c, m: "bits per byte of held-out text: " + ", ".join(
            f"{model} {value:.2f}" for model, value in sorted(m["bits_per_byte"].items(), key=lambda item: -item[1])
        ),
    ),
    Stage(
        "safety", ("documents", "tokenizer", "posttrain"), 1, lambda r: r.safety.model_dump(), _safety,
        lambda c, m: f"violations {m['model.violation']:.0%}, behind the guard {m['model_with_guard.violation']:.0%}; "
        f"false refusals {m['model.false_refusal']:.0%}, behind the guard {m['model_with_guard.false_refusal']:.0%}",
    ),
    Stage(
        "release",
        ("pages", "documents", "tokenizer", "tokens", "pretrain", "posttrain", "evaluate", "safety"),
        1,
        described,
        _release,
        lambda c, m: f"{c['files']:,} files, {c['bytes'] / 1e6:,.1f} MB",
    ),
)  # fmt: skip
STAGE_NAMES = tuple(stage.name for stage in JOURNEY)


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """What each stage's result depends on, hashed: its options and version, the seed, and its inputs' fingerprints.

    Raises:
        InputError: a source of pages does not exist.
    """
    known: dict[str, str] = {}
    for stage in JOURNEY:
        known[stage.name] = digest_of(
            [stage.name, stage.version, recipe.seed, stage.options(recipe), [known[need] for need in stage.needs]]
        )
    return known


def raise_herd(recipe: Recipe, workspace: Workspace, progress: Progress, until: str | None = None) -> bool:
    """Runs the journey, or the part of it up to `until`; stages whose results stand are skipped.

    Writes `report.html` anew after every stage. Returns False if there was nothing to do.

    Raises:
        RecipeError: `until` names no stage.
    """
    if until is not None and until not in STAGE_NAMES:
        raise RecipeError(f"no stage is called {until}", where="--until", do=f"choose from {', '.join(STAGE_NAMES)}")
    last = STAGE_NAMES.index(until) if until else len(JOURNEY) - 1
    with workspace.locked():
        expected = fingerprints(recipe)
        todo = [s for s in JOURNEY[: last + 1] if not workspace.stands(s.name, expected[s.name])]
        write_json(workspace.root / "recipe.json", described(recipe))
        machine = recipe.machine
        workers = machine.workers or available_cores()
        if todo and machine.engine == "ray":
            workers = connect_ray(machine.ray_address, machine.workers)
        for stage in todo:
            progress.line(f"{STAGE_NAMES.index(stage.name) + 1}/{len(JOURNEY)} {stage.name}")
            with workspace.stage(
                stage.name, expected[stage.name], stage.needs, recipe.seed, workers, progress, machine.engine
            ) as work:
                if stage.name == "pretrain":
                    _write_plan(recipe, workspace, expected[stage.name], progress)
                stage.run(recipe, work)
            seconds = workspace.manifest(stage.name)["wall_seconds"]  # type: ignore[index]
            progress.line(f"    {describe_result(workspace, stage.name)} ({seconds:,.0f} s)")
            _write_report(workspace)
        if not (workspace.root / "report.html").exists():
            _write_report(workspace)
    return bool(todo)


def _write_plan(recipe: Recipe, workspace: Workspace, fingerprint: str, progress: Progress) -> None:
    """What is expected of pretraining on this machine, once before it begins, for the report to compare with what came.

    A raise does not end for want of a plan: what is wrong with the recipe itself, training says as well.
    """
    from herdsman.planning import plan_recipe, present_hardware, processes

    path = workspace.root / PLAN
    if path.exists() and read_json(path).get("fingerprint") == fingerprint:
        return
    try:
        plan = plan_recipe(recipe, present_hardware(recipe.machine), processes(recipe.machine))
    except HerdsmanError as error:
        path.unlink(missing_ok=True)
        progress.line(f"    no plan: {error}")
    else:
        write_json(path, plan.as_json() | {"fingerprint": fingerprint})


def _write_report(workspace: Workspace) -> None:
    from herdsman.release.report import write_report

    write_report(workspace.root, workspace.root / "report.html")


def describe_result(workspace: Workspace, stage: str) -> str:
    """One line of figures about a stage; empty if it is not finished, or was by a version that counted differently."""
    manifest = workspace.manifest(stage)
    told = next(entry.told for entry in JOURNEY if entry.name == stage)
    try:
        return told(manifest["counts"], manifest["metrics"]) if manifest else ""
    except (KeyError, TypeError):
        return ""


def default_workspace(recipe: Recipe) -> Path:
    return Path("herds") / recipe.name
