"""The report of a run: what was made, how good it is, how long it took, and where it came from, in Markdown.

In: a run folder and the records and metrics of its stages. Out: report.md. It may be written again at any time; it
holds nothing that is not in those files.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.quantity import duration, size
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.running.json_file import read_lines, write_text
from nanochat.running.run_folder import SET_ASIDE, RunFolder
from nanochat.running.source_tree import described
from nanochat.running.store import METRICS, StageFolder

SAMPLES = "examples/*-0.jsonl"
"""Where the first rank's examples of evaluations are; those with "prompt" and "completion" are shown."""
_SHOWN_SAMPLES = 7
_COUNTS = ("steps", "tokens", "parameters", "peak_memory_bytes")
"""Figures of a training record that have a column of their own."""
_SHOWN_PACKAGES = ("torch", "numpy", "nanochat-run", "nanochat-plugins")


@attrs.frozen(kw_only=True)
class FinishedStage:
    """A stage of a run that has its record."""

    name: str
    folder: StageFolder
    record: Mapping[str, Any]

    @property
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The record's figures by name."""
        found: Mapping[str, Mapping[str, Any]] = self.record.get("figures", {})
        return found


def finished_stages(run: RunFolder) -> list[FinishedStage]:
    """The run's stages that are done, in the plan's order."""
    found = []
    for stage in run.stages:
        record = stage.folder.record
        if record is not None:
            found.append(FinishedStage(name=stage.name, folder=stage.folder, record=record))
    return found


def attempts_at(stage: str, events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A run's events of the attempts that led to a stage's present result: those since it was last set aside.

    One that went back to a checkpoint was not set aside: what came before the checkpoint is part of its result.
    """
    own = [event for event in events if event.get("stage") == stage]
    return own[max((i + 1 for i, event in enumerate(own) if event.get("event") == SET_ASIDE), default=0) :]


def stage_seconds(stage: str, key: str, events: Iterable[Mapping[str, Any]]) -> float:
    """Wall time of these attempts."""
    ended = [event for event in attempts_at(stage, events) if event.get("key") == key]
    return sum(float(event.get("seconds", 0.0)) for event in ended)


def write_report(run: RunFolder) -> str:
    """Write report.md, where it says something new; returns its text."""
    stages = finished_stages(run)
    sections = [
        _head(run, stages),
        accuracy_section(stages),
        _stage_section(run, stages),
        _training_section(stages),
        _figure_section(stages),
        _sample_section(stages),
        _provenance_section(run),
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    if not run.report.exists() or run.report.read_text(encoding="utf-8") != text:
        write_text(run.report, text)
    return text


def headline(figures: Mapping[str, Mapping[str, Any]], limit: int = 4) -> str:
    """A record's measured figures in one line."""
    measured = {name: figure for name, figure in figures.items() if figure.get("n")}
    return ", ".join(f"{name} {_value(name, figure['value'])}" for name, figure in list(measured.items())[:limit])


def accuracy_section(stages: Iterable[FinishedStage]) -> str:
    """The table of what evaluation stages measured; empty where there is none."""
    rows = [row for stage in stages if stage.record.get("produces") == "figures" for row in figure_rows(stage)]
    return "## Accuracy\n\n" + table(["skill", "value", "n", "standard error"], rows) if rows else ""


def figure_rows(stage: FinishedStage) -> list[list[str]]:
    """What an evaluation stage measured: skill, value, n, standard error."""
    return [
        [name.removesuffix(".accuracy"), _value(name, figure["value"]), _count(figure), _error(name, figure)]
        for name, figure in stage.figures.items()
    ]


def _head(run: RunFolder, stages: Sequence[FinishedStage]) -> str:
    when = str(stages[-1].record.get("finished", ""))[:16].replace("T", " ") if stages else ""
    left = [p["stage"] for p in run.plan.get("stages", []) if p["stage"] not in {s.name for s in stages}]
    state = f"not finished: {', '.join(left)}" if left else f"finished {when} UTC"
    return f"# {run.plan.get('recipe', run.path.name)}\n\nRun `{run.path.name}`, {state}."


def _stage_section(run: RunFolder, stages: Sequence[FinishedStage]) -> str:
    rows = []
    for stage in stages:
        record = stage.record
        own = record.get("run") == run.path.name
        took = duration(record.get("seconds", 0.0)) + ("" if own else f" (in {record.get('run')})")
        key = stage.folder.key[:KEY_CHARACTERS]
        rows.append([stage.name, str(record.get("use")), took, key, str(stage.folder.path)])
    total = sum(float(s.record.get("seconds", 0.0)) for s in stages)
    rows.append(["total", "", duration(total), "", ""])
    return "## Stages\n\n" + table(["stage", "use", "time", "key", "folder"], rows)


def _training_section(stages: Iterable[FinishedStage]) -> str:
    rows = []
    for stage in stages:
        lines = [line for line in read_lines(stage.folder.path / METRICS) if line.get("loss") is not None]
        if not lines:
            continue
        rates = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
        waits = [line["data_wait"] for line in lines if "data_wait" in line]
        shares = [line["mfu"] for line in lines if line.get("mfu")]
        counts = {name: stage.figures.get(name, {}).get("value") for name in _COUNTS}
        rows.append(
            [
                stage.name,
                _whole(counts["parameters"]),
                _whole(counts["steps"]),
                _whole(counts["tokens"]),
                f"{lines[0]['loss']:.3f} → {lines[-1]['loss']:.3f}",
                _whole(statistics.median(rates)) if rates else "",
                f"{statistics.median(shares):.0%}" if shares else "",
                f"{statistics.mean(waits):.1%}" if waits else "",
                f"{counts['peak_memory_bytes'] / 2**20:,.0f} MiB" if counts["peak_memory_bytes"] else "",
            ]
        )
    titles = [
        "stage",
        "parameters",
        "steps",
        "tokens",
        "loss first → last",
        "tokens/s (median)",
        "of the peak FLOP/s",
        "waiting for data",
        "peak memory",
    ]
    return "## Training\n\n" + table(titles, rows) if rows else ""


def _figure_section(stages: Iterable[FinishedStage]) -> str:
    rows = [
        [stage.name, name, _value(name, figure["value"]), _count(figure), _error(name, figure)]
        for stage in stages
        if stage.record.get("produces") != "figures"
        for name, figure in stage.figures.items()
        if name not in _COUNTS
    ]
    return "## Figures\n\n" + table(["stage", "figure", "value", "n", "standard error"], rows) if rows else ""


def _sample_section(stages: Iterable[FinishedStage]) -> str:
    blocks = []
    for stage in stages:
        for sample in samples_of(stage.folder.path):
            lines = [*f"> {sample['prompt']}".splitlines(), "", *str(sample["completion"]).splitlines()]
            blocks.append("\n".join(f"    {line}".rstrip() for line in lines))
    return "## Samples\n\n" + "\n\n".join(blocks) if blocks else ""


def samples_of(folder: Path) -> list[Mapping[str, Any]]:
    """Each prompt once, with the first of its completions."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob(SAMPLES)):
        for line in read_lines(path):
            if isinstance(line.get("prompt"), str) and "completion" in line:
                found.setdefault(line["prompt"], line)
    return list(found.values())[:_SHOWN_SAMPLES]


def _provenance_section(run: RunFolder) -> str:
    environment = run.environment
    if not environment:
        return ""
    machine, packages = (environment.get(part) or {} for part in ("machine", "packages"))
    versions = ", ".join(f"{name} {packages[name]}" for name in _SHOWN_PACKAGES if name in packages)
    cores, memory = machine.get("cpu_cores"), size(machine.get("memory_bytes", 0))
    facts = [
        *(
            f"commit of {' and '.join(tree['holds'])}: {described(tree)}"
            for tree in environment.get("source_trees", ())
        ),
        f"packages: {versions}",
        f"python: {str(environment.get('python', '')).split(' ')[0]} on {environment.get('platform')}",
        f"machine: {cores} CPU cores, {memory}, {machine.get('cuda_devices', 0)} CUDA devices",
        f"command: `{' '.join(environment.get('argv', []))}`",
        f"last started: {environment.get('time')} by {environment.get('user')} on {environment.get('host')}",
    ]
    return "## Provenance\n\n" + "\n".join(f"- {fact}" for fact in facts)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it reads well as plain text too."""
    grid = [list(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(3, *(len(row[i]) for row in grid)) for i in range(len(titles))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in grid
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "not finite"
    if "accuracy" in name:
        return f"{100 * value:.1f}%"
    return _whole(value) if float(value).is_integer() and abs(value) >= 1000 else f"{value:.4g}"


def _error(name: str, figure: Mapping[str, Any]) -> str:
    error = figure.get("standard_error")
    if error is None:
        return ""
    return f"± {100 * error:.1f}%" if "accuracy" in name else f"± {error:.2g}"


def _count(figure: Mapping[str, Any]) -> str:
    return _whole(figure.get("n") or None)


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
