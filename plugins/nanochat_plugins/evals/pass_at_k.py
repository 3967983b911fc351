"""How many problems a model solves when it may answer k times: pass@k, and the mean reward.

In: a task, or the problems that a stage holds out of its training. Out: pass@1, pass@2, pass@4 … of `samples` answers,
and the reward, each with the standard error of a mean over problems. An answer solves its problem when its score is 1.
The same problems are answered with the same random numbers each time, so that two evaluations differ by the model
alone. A prompt that does not fit into the context counts as unsolved.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import torch

from nanochat.data.task import Conversation, Task
from nanochat.errors import stage_failure
from nanochat.inference.completion import Completion
from nanochat.inference.sampling import Sampling
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.conversation import render_prompt
from nanochat.training.rollouts import roll_out, sampling_seed
from nanochat_plugins.evals.pass_at_k_config import PassAtKConfig


@attrs.frozen(kw_only=True)
class Question:
    """An example, and what scores an answer to it."""

    task: Task
    conversation: Conversation
    prompt: Sequence[int]


def evaluate(config: PassAtKConfig, subject: Subject) -> Mapping[str, Figure]:
    """pass@k by k, reward; too_long where there are such."""
    count, question_of = questions(config, subject)
    data = digest(question_of(number) for number in range(count))
    ks = [k for k in (2**power for power in range(20)) if k <= config.samples]
    sums = torch.zeros(2 * (len(ks) + 1) + 1, dtype=torch.float64)  # values, their squares, prompts too long
    done = 0
    for picked in subject.rounds(count, max(1, config.rows // config.samples)):
        asked = [question_of(number) for number in picked]
        found = answered(config, subject, asked, picked)
        for number, question, answers in zip(picked, asked, found, strict=True):
            values = torch.tensor(scored(number, question, answers, config, ks, subject), dtype=torch.float64)
            sums += torch.cat([values, values.square(), torch.tensor([float(not answers)])])
        done += len(asked)
        if done:
            shown = {"reward": float(sums[len(ks)]) / done}
            subject.progress(min(done * subject.runtime.world_size, count), count, shown, "problems")
    values, squares, (too_long,) = subject.runtime.sum(sums).split([len(ks) + 1, len(ks) + 1, 1])
    names = [*(f"pass@{k}" for k in ks), "reward"]
    totals = zip(names, values.tolist(), squares.tolist(), strict=True)
    figures = {name: mean_of(total, its_squares, count, data) for name, total, its_squares in totals}
    return figures | ({"too_long": Figure(value=float(too_long), n=count, data=data)} if too_long else {})


def digest(asked: Iterable[Question]) -> str:
    """Of the conversations that questions are taken from."""
    texts = "".join(json.dumps(question.conversation, sort_keys=True, default=str) + "\n" for question in asked)
    return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()


def questions(config: PassAtKConfig, subject: Subject) -> tuple[int, Callable[[int], Question]]:
    """How many there are, and each by its number. StageError where there is none."""
    if config.task is None:
        held_out = subject.problems[: config.max_examples]
        if not held_out:
            raise stage_failure(
                "E115",
                "`pass_at_k` has no task, and its stage holds no problems out",
                help="give it a `task`, or measure in a `reinforce` stage whose `held_out` is above 0",
            )
        known = [Question(task=p.task, conversation=p.conversation, prompt=p.prompt) for p in held_out]
        return len(known), known.__getitem__
    task: Task = subject.build(config.task)
    count = min(len(task), config.max_examples or len(task))
    if not count:
        raise stage_failure("E302", f"the task `{config.task.use}` has no examples to evaluate")

    def question(number: int) -> Question:
        example = task[number]
        return Question(task=task, conversation=example, prompt=render_prompt(example, subject.tokenizer))

    return count, question


def answered(
    config: PassAtKConfig, subject: Subject, asked: Sequence[Question], numbers: Sequence[int]
) -> list[list[Completion]]:
    """The answers to each question; none where its prompt does not fit."""
    fits = [len(question.prompt) < subject.model.config.sequence_len for question in asked]
    prompts, samplings = [], []
    for question, number, fit in zip(asked, numbers, fits, strict=True):
        for sample in range(config.samples if fit else 0):
            seed = sampling_seed("pass_at_k", subject.runtime.seed, number, sample)
            prompts.append(question.prompt)
            samplings.append(
                Sampling(temperature=config.temperature, top_k=config.top_k, max_tokens=config.max_tokens, seed=seed)
            )
    answers = iter(
        roll_out(
            subject.model,
            subject.tokenizer,
            subject.runtime,
            prompts,
            samplings,
            tools=subject.tools,
            rows=config.rows,
            should_stop=subject.should_stop,
        )
    )
    return [[next(answers) for _ in range(config.samples if fit else 0)] for fit in fits]


def scored(
    number: int,
    question: Question,
    answers: Sequence[Completion],
    config: PassAtKConfig,
    ks: Sequence[int],
    subject: Subject,
) -> list[float]:
    """pass@k for each k, and the mean reward, of one problem. Each answer is kept, by a number of its own."""
    task, conversation = question.task, question.conversation
    scores = [float(task.evaluate(conversation, answer.text)) for answer in answers]
    rewards = [float(task.reward(conversation, answer.text)) for answer in answers]
    for sample, (answer, score, reward) in enumerate(zip(answers, scores, rewards, strict=True)):
        index = number * config.samples + sample
        kept = {
            "index": index,
            "messages": conversation["messages"],
            "completion": answer.parts,
            "score": score,
            "reward": reward,
        }
        subject.keep_example({**kept, **getattr(task, "conditions", {})})
    solved = sum(score >= 1 for score in scores)
    return [*(pass_at(k, config.samples, solved) for k in ks), sum(rewards) / config.samples]


def pass_at(k: int, samples: int, solved: int) -> float:
    """The chance that k answers, drawn from `samples` of which `solved` are right, hold a right one.

    1 − C(n−c, k) / C(n, k): the unbiased estimate of arXiv 2107.03374.
    """
    return 1 - math.comb(samples - solved, k) / math.comb(samples, k)


def mean_of(total: float, squares: float, n: int, data: str = "") -> Figure:
    """A mean over problems, and its standard error: √(the sample's variance / n); of one problem none is known.

    data: the digest of what was measured on.
    """
    mean = total / n
    variance = max(0.0, squares / n - mean**2) * n / (n - 1) if n > 1 else None
    return Figure(value=mean, n=n, standard_error=None if variance is None else math.sqrt(variance / n), data=data)
