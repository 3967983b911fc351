"""Any task as an evaluation: the share of examples that the model solves.

Generative tasks are answered greedily by the inference engine, tools included, and scored by the task. Categorical ones
are scored by the likeliest of the example's letters as the next token.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from nanochat.data.task import Conversation, Task
from nanochat.errors import Stopped, stage_failure
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.conversation import render_prompt
from nanochat_plugins.evals.task_config import TaskConfig


def evaluate(config: TaskConfig, subject: Subject) -> Mapping[str, Figure]:
    """accuracy, and for generative tasks tool_use: the share of answers in which a tool was called."""
    task: Task = subject.build(config.task)
    count = min(len(task), config.max_examples or len(task))
    if not count:
        raise stage_failure("E302", f"the task `{config.task.use}` has no examples to evaluate")
    runtime = subject.runtime
    mine = [task[index] for index in range(runtime.rank, count, runtime.world_size)]
    answer = generative if task.eval_type == "generative" else categorical
    scores = answer(config, subject, task, mine)
    sums = runtime.sum(torch.tensor(scores, dtype=torch.float64, device=runtime.device).reshape(-1, 2).sum(dim=0))
    figures = {"accuracy": share(float(sums[0]), count)}
    if task.eval_type == "generative" and subject.tools:
        figures["tool_use"] = share(float(sums[1]), count)
    return figures


def generative(
    config: TaskConfig, subject: Subject, task: Task, examples: Sequence[Conversation]
) -> list[tuple[float, float]]:
    """(score, whether a tool was called) of each example."""
    engine = Engine(subject.model, subject.tokenizer, subject.runtime, tools=subject.tools, rows=config.rows)
    sampling = Sampling(temperature=0.0, max_tokens=config.max_tokens)
    scores: list[tuple[float, float]] = []
    for start in range(0, len(examples), config.rows):
        if subject.should_stop():
            raise Stopped
        group = examples[start : start + config.rows]
        completions = engine.generate([render_prompt(example, subject.tokenizer) for example in group], sampling)
        for example, completion in zip(group, completions, strict=True):
            score = float(task.evaluate(example, completion.text))
            called = any(part["type"] == "python" for part in completion.parts)
            scores.append((score, float(called)))
            subject.keep_example({"messages": example["messages"], "completion": completion.parts, "score": score})
        subject.progress(len(scores), len(examples), {"accuracy": sum(s for s, _ in scores) / len(scores)})
    return scores


@torch.no_grad()
def categorical(
    config: TaskConfig, subject: Subject, task: Task, examples: Sequence[Conversation]
) -> list[tuple[float, float]]:
    """(score, 0) of each example, by the logits of its letters after the prompt."""
    scores: list[tuple[float, float]] = []
    for start in range(0, len(examples), config.rows):
        if subject.should_stop():
            raise Stopped
        group = examples[start : start + config.rows]
        prompts = [render_prompt(example, subject.tokenizer) for example in group]
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=subject.runtime.device)
        width = max(len(prompt) for prompt in prompts)
        # Causal attention never looks right, so the padding behind a prompt changes nothing before it.
        ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts], device=subject.runtime.device)
        hidden = subject.model.hidden(ids)[torch.arange(len(group), device=ids.device), ends]
        logits = subject.model.logits(hidden)  # (B, V)
        for row, example in zip(logits, group, strict=True):
            letters = list(example["letters"])
            likely = row[[letter_id(letter, subject) for letter in letters]].argmax()
            score = float(task.evaluate(example, letters[int(likely)]))
            scores.append((score, 0.0))
            subject.keep_example({"messages": example["messages"], "completion": letters[int(likely)], "score": score})
        subject.progress(len(scores), len(examples), {"accuracy": sum(s for s, _ in scores) / len(scores)})
    return scores


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
