"""What a report says of how good a model is: evaluations with their errors, samples, and conversations as it had them.

In: stages. Out: blocks. An interval of 95 % is a share's by Wilson: 200 right of 200 do not prove that all are.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.reporting.document import Block, Chat, Picture, Pictures, Sample, Table, Turn
from nanochat.reporting.plot import Interval, draw_intervals
from nanochat.reporting.subject import ReportedStage
from nanochat.reporting.training import COUNTS
from nanochat.running.figures import FIGURE_COLUMNS, count_text, error_text, figure_rows, value_text
from nanochat.running.json_file import read_lines

NORMAL_95 = 1.96
EXAMPLES = "examples/*-0.jsonl"
"""Where the first rank's examples of evaluations are."""
SHOWN_SAMPLES, SHOWN_CHATS = 7, 8
_LONGEST = 1500
"""Characters of a text that are shown."""


def accuracy_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """What the stages that evaluate measured."""
    measured = [stage for stage in stages if stage.produces == "figures" and stage.record]
    rows = [row for stage in measured for row in figure_rows(stage.finished)]
    blocks: list[Block] = [Table(titles=FIGURE_COLUMNS, rows=rows)] if rows else []
    drawn = [picture for stage in measured if (picture := _intervals(stage)) is not None]
    if drawn:
        blocks.append(Pictures(pictures=drawn))
    return blocks


def _intervals(stage: ReportedStage) -> Picture | None:
    rows = []
    for name, figure in stage.figures.items():
        value, error = figure.get("value"), figure.get("standard_error")
        if "accuracy" in name and value is not None and error is not None:
            low, high = interval(value, error, figure.get("n"))
            rows.append(Interval(label=name.removesuffix(".accuracy"), value=value, low=low, high=high))
    if not rows:
        return None
    title = f"{stage.name}: accuracy with intervals of 95 %"
    return Picture(svg=draw_intervals(title, rows, "accuracy"), caption=title)


def interval(share: float, error: float, n: int | None) -> tuple[float, float]:
    """Where a share's true value lies, at 95 %: the q with |share − q| ≤ 1.96·√(q·(1 − q)/n), by E. B. Wilson (JASA 22,
    1927). Its standard error tells as how many independent examples the n count; of all or none right it tells nothing.
    """
    examples = share * (1 - share) / error**2 if error > 0 and 0 < share < 1 else n or 0
    if not examples or not 0 <= share <= 1:
        return share - NORMAL_95 * error, share + NORMAL_95 * error
    z = NORMAL_95**2 / examples
    middle, half = share + z / 2, math.sqrt(z * share * (1 - share) + z * z / 4)
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def figure_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """What the other stages measured."""
    rows = [
        [stage.name, name, value_text(name, figure["value"]), count_text(figure), error_text(name, figure)]
        for stage in stages
        if stage.produces != "figures"
        for name, figure in stage.figures.items()
        if name not in COUNTS
    ]
    return [Table(titles=("stage", "figure", "value", "n", "standard error"), rows=rows, words=2)] if rows else []


def sample_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """What the models went on with."""
    return [
        Sample(prompt=_cut(sample["prompt"]), completion=_cut(str(sample["completion"])))
        for stage in stages
        for sample in samples_of(stage.folder.path)
    ]


def samples_of(folder: Path) -> list[Mapping[str, Any]]:
    """Each prompt once, with the first of its completions."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob(EXAMPLES)):
        for line in read_lines(path):
            if isinstance(line.get("prompt"), str) and "completion" in line:
                found.setdefault(line["prompt"], line)
    return list(found.values())[:SHOWN_SAMPLES]


def chat_blocks(stages: Sequence[ReportedStage]) -> list[Block]:
    """Conversations of evaluations: of each task the first that went right, and the first that went wrong."""
    chats = [chat for stage in stages for path in sorted(stage.folder.path.glob(EXAMPLES)) for chat in _chats(path)]
    return list(chats[:SHOWN_CHATS])


def _chats(path: Path) -> list[Chat]:
    found: dict[bool, Chat] = {}
    for line in read_lines(path):
        messages, score = line.get("messages"), line.get("score")
        if not isinstance(messages, list) or not messages or "completion" not in line or len(found) == 2:
            continue
        right = isinstance(score, int | float) and score >= 1
        if right not in found:
            found[right] = _chat(path.name.removesuffix("-0.jsonl"), messages, line["completion"], score, right)
    return [found[key] for key in (True, False) if key in found]


def _chat(task: str, messages: Sequence[Any], completion: Any, score: Any, right: bool) -> Chat:
    asked = [m for m in messages if isinstance(m, dict)]
    wanted = asked.pop() if asked and asked[-1].get("role") == "assistant" else None
    turns = [Turn(role=str(m.get("role", "user")), parts=_parts(m.get("content"))) for m in asked]
    turns.append(Turn(role="assistant", parts=_parts(completion)))
    verdict = "" if score is None else "right" if right else "wrong" if score == 0 else f"score {score:.2g}"
    if wanted is not None and not right and score is not None:
        last = "".join(text for _, text in _parts(wanted.get("content"))[-1:]).split()
        verdict += f"; wanted {' '.join(last)[:80]}" if last else ""
    return Chat(task=task, turns=turns, verdict=verdict, right=right)


def _parts(content: Any) -> list[tuple[str, str]]:
    """A message's content, a string or a list of parts, as (kind, text)."""
    if isinstance(content, list):
        return [(str(p.get("type", "text")), _cut(str(p.get("text", "")))) for p in content if isinstance(p, dict)]
    return [("text", _cut(str(content)))]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
