"""Any task as an evaluation: the share of examples that the model solves.

Generative tasks are answered greedily by the inference engine, tools included, and scored by the task. Categorical ones
are scored by the likeliest of the example's letters as the next token. A prompt that does not fit into the context
counts as unsolved, and is counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch

from nanochat.data.task import Conversation, Task
from nanochat.errors import stage_failure
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.conversation import render_prompt
from nanochat_plugins.evals.task_config import TaskConfig


@attrs.frozen(kw_only=True)
class Result:
    """What became of one example."""

    score: float = 0.0
    with_tool: bool = False
    """Whether a tool was called and gave a result."""
    too_long: bool = False
    answer: Any = ""
    """What the model said, as parts or as a letter."""


def evaluate(config: TaskConfig, subject: Subject) -> Mapping[str, Figure]:
    """accuracy; with tools accuracy_with_tool, solved by way of a tool's result; too_long where there are such."""
    task: Task = subject.build(config.task)
    count = min(len(task), config.max_examples or len(task))
    if not count:
        raise stage_failure("E302", f"the task `{config.task.use}` has no examples to evaluate")
    answer = Generative(config, subject, task) if task.eval_type == "generative" else Categorical(subject, task)
    sums = torch.zeros(3, dtype=torch.float64)  # scores, scores with a tool, prompts too long
    done = 0
    for picked in subject.rounds(count, config.rows):
        if not picked:
            continue
        examples = [task[index] for index in picked]
        for example, result in zip(examples, answer(examples), strict=True):
            sums += torch.tensor([result.score, result.score * result.with_tool, float(result.too_long)])
            kept = {"messages": example["messages"], "completion": result.answer, "score": result.score}
            subject.keep_example({**kept, **getattr(task, "conditions", {})})
        done += len(examples)
        subject.progress(done * subject.runtime.world_size, count, {"accuracy": float(sums[0]) / done}, "examples")
    solved, with_tool, too_long = subject.runtime.sum(sums).tolist()
    figures = {"accuracy": share(solved, count)}
    if task.eval_type == "generative" and subject.tools:
        figures["accuracy_with_tool"] = share(with_tool, count)
    if too_long:
        figures["too_long"] = Figure(value=too_long, n=count)
    return figures


class Generative:
    """Answers examples by the engine."""

    def __init__(self, config: TaskConfig, subject: Subject, task: Task) -> None:
        self.subject, self.task = subject, task
        self.engine = Engine(subject.model, subject.tokenizer, subject.runtime, tools=subject.tools, rows=config.rows)
        self.sampling = Sampling(temperature=0.0, max_tokens=config.max_tokens)

    def __call__(self, examples: Sequence[Conversation]) -> list[Result]:
        """The results, in order."""
        prompts = [render_prompt(example, self.subject.tokenizer) for example in examples]
        fits = [len(prompt) < self.engine.context for prompt in prompts]
        answers = iter(self.engine.generate([p for p, fit in zip(prompts, fits, strict=True) if fit], self.sampling))
        return [
            self._scored(example, next(answers)) if fit else Result(too_long=True)
            for example, fit in zip(examples, fits, strict=True)
        ]

    def _scored(self, example: Conversation, completion: Any) -> Result:
        with_tool = any(part["type"] == "python_output" for part in completion.parts)
        score = float(self.task.evaluate(example, completion.text))
        return Result(score=score, with_tool=with_tool, answer=completion.parts)


class Categorical:
    """Answers examples by the logits of their letters after the prompt."""

    def __init__(self, subject: Subject, task: Task) -> None:
        self.subject, self.task = subject, task

    @torch.no_grad()
    def __call__(self, examples: Sequence[Conversation]) -> list[Result]:
        """The results, in order."""
        subject, longest = self.subject, self.subject.model.config.sequence_len
        prompts = [render_prompt(example, subject.tokenizer) for example in examples]
        width = max((len(prompt) for prompt in prompts if len(prompt) <= longest), default=1)
        # Causal attention never looks right, so the padding behind a prompt changes nothing before it.
        padded = [prompt[:width] + [0] * (width - len(prompt)) for prompt in prompts]
        ids = torch.tensor(padded, dtype=torch.int64, device=subject.runtime.device).view(len(examples), width)
        ends = torch.tensor([min(len(prompt), width) - 1 for prompt in prompts], device=ids.device)
        hidden = subject.model.hidden(ids)[torch.arange(len(prompts), device=ids.device), ends]  # (B, C)
        logits = subject.model.logits(hidden).cpu()  # (B, V)
        return [
            self._scored(example, row) if len(prompt) <= longest else Result(too_long=True)
            for example, prompt, row in zip(examples, prompts, logits, strict=True)
        ]

    def _scored(self, example: Conversation, logits: torch.Tensor) -> Result:
        letters = list(example["letters"])
        likely = letters[int(logits[[letter_id(letter, self.subject) for letter in letters]].argmax())]
        return Result(score=float(self.task.evaluate(example, likely)), answer=likely)


def letter_id(letter: str, subject: Subject) -> int:
    """The one token that a letter is. StageError where the vocabulary needs several."""
    ids = subject.tokenizer.encode(letter)
    if len(ids) != 1:
        raise stage_failure("E306", f"the letter {letter!r} is {len(ids)} tokens; a categorical answer must be one")
    return ids[0]


def share(total: float, n: int) -> Figure:
    """A mean score with its binomial standard error."""
    mean = total / n
    return Figure(value=mean, n=n, standard_error=math.sqrt(max(0.0, mean * (1 - mean)) / n))
