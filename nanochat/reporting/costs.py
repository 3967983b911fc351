"""What a run took: wall time, FLOPs, energy and money, with all that had to be assumed.

In: stages, what is known of the machine, optionally a price and a power. Out: blocks. Energy is power × time: devices
are taken to draw their full power for as long as a stage lasts, cooling and the rest of the machine are not counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nanochat.accelerators import ACCELERATORS, recognised
from nanochat.quantity import count, duration, money
from nanochat.reporting.document import Block, Facts, Table
from nanochat.reporting.subject import ReportedStage
from nanochat.reporting.training import training_flops

WATTS_PER_CORE = 9.0
"""Of a CPU: an AMD EPYC 9354 has 32 cores and a default TDP of 280 W (AMD's specifications)."""


@attrs.frozen(kw_only=True)
class Power:
    """What a device draws, and where that is from."""

    watts: float
    """Of one device; of a machine that computes on its CPU, of all its cores."""
    source: str


def cost_blocks(
    stages: Sequence[ReportedStage], environment: Mapping[str, Any], settings: Mapping[str, float]
) -> list[Block]:
    """The table, and what was assumed. settings: `price` in dollars a device and hour, `watts` of a device."""
    rows, total = [], Spent()
    assumed: dict[str, None] = {}
    for stage in stages:
        power = power_of(stage, environment, settings.get("watts"))
        devices = _devices(stage)
        joules = power.watts * devices * stage.seconds if power is not None else None
        dollars = settings["price"] * devices * stage.seconds / 3600 if "price" in settings else None
        spent = Spent(seconds=stage.seconds, flops=training_flops(stage) or 0.0, joules=joules, dollars=dollars)
        total = total.plus(spent)
        rows.append([stage.name, *spent.cells(), str(devices) if stage.record else ""])
        if power is not None:
            assumed[f"power: {power.watts:,.0f} W a device, {power.source}"] = None
    rows.append(["total", *total.cells(), ""])
    titles = ("stage", "wall time", "training FLOPs", "energy, about", "cost", "devices")
    price = f"{money(settings['price'])} a device and hour" if "price" in settings else ""
    facts = [
        ("energy", "; ".join(assumed) or "not known: no power is known of this device; --watts says it"),
        ("cost", price or "not known: nanochat report --price DOLLARS says what a device costs for an hour"),
        ("not counted", "cooling, the rest of the machine, and whatever it did between the stages"),
    ]
    return [Table(titles=titles, rows=rows), Facts(pairs=facts)]


@attrs.frozen(kw_only=True)
class Spent:
    """A sum of what was spent; None where a part of it is not known."""

    seconds: float = 0.0
    flops: float = 0.0
    joules: float | None = 0.0
    dollars: float | None = 0.0

    def plus(self, other: "Spent") -> "Spent":
        """Both together."""
        joules, dollars = _sum(self.joules, other.joules), _sum(self.dollars, other.dollars)
        return Spent(
            seconds=self.seconds + other.seconds, flops=self.flops + other.flops, joules=joules, dollars=dollars
        )

    def cells(self) -> list[str]:
        """Time, FLOPs, energy, money."""
        return [
            duration(self.seconds),
            count(self.flops) if self.flops else "",
            "" if self.joules is None else energy(self.joules),
            "" if self.dollars is None else money(self.dollars),
        ]


def energy(joules: float) -> str:
    """Watt-hours: 1.9 Wh, 24 kWh."""
    return count(joules / 3600, "Wh") if joules >= 36 else f"{joules / 3600:.2g} Wh"


def power_of(stage: ReportedStage, environment: Mapping[str, Any], said: float | None) -> Power | None:
    """By what was said, by the GPU's name, or by the number of CPU cores; None where nothing is known."""
    if said is not None:
        return Power(watts=said, source="as was said with --watts")
    if stage.record.get("device", "cpu") == "cpu":
        cores = (environment.get("machine") or {}).get("cpu_cores")
        return (
            Power(watts=WATTS_PER_CORE * cores, source=f"{cores} CPU cores of {WATTS_PER_CORE:g} W") if cores else None
        )
    for name in environment.get("gpus", ()):
        known = recognised(name, 80 * 1024 if "80" in name else 40 * 1024)
        if known is not None:
            return Power(watts=ACCELERATORS[known].watts, source=f"a {known}'s by its maker's data sheet")
    return None


def _devices(stage: ReportedStage) -> int:
    """Those that are paid for: GPUs one a process, a machine's CPU once."""
    return 1 if stage.record.get("device", "cpu") == "cpu" else int(stage.record.get("world_size", 1))


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
