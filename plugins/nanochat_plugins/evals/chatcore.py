"""ChatCORE: several tasks as one number, the mean of their centred accuracies.

Each task is measured as the evaluation `task` does, by greedy answers or by the likeliest letter; an accuracy is
centred as in CORE, (accuracy − guessing) / (1 − guessing). Its standard error takes the tasks for independent.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat_plugins.evals import task
from nanochat_plugins.evals.accuracy import centred, mean_of
from nanochat_plugins.evals.chatcore_config import ChatCoreConfig
from nanochat_plugins.evals.task_config import TaskConfig

LETTERS_BASELINE = 0.25


def evaluate(config: ChatCoreConfig, subject: Subject) -> Mapping[str, Figure]:
    """chatcore; of each task NAME.accuracy, what else `task` tells of it, and centered.NAME."""
    figures: dict[str, Figure] = {}
    centered: dict[str, Figure] = {}
    for name, component in config.tasks.items():

        def keep(example: Mapping[str, Any], name: str = name) -> None:
            subject.keep_example({"task": name, **example})

        one = TaskConfig(
            task=component,
            max_examples=config.max_examples,
            max_tokens=config.max_tokens,
            rows=config.rows,
            workers=config.workers,
        )
        found = task.evaluate(one, attrs.evolve(subject, keep_example=keep))
        figures |= {f"{name}.{figure}": value for figure, value in found.items()}
        centered[f"centered.{name}"] = centred(found["accuracy"], baseline(component, subject))
    return {"chatcore": mean_of(list(centered.values())), **figures, **centered}


def baseline(component: Any, subject: Subject) -> float:
    """What guessing scores at a task."""
    said: float | None = getattr(component.slot, "baseline", None)
    if said is not None:
        return said
    return LETTERS_BASELINE if subject.build(component).eval_type == "categorical" else 0.0
