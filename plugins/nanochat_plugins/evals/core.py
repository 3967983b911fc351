"""CORE: how well a model without any finetuning answers the tasks of a bundle (arXiv 2406.11794).

An example is solved when the model finds the right choice likeliest by the mean over its tokens (multiple_choice: of
the choices behind one question; schema: of one continuation behind several contexts), or would write each token of the
answer greedily (language_modeling). A task's accuracy is centred, (accuracy − guessing) / (1 − guessing); CORE is the
plain mean over tasks. A prompt longer than the context keeps its end, and is counted; an example that cannot be scored
is left out, named and counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs
import torch

from nanochat.errors import stage_failure
from nanochat.inference.scoring import Continuations, Score, Scorer
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat_plugins.evals.accuracy import accuracy, centred, mean_of
from nanochat_plugins.evals.core_bundle import Bundle, BundleTask
from nanochat_plugins.evals.core_config import CoreConfig
from nanochat_plugins.evals.core_prompts import Prompts, prompts

SOLVED, CUT = 1, 2
"""What became of an example: a sum of these."""
BATCHES_A_RANK = 4
"""At least, where several ranks share a small evaluation: with one or two each, some would wait for others."""


@attrs.frozen(kw_only=True, eq=False)
class Item:
    """An example that is scored."""

    prompts: Prompts
    number: int
    """In the order in which its task's examples are taken."""
    parts: Sequence[Continuations]
    """Several where what is left of over-long prompts no longer begins alike."""
    cut: bool

    @property
    def branched(self) -> bool:
        return any(part.branched for part in self.parts)

    @property
    def cost(self) -> int:
        return sum(part.cost for part in self.parts)


def evaluate(config: CoreConfig, subject: Subject) -> Mapping[str, Figure]:
    """core; each task's accuracy, by its label, and centered.LABEL; cut and left_out where there are such examples."""
    made = subject.kept.get(repr(config))
    if made is None:
        made = subject.kept[repr(config)] = Made.of(config, subject)
    results = measure(made.items, config, subject)
    figures: dict[str, Figure] = {}
    begin = 0
    for task, count in made.counts:
        solved = int((results[begin : begin + count] % CUT).sum())
        figures[task.label] = accuracy(solved, count, made.digest)
        begin += count
    centered = {f"centered.{task.label}": centred(figures[task.label], task.baseline) for task, _ in made.counts}
    figures = {"core": mean_of(list(centered.values()), made.digest), **figures, **centered}
    if cut := int((results >= CUT).sum()):
        figures["cut"] = Figure(value=float(cut), n=len(results), data=made.digest)
    if made.left_out:
        figures["left_out"] = Figure(value=float(made.left_out), n=made.left_out + len(results), data=made.digest)
    return figures


@attrs.frozen(kw_only=True, eq=False)
class Made:
    """What is scored: the same whenever the evaluation has its turn."""

    items: Sequence[Item]
    """Of one task after the other."""
    counts: Sequence[tuple[BundleTask, int]]
    left_out: int
    digest: str

    @classmethod
    def of(cls, config: CoreConfig, subject: Subject) -> "Made":
        bundle, digest = Bundle(config.place()), config.digest()
        longest = config.context or positions(subject)
        items: list[Item] = []
        counts: list[tuple[BundleTask, int]] = []
        left_out = 0
        for task in bundle.tasks(config.tasks):
            found = prompts(bundle, task, subject.tokenizer, config.max_per_task)
            faults: Counter[str] = Counter()
            own = list(_items(found, longest, faults))
            for why, count in faults.items():
                subject.note(f"core leaves {count} of {len(found.made)} examples of `{task.label}` out: {why}")
            if not own:
                raise stage_failure(
                    "E302", f"no example of the task `{task.label}` can be scored: {next(iter(faults))}"
                )
            items += own
            counts.append((task, len(own)))
            left_out += faults.total()
        return cls(items=items, counts=counts, left_out=left_out, digest=digest)


def positions(subject: Subject) -> int:
    """How many ids a model can place, which may be more than it was trained on at once."""
    config = subject.model.config
    return int(config.sequence_len) * int(getattr(config, "rotary_margin", 1))


def _items(found: Prompts, longest: int, faults: "Counter[str]") -> Iterator[Item]:
    for number, made in enumerate(found.made):
        if isinstance(made, str):
            faults[made] += 1
        elif made.fits(longest):
            yield Item(prompts=found, number=number, parts=[made], cut=False)
        else:
            try:
                yield Item(prompts=found, number=number, parts=made.cut(longest), cut=True)
            except ValueError:
                faults[f"its answer alone does not fit into {longest} tokens"] += 1


def measure(items: Sequence[Item], config: CoreConfig, subject: Subject) -> torch.Tensor:
    """What became of each item, (N,); the ranks share the batches by their costs."""
    costs = [item.cost for item in items]
    scorer = Scorer(subject.model, subject.runtime, tokens=config.tokens)
    if subject.runtime.world_size > 1:
        share = sum(costs) // (BATCHES_A_RANK * subject.runtime.world_size)
        scorer.tokens = max(1, min(scorer.tokens, share))
    batches = scorer.batches(costs, [item.branched for item in items])
    results = torch.zeros(len(items), dtype=torch.float64)
    done = solved = 0
    for batch in subject.jobs([len(batch) * costs[batch[0]] for batch in batches]):
        if batch is None:
            continue
        picked = [items[number] for number in batches[batch]]
        scores = iter(scorer.score([part for item in picked for part in item.parts]))
        for number, item in zip(batches[batch], picked, strict=True):
            own = [score for _ in item.parts for score in next(scores)]
            right = solves(item, own)
            results[number] = SOLVED * right + CUT * item.cut
            keep(item, own, right, subject)
            solved += right
        done += len(picked)
        # Of all ranks about so many: their shares cost the same, and take about as long.
        subject.progress(
            min(len(items), done * subject.runtime.world_size), len(items), {"accuracy": solved / done}, "examples"
        )
    return subject.runtime.sum(results)


def chosen(scores: Sequence[Score]) -> int:
    """The choice with the lowest mean; the first of those that are equal."""
    means = [score.mean for score in scores]
    return means.index(min(means))


def solves(item: Item, scores: Sequence[Score]) -> bool:
    """Whether the model has it right."""
    if item.prompts.task.type == "language_modeling":
        return scores[0].greedy
    return chosen(scores) == item.prompts.golds[item.number]


def keep(item: Item, scores: Sequence[Score], right: bool, subject: Subject) -> None:
    """One line of the examples' file."""
    found = item.prompts
    kept = {"task": found.task.label, "index": item.number, "score": float(right), "question": found.texts[item.number]}
    if found.task.type != "language_modeling":
        kept |= {"gold": found.golds[item.number], "choice": chosen(scores)}
    subject.keep_example({**kept, "nats_per_token": [score.mean for score in scores], "cut": item.cut})
