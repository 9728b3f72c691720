"""Options of what keeps a long run healthy. The defaults never act on a healthy run."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class SpikeOptions(Options):
    """When a step is skipped and when training goes back to a checkpoint. Meta did not publish its rule."""

    window_steps: int = Field(128, ge=16, description="Accepted steps whose median is the level to compare with.")
    sigmas: float = Field(6.0, gt=0, description="A spike lies more than this many robust deviations above the level.")
    tail_factor: float = Field(
        4.0, gt=0, description="And this many times higher above it than any accepted step of late, for heavy tails."
    )
    loss_rise: float = Field(0.05, ge=0, description="And, for the loss, at least this share of the level above it.")
    norm_factor: float = Field(4.0, ge=1, description="And, for the gradient norm, at least this many times the level.")
    sustained_rise: float = Field(
        0.1, gt=0, description="Roll back when the median loss stays this share above its lowest of late."
    )
    skips_before_rollback: int = Field(8, ge=1, description="Steps skipped in a row before training rolls back.")
    rollbacks_before_stop: int = Field(
        3, ge=1, description="Times training may roll back to about the same place; then it stops with an error."
    )


class StragglerOptions(Options):
    """When a rank is named as slow."""

    window_steps: int = Field(10, ge=2, description="Steps between comparisons of the ranks.")
    slower: float = Field(0.15, gt=0, description="A straggler takes this share longer than its peers.")
    windows: int = Field(2, ge=1, description="Comparisons in a row that must say so.")


class WatchdogOptions(Options):
    """When a run that makes no progress is ended, to be started again."""

    timeout_seconds: float = Field(600, gt=0, description="Time without a sign of life from a rank's training loop.")
    first_step_seconds: float = Field(3600, gt=0, description="The same until the first step is done.")
    gather_seconds: float = Field(20, gt=0, description="Time to wait for what the other ranks have to say of a hang.")


class HealthOptions(Options):
    """Watching over a long run."""

    spikes: SpikeOptions = Field(SpikeOptions(), description="Loss spikes and numbers that are not finite.")
    stragglers: StragglerOptions = Field(StragglerOptions(), description="Slow ranks.")
    watchdog: WatchdogOptions = Field(WatchdogOptions(), description="Hangs.")
