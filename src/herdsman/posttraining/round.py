"""The `posttrain` stage: one round of Llama 3's post-training loop (paper, section 4), from prompts to the chat model.

What it writes:

    model/               the chat model (model/store.py)
    samples.jsonl        every answer that was a candidate for SFT, references and samples: see `samples` below
    preferences.jsonl    every ranked preference: messages, source, family, responses (best first), level, held_out, id
    answers.jsonl        every held-out prompt with each model's answer and its checks
    summary.json         what the report shows:

    models               ["base", "seed", "sft", "final"]: the pretrained model, the model that answers are sampled
                         from (SFT on references), the SFT model, and the model after DPO
    sft_start            "pretrained" or "seed": what SFT started from
    prompts              {use: {source: {family: count}}}; use is annotated, preference, rejection or held_out;
                         source is tasks, grounded, conversation or safety
    prompts_too_long     prompts left out because the model's context cannot hold them and an answer
    success              {"all": entry, "sources": [{"source", **entry}], "families": [{"source", "family", **entry}]}
                         with entry = {"prompts": n, "models": {model: {"passed", "rate", "low", "high"}}}: held-out
                         prompts whose likeliest answer passes all checks, with 95% Wilson intervals. The base model
                         cannot speak the chat format: it is shown `base_shots` worked examples as plain text
    base_shots           worked examples that the base model sees before each question
    sampling             {"prompts", "samples_per_prompt", "samples", "passed", "temperature", "top_p",
                         "sources": [{"source", "samples", "passed"}],
                         "faults": [{"check", "verdict", "evidence", "samples"}]}: commonest first, at most 20
    preferences          {"prompts", "ranked", "unranked", "too_long", "train", "held_out",
                         "levels": {level: count}, "responses": {"2": n, "3": n}}; unranked: no two answers differ
                         enough; too_long: the context does not hold one of the responses
    reward               {"pairs", "right", "accuracy", "low", "high"}: held-out preferences in which the reward model
                         puts the best response above the worst (95% Wilson; 0.5 is chance); null without any
    rejection            {"prompts", "answered", "unanswered", "sample_pass_rate", "pick_pass_rate"}; unanswered: no
                         sample passed its checks; then how many samples pass, and how many of the answers that the
                         reward model likes best of a prompt's samples; rates are null without prompts
    curation             {"candidates": {"reference": n, "sampled": n}, "dropped": {reason: n}, "kept": n,
                         "references_that_failed": n}: SFT's dialogs; references that failed a check were no candidates
    dpo                  {"pairs", "unclear", "beta", "nll"}; unclear: too weak a preference to train on
    averaged             {"seed": n, "reward": n, "sft": n, "dpo": n}: models of different data order, averaged
    curves               {"seed" | "reward" | "sft" | "dpo": [row]}, at most 200 rows of the first of the averaged
                         models: step, loss, learning_rate, gradient_norm; reward adds accuracy and margin, dpo adds
                         accuracy, margin and nll
    chat                 [{"prompt", "answers": {"seed": text, "sft": text, "final": text}}]: what people say first;
                         to read, not to measure: some of it stands in the training data
    examples             [{"source", "family", "messages": [{"role", "content"}], "reference",
                         "answers": {model: {"text", "ended", "passed",
                                             "checks": [{"name", "verdict", "evidence", "backend"}]}}}]:
                         the first held-out prompt of every family, not picked for its answers

A line of `samples.jsonl` is a `Sample` with `use` (trained on, not chosen, failed its checks, or the curation rule that
dropped it), `times` (how often the answer was drawn; 1 for a reference) and `reward` (null for a reference).

Each step leaves a file or folder in the stage's scratch folder when it is done, so a killed round goes on with the step
it was in, and a training with its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from herdsman.errors import InputError
from herdsman.events import EVENTS, EventLog
from herdsman.files import read_json, write_json, write_jsonl
from herdsman.generation.engine import Engine
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.store import load_model
from herdsman.posttraining import summary
from herdsman.posttraining.asking import ChatManner, Manner, PlainManner
from herdsman.posttraining.candidates import (
    TRAINED,
    Candidate,
    choose_best,
    reference_candidates,
    sampled_candidates,
)
from herdsman.posttraining.curate import Curated, curate, join_turns
from herdsman.posttraining.dpo import train_dpo
from herdsman.posttraining.drawing import draw
from herdsman.posttraining.finetune import MODEL, Setting, read_curve
from herdsman.posttraining.measure import answer_rows
from herdsman.posttraining.options import FineTuneOptions, PosttrainOptions
from herdsman.posttraining.preferences import Preference, Response, rank
from herdsman.posttraining.prompts import PromptBook, make_prompts
from herdsman.posttraining.reward import preference_rows, score_dialogs, train_reward
from herdsman.posttraining.sft import train_sft
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.verify import POLICY
from herdsman.tokens.chat import Message, decode_reply, encode
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.optimizer import resolve_precision
from herdsman.workspace import Work

Drawn = list[tuple[Prompt, list[Response]]]


def posttrain(options: PosttrainOptions, work: Work, device: torch.device) -> None:
    """Runs the round and writes what the module's docstring lists.

    Raises:
        InputError: the documents hold too little to make prompts from, the model's context is too short for them, or
            the sampled answers give no preferences to learn from.
        NetworkError: the sets of harmful prompts are not cached and cannot be fetched.
    """
    steps = _Steps(options, work, device)
    book = steps.prompts()

    references = list(reference_candidates(book.prompts["annotated"], book.library))
    steps.sft("seed", "base", options.seed_policy, steps.curated(references))

    drawn = steps.sample(book)
    to_rank = len(book.prompts["preference"])
    ranked = [found for asked, given in drawn[:to_rank] if (found := rank(asked, given, options.drop_similar))]
    preferences = [preference for preference in ranked if steps.holds(preference)]
    clear = [preference for preference in preferences if preference.clear]
    learnt = [preference for preference in clear if not preference.held_out]
    if not learnt:
        raise InputError(
            f"the sampled answers to {to_rank} prompts give no preference to learn from",
            where="posttrain",
            do="train the seed policy longer, or raise the number of prompts or sampling.samples_per_prompt",
        )
    write_jsonl(work.out / "preferences.jsonl", (preference.as_json() for preference in preferences))
    reward_folder = work.scratch / "reward" / MODEL
    train_reward(steps.models["base"], learnt, steps.tokenizer, options.reward, steps.setting, reward_folder)

    groups = list(sampled_candidates(drawn[to_rank:], "seed", steps.sampling))
    held_out_scores = steps.reward(groups, [preference for preference in clear if preference.held_out])
    for group in groups:
        choose_best(group)
    candidates = [*references, *(candidate for group in groups for candidate in group)]
    curated = steps.curated(candidates)
    write_jsonl(work.out / "samples.jsonl", (candidate.as_json() for candidate in candidates))
    steps.sft("sft", "seed" if options.sft_start == "seed" else "base", options.sft, curated)
    train_dpo(steps.models["sft"], learnt, steps.tokenizer, options.dpo, steps.setting, steps.models["final"])

    asked = book.prompts["held_out"]
    answers = {name: steps.answers(name, book) for name in steps.models}
    write_jsonl(work.out / "answers.jsonl", answer_rows(asked, answers))
    shown = {
        **summary.prompt_figures(book),
        **summary.success_figures(asked, answers),
        "sampling": summary.sampling_figures(drawn, options.sampling),
        "preferences": summary.preference_figures(to_rank, len(ranked), preferences),
        "reward": summary.reward_figures(held_out_scores),
        "rejection": summary.rejection_figures(groups),
        "curation": summary.curation_figures(candidates, curated),
        "dpo": {
            "pairs": len(learnt),
            "unclear": len(preferences) - len(clear),
            "beta": options.dpo.beta,
            "nll": options.dpo.nll,
        },
        "sft_start": options.sft_start,
        "averaged": {
            "seed": options.seed_policy.average,
            "reward": options.reward.average,
            "sft": options.sft.average,
            "dpo": options.dpo.average,
        },
        "curves": {name: summary.thinned(read_curve(name, steps.setting)) for name in ("seed", "reward", "sft", "dpo")},
        "chat": steps.chat(),
    }
    work.summarise(shown)
    work.counts |= {
        "prompts": sum(map(len, book.prompts.values())),
        "samples": shown["sampling"]["samples"],
        "preferences": len(preferences),
        "sft_dialogs": len(curated.samples),
        "dpo_pairs": len(learnt),
    }
    rates = {name: entry["rate"] for name, entry in shown["success"]["all"]["models"].items()}
    work.metrics |= {"success": rates, "reward_accuracy": shown["reward"]["accuracy"]}


class _Steps:
    """The steps that need the stage's folders, tokenizer and device. A step whose result is in scratch reads it."""

    def __init__(self, options: PosttrainOptions, work: Work, device: torch.device):
        self.options, self.work, self.device = options, work, device
        self.tokenizer = Tokenizer.load(work.inputs["tokenizer"])
        self.models = {
            "base": work.inputs["pretrain"] / MODEL,
            "seed": work.scratch / "seed" / MODEL,
            "sft": work.scratch / "sft" / MODEL,
            "final": work.out / MODEL,
        }
        self.context_length = load_model(self.models["base"]).options.context_length
        self.sampling = Sampling(
            max_new_tokens=options.sampling.max_new_tokens,
            temperature=options.sampling.temperature,
            top_p=options.sampling.top_p,
            seed=work.seed,
        )
        self.greedy = Sampling(max_new_tokens=options.sampling.max_new_tokens, temperature=0.0)
        self.setting = Setting(
            optimizer=options.optimizer,
            scratch=work.scratch,
            logs=work.logs,
            device=device,
            precision=resolve_precision("auto", device),
            checkpoint_seconds=options.checkpoint_seconds,
            progress=work.progress,
            seed=work.seed,
            filler=self.tokenizer.pad,
            events=EventLog(work.out.parent / EVENTS, stage=work.stage),
        )

    def prompts(self) -> PromptBook:
        folder = self.work.scratch / "prompts"
        if not (folder / "prompts.jsonl").exists():
            documents, seed, progress = self.work.inputs["documents"], self.work.seed, self.work.progress
            made = make_prompts(self.options.prompts, documents, self._fits, seed, progress)
            if not all(made.prompts.values()):
                raise InputError(
                    f"the model's context of {self.context_length} tokens holds too few prompts with their answers",
                    where="model.context_length",
                    do="raise it, or lower posttrain.sampling.max_new_tokens",
                )
            made.save(folder)
        return PromptBook.load(folder)

    def curated(self, candidates: Sequence[Candidate]) -> Curated:
        """What the rules keep of the candidates that are to be trained on; the others are told why not."""
        chosen = [candidate.sample for candidate in candidates if candidate.use == TRAINED]
        found = curate(chosen, POLICY, self.tokenizer, self.context_length)
        dropped = {id(sample): reason for sample, reason in found.dropped}
        for candidate in candidates:
            candidate.use = dropped.get(id(candidate.sample), candidate.use)
        return found

    def sft(self, name: str, start: str, options: FineTuneOptions, curated: Curated) -> None:
        share, seed = self.options.prompts.more_turns, self.work.seed
        dialogs = list(join_turns(curated.samples, share, seed, self.tokenizer, self.context_length))
        train_sft(name, self.models[start], dialogs, self.tokenizer, options, self.setting, self.models[name])

    def sample(self, book: PromptBook) -> Drawn:
        """The seed model's answers to the prompts for preferences, then to those for rejection sampling."""
        asked = [*book.prompts["preference"], *book.prompts["rejection"]]
        samples = self.options.sampling.samples_per_prompt
        return self._draw("seed", ChatManner(self.tokenizer), "samples", asked, book, samples, self.sampling)

    def answers(self, name: str, book: PromptBook) -> list[Response]:
        """A model's likeliest answers to the held-out prompts."""
        manner: Manner = ChatManner(self.tokenizer)
        if name == "base":
            room = self.context_length - self.greedy.max_new_tokens
            manner = PlainManner(self.tokenizer, book.prompts["annotated"], room)
        drawn = self._draw(name, manner, f"answers/{name}", book.prompts["held_out"], book, 1, self.greedy)
        return [response for _, (response,) in drawn]

    def reward(
        self, groups: Sequence[Sequence[Candidate]], held_out: Sequence[Preference]
    ) -> list[tuple[float, float]]:
        """Gives every candidate its reward; returns the rewards of the best and the worst of each preference."""
        candidates = [candidate for group in groups for candidate in group]
        path = self.work.scratch / "rewards.json"
        if not path.exists():
            model = load_model(self.work.scratch / "reward" / MODEL, self.device)
            dialogs = [(c.sample.messages[:-1], c.sample.messages[-1].content) for c in candidates]
            dialogs += [(p.messages, response) for p in held_out for response in (p.responses[0], p.responses[-1])]
            write_json(
                path, [round(reward, 5) for reward in score_dialogs(model, self.tokenizer, dialogs, self.device)]
            )
        rewards = read_json(path)
        for candidate, reward in zip(candidates, rewards, strict=False):
            candidate.reward = reward
        pairs = iter(rewards[len(candidates) :])
        return list(zip(pairs, pairs, strict=True))

    def chat(self) -> list[dict[str, Any]]:
        """What the models that can chat say to what people say first."""
        asked = [encode(self.tokenizer, [Message("user", text)], reply=True)[0] for text in summary.CHAT]
        replies = {}
        for name in ("seed", "sft", "final"):
            completions = self._engine(name).generate(asked, self.greedy)
            replies[name] = [decode_reply(self.tokenizer, completion.ids).content for completion in completions]
        return [
            {"prompt": text, "answers": {name: given[place] for name, given in replies.items()}}
            for place, text in enumerate(summary.CHAT)
        ]

    def holds(self, preference: Preference) -> bool:
        """True if the model's context holds each of the responses with its prompt."""
        return all(len(row.ids) <= self.context_length for row in preference_rows(self.tokenizer, preference))

    def _fits(self, prompt: Prompt) -> bool:
        asked = len(encode(self.tokenizer, prompt.messages, reply=True)[0])
        return asked + self.options.sampling.max_new_tokens <= self.context_length

    def _engine(self, name: str) -> Engine:
        return LocalEngine(load_model(self.models[name], self.device), self.tokenizer)

    def _draw(
        self,
        name: str,
        manner: Manner,
        folder: str,
        asked: Sequence[Prompt],
        book: PromptBook,
        samples: int,
        sampling: Sampling,
    ) -> Drawn:
        label = f"answers of {name}"
        path, progress = self.work.scratch / folder, self.work.progress
        return list(draw(label, self._engine(name), manner, asked, book.library, samples, sampling, path, progress))
