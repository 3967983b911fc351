"""Running a stage's evaluations: those that are due at a step, or all that are left for the end."""

import json
import reprlib
from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.config import Component
from nanochat.errors import stage_failure
from nanochat.stages.context import Figure, StageContext
from nanochat.stages.subject import Subject


def due(evals: Mapping[str, Component], step: int) -> dict[str, Component]:
    """The evaluations whose interval a step completes."""
    return {name: e for name, e in evals.items() if e.slot.every is not None and step % e.slot.every == 0}


def run_evals(evals: Mapping[str, Component], subject: Subject, context: StageContext) -> dict[str, Figure]:
    """Figures by "EVAL.FIGURE"; each example's result in examples/EVAL-RANK.jsonl. The model is left in eval mode."""
    figures: dict[str, Figure] = {}
    if subject.model is not None:
        subject.model.eval()
    for name, component in evals.items():
        path = context.folder / "examples" / f"{name}-{context.runtime.rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:

            def keep(example: Mapping[str, Any], file: Any = file) -> None:
                file.write(json.dumps(example, ensure_ascii=False) + "\n")

            found = context.build(component, attrs.evolve(subject, keep_example=keep))
        _check_figures(found, component)
        figures |= {f"{name}.{figure}": value for figure, value in found.items()}
    return figures


def _check_figures(found: Any, component: Component) -> None:
    """StageError E202 where a plugin gives something else than figures."""
    if not isinstance(found, Mapping) or not all(isinstance(figure, Figure) for figure in found.values()):
        raise stage_failure(
            "E202",
            f"the evaluation `{component.use}` gave {reprlib.repr(found)}, not names and their Figure",
            help="the plugin's author can mend this; nanochat.testing.check_eval shows it",
        )


def values(figures: Mapping[str, Figure]) -> dict[str, float]:
    """The plain numbers, for a line of metrics."""
    return {name: figure.value for name, figure in figures.items()}
