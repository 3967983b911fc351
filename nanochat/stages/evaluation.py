"""Running a stage's evaluations: those that are due at a step, or all that are left for the end."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import attrs

from nanochat.config import Component
from nanochat.errors import stage_failure
from nanochat.stages.context import Figure, StageContext
from nanochat.stages.subject import Subject


def due(evals: Mapping[str, Component], step: int) -> dict[str, Component]:
    """The evaluations whose interval a step completes."""
    return {name: e for name, e in evals.items() if e.slot.every is not None and step % e.slot.every == 0}


def fetch(evals: Mapping[str, Component]) -> None:
    """Let each evaluation get what it needs from a network: hours later would be late to learn that it cannot."""
    for component in evals.values():
        if callable(method := getattr(component.config, "fetch", None)):
            method()


def run_evals(
    evals: Mapping[str, Component], subject: Subject, context: StageContext, *, step: int | None = None
) -> dict[str, Figure]:
    """Figures by "EVAL.FIGURE"; each example's result in examples/EVAL-RANK.jsonl. The model is left in eval mode.

    step: of a training that goes on, whose examples are kept in examples/step_000250/.
    """
    figures: dict[str, Figure] = {}
    folder = context.folder / "examples" if step is None else context.folder / "examples" / f"step_{step:06d}"
    if subject.model is not None:
        subject.model.eval()
    for name, component in evals.items():
        with _Examples(folder / f"{name}-{context.runtime.rank}.jsonl") as examples:
            found = context.build(component, attrs.evolve(subject, keep_example=examples.keep))
        _check_figures(found, component)
        figures |= {f"{name}.{figure}": value for figure, value in found.items()}
    return figures


class _Examples:
    """The file of an evaluation's examples, which is there once there is one. What an earlier attempt left goes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        path.unlink(missing_ok=True)

    def __enter__(self) -> "_Examples":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def keep(self, example: Mapping[str, Any]) -> None:
        """Write one down."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps(example, ensure_ascii=False) + "\n")


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
