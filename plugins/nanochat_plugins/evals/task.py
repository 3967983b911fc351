"""Any task as an evaluation: the share of examples that the model solves.

Generative tasks are answered by the inference engine, tools included, greedily or by chance, and scored by the task;
of several answers to each example, pass@k is told. Categorical ones are scored by the likeliest of the example's
letters as the next token. A prompt that does not fit into the context counts as unsolved, and is counted.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import torch

from nanochat.data.task import Conversation, Task
from nanochat.errors import stage_failure
from nanochat.inference.completion import Completion
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.inference.scoring import Continuations, Scorer
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.conversation import render_prompt
from nanochat_plugins.evals.accuracy import accuracy
from nanochat_plugins.evals.task_config import TaskConfig

TURN = 4
"""Times `rows` answers are asked for between two looks at whether to stop: slots that fall free are taken at once."""


@attrs.frozen(kw_only=True)
class Result:
    """What became of one answer."""

    score: float = 0.0
    with_tool: bool = False
    """Whether a tool was called and gave a result."""
    too_long: bool = False
    answer: Any = ""
    """What the model said, as parts or as a letter."""

    def counted(self) -> torch.Tensor:
        """Score, score by way of a tool, whether it is right, whether the prompt was too long: (4,)."""
        values = [self.score, self.score * self.with_tool, float(self.score >= 1), float(self.too_long)]
        return torch.tensor(values, dtype=torch.float64)


@attrs.frozen(kw_only=True, eq=False)
class Examples:
    """The examples that are measured, and their prompts."""

    conversations: Sequence[Conversation]
    prompts: Sequence[Sequence[int]]
    digest: str

    @classmethod
    def of(cls, task: Task, config: TaskConfig, subject: Subject) -> "Examples":
        """StageError E302 where there are none."""
        count = min(len(task), config.max_examples or len(task))
        if not count:
            raise stage_failure("E302", f"the task `{config.task.use}` has no examples to evaluate")
        found = [task[index] for index in range(count)]
        texts = "".join(json.dumps(example, sort_keys=True, default=str) + "\n" for example in found)
        return cls(
            conversations=found,
            prompts=[render_prompt(example, subject.tokenizer) for example in found],
            digest=hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest(),
        )


def evaluate(config: TaskConfig, subject: Subject) -> Mapping[str, Figure]:
    """accuracy; with tools accuracy_with_tool, solved by way of a tool's result; too_long where there are such.

    Of several answers to each example accuracy is their mean score, and pass@k stands beside it.
    """
    task: Task = subject.build(config.task)
    examples: Examples | None = subject.kept.get(repr(config))
    if examples is None:
        examples = subject.kept[repr(config)] = Examples.of(task, config, subject)
    generative = task.eval_type == "generative"
    answer = Generative(config, subject, task) if generative else Categorical(subject, task)
    count = len(examples.prompts)
    sums = torch.zeros(count, 4, dtype=torch.float64)
    batches, costs = answer.batches(examples.prompts)
    done = 0
    for turn in subject.jobs(costs):
        if turn is None:
            continue
        for index, results in answer(examples, batches[turn]):
            for result in results:
                sums[index] += result.counted()
                keep(index, examples.conversations[index], result, task, subject)
            done += 1
        shown = {"accuracy": float(sums[:, 0].sum()) / done / answer.samples}
        subject.progress(min(count, done * subject.runtime.world_size), count, shown, "examples")
    return figures(subject.runtime.sum(sums), answer.samples, examples.digest, tools=generative and bool(subject.tools))


def figures(sums: torch.Tensor, samples: int, digest: str, *, tools: bool) -> dict[str, Figure]:
    """Of (N, 4) sums over each example's answers: scores, scores with a tool, right ones, prompts too long."""
    solved, with_tool = (sums[:, column] / samples for column in (0, 1))
    found = {"accuracy": share(solved, samples, digest)}
    if tools:
        found["accuracy_with_tool"] = share(with_tool, samples, digest)
    for k in sizes(samples):
        estimates = [pass_at(k, samples, int(right)) for right in sums[:, 2].tolist()]
        found[f"pass@{k}"] = spread(torch.tensor(estimates), digest)
    if too_long := int((sums[:, 3] > 0).sum()):
        found["too_long"] = Figure(value=float(too_long), n=len(sums), data=digest)
    return found


def keep(index: int, example: Conversation, result: Result, task: Task, subject: Subject) -> None:
    """One line of the examples' file."""
    kept = {"index": index, "messages": example["messages"], "completion": result.answer, "score": result.score}
    subject.keep_example({**kept, **getattr(task, "conditions", {})})


class Generative:
    """Answers examples by the engine."""

    def __init__(self, config: TaskConfig, subject: Subject, task: Task) -> None:
        self.config, self.subject, self.task = config, subject, task
        self.samples = config.samples
        self.engine = Engine(subject.model, subject.tokenizer, subject.runtime, tools=subject.tools, rows=config.rows)

    def batches(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[float]]:
        """Numbers of prompts that are answered in one turn, and what each turn costs; long prompts apart from short."""
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        most = max(1, self.config.rows * TURN // self.samples)
        size = min(most, -(-len(order) // self.subject.runtime.world_size))
        found = [order[begin : begin + size] for begin in range(0, len(order), size)]
        return found, [float(sum(len(prompts[i]) + self.config.max_tokens for i in batch)) for batch in found]

    def __call__(self, examples: Examples, picked: Sequence[int]) -> list[tuple[int, list[Result]]]:
        """The results of each answer, by example."""
        fits = [index for index in picked if len(examples.prompts[index]) < self.engine.context]
        asked = [(index, sample) for index in fits for sample in range(self.samples)]
        prompts = [examples.prompts[index] for index, _ in asked]
        completions = self.engine.generate(prompts, [self._sampling(*one) for one in asked])
        pairs = [(examples.conversations[index], c) for (index, _), c in zip(asked, completions, strict=True)]
        found: dict[int, list[Result]] = {index: [] for index in picked}
        for (index, _), result in zip(asked, self._all_scored(pairs), strict=True):
            found[index].append(result)
        return [(index, results or [Result(too_long=True)]) for index, results in found.items()]

    def _sampling(self, index: int, sample: int) -> Sampling:
        """A seed of its own for each answer: what else is answered beside it changes nothing."""
        config = self.config
        return Sampling(
            temperature=config.temperature,
            top_k=config.top_k if config.temperature else 0,
            max_tokens=config.max_tokens,
            seed=(config.seed + index * self.samples + sample) % 2**63,
        )

    def _all_scored(self, pairs: Sequence[tuple[Conversation, Completion]]) -> list[Result]:
        if not getattr(self.task, "concurrent", False):
            return [self._scored(*pair) for pair in pairs]
        with ThreadPoolExecutor(self.config.workers) as pool:
            return list(pool.map(lambda pair: self._scored(*pair), pairs))

    def _scored(self, example: Conversation, completion: Any) -> Result:
        with_tool = any(part["type"] == "python_output" for part in completion.parts)
        score = float(self.task.evaluate(example, completion.text))
        return Result(score=score, with_tool=with_tool, answer=completion.parts)


class Categorical:
    """Answers examples by the logits of their letters after the prompt."""

    samples = 1

    def __init__(self, subject: Subject, task: Task) -> None:
        self.subject, self.task = subject, task
        self.scorer = Scorer(subject.model, subject.runtime)
        self.longest = int(subject.model.config.sequence_len)

    def batches(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[float]]:
        """Numbers of prompts of about one length, and what each batch costs."""
        costs = [min(len(prompt), self.longest) for prompt in prompts]
        found = self.scorer.batches(costs)
        return found, [float(len(batch) * costs[batch[0]]) for batch in found]

    def __call__(self, examples: Examples, picked: Sequence[int]) -> list[tuple[int, list[Result]]]:
        """The result of each example."""
        fits = [index for index in picked if len(examples.prompts[index]) <= self.longest]
        asked = [self._letters(examples.conversations[index], examples.prompts[index]) for index in fits]
        scores = iter(self.scorer.score(asked))
        found: list[tuple[int, list[Result]]] = []
        for index in picked:
            if len(examples.prompts[index]) > self.longest:
                found.append((index, [Result(too_long=True)]))
                continue
            example, nats = examples.conversations[index], [score.nats for score in next(scores)]
            likely = list(example["letters"])[nats.index(min(nats))]
            found.append((index, [Result(score=float(self.task.evaluate(example, likely)), answer=likely)]))
        return found

    def _letters(self, example: Conversation, prompt: Sequence[int]) -> Continuations:
        """The letters as continuations of the prompt: none of them is fed, and all are foretold at one place."""
        ids = np.array(prompt, dtype=np.int64)
        endings = [np.array([letter_id(letter, self.subject)], dtype=np.int64) for letter in example["letters"]]
        return Continuations(shared=ids, endings=endings, starts=[len(ids)] * len(endings))


def letter_id(letter: str, subject: Subject) -> int:
    """The one token that a letter is. StageError where the vocabulary needs several."""
    ids = subject.tokenizer.encode(letter)
    if len(ids) != 1:
        raise stage_failure("E306", f"the letter {letter!r} is {len(ids)} tokens; a categorical answer must be one")
    return ids[0]


def share(means: torch.Tensor, samples: int, digest: str) -> Figure:
    """The mean over examples (N,): binomial of one answer each, else by the spread of their means."""
    if samples == 1:
        return accuracy(float(means.sum()), len(means), digest)
    return spread(means, digest)


def spread(values: torch.Tensor, digest: str) -> Figure:
    """The mean of values (N,), and its standard error by their own deviation."""
    values = values.double()
    error = float(values.std(correction=0)) / math.sqrt(len(values))
    return Figure(value=float(values.mean()), n=len(values), standard_error=error, data=digest)


def sizes(samples: int) -> list[int]:
    """The k of pass@k: powers of two, and all answers; none of one answer, where it is the accuracy."""
    powers = [2**power for power in range(samples.bit_length()) if 2**power < samples]
    return [*powers, samples] if samples > 1 else []


def pass_at(k: int, n: int, right: int) -> float:
    """How likely one at least of k answers, drawn from n of which so many are right, is right.

    1 − C(n − c, k) / C(n, k), the unbiased estimate of arXiv 2107.03374.
    """
    return 1.0 if n - right < k else 1.0 - math.prod(1.0 - k / (n - i) for i in range(right))
