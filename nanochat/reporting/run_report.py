"""The report of a run, and of one stage of it.

In: what was read of a run. Out: a document. It holds nothing that is not in the run's files, so it may be written again
at any time, and says the same.
"""

from collections.abc import Mapping, Sequence

from nanochat.quantity import count, counted, duration
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.reporting.costs import cost_blocks
from nanochat.reporting.document import Block, Document, Failure, Section, Table, Text, sections
from nanochat.reporting.evaluations import accuracy_blocks, chat_blocks, figure_blocks, sample_blocks
from nanochat.reporting.origin import code_blocks, parent_blocks, provenance_blocks
from nanochat.reporting.subject import ReportedStage, Subject, settings_of
from nanochat.reporting.training import mixture_blocks, training_blocks, training_flops
from nanochat.running.figures import value_text
from nanochat.running.store import LOG

_HEADLINES = 6


def run_document(subject: Subject) -> Document:
    """All of a run."""
    stages = subject.stages
    environment, settings = subject.environment, settings_of(subject.run)
    return Document(
        title=str(subject.run.plan.get("recipe", subject.run.path.name)),
        kind="Run",
        name=subject.run.path.name,
        state=subject.state,
        summary=_summary(subject),
        headlines=_headlines(stages),
        sections=[
            *sections(("Failure", _failures(subject))),
            *_results(stages),
            *sections(
                ("What differs", parent_blocks(subject)),
                ("Time, energy and cost", cost_blocks(stages, environment, settings) if stages else []),
                ("Size of the code", code_blocks(environment)),
                ("Provenance", [*_trouble(subject), *provenance_blocks(environment)]),
                ("All metrics by stage", _all_metrics(stages)),
            ),
        ],
    )


def stage_document(stage: ReportedStage, subject: Subject | None) -> Document:
    """One stage; subject: the run that made it, where it is still there."""
    environment: Mapping[str, object] = subject.environment if subject is not None else {}
    settings = settings_of(subject.run) if subject is not None else {}
    maker = f" in the run {subject.run.path.name}" if subject is not None else "; the run that made it is gone"
    return Document(
        title=f"{stage.name}: {stage.use}",
        kind="Stage",
        name=stage.folder.path.name,
        state=stage.state,
        summary=f"{stage.standing}{maker}.",
        headlines=_headlines([stage]),
        sections=[
            *sections(("Failure", [found for found in [_failure(stage)] if found is not None])),
            *_results([stage]),
            *sections(
                ("Time, energy and cost", cost_blocks([stage], environment, settings)),
                ("Provenance", provenance_blocks(environment)),
                ("All metrics", _all_metrics([stage])),
            ),
        ],
    )


def _results(stages: Sequence[ReportedStage]) -> list[Section]:
    return sections(
        ("Accuracy", accuracy_blocks(stages)),
        ("Conversations", chat_blocks(stages)),
        ("Samples", sample_blocks(stages)),
        ("Stages", [_stage_table(stages)] if stages else []),
        ("Training", training_blocks(stages)),
        ("Data", mixture_blocks(stages)),
        ("Figures", figure_blocks(stages)),
    )


def _summary(subject: Subject) -> str:
    left = [stage.name for stage in subject.stages if not stage.record]
    if subject.state == "finished":
        when = max(str(stage.record.get("finished", "")) for stage in subject.stages)
        return f"finished {when[:16].replace('T', ' ')} UTC."
    said = {
        "running": "going on; not finished",
        "failed": "failed; not finished",
        "stopped": "stopped, and the same command goes on; not finished",
        "unfinished": "not finished",
    }[subject.state]
    return f"{said}: {', '.join(left)}." if left else f"{said}."


def _headlines(stages: Sequence[ReportedStage]) -> list[tuple[str, str]]:
    """The last measured figures, and how much went into them."""
    measured = [(name, f) for stage in reversed(stages) for name, f in stage.figures.items() if f.get("n")]
    shown = [(name, f) for name, f in measured if "accuracy" in name or name.endswith(("bpb", "core", "chatcore"))]
    found = [
        (name.removesuffix(".accuracy"), value_text(name, f["value"]))
        for name, f in shown
        if "unigram" not in name and not name.endswith("_with_tool")
    ]
    trained = [stage for stage in stages if "parameters" in stage.figures]
    facts = []
    if trained:
        facts.append(("parameters", count(trained[-1].figures["parameters"]["value"])))
        facts.append(("tokens trained on", count(sum(s.figures.get("tokens", {}).get("value") or 0 for s in trained))))
    flops = sum(training_flops(stage) or 0.0 for stage in stages)
    if flops:
        facts.append(("training FLOPs", count(flops)))
    facts.append(("wall time", duration(sum(stage.seconds for stage in stages))))
    return [*found[: max(2, _HEADLINES - len(facts))], *facts]


def _trouble(subject: Subject) -> list[Block]:
    if not subject.trouble:
        return []
    return [Text(text=f"The run's recipe cannot be read now, so FLOPs and data are not told: {subject.trouble}")]


def _stage_table(stages: Sequence[ReportedStage]) -> Table:
    rows = []
    for stage in stages:
        made = stage.record.get("run")
        elsewhere = f" (in {made})" if stage.record and not stage.attempts and made else ""
        key = stage.folder.key[:KEY_CHARACTERS]
        took = duration(stage.seconds) + elsewhere if stage.record or stage.attempts else ""
        rows.append([stage.name, stage.use, stage.standing, took, key, str(stage.folder.path)])
    rows.append(["total", "", "", duration(sum(stage.seconds for stage in stages)), "", ""])
    return Table(titles=("stage", "use", "state", "time", "key", "folder"), rows=rows, words=6)


def _failures(subject: Subject) -> list[Block]:
    """The stage that failed last, where that is how the run stands."""
    failed = [found for stage in subject.stages if (found := _failure(stage)) is not None]
    lost = [event for event in subject.events if event.get("event") == "attempt_lost"]
    again = f"{counted(len(lost), 'time')} a process was lost and its stage started again; the last:"
    return [*failed, *([Text(text=f"{again} {lost[-1].get('error', '')}")] if lost else [])]


def _failure(stage: ReportedStage) -> Failure | None:
    if stage.state != "failed":
        return None
    last = stage.attempts[-1]
    errors = last.get("errors") or [{}]
    step = stage.folder.last_checkpoint
    place = f"its checkpoint of step {step}" if step is not None else "its beginning: it has no checkpoint yet"
    return Failure(
        title=f"Stage {stage.name} ({stage.use}) failed",
        message="\n".join(str(e.get("message", "it left no word")) for e in errors),
        help="\n".join(
            [*(str(e["help"]) for e in errors if e.get("help")), "Then the same command goes on with this stage."]
        ),
        facts=[
            ("error", ", ".join(str(e["code"]) for e in errors if e.get("code")) or "unknown"),
            ("when", f"{last.get('time', '')}, {duration(float(last.get('seconds', 0.0)))} after it began"),
            ("goes on from", place),
            ("the log", str(stage.folder.path / LOG)),
        ],
    )


def _all_metrics(stages: Sequence[ReportedStage]) -> list[Block]:
    """Every figure by stage, and the wall time last."""
    finished = [stage for stage in stages if stage.record]
    names = dict.fromkeys(name for stage in finished for name in stage.figures)
    if not finished:
        return []
    rows = [[name, *(_cell(stage, name) for stage in finished)] for name in names]
    rows.append(["wall time", *(duration(stage.seconds) for stage in finished)])
    total = duration(sum(stage.seconds for stage in finished))
    return [
        Table(titles=("metric", *(stage.name for stage in finished)), rows=rows),
        Text(text=f"Total wall time: {total}."),
    ]


def _cell(stage: ReportedStage, name: str) -> str:
    return value_text(name, stage.figures[name].get("value")) if name in stage.figures else ""
