"""What a report says of training: a row for each stage that trained, its curves, and what it was trained on.

In: stages. Out: blocks.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.quantity import count, counted
from nanochat.reporting.curves import Curve, curve, pictures
from nanochat.reporting.document import Block, Pictures, Table, Text
from nanochat.reporting.subject import ReportedStage
from nanochat.running.figures import whole_text
from nanochat.running.store import METRICS

COUNTS = ("steps", "tokens", "parameters", "peak_memory_bytes", "tokens_per_second", "tokens_per_cpu_second")
"""Figures of a training record that have a column of their own."""
_TITLES = (
    "stage",
    "parameters",
    "steps",
    "tokens",
    "FLOPs",
    "loss first → last",
    "tokens/s (median)",
    "of the peak FLOP/s",
    "waiting for data",
    "peak memory",
)


def training_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """A table of all stages that trained, then the curves of each; why one that trained has none."""
    found = [(stage, made) for stage in stages if (made := curve(stage.metrics, stage.flops_per_token)) is not None]
    blocks: list[Block] = []
    if found:
        blocks.append(Table(titles=_TITLES, rows=[_row(stage, made) for stage, made in found]))
    for stage, made in found:
        drawn = pictures(made, stage.name)
        if drawn:
            blocks.append(Pictures(pictures=drawn))
    drawn_of = {stage.name for stage, _ in found}
    blocks += [Text(text=_bare(stage)) for stage in stages if "steps" in stage.figures and stage.name not in drawn_of]
    blocks += [Text(text=_torn(stage)) for stage in stages if stage.torn]
    return blocks


def _bare(stage: ReportedStage) -> str:
    there = (stage.folder.path / METRICS).exists()
    why = "has no line of a loss" if there else "is not there"
    return f"{stage.name}: it trained, and its {METRICS} {why}, so it has no row and no curves here."


def _torn(stage: ReportedStage) -> str:
    lines, are = counted(stage.torn, "line"), "is" if stage.torn == 1 else "are"
    return f"{stage.name}: {lines} of metrics.jsonl cannot be read (cut off in the middle, mostly) and {are} left out."


def _row(stage: ReportedStage, made: Curve) -> list[str]:
    losses = [line["loss"] for line in made.lines if line.get("loss") is not None]
    rates = [line["tokens_per_second"] for line in made.lines if line.get("tokens_per_second")]
    waits = [line["data_wait"] for line in made.lines if "data_wait" in line]
    shares = [line["mfu"] for line in made.lines if line.get("mfu")]
    memory = _count(stage, "peak_memory_bytes", made)
    flops = training_flops(stage)
    return [
        stage.name,
        whole_text(_count(stage, "parameters", made)),
        whole_text(_count(stage, "steps", made)),
        whole_text(_count(stage, "tokens", made)),
        count(flops) if flops else "",
        f"{losses[0]:.3f} → {losses[-1]:.3f}" if losses else "",
        whole_text(statistics.median(rates)) if rates else "",
        f"{statistics.median(shares):.0%}" if shares else "",
        f"{statistics.mean(waits):.1%}" if waits else "",
        f"{memory / 2**20:,.0f} MiB" if memory else "",
    ]


def _count(stage: ReportedStage, name: str, made: Curve) -> float | None:
    """As its record says; of a stage that is not finished, as its last line does."""
    if name in stage.figures:
        found: float | None = stage.figures[name].get("value")
        return found
    last = made.lines[-1]
    return last.get({"steps": "step"}.get(name, name))


def training_flops(stage: ReportedStage) -> float | None:
    """FLOPs of the steps that were made, by the model's own count for a token; None where it is not known."""
    made = curve(stage.metrics, stage.flops_per_token)
    if made is None or not stage.flops_per_token or not math.isfinite(made.tokens[-1]):
        return None
    return made.tokens[-1] * stage.flops_per_token


def mixture_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """What each stage read: its sources or tasks, their shares, and how far it came in them."""
    rows = [row for stage in stages for row in _mixture(stage)]
    return [Table(titles=_MIXTURE, rows=rows, words=3)] if rows else []


_MIXTURE = ("stage", "data", "use", "share", "documents read", "passes", "of its revision or files")


def _mixture(stage: ReportedStage) -> list[list[str]]:
    weights = {name: getattr(part.slot, "weight", None) for name, part in stage.data.items()}
    known = all(weight is not None for weight in weights.values())
    total = sum(weight or 0.0 for weight in weights.values())
    last: Mapping[str, Any] = next(
        (line for line in reversed(stage.metrics) if any(k.startswith("data.") for k in line)), {}
    )
    digests: dict[str, Any] = stage.record.get("data", {})
    rows = []
    for name, part in stage.data.items():
        weight, epochs = weights[name], getattr(part.slot, "epochs", None)
        shown = f"{weight / total:.0%}" if known and weight is not None and total else ""
        passes = last.get(f"data.{name}.epoch")
        rows.append(
            [
                stage.name,
                name,
                part.use,
                shown or (f"{epochs} × its conversations" if epochs is not None else ""),
                whole_text(last.get(f"data.{name}.documents")),
                "" if passes is None else f"{passes:g}",
                str(digests.get(f"{name}.train", ""))[:12],
            ]
        )
    if "data.conversations" in last:
        seen, passes = last["data.conversations"], last.get("data.passes")
        rows.append([stage.name, "all", "", "", whole_text(seen), "" if passes is None else f"{passes:g}", ""])
    return rows
