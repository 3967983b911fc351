"""How fast a stage's model trains on this machine, by the loop that trains it, against the machine's matmul peak.

In: a training stage's config and its model. Out: a TrainingSpeed. The rows are random ids, made beforehand, so that no
tokenizer and no data need be there: what the loader costs is measured by tests/benchmarks/test_loader_speed.py.
One process is measured, whatever the recipe's [hardware] says.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from nanochat.benchmarking.operators import Operator, bandwidth, operators
from nanochat.benchmarking.stopwatch import Stopwatch, TimedLoader, TimedModel, TimedOptimizer
from nanochat.config import Component
from nanochat.data.loader import Batch
from nanochat.errors import wrong_input
from nanochat.registry import Registry
from nanochat.runtime import Runtime
from nanochat.stages import optimizers as stage_optimizers
from nanochat.stages.context import StageContext
from nanochat.stages.rows_at_once import rows_at_once
from nanochat.training.exchange import Exchange
from nanochat.training.loop import TrainingRun, train
from nanochat.training.memory import peak_memory_bytes
from nanochat.training.optimizer import Optimizer
from nanochat.training.peak import measured

PROFILED_STEPS = 2


@attrs.frozen(kw_only=True)
class TrainingSpeed:
    """What was measured."""

    device: str
    dtype: str
    threads: int
    """Of the CPU, in this process."""
    compiled: bool
    parameters: int
    flops_per_token: int
    tokens: int
    """Of a step of this process."""
    rows: int
    """Computed at once."""
    built_seconds: float
    """Model and optimizers."""
    first_step_seconds: float
    """With the compilation, where there is one."""
    steps: int
    step_seconds: float
    """The median step."""
    fastest_step_seconds: float
    peak_flops: float
    """FLOP/s of the fastest matrix product in the dtype, before and after the steps."""
    parts: Mapping[str, float]
    """Part → its share of the time, in steps of their own."""
    peak_memory_bytes: int
    bandwidth: float = 0.0
    """Bytes/s that a copy reads and writes; 0 where operators were not asked for."""
    operators: Sequence[Operator] = ()
    """The longest first, the last what is between them; of steps of their own."""

    @property
    def tokens_per_second(self) -> float:
        """Of this process."""
        return self.tokens / self.step_seconds

    @property
    def flops(self) -> float:
        """Achieved FLOP/s, by the model's formula."""
        return self.tokens_per_second * self.flops_per_token

    @property
    def of_peak(self) -> float:
        """Achieved FLOP/s over the peak of matrix products: MFU, where that peak is the device's own."""
        return self.flops / self.peak_flops

    def description(self) -> dict[str, Any]:
        """As plain data."""
        derived = {"tokens_per_second": self.tokens_per_second, "flops": self.flops, "of_peak": self.of_peak}
        return attrs.asdict(self) | derived


def training_speed(
    config: Any,
    model: Component,
    runtime: Runtime,
    registry: Registry,
    *,
    processes: int,
    seconds: float,
    profiled: bool = False,
) -> TrainingSpeed:
    """Train for about so many `seconds` after the first step, and a third as long again for the parts.

    config: of a training stage; model: its component. processes: of the recipe, of which this is one. profiled: tell of
    each operator, too. InputError E407 where the model does not say what is needed.
    """
    gpt: Any = model.config
    silent = [name for name in ("sequence_len", "vocab_size", "flops_per_token") if not hasattr(gpt, name)]
    if silent:
        raise wrong_input("E407", f"the model `{model.use}` does not say its {', '.join(silent)}")
    began = time.perf_counter()
    rows = max(1, config.total_batch_size // (gpt.sequence_len * processes))
    trainee = _built(config, model, RandomRows(rows, gpt.sequence_len, gpt.vocab_size, runtime), runtime, registry)
    built = time.perf_counter()
    (first,) = trainee.train(lambda step: step >= 1)
    before = measured(runtime.device, runtime.dtype)
    durations = trainee.train(_until(seconds))
    watch = Stopwatch(runtime.device)
    trainee.train(_until(seconds / 3), watch)
    total = sum(watch.seconds.values())
    return TrainingSpeed(
        device=_device_name(runtime),
        dtype=str(runtime.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        compiled=config.compile,
        parameters=sum(parameter.numel() for parameter in trainee.exchange.parameters.values()),
        flops_per_token=gpt.flops_per_token(),
        tokens=rows * gpt.sequence_len,
        rows=min(rows, trainee.at_once),
        built_seconds=built - began,
        first_step_seconds=first,
        steps=len(durations),
        step_seconds=statistics.median(durations),
        fastest_step_seconds=min(durations),
        peak_flops=max(before, measured(runtime.device, runtime.dtype)),
        parts={part: spent / total for part, spent in watch.seconds.items()},
        peak_memory_bytes=peak_memory_bytes(runtime.device),
        bandwidth=bandwidth(runtime.device) if profiled else 0.0,
        operators=operators(trainee.steps, PROFILED_STEPS, runtime.device, runtime.dtype) if profiled else (),
    )


class RandomRows:
    """A loader of the same random rows again and again."""

    def __init__(self, rows: int, sequence_len: int, vocab_size: int, runtime: Runtime) -> None:
        generator = torch.Generator().manual_seed(runtime.seed)
        ids = torch.randint(vocab_size, (rows, sequence_len + 1), generator=generator)
        batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        self.batch = batch.pinned() if runtime.device.type == "cuda" else batch

    def ready(self, seconds: float) -> bool:  # noqa: ARG002 (the contract's)
        """Always."""
        return True

    def next_batch(self) -> Batch:
        """The rows."""
        return self.batch

    def position(self) -> Mapping[str, float]:
        """Nowhere."""
        return {}


@attrs.frozen(kw_only=True)
class _Trainee:
    """A model that is ready to be trained, as a stage would train it."""

    config: Any
    model: Any
    """The module, compiled or not."""
    optimizers: Mapping[str, Sequence[Optimizer]]
    exchange: Exchange
    loader: RandomRows
    runtime: Runtime
    at_once: int
    """Rows."""

    def steps(self, count: int) -> None:
        """Take so many steps."""
        self.train(lambda step: step >= count)

    def train(self, enough: Callable[[int], bool], watch: Stopwatch | None = None) -> list[float]:
        """Run the loop until `enough` says so of how many steps are done after the next; the seconds of each step."""
        ends = [time.perf_counter()]
        run = TrainingRun(
            model=self.model,
            optimizers=self.optimizers,
            exchange=self.exchange,
            loader=self.loader,
            runtime=self.runtime,
            schedule=self.config.schedule,
            steps=None,
            fraction=lambda step: float(enough(step)),
            device_batch_size=self.at_once,
            grad_clip=self.config.grad_clip,
            log_every=self.config.log_every,
            checkpoint_seconds=float("inf"),
            metrics=lambda *_: None,
            progress=lambda *_: ends.append(time.perf_counter()),
            evaluate=lambda _: {},
            save=lambda: None,
            stop_asked=lambda: False,
        )
        if watch is not None:
            run.model, run.loader = TimedModel(run.model, watch), TimedLoader(run.loader, watch)
            run.optimizers = {
                name: [TimedOptimizer(optimizer, watch) for optimizer in members]
                for name, members in self.optimizers.items()
            }
            watch.reset()
        train(run)
        return [after - before for before, after in itertools.pairwise(ends)]


def _built(config: Any, model: Component, loader: RandomRows, runtime: Runtime, registry: Registry) -> _Trainee:
    context = _context(runtime, registry)
    module = context.build(model, runtime)
    for transform in config.transforms.values():
        module = context.build(transform, module, runtime)
    exchange, updaters = stage_optimizers.build(config, module, context, 1.0)
    gpt: Any = model.config
    return _Trainee(
        config=config,
        at_once=rows_at_once(config, module, gpt.vocab_size, context),
        model=torch.compile(module) if config.compile else module,
        optimizers=stage_optimizers.by_group(config.optim, updaters),
        exchange=exchange,
        loader=loader,
        runtime=runtime,
    )


def _until(seconds: float) -> Callable[[int], bool]:
    """Enough is what ends after so many seconds, and two steps at the least."""
    began = time.perf_counter()
    return lambda steps: steps >= 2 and time.perf_counter() - began >= seconds


def _device_name(runtime: Runtime) -> str:
    return torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else runtime.device.type


def _context(runtime: Runtime, registry: Registry) -> StageContext:
    return StageContext(
        stage="bench",
        folder=Path(),
        runtime=runtime,
        registry=registry,
        reporter=_Silence(),
        should_stop=lambda: False,
    )


class _Silence:
    """A reporter that tells nobody."""

    def metrics(self, step: int, figures: Mapping[str, float]) -> None: ...
    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "") -> None: ...
    def note(self, text: str) -> None: ...
    def truncate_metrics(self, step: int) -> None: ...
