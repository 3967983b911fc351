"""What a whole recipe will cost before any of it is spent: its stages, disk, time and money.

In: a resolved recipe, this machine, optionally a GPU by name, how well its peak is used, a price. Out: an Estimate,
with every assumption in words. No torch, no network; a CPU is measured for about a second.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.errors import wrong_input
from nanochat.estimating.data_need import BEST_FIT_KEPT, CHARACTERS_PER_TOKEN
from nanochat.estimating.device import Device, this_cpu, this_device
from nanochat.estimating.stage_estimate import USABLE_MEMORY, StageEstimate, estimate_stage, process_bytes
from nanochat.hardware import Machine
from nanochat.quantity import money, size
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry, load_registry
from nanochat.stages.pretrain_config import PretrainConfig

MFU = 0.4
"""Share of a device's peak that training reaches: a d12 on an H100 41%, `quickstart.toml` on two CPU cores 47%."""
START_SECONDS = 8.0
"""Of every stage, until its work begins: Python, torch, data; `quickstart.toml` on two CPU cores, by its logs."""
TOKENIZER_CHARACTERS_PER_SECOND = 5e6
"""And core, when a tokenizer is trained: two cores take 16 s for 174 MB."""


@attrs.frozen(kw_only=True)
class Duration:
    """How long a recipe takes on one kind of device."""

    device: Device
    devices: int
    """The most that a stage uses at once."""
    stages: Mapping[str, float | None]
    """Seconds; None where they are not known."""
    seconds: float
    """Of the stages that are known."""
    between: tuple[float, float] | None
    """Where the device's speed was found to vary: seconds by its fast and by its slow measurements."""
    cost: float | None

    @property
    def complete(self) -> bool:
        """Whether every stage is known."""
        return None not in self.stages.values()


@attrs.frozen(kw_only=True)
class Estimate:
    """A whole recipe."""

    name: str
    stages: Sequence[StageEstimate]
    durations: Sequence[Duration]
    """On this machine, and on the named GPU."""
    fits: str
    """The device that device batch sizes are fitted to, where they are."""
    flops: float
    """Of the stages that are known."""
    store_bytes: int
    download_bytes: int
    assumptions: Sequence[str]

    def description(self) -> dict[str, Any]:
        """As plain data."""
        return attrs.asdict(self)


def estimate(
    recipe: Recipe,
    machine: Machine,
    *,
    gpu: Device | None = None,
    here: Device | None = None,
    mfu: float = MFU,
    price: float | None = None,
    only: str | None = None,
    registry: Registry | None = None,
) -> Estimate:
    """Estimate every stage, or `only` one; InputError E405 where there is no such stage.

    gpu: fit memory to it, and tell its time too. here: this machine's device, where it was measured already.
    mfu: the share of a peak that training reaches. price: dollars a device and hour, of the gpu, else of this machine.
    """
    here = here or device_here(recipe, machine)
    devices = [here] if gpu is None else [here, gpu]
    fitted = devices[-1]
    registry = registry or load_registry(block=recipe.block)
    stages = []
    for stage in _chosen(recipe, only):
        runs_there = gpu is not None or stage.hardware.device == here.kind
        stages.append(estimate_stage(stage, recipe, registry, fitted.memory_bytes if runs_there else 0))
    return Estimate(
        name=recipe.name,
        stages=stages,
        durations=[_duration(stages, device, machine, mfu, price if device is fitted else None) for device in devices],
        fits=fitted.name,
        flops=sum(stage.flops or 0.0 for stage in stages),
        store_bytes=sum(stage.disk_bytes for stage in stages),
        download_bytes=_downloaded(stages),
        assumptions=[*_assumptions(stages, devices, mfu), _price_said(fitted, price)],
    )


def _chosen(recipe: Recipe, only: str | None) -> Sequence[Stage]:
    if only is None:
        return list(recipe.stages.values())
    if only not in recipe.stages:
        raise wrong_input("E405", f"the recipe has no stage `{only}`", help=f"stages: {', '.join(recipe.stages)}")
    return [recipe.stages[only]]


def _downloaded(stages: Sequence[StageEstimate]) -> int:
    """Bytes: what several stages read is downloaded once."""
    most: dict[str, int] = {}
    for stage in stages:
        for source, n_bytes in stage.downloads.items():
            most[source] = max(most.get(source, 0), n_bytes)
    return sum(most.values())


def device_here(recipe: Recipe, machine: Machine) -> Device:
    """What the recipe would run on if it were started here: a CPU where it asks for one, else the best there is."""
    wants_cpu = all(stage.hardware.device == "cpu" for stage in recipe.stages.values())
    return this_cpu(machine) if wants_cpu else this_device(machine)


def pretraining_stage(recipe: Recipe) -> str | None:
    """The first stage that makes a model from nothing."""
    return next((name for name, stage in recipe.stages.items() if isinstance(stage.config, PretrainConfig)), None)


def _duration(
    stages: Sequence[StageEstimate], device: Device, machine: Machine, mfu: float, price: float | None
) -> Duration:
    seconds = {stage.name: _seconds(stage, device, machine, mfu) for stage in stages}
    devices = {stage.name: _devices(stage, device) for stage in stages}
    # A machine with several GPUs is paid for whole, whatever a stage uses of it.
    most = max(devices.values(), default=1)
    total = _of_all(stages, device, machine, mfu)
    between = None
    if device.spread is not None:
        slow, fast = (
            attrs.evolve(device, flops={dtype: factor * rate for dtype, rate in device.flops.items()})
            for factor in device.spread
        )
        between = (_of_all(stages, fast, machine, mfu), _of_all(stages, slow, machine, mfu))
    return Duration(
        device=device,
        devices=most,
        stages=seconds,
        seconds=total,
        between=between,
        cost=price * most * total / 3600 if price is not None else None,
    )


def _of_all(stages: Sequence[StageEstimate], device: Device, machine: Machine, mfu: float) -> float:
    """Seconds of the stages that are known."""
    return sum(_seconds(stage, device, machine, mfu) or 0.0 for stage in stages)


def _seconds(stage: StageEstimate, device: Device, machine: Machine, mfu: float) -> float | None:
    if stage.flops is None:
        return None
    seconds = START_SECONDS
    seconds += (stage.characters or 0) / (TOKENIZER_CHARACTERS_PER_SECOND * machine.cpu_cores)
    if stage.flops:
        if stage.dtype not in device.flops:
            return None
        seconds += stage.flops / (device.flops[stage.dtype] * mfu * _devices(stage, device))
    return seconds


def _devices(stage: StageEstimate, device: Device) -> int:
    """GPUs, one a process; the processes of a CPU share its cores, which were measured together."""
    return stage.training.processes if stage.training is not None and device.kind == "cuda" else 1


def _price_said(device: Device, price: float | None) -> str:
    """Where a cost comes from, or how to have one: no price is assumed, since each provider has its own."""
    if price is None:
        return "the cost is not known; --price DOLLARS says what a device costs for an hour"
    return f"the cost is that of {money(price)} a device and hour, as --price says, on {device.name}"


def _assumptions(stages: Sequence[StageEstimate], devices: Sequence[Device], mfu: float) -> list[str]:
    """What stands behind the figures, in words."""
    said = [f"{device.name}: {device.source}" for device in devices]
    said.append(f"training reaches {mfu:.0%} of the peak; each stage takes {START_SECONDS:.0f} s to start")
    if any(stage.characters for stage in stages):
        rate = TOKENIZER_CHARACTERS_PER_SECOND / 1e6
        said.append(f"a tokenizer is trained on {rate:.0f} M characters a second and core")
    if any(stage.training and stage.training.data for stage in stages):
        (small, few), (large, many) = CHARACTERS_PER_TOKEN
        said.append(f"a token is {few} characters at a vocabulary of {small:,}, {many} at {large:,}")
        said.append(f"best-fit packing keeps {BEST_FIT_KEPT:.0%} of the tokens that it reads")
    if any(stage.training and stage.training.memory for stage in stages):
        held = size(process_bytes(devices[0].kind))
        said.append(
            "memory is that of torch's tensors, without compilation; "
            f"a process holds some {held} beside them, which on a CPU a run's report counts too; "
            f"a batch fits where both take at most {USABLE_MEMORY:.0%} of the device's"
        )
        said.append("on disk are a stage's `checkpoints_kept`, and one more while it is written")
    unfitted = [s.name for s in stages if s.training and s.training.memory and s.training.fitting_batch_size is None]
    if unfitted:
        names = ", ".join(f"`{name}`" for name in unfitted)
        said.append(f"which batch fits is not told of {names}: no such device is here; --gpu NAME tells it of a GPU")
    for stage in stages:
        said += [f"{stage.name}: {note}" for note in stage.notes]
    return said
