"""What torch's allocator holds during a real training step, told by the profiler: the outside truth of the estimates.

In: a resolved recipe and its pretraining stage. Out: bytes at the marks of two steps of the loop's own forward,
backward and optimizers.
"""

import gc
from typing import Any, cast

import attrs
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from nanochat.data.loader import Batch
from nanochat.recipe.resolved import Stage
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.stages import optimizers
from nanochat.stages.context import StageContext
from nanochat.training.loop import TrainingRun, accumulate_gradients
from nanochat.training.objective import cross_entropy

MARK = "mark:"


@attrs.frozen(kw_only=True)
class Tracked:
    """Bytes, measured."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Held when the forward pass has ended, the logits' copies included."""
    workspace: int
    """The most that one optimizer's step needs beside what stands before it."""
    peak: int


def tracked(stage: Stage) -> Tracked:
    """Build the stage's model and optimizers, take two steps, read the allocator's events."""
    config, hardware = stage.config, stage.hardware
    runtime = local_runtime(device="cpu", dtype=hardware.dtype)
    registry = load_registry()

    def build(component: Any, *arguments: Any) -> Any:
        return registry.builder(component.kind, component.use)(component.config, *arguments)

    silent = attrs.make_class("Silent", ["note"])(lambda _: None)
    surroundings = attrs.make_class("Context", ["build", "runtime", "reporter"])(build, runtime, silent)
    context = cast(StageContext, surroundings)
    rows, T = config.total_batch_size // config.model.config.sequence_len, config.model.config.sequence_len
    ids = torch.randint(0, config.model.config.vocab_size, (rows, T + 1))
    batch = Batch(inputs=ids[:, :-1].contiguous(), targets=ids[:, 1:].contiguous())
    del ids
    gc.collect()  # so that nothing of an earlier test is freed within
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _mark("start")
        model = build(config.model, runtime)
        for transform in config.transforms.values():
            model = build(transform, model, runtime)
        _mark("built")
        exchange, updaters = optimizers.build(config, model, context, 1.0)

        def forward(*arguments: Any, **keywords: Any) -> Any:
            loss = model(*arguments, **keywords)
            _mark("forward")
            return loss

        run = cast(
            TrainingRun,
            attrs.make_class("Run", ["model", "runtime", "exchange", "device_batch_size", "loss_scale", "objective"])(
                forward, runtime, exchange, config.device_batch_size, None, cross_entropy
            ),
        )
        for _ in range(2):
            _mark("before")
            accumulate_gradients(run, batch)
            _mark("after")
            for updater in updaters:
                _mark("update")
                updater.optimizer.step()
                _mark("updated")
                updater.optimizer.zero_grad(set_to_none=True)
    return _read(profiler)


def _mark(name: str) -> None:
    with record_function(MARK + name):
        pass


def _read(profiler: Any) -> Tracked:
    """Sum up the allocator's events to what stands at each mark, and to the most since the mark before it."""
    level, most, marks = 0, 0, []
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
        elif event.name().startswith(MARK):
            marks.append((event.name().removeprefix(MARK), level, most))
            most = level
    at = {name: [level for mark, level, _ in marks if mark == name] for name, _, _ in marks}
    start, before = at["start"][0], at["before"]
    updates = [most - marks[i - 1][1] for i, (mark, _, most) in enumerate(marks) if mark == "updated"]
    return Tracked(
        weights=at["built"][0] - start,
        gradients=at["after"][0] - before[0],
        optimizer=before[1] - before[0],
        activations=at["forward"][0] - before[0],
        workspace=max(updates[len(updates) // 2 :]),  # of the second step, which finds its state there
        peak=max(most for _, _, most in marks) - start,
    )
