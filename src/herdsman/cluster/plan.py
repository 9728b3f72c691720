"""What a recipe takes: exact parameters, training tokens and floating-point operations. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from herdsman.model.count import SPECIAL_TOKENS, ParameterCount, count_parameters, training_flops
from herdsman.model.options import ModelOptions
from herdsman.training.hyperparameters import Hyperparameters
from herdsman.training.options import PretrainOptions
from herdsman.training.schedule import Schedule

CHINCHILLA_TOKENS_PER_PARAMETER = 20


@dataclass(frozen=True)
class PhasePlan:
    """One row of the schedule, with what it costs.

    Attributes:
        most_tokens: by which its gate may prolong it.
    """

    name: str
    steps: int
    tokens: int
    batch_tokens: int
    sequence_length: int
    flops: float
    most_tokens: int


@dataclass(frozen=True)
class Plan:
    """Figures that follow from the recipe alone.

    Attributes:
        flops_6nd: 6 * parameters * tokens.
        flops: matrix products and attention, by phase; attention counted whole, as most published figures do.
        chinchilla_multiple: training tokens over 20 a parameter.
        rates: learning rates and warmup, and which of them follow from the size.
    """

    vocab_size: int
    parameters: ParameterCount
    tokens: int
    steps: int
    flops_6nd: float
    flops: float
    chinchilla_multiple: float
    rates: Hyperparameters
    phases: list[PhasePlan]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"parameters": asdict(self.parameters) | {"total": self.parameters.total}}


def plan(model: ModelOptions, bpe_tokens: int, pretrain: PretrainOptions) -> Plan:
    """Counts what pretraining takes.

    Args:
        bpe_tokens: tokens of the vocabulary without the special ones.
    """
    vocab_size = bpe_tokens + SPECIAL_TOKENS
    parameters = count_parameters(model, vocab_size)
    schedule = Schedule(pretrain, parameters.total)
    phases = [
        PhasePlan(
            phase.name,
            phase.steps,
            phase.steps * phase.batch_tokens,
            phase.batch_tokens,
            phase.sequence_length,
            training_flops(model, vocab_size, phase.steps * phase.batch_tokens, phase.sequence_length),
            phase.gate.most_tokens if phase.gate else 0,
        )
        for phase in pretrain.phases
    ]
    return Plan(
        vocab_size=vocab_size,
        parameters=parameters,
        tokens=schedule.tokens,
        steps=schedule.steps,
        flops_6nd=training_flops(model, vocab_size, schedule.tokens),
        flops=sum(phase.flops for phase in phases),
        chinchilla_multiple=schedule.tokens / (CHINCHILLA_TOKENS_PER_PARAMETER * parameters.total),
        rates=schedule.rates,
        phases=phases,
    )
