"""An estimate as a person reads it: what trains, what it holds in memory, what it reads, how long it takes, and below
that all that was assumed. In: an Estimate. Out: lines on stdout. Nothing is computed here.
"""

from collections.abc import Mapping, Sequence

import click

from nanochat.cli.sheet import print_sheet, print_text
from nanochat.estimating.estimate import Duration, Estimate
from nanochat.estimating.footprint import Group
from nanochat.estimating.stage_estimate import StageEstimate, Training
from nanochat.quantity import count, duration, money, size

UNKNOWN = "—"


def print_estimate(found: Estimate) -> None:
    """Everything about one recipe."""
    print_text(f"{found.name}: {headline(found)}", bold=True)
    _print_stages(found)
    _print_decoding(found.stages)
    _print_groups(found.stages)
    _print_memory(found)
    _print_data(found.stages)
    _print_durations(found)
    downloads = f", {size(found.download_bytes)} of data downloaded" if found.download_bytes else ""
    click.echo(f"\ndisk: {size(found.store_bytes)} in the store{downloads}")
    _print_assumptions(found.assumptions)


def print_depths(table: Mapping[int, Estimate], stage: str) -> None:
    """One line for each depth: the named stage's model and the whole recipe's time."""
    columns = [
        "depth",
        "parameters",
        "FLOPs/token",
        "tokens",
        "steps",
        "batch",
        "peak memory",
        "batch that fits",
        "FLOPs",
        "data shards",
        "disk",
    ]
    rows = []
    last: Estimate | None = None
    for depth, found in table.items():
        last = found
        its = next(its for its in found.stages if its.name == stage)
        needed = sum(need.shards_needed or 0 for need in its.training.data) if its.training else 0
        shards = f"{needed:,}" if needed else ""
        disk = size(found.store_bytes + found.download_bytes)
        rows.append([f"d{depth}", *_model_cells(its), *_fit_cells(its.training), count(found.flops), shards, disk])
        for took in found.durations:
            rows[-1] += [duration(took.seconds)] + ([money(took.cost)] if took.cost is not None else [])
    assert last is not None
    for took in last.durations:
        columns += [f"time, {_place(took)}"] + (["cost"] if took.cost is not None else [])
    print_sheet(f"{last.name}: stage `{stage}` by depth; FLOPs and time are the whole recipe's", columns, rows)
    _print_untimed(last)
    _print_assumptions(last.assumptions)


def headline(found: Estimate) -> str:
    """One line: parameters, FLOPs, time and cost."""
    trained = [stage.parameters for stage in found.stages if stage.training and stage.parameters]
    parts = [f"{count(max(trained))} parameters"] if trained else []
    parts += [f"{count(found.flops)}FLOP"] if found.flops else []
    for took in found.durations:
        cost = f" ({money(took.cost)})" if took.cost is not None else ""
        parts.append(f"{_total(took)} on {_place(took)}{cost}")
    return " · ".join(parts)


def _place(took: Duration) -> str:
    return f"{took.devices} × {took.device.name}" if took.device.kind == "cuda" else took.device.name


def _total(took: Duration) -> str:
    if all(seconds is None for seconds in took.stages.values()):
        return "unknown time"
    spread = f", between {duration(took.between[0])} and {duration(took.between[1])}" if took.between else ""
    return duration(took.seconds) + ("" if took.complete else " and more") + spread


def _print_stages(found: Estimate) -> None:
    columns = ["stage", "use", "parameters", "FLOPs/token", "tokens", "steps", "batch", "micro-steps", "FLOPs", "disk"]
    rows = []
    for stage in found.stages:
        passes = str(stage.training.micro_steps or UNKNOWN) if stage.training else ""
        flops = count(stage.flops) if stage.flops else "" if stage.estimated and not stage.training else UNKNOWN
        disk = size(stage.disk_bytes) if stage.disk_bytes else ""
        rows.append([stage.name, stage.use, *_model_cells(stage), passes, flops, disk])
    print_sheet("stages", columns, rows, left=2)
    shares = [f"{count(s.evaluation_flops)} of {s.name}'s" for s in found.stages if s.evaluation_flops]
    if shares:
        print_text(f"FLOPs count evaluations too: {', '.join(shares)}", indent="  ")


def _print_decoding(stages: Sequence[StageEstimate]) -> None:
    """What bounds a decoder's speed: models that read alike are told once."""
    shown: dict[tuple[int, int], StageEstimate] = {}
    for stage in stages:
        if stage.decode_bytes is not None and stage.decode_bytes not in shown:
            shown[stage.decode_bytes] = stage
    for (weights, cache), stage in shown.items():
        read = f"{size(weights)} of weights for all rows, and of each row {size(cache)} of keys and values"
        print_text(f"decoding by {stage.name}'s model reads {read} a token at a full context", indent="  ")


def _model_cells(stage: StageEstimate) -> list[str]:
    """Parameters, FLOPs a token, tokens, steps, batch."""
    trained = stage.training
    parameters = count(stage.parameters) if stage.parameters else ""
    if trained is None:
        return [parameters, "", f"{count(stage.characters)} characters" if stage.characters else "", "", ""]
    length = [count(trained.tokens or 0), f"{trained.steps:,}"] if trained.steps else [UNKNOWN, UNKNOWN]
    return [parameters, count(trained.flops_per_token), *length, f"{trained.batch_tokens:,}"]


def _fit_cells(trained: Training | None) -> list[str]:
    """Peak of one process, and the batch size that fits."""
    if trained is None or trained.memory is None:
        return [UNKNOWN, UNKNOWN]
    fitting = trained.fitting_batch_size
    fits = UNKNOWN if fitting is None else str(fitting) if fitting else "none"
    return [size(trained.memory.peak), fits]


def _print_groups(stages: Sequence[StageEstimate]) -> None:
    rows: list[list[str]] = []
    shown: list[tuple[str, Sequence[Group]]] = []
    alike = []
    for stage in stages:
        groups = stage.training.groups if stage.training else ()
        first = next((name for name, known in shown if known == groups), None)
        if groups and first is None:
            shown.append((stage.name, groups))
            rows += [
                [stage.name, group.name, group.use, count(group.parameters), size(group.state)] for group in groups
            ]
        elif groups:  # a finetuned model has mostly those it was pretrained with
            alike.append(f"{stage.name} has the groups of {first}")
    print_sheet("optimizer groups", ["stage", "group", "use", "parameters", "state"], rows, left=3)
    for line in alike:
        print_text(line, indent="  ")


def _print_memory(found: Estimate) -> None:
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "snapshot")
    rows = []
    fitted, warnings = False, []
    for stage in found.stages:
        trained = stage.training
        if trained is None or trained.memory is None:
            continue
        warnings += _too_large(stage.name, trained, found.fits)
        held = [size(getattr(trained.memory, part)) for part in parts]
        fitted |= trained.fitting_batch_size is not None
        peak, fits = _fit_cells(trained)
        rows.append([stage.name, str(trained.device_batch_size), *held, peak, trained.memory.peak_at, fits])
    fits = f"; the last column is the largest batch that fits {found.fits}" if fitted else ""
    columns = ["stage", "rows at once", *parts, "peak", "at", "fits"]
    print_sheet(f"memory of one process{fits}", columns, rows)
    for warning in warnings:
        print_text(f"warning: {warning}", indent="  ", fg="yellow")


def _too_large(stage: str, trained: Training, device: str) -> list[str]:
    """What is said of a batch that a device cannot hold, though its time and price stand in the table."""
    fitting, rows = trained.fitting_batch_size, trained.device_batch_size
    if fitting is None or fitting >= rows:
        return []
    remedy = (
        f"--set stages.{stage}.device_batch_size={fitting} computes the same in smaller pieces"
        if fitting
        else "not even one row does: a smaller model, a shorter sequence, or another device"
    )
    return [f"{stage}: {rows} rows at once do not fit {device}; {remedy}"]


def _print_data(stages: Sequence[StageEstimate]) -> None:
    rows = []
    for stage in stages:
        for need in stage.training.data if stage.training else ():
            has = UNKNOWN if need.available is None else count(need.available)
            passes = UNKNOWN if need.passes is None else f"{need.passes:.2f}"
            shards = ""
            if need.shards and need.shards_needed:
                verdict = "enough" if need.shards_needed <= need.shards else "read more than once"
                shards = f"{need.shards_needed:,} of {need.shards:,}, {verdict}"
            rows.append([stage.name, need.name, need.use, count(need.needed), has, passes, shards])
    columns = ["stage", "source", "use", "characters read", "in one pass", "passes", "shards needed"]
    print_sheet("text", columns, rows, left=3)


def _print_durations(found: Estimate) -> None:
    durations = found.durations
    rows = []
    for took in durations:
        each = [UNKNOWN if seconds is None else duration(seconds) for seconds in took.stages.values()]
        rows.append([_place(took), *each, _total(took), money(took.cost) if took.cost is not None else ""])
    columns = ["device", *durations[0].stages, "total", "cost"]
    if all(took.cost is None for took in durations):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_sheet("time", columns, rows)
    _print_untimed(found)


def _print_untimed(found: Estimate) -> None:
    untimed = [f"{', '.join(stage.untimed)} of {stage.name}" for stage in found.stages if stage.untimed]
    if untimed:
        print_text(f"not in the time: {'; '.join(untimed)}", indent="  ")


def _print_assumptions(assumptions: Sequence[str]) -> None:
    click.echo("\nassumed:")
    for sentence in assumptions:
        print_text(sentence, indent="  ")
