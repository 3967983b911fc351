"""Schedules: what learning rate, momentum and weight decay are at a point of a run.

In: a ScheduleConfig, the step and how far the run is. Out: plain numbers, applied to optimizers' param groups.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from nanochat.training.optimizer import Optimizer
from nanochat.training.schedule_config import ScheduleConfig


def lr_multiplier(schedule: ScheduleConfig, step: int, fraction: float) -> float:
    """Learning rate over its peak. step counts from 0; fraction is the share of the run that is done, 0 … 1."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if fraction <= 1 - schedule.warmdown_ratio:
        return 1.0
    left = max(0.0, 1 - fraction) / schedule.warmdown_ratio
    return schedule.final_lr + (1 - schedule.final_lr) * left


def momentum(schedule: ScheduleConfig, step: int, fraction: float) -> float:
    """Linear from start to peak over the momentum warmup, then linear to its end over the warmdown."""
    if step < schedule.momentum_warmup_steps:
        share = step / schedule.momentum_warmup_steps
        return (1 - share) * schedule.momentum_start + share * schedule.momentum_peak
    if fraction <= 1 - schedule.warmdown_ratio:
        return schedule.momentum_peak
    left = max(0.0, 1 - fraction) / schedule.warmdown_ratio
    return schedule.momentum_end + (schedule.momentum_peak - schedule.momentum_end) * left


def decay_multiplier(schedule: ScheduleConfig, fraction: float) -> float:
    """Weight decay over its start: a half cosine to 0, or constant."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))) if schedule.decay == "cosine" else 1.0


def remember_peaks(optimizers: Iterable[Optimizer], lr_factor: float = 1.0) -> None:
    """Keep what each group was built with, as the values that `apply` scales."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"] * lr_factor
            group["peak_weight_decay"] = group.get("weight_decay", 0.0)


def apply(schedule: ScheduleConfig, optimizers: Iterable[Optimizer], step: int, fraction: float) -> None:
    """Set every group's learning rate, momentum and decay for a step."""
    multiplier = lr_multiplier(schedule, step, fraction)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
            if "momentum" not in group or group.get("constant"):
                continue
            group["momentum"] = momentum(schedule, step, fraction)
            if "weight_decay" in group:
                group["weight_decay"] = group["peak_weight_decay"] * decay_multiplier(schedule, fraction)


def rates(optimizers: Mapping[str, Sequence[Optimizer]]) -> dict[str, float]:
    """ "lr.GROUP": the learning rate that `apply` set, of each group of which this process updates something."""
    return {f"lr.{name}": float(of_group[0].param_groups[0]["lr"]) for name, of_group in optimizers.items() if of_group}
