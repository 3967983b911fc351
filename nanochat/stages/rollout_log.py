"""The answers that a model was rewarded for, written down to be read: rollouts-RANK.jsonl, a line for each.

In: problems, completions, rewards, advantages. Out: lines in the order of the problems. A step that is done again after
an interruption has its lines once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from nanochat.inference.completion import Completion
from nanochat.training.problems import Problem


@attrs.frozen(kw_only=True)
class Rollout:
    """One answer."""

    problem: Problem
    completion: Completion
    reward: float
    advantage: float

    def line(self, step: int) -> dict[str, Any]:
        """As plain data. step: the first that learns from it."""
        return {
            "step": step,
            "problem": self.problem.number,
            "task": self.problem.name,
            "example": self.problem.index,
            "question": self.problem.question,
            "completion": self.completion.parts,
            "reward": self.reward,
            "advantage": self.advantage,
            "tokens": len(self.completion.ids),
            "finish_reason": self.completion.finish_reason,
        }


@attrs.define
class RolloutLog:
    """One rank's file."""

    path: Path
    _open: bool = attrs.field(default=False, init=False)

    def add(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Write the answers of one step. Those of this step and later, of an earlier attempt, are forgotten first."""
        if not self._open and self.path.exists():
            temporary = self.path.with_suffix(".tmp")
            with self.path.open(encoding="utf-8") as old, temporary.open("w", encoding="utf-8") as new:
                new.writelines(line for line in old if _is_before(line, step))
            temporary.replace(self.path)
        self._open = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(rollout.line(step), ensure_ascii=False) + "\n" for rollout in rollouts)


def _is_before(line: str, step: int) -> bool:
    """A line that a kill cut off is of no step."""
    try:
        return bool(json.loads(line)["step"] < step)
    except (ValueError, KeyError):
        return False
