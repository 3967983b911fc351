"""The training loop, read top-down in `train`; all training stages share it by what they put into a TrainingRun.

In: a model, its optimizers, a loader and callbacks for what surrounds a step. Out: the model trained in place, a
checkpoint in its folder. It decides nothing that a recipe declares.

The host waits for the device once a step, where the ranks agree on it (`agree`); all that a step must know is exchanged
there in one sum: a GPU is not kept waiting by a question each for stopping, saving and data. Checkpoints are written
beside the steps (nanochat/training/saves.py); the loop waits for the last one, and for that of a stop.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn

from nanochat.data.loader import Batch
from nanochat.errors import NanochatError, Stopped
from nanochat.runtime import Runtime
from nanochat.training import nonfinite, schedule
from nanochat.training.agreement import Agreed, agree
from nanochat.training.exchange import Exchange
from nanochat.training.factored_gradient import make_dense
from nanochat.training.loss_scale import LossScale
from nanochat.training.memory import peak_memory_bytes
from nanochat.training.meter import Meter
from nanochat.training.objective import Objective, cross_entropy
from nanochat.training.optimizer import Optimizer
from nanochat.training.saves import Saves
from nanochat.training.schedule_config import ScheduleConfig
from nanochat.training.share import shares
from nanochat.training.step_memory import StepMemory

ASK_SECONDS = 1.0
"""How long the loop waits for data before it asks whether to stop."""
MEASURED_WEIGHTS = 2**24
"""64 MB a group: the most that is copied to tell how much a step changed."""


class Loader(Protocol):
    """What the loop needs of a loader."""

    def ready(self, seconds: float) -> bool:
        """Whether the next batch, or what went wrong in making it, is there; waits for it at most so long."""

    def next_batch(self) -> Batch:
        """This rank's rows of the next step."""

    def position(self) -> Mapping[str, float]:
        """How far it has read, for the metrics: epochs, shards, documents by source."""


@attrs.define(kw_only=True)
class TrainingRun:
    """A run in progress: its parts, its settings, and where it stands."""

    model: Any
    """The module, compiled or not: called as model(ids, targets, reduction="sum")."""
    optimizers: Mapping[str, Sequence[Optimizer]]
    """Group → those of its optimizers that this process has: one, several, or none."""
    loader: Loader
    runtime: Runtime
    schedule: ScheduleConfig
    steps: int | None
    """None: until `fraction` reaches 1."""
    fraction: Callable[[int], float]
    """Step → share of the run that is done, 0 … 1, once its batch was taken."""
    device_batch_size: int
    objective: Objective = cross_entropy
    """What is minimised: by default the cross-entropy of the targets."""
    grad_clip: float = 0.0
    log_every: int = 10
    checkpoint_every: int | None = None
    checkpoint_seconds: float = 600.0
    metrics: Callable[[int, Mapping[str, float]], None]
    progress: Callable[[int, int, Mapping[str, float]], None]
    evaluate: Callable[[int], Mapping[str, float]]
    """Step → figures of the evaluations that are due then; usually none."""
    save: Callable[[], None]
    """Begin a checkpoint of the run as it stands."""
    stop_asked: Callable[[], bool]
    """Whether this rank was asked to stop; the loop asks all of them equally often, and exchanges it."""
    take_save_request: Callable[[], bool] = lambda: False
    """Whether this rank was asked for a checkpoint since the last call: one that is asked is enough."""
    folder: Path | None = None
    """Where a batch is written down whose loss is not finite; None: nowhere."""
    told: Callable[[], Mapping[str, float]] = dict
    """More figures of a step, for its line of metrics. All ranks ask."""
    shown: Callable[[], Mapping[str, float]] = dict
    """Those that a person who watches is shown at every step, beside the meter's."""
    loss_scale: LossScale | None = attrs.field()
    meter: Meter = attrs.field(factory=Meter)
    memory: StepMemory = attrs.field()
    """Looks at the memory of some steps; by default of none."""
    step: int = 0
    """Steps done."""
    tokens: int = 0
    """Tokens computed by all ranks, padding included."""
    saved_step: int = -1
    done: float = 0.0
    """The share of the run that is done, as of the last batch taken."""

    @loss_scale.default
    def _needed_scale(self) -> LossScale | None:
        return LossScale() if self.runtime.dtype == torch.float16 else None

    @memory.default
    def _of_no_step(self) -> StepMemory:
        return StepMemory(device=self.runtime.device)

    exchange: Exchange = attrs.field()
    """Between the processes; by default every process updates every parameter."""

    @exchange.default
    def _replicated(self) -> Exchange:
        layout = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        shared = shares(layout, shard="none", world_size=self.runtime.world_size)
        return Exchange(self.model, shared, self.runtime)

    saves: Saves = attrs.field()
    """What `save` began and may not have ended."""

    @saves.default
    def _in_the_loop(self) -> Saves:
        return Saves(self.runtime, background=False)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.finished_at(self.step)

    def finished_at(self, step: int) -> bool:
        """Whether no step is left when so many are done."""
        return step >= self.steps if self.steps is not None else self.done >= 1.0


def train(run: TrainingRun) -> None:
    """Train until the run is finished; raise Stopped, with everything saved, when asked to stop."""
    run.model.train()
    run.meter.begin()
    run.done, saved_at, all_ready = run.fraction(run.step), time.monotonic(), False
    while not run.finished:
        schedule.apply(run.schedule, itertools.chain(*run.optimizers.values()), run.step, run.done)

        with run.meter.waiting():
            batch = next_batch(run, all_ready=all_ready)
        run.done = run.fraction(run.step + 1)
        shown = (run.step + 1) % run.log_every == 0 or run.finished_at(run.step + 1)

        run.memory.begin()
        loss, parts = accumulate_gradients(run, batch)
        norm = run.exchange.norm()
        agreed = agree(
            run.runtime,
            loss,
            norm,
            scale=run.loss_scale.factor if run.loss_scale else 1.0,
            stop=run.stop_asked(),
            overdue=run.take_save_request() or time.monotonic() - saved_at >= run.checkpoint_seconds,
            waits=not run.loader.ready(0.0),
            writing=run.saves.writing,
        )
        if agreed.all_written:
            run.saves.commit()
        require_finite(run, agreed, batch, parts)
        changes = update(run, agreed, measured=shown)
        run.memory.end()

        run.step += 1
        tokens = batch.inputs.numel() * run.runtime.world_size
        run.tokens += tokens
        run.meter.add(agreed.loss, tokens)
        if shown:
            run.metrics(run.step, figures(run, agreed) | changes)
        run.progress(run.step, expected_steps(run), {**run.meter.shown, **run.shown(), "tokens": float(run.tokens)})
        all_ready = agreed.all_ready

        with run.meter.pause():
            evaluate(run)
            due = run.checkpoint_every is not None and run.step % run.checkpoint_every == 0
            if agreed.stop or agreed.overdue or due or run.finished:
                save(run, wait=agreed.stop or run.finished)
                run.saved_step, saved_at = run.step, time.monotonic()
        if agreed.stop and not run.finished:
            raise Stopped


def next_batch(run: TrainingRun, *, all_ready: bool) -> Batch:
    """The rows of the next step. Stopped, with everything saved, when asked to stop while any rank waits for data.

    all_ready: the ranks know already that each of them has its rows.
    """
    while not all_ready and run.runtime.any(not run.loader.ready(ASK_SECONDS)):  # all ranks ask equally often
        if run.runtime.any(run.stop_asked()):
            save(run, wait=True)
            raise Stopped
    try:
        return run.loader.next_batch()
    except Stopped:  # a loader that takes long asks all ranks itself
        save(run, wait=True)
        raise
    except NanochatError:
        if run.runtime.world_size == 1:  # the data may be all right on other ranks, and a checkpoint needs them all
            save(run, wait=True)
        raise


def accumulate_gradients(run: TrainingRun, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Forward and backward over a step's rows, `device_batch_size` at a time; gradients summed over ranks.

    Returns the losses of this rank's parts, in nats, each divided by the targets of all ranks: the sum of all of them
    is the step's mean loss. The mean is over targets, not over micro-batches, so that neither masks nor the device
    batch size change it. Gradients are multiplied by the loss scale, where there is one.
    """
    device = run.runtime.device
    n_targets = run.runtime.sum((batch.targets >= 0).sum().to(device))
    scale = 1.0 / n_targets.clamp(min=1)
    lanes = [lane.split(run.device_batch_size) for lane in run.exchange.lanes(batch)]
    found: list[Tensor] = []
    for lane in lanes:
        for part in lane:
            if part is lanes[-1][-1]:
                run.exchange.expect()
            loss = run.objective(run.model, part, device) * scale
            (loss * run.loss_scale.factor if run.loss_scale else loss).backward()
            found.append(loss.detach())
        run.exchange.lane_done(found[-len(lane) :])
    return run.exchange.complete(), found


def require_finite(run: TrainingRun, agreed: Agreed, batch: Batch, parts: Sequence[Tensor]) -> None:
    """StageError E501 on every rank, the batch written down, unless loss and gradients are finite.

    parts: the losses of this rank's parts. Gradients that overflow under a loss scale are no fault. All ranks come here
    alike, for what is asked is agreed: they exchange who is at fault.
    """
    if not math.isfinite(agreed.loss):
        what, value = "the loss", agreed.loss
    elif not math.isfinite(agreed.gradient_norm) and run.loss_scale is None:
        what, value = "the gradient's norm", agreed.gradient_norm
    else:
        return
    rank, own = run.runtime.rank, [float(part) for part in parts]
    at_fault = run.runtime.which(not all(map(math.isfinite, own)))
    place = nonfinite.dump(run.folder, run.step, rank, batch, own) if run.folder else None
    raise nonfinite.failure(what, value, run.step, at_fault, rank, own, place)


def update(run: TrainingRun, agreed: Agreed, *, measured: bool) -> dict[str, float]:
    """Scale and clip the gradients, step every optimizer, spread what it updated, forget the gradients.

    measured: returns "update.GROUP", the norm of what was added to a group's weights over the norm of these. It takes a
    copy, so of a group beyond MEASURED_WEIGHTS only every second, third … row is looked at.
    """
    norm, factor = agreed.gradient_norm, 1.0
    if run.loss_scale is not None:
        factor = 1 / run.loss_scale.factor
        if not run.loss_scale.accepts(overflowed=not math.isfinite(norm)):
            run.exchange.forget()
            return {}
    if run.grad_clip and norm > run.grad_clip:
        factor *= run.grad_clip / (norm + 1e-6)
    if factor != 1.0:
        torch._foreach_mul_(run.exchange.gradients(), factor)
    changes = torch.zeros(
        len(run.optimizers), 2, device=run.runtime.device
    )  # squares: of what is added, of the weights
    for change, optimizers in zip(changes, run.optimizers.values(), strict=True):
        for optimizer in optimizers:
            rows = rows_of(optimizer) if measured else []
            before = [row.clone() for row in rows]
            make_dense(optimizer)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # before the next one takes its room
            if measured:
                torch._foreach_sub_(before, rows)
                norms = [nn.utils.get_total_norm(tensors).to(change.device) for tensors in (before, rows)]
                change += torch.stack(norms).square()
    run.exchange.spread()
    run.exchange.advance()
    run.exchange.forget()
    if not measured:
        return {}
    moved, weights = run.runtime.sum(changes).sqrt().unbind(1)  # of what all ranks update
    return {f"update.{name}": ratio for name, ratio in zip(run.optimizers, (moved / weights).tolist(), strict=True)}


def rows_of(optimizer: Optimizer) -> list[Tensor]:
    """Views of an optimizer's weights, at most MEASURED_WEIGHTS or so: the same share of every parameter's rows."""
    weights = [p.detach() for group in optimizer.param_groups for p in group["params"]]
    stride = max(1, math.ceil(sum(w.numel() for w in weights) / MEASURED_WEIGHTS))
    return [w[::stride] if w.ndim else w for w in weights]


def figures(run: TrainingRun, agreed: Agreed) -> dict[str, float]:
    """A line of metrics.jsonl."""
    found = {
        "loss": agreed.loss,
        "smoothed_loss": run.meter.smoothed_loss,
        "tokens": float(run.tokens),
        **run.meter.figures(expected_steps(run) - run.step),
        "peak_memory_bytes": float(peak_memory_bytes(run.runtime.device)),
        **schedule.rates(run.optimizers),
        **{f"data.{name}": float(value) for name, value in run.loader.position().items()},
        **run.told(),
        "gradient_norm": agreed.gradient_norm,
    }
    return found | (run.loss_scale.figures() if run.loss_scale else {})


def save(run: TrainingRun, *, wait: bool) -> None:
    """Begin a checkpoint; wait: until it is one."""
    run.save()
    if wait:
        run.saves.finish()


def evaluate(run: TrainingRun) -> None:
    """The evaluations that are due; Stopped, with everything saved, when one of them is asked to stop."""
    try:
        evaluated = run.evaluate(run.step)
    except Stopped:
        save(run, wait=True)
        raise
    if evaluated:
        run.metrics(run.step, evaluated)
        run.model.train()


def expected_steps(run: TrainingRun) -> int:
    """The run's length in steps; estimated from the share that is done where the data decides it."""
    if run.steps is not None:
        return run.steps
    return max(run.step, round(run.step / max(run.done, 1e-9)))
