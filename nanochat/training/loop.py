"""The training loop, read top-down in `train`; pretraining and finetuning share it by what they put into a TrainingRun.

In: a model, its optimizers, a loader and callbacks for what surrounds a step. Out: the model trained in place, a
checkpoint in its folder. It decides nothing that a recipe declares.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import attrs
import torch
from torch import Tensor

from nanochat.data.loader import Batch
from nanochat.errors import NanochatError, Stopped, stage_failure
from nanochat.runtime import Runtime
from nanochat.training import schedule
from nanochat.training.exchange import Exchange
from nanochat.training.optimizer import Optimizer
from nanochat.training.schedule_config import ScheduleConfig
from nanochat.training.share import shares

SMOOTHING = 0.9
"""Decay of the loss that the progress shows: about the last ten steps."""


ASK_SECONDS = 1.0
"""How long the loop waits for data before it asks whether to stop."""


class Loader(Protocol):
    """What the loop needs of a loader."""

    def ready(self, seconds: float) -> bool:
        """Whether the next batch, or what went wrong in making it, is there; waits for it at most so long."""

    def next_batch(self) -> Batch:
        """This rank's rows of the next step."""


@attrs.define(kw_only=True)
class TrainingRun:
    """A run in progress: its parts, its settings, and where it stands."""

    model: Any
    """The module, compiled or not: called as model(ids, targets, reduction="sum")."""
    optimizers: Mapping[str, Optimizer]
    loader: Loader
    runtime: Runtime
    schedule: ScheduleConfig
    steps: int | None
    """None: until `fraction` reaches 1."""
    fraction: Callable[[int], float]
    """Step → share of the run that is done, 0 … 1."""
    device_batch_size: int
    grad_clip: float = 0.0
    log_every: int = 10
    checkpoint_every: int | None = None
    checkpoint_seconds: float = 600.0
    metrics: Callable[[int, Mapping[str, float]], None]
    progress: Callable[[int, int, Mapping[str, float]], None]
    evaluate: Callable[[int], Mapping[str, float]]
    """Step → figures of the evaluations that are due then; usually none."""
    save: Callable[[], None]
    should_stop: Callable[[], bool]
    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Tokens computed by all ranks, padding included."""
    saved_step: int = -1
    done: float = 0.0
    """The share of the run that is done, as of its last step."""

    exchange: Exchange = attrs.field()
    """Between the processes; by default every process updates every parameter."""

    @exchange.default
    def _replicated(self) -> Exchange:
        layout = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        shared = shares(layout, shard="none", world_size=self.runtime.world_size)
        return Exchange(self.model, shared, self.runtime)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.step >= self.steps if self.steps is not None else self.done >= 1.0


def train(run: TrainingRun) -> None:
    """Train until the run is finished; raise Stopped, with everything saved, when asked to stop."""
    run.model.train()
    smoothed, saved_at, logged_at, logged_tokens = math.nan, time.monotonic(), time.monotonic(), run.tokens
    waited = 0.0  # seconds for data since the last line of the log
    run.done = run.fraction(run.step)
    while not run.finished:
        lr = schedule.apply(run.schedule, run.optimizers.values(), run.step, run.done)

        asked_at = time.monotonic()
        batch = next_batch(run)
        waited += time.monotonic() - asked_at
        loss = accumulate_gradients(run, batch)
        if not math.isfinite(loss):
            raise stage_failure(
                "E501",
                f"the loss is {loss} at step {run.step}; no weight was updated by it",
                help="lower the learning rates, or set grad_clip = 1.0; the last checkpoint is intact",
            )
        norm = clip_gradients(run.exchange, run.grad_clip) if run.grad_clip else None
        for optimizer in run.optimizers.values():
            optimizer.step()
        run.exchange.spread()
        run.exchange.forget()

        run.step += 1
        run.done = run.fraction(run.step)
        run.tokens += batch.inputs.numel() * run.runtime.world_size
        smoothed = loss if math.isnan(smoothed) else SMOOTHING * smoothed + (1 - SMOOTHING) * loss
        if run.step % run.log_every == 0 or run.finished:
            now = time.monotonic()
            figures = {
                "loss": loss,
                "lr_multiplier": lr,
                "tokens": float(run.tokens),
                "tokens_per_second": (run.tokens - logged_tokens) / (now - logged_at),
                "data_wait": waited / (now - logged_at),  # the share of the time in which the loop waited for a batch
            }
            run.metrics(run.step, figures if norm is None else figures | {"gradient_norm": norm})
            logged_at, logged_tokens, waited = now, run.tokens, 0.0
        run.progress(run.step, expected_steps(run), {"loss": smoothed, "tokens": float(run.tokens)})

        try:
            evaluated = run.evaluate(run.step)
        except Stopped:
            run.save()
            raise
        if evaluated:
            run.metrics(run.step, evaluated)
            run.model.train()
            logged_at, logged_tokens, waited = time.monotonic(), run.tokens, 0.0
        stop = run.should_stop()
        overdue = run.runtime.any(time.monotonic() - saved_at >= run.checkpoint_seconds)
        due = run.checkpoint_every is not None and run.step % run.checkpoint_every == 0
        if stop or overdue or due or run.finished:
            run.save()
            run.saved_step, saved_at = run.step, time.monotonic()
        if stop and not run.finished:
            raise Stopped


def next_batch(run: TrainingRun) -> Batch:
    """The rows of the next step. Stopped, with everything saved, when asked to stop while any rank waits for data."""
    while run.runtime.any(not run.loader.ready(ASK_SECONDS)):  # all ranks ask equally often
        if run.should_stop():
            run.save()
            raise Stopped
    try:
        return run.loader.next_batch()
    except NanochatError:
        if run.runtime.world_size == 1:  # the data may be all right on other ranks, and a checkpoint needs them all
            run.save()
        raise


def accumulate_gradients(run: TrainingRun, batch: Batch) -> float:
    """Forward and backward over a step's rows, `device_batch_size` at a time; gradients summed over ranks.

    Returns the mean loss over all ranks, in nats a target. The mean is over targets, not over micro-batches, so that
    neither masks nor the device batch size change it.
    """
    device = run.runtime.device
    n_targets = run.runtime.sum((batch.targets >= 0).sum().to(device))
    scale = 1.0 / n_targets.clamp(min=1)
    lanes = [lane.split(run.device_batch_size) for lane in run.exchange.lanes(batch)]
    for lane in lanes:
        found = []
        for part in lane:
            if part is lanes[-1][-1]:
                run.exchange.expect()
            loss: Tensor = losses(run.model, part, device) * scale
            loss.backward()
            found.append(loss.detach())
        run.exchange.lane_done(found)
    return float(run.runtime.sum(run.exchange.complete()))


def losses(model: Any, batch: Batch, device: torch.device) -> Tensor:
    """The sum of the losses of a batch's targets, in nats. From pinned memory, the copies run beside the model."""
    inputs, targets = batch.inputs.to(device, non_blocking=True), batch.targets.to(device, non_blocking=True)
    if batch.documents is None:
        loss = model(inputs, targets, reduction="sum")
    else:
        loss = model(inputs, targets, reduction="sum", documents=batch.documents.to(device, non_blocking=True))
    return cast(Tensor, loss)


def clip_gradients(exchange: Exchange, largest: float) -> float:
    """Scale all gradients so that their joint norm is at most `largest`; returns the norm before."""
    norm = float(exchange.norm())
    if norm > largest:
        torch._foreach_mul_(exchange.gradients(), largest / (norm + 1e-6))
    return norm


def expected_steps(run: TrainingRun) -> int:
    """The run's length in steps; estimated from the share that is done where the data decides it."""
    if run.steps is not None:
        return run.steps
    return max(run.step, round(run.step / max(run.done, 1e-9)))
