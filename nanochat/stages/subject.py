"""The contract of an evaluation: `evaluate(config, subject) -> Mapping[str, Figure]`.

The subject is everything about the model that an evaluation may need. An evaluation switches the model to eval mode
itself, leaves its weights alone, and gives the same figures for any batch size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from nanochat.data.source import Source
from nanochat.errors import Stopped
from nanochat.inference.tool import Tool
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.problems import Problem


@attrs.frozen(kw_only=True)
class Subject:
    """A model under evaluation, or a tokenizer alone."""

    model: Any
    """The module its plugin built: model(ids, targets, reduction), hidden, logits, config.sequence_len. None in a
    tokenizer stage, which runs only evaluations whose config class says `needs_model = False`."""
    tokenizer: Tokenizer
    runtime: Runtime
    build: Callable[..., Any]
    """Builds a resolved component that the evaluation's config holds: `subject.build(config.task)`."""
    sources: Mapping[str, Source] = attrs.field(factory=dict)
    """The stage's own sources, where it has them: their validation splits are there to be measured on."""
    problems: Sequence[Problem] = ()
    """Those that a stage which is rewarded for problems holds out of its training."""
    tools: Sequence[Tool] = ()
    keep_example: Callable[[Mapping[str, Any]], None] = lambda _: None
    """Keeps one example's result (plain data) beside the figures, for the report and for comparisons."""
    progress: Callable[[int, int, Mapping[str, float], str], None] = lambda *_: None
    note: Callable[[str], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    kept: dict[object, Any] = attrs.field(factory=dict)
    """What an evaluation keeps from one of its turns in a stage to the next: tokenised text, say."""

    def rounds(self, count: int, rows: int) -> Iterator[range]:
        """This rank's share of `count` examples, at most `rows` at a time. Raises Stopped where that is asked for.

        Every rank goes through equally many rounds, the last of which may be empty: whether to stop, and whatever else
        the ranks exchange in a round, is asked by all of them alike.
        """
        share = -(-count // self.runtime.world_size)
        mine = range(self.runtime.rank, count, self.runtime.world_size)
        for start in range(0, share, rows):
            if self.should_stop():
                raise Stopped
            yield mine[start : start + rows]

    def jobs(self, costs: Sequence[float]) -> Iterator[int | None]:
        """The numbers of this rank's share of jobs, so that all ranks have about as much to do; Stopped as in `rounds`.

        The dearest go first, each to the rank with the least so far (Graham 1969: at most a third above the best).
        Every rank goes through equally many rounds; one that has no job left is given None.
        """
        loads = [0.0] * self.runtime.world_size
        shares: list[list[int]] = [[] for _ in loads]
        for job in sorted(range(len(costs)), key=lambda job: -costs[job]):
            rank = loads.index(min(loads))
            loads[rank] += costs[job]
            shares[rank].append(job)
        own = shares[self.runtime.rank]
        for turn in range(max(map(len, shares))):
            if self.should_stop():
                raise Stopped
            yield own[turn] if turn < len(own) else None
