"""The batches of reinforcement: problems answered by the model as it is, rewarded, and turned into rows to learn from.

In: problems, the model that is trained, its tools. Out: PolicyBatches, and an exact state. Nothing is drawn from a
generator that would have to be kept: what a sample's tokens are chosen by is a hash of the run's seed, its problem's
place in the endless order, and its number. So the state is that place, and between two updates on the same answers,
these. Not here: the objective (training/policy_gradient.py), the engine.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nanochat.data.loader import LoaderState
from nanochat.errors import Stopped, stage_failure, wrong_input
from nanochat.inference.completion import Completion
from nanochat.inference.sampling import Sampling
from nanochat.inference.tool import Tool
from nanochat.runtime import Runtime
from nanochat.stages.reinforce_config import ReinforceConfig
from nanochat.stages.rollout_log import Rollout, RolloutLog
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.loop import TrainingRun
from nanochat.training.policy_gradient import PolicyBatch, advantages
from nanochat.training.problems import Problem, Problems
from nanochat.training.rollouts import padded, roll_out, row_of, sampling_seed

TOLD = ("reward", "reward_deviation", "answer_tokens", "unfinished", "tool_answers", "equal_rewards")
"""What is told of the answers: means over them, and over the groups the deviation within and the share without one."""

Groups = Sequence[Sequence[Completion]]
"""The answers to one problem after another."""


class RolloutLoader:
    """The rows of one rank: the answers to its problems."""

    def __init__(
        self,
        config: ReinforceConfig,
        problems: Problems,
        *,
        model: nn.Module,
        initial: nn.Module | None,
        tokenizer: Tokenizer,
        tools: Sequence[Tool],
        runtime: Runtime,
        should_stop: Callable[[], bool],
        log: RolloutLog,
        run: Callable[[], TrainingRun],
    ) -> None:
        """initial: the model that the stage began with, where the divergence from it counts. run: once it trains.

        E115 where the processes cannot share the problems of a step equally.
        """
        if config.problems_per_step % runtime.world_size:
            raise wrong_input(
                "E115",
                f"problems_per_step is {config.problems_per_step}, which {runtime.world_size} processes cannot share",
                help=f"set problems_per_step to a multiple of {runtime.world_size}",
            )
        self._config, self._problems = config, problems
        self._model, self._initial, self._tokenizer, self._tools = model, initial, tokenizer, tools
        self._runtime, self._should_stop, self._log, self._run = runtime, should_stop, log, run
        self._batch: PolicyBatch | None = None
        self._updates = 0
        """How often the batch was handed out."""
        self._sums = torch.zeros(len(TOLD) + 1, dtype=torch.float64)
        """Of all ranks since `told` was called last: TOLD, and the rollouts behind them."""
        self.reward = 0.0
        """The mean of the last rollouts."""

    def ready(self, seconds: float) -> bool:  # noqa: ARG002
        """Its batches are not made ahead: they depend on the step before."""
        return True

    def next_batch(self) -> PolicyBatch:
        """The rows of the next update. All ranks ask at once; raises Stopped where that is asked for meanwhile."""
        if self._batch is None or self._updates == self._config.updates:
            self._batch, self._updates = self._rolled(), 0
        self._updates += 1
        return self._batch

    def _rolled(self) -> PolicyBatch:
        """A batch of new answers."""
        config, runtime, place = self._config, self._runtime, self._problems.next_number
        own = self._problems.take(config.problems_per_step)[runtime.rank :: runtime.world_size]
        with self._whole():
            try:
                groups = self._answers(own)
            except Stopped:
                self._problems.next_number = place
                raise
            paid = [[_reward(problem, c) for c in group] for problem, group in zip(own, groups, strict=True)]
            rewards = torch.tensor(paid, dtype=torch.float64)  # (problems, samples)
            found = advantages(rewards, baseline=config.baseline, normalize=config.normalize)
            batch = self._compared(self._batch_of(own, groups, rewards, found))
        rollouts = [
            Rollout(problem=problem, completion=completion, reward=reward, advantage=advantage)
            for problem, *its in zip(own, groups, paid, found.tolist(), strict=True)
            for completion, reward, advantage in zip(*its, strict=True)
        ]
        self._log.add(self._run().step + 1, rollouts[: config.rollouts_logged * config.samples])
        return batch.pinned() if runtime.device.type == "cuda" else batch

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """The model is all here, and not in training."""
        self._model.eval()
        try:
            with self._run().exchange.whole():
                yield
        finally:
            self._model.train()

    def _answers(self, problems: Sequence[Problem]) -> list[list[Completion]]:
        """A group of answers for each problem."""
        config, count = self._config, self._config.samples
        samplings = [
            Sampling(
                temperature=config.temperature,
                top_k=config.top_k,
                max_tokens=config.max_tokens,
                seed=sampling_seed(self._runtime.seed, problem.number, sample),
            )
            for problem in problems
            for sample in range(count)
        ]
        answers = roll_out(
            self._model,
            self._tokenizer,
            self._runtime,
            [problem.prompt for problem in problems for _ in range(count)],
            samplings,
            tools=self._tools,
            rows=config.rollout_rows,
            should_stop=self._should_stop,
        )
        return [answers[start : start + count] for start in range(0, len(answers), count)]

    def _batch_of(self, problems: Sequence[Problem], groups: Groups, rewards: Tensor, found: Tensor) -> PolicyBatch:
        """found: advantages, as the rewards (problems, samples). All ranks' rows are as wide as the widest of them."""
        rows = [
            row_of(problem.prompt, completion, self._tokenizer)
            for problem, group in zip(problems, groups, strict=True)
            for completion in group
        ]
        width = self._exchanged(max(len(inputs) for inputs, _ in rows), tally(groups, rewards))
        return PolicyBatch(
            padded([inputs for inputs, _ in rows], width, self._tokenizer.bos_id),
            padded([targets for _, targets in rows], width, -1),
            advantages=found.float().view(-1, 1),
        )

    def _exchanged(self, width: int, own: Tensor) -> int:
        """Add up the tallies of all ranks; returns the largest of their widths."""
        widths = torch.zeros(self._runtime.world_size, dtype=torch.float64)
        widths[self._runtime.rank] = width
        sums, widths = self._runtime.sum(torch.cat([own, widths])).split([len(own), len(widths)])
        self._sums += sums
        self.reward = float(sums[0] / sums[-1])
        return int(widths.max())

    def _compared(self, batch: PolicyBatch) -> PolicyBatch:
        """With what the tokens cost the model as it is, and as it was at the start, where that counts."""
        models = {"sampled_nats": self._model if self._config.updates > 1 else None, "initial_nats": self._initial}
        nats = {name: self._nats(model, batch) for name, model in models.items() if model is not None}
        return PolicyBatch(**(batch.tensors() | nats))

    @torch.no_grad()
    def _nats(self, model: nn.Module, batch: PolicyBatch) -> Tensor:
        """−log π of the targets, (B, T)."""
        device, size = self._runtime.device, self._run().device_batch_size
        parts = [
            model(part.inputs.to(device), part.targets.to(device), reduction="none").cpu() for part in batch.split(size)
        ]
        return torch.cat(parts)

    # What is told, and what is kept

    def told(self) -> dict[str, float]:
        """Of the answers since the last call; nothing where there were none."""
        sums, self._sums = self._sums.tolist(), torch.zeros_like(self._sums)
        return {name: total / sums[-1] for name, total in zip(TOLD, sums, strict=False)} if sums[-1] else {}

    def counts(self) -> dict[str, int]:
        """For the stage's record: how far it came, and how many problems were held out, and too long for the model."""
        too_long = [name for name, _ in self._problems.too_long]
        lengths = {f"{name}.too_long": too_long.count(name) for name in dict.fromkeys(too_long)}
        return {**self.position(), "held_out": len(self._problems.held_out), **lengths}

    def position(self) -> dict[str, int]:
        """Whole passes over the problems, and problems met through all of them."""
        return {"passes": self._problems.passes, "problems": self._problems.next_number}

    def state(self) -> LoaderState:
        """The place, and the answers that are still to be learnt from."""
        runtime = self._runtime
        left = self._batch if self._updates < self._config.updates else None
        cursors = {
            "rows": self._problems.next_number,
            "lane_count": self._config.lanes,
            "lanes": {},
            "world_size": runtime.world_size,
            "updates": self._updates if left is not None else 0,
            "sums": self._sums.tolist(),
            "reward": self.reward,
        }
        tensors = {} if left is None else left.tensors()
        return LoaderState(
            cursors=cursors, buffers={f"{runtime.rank}.{name}": tensor.numpy() for name, tensor in tensors.items()}
        )

    def load_state(self, state: LoaderState) -> None:
        """Go on where `state` was made. E406 in the middle of the updates of another number of processes."""
        cursors, prefix = state.cursors, f"{self._runtime.rank}."
        self._problems.next_number, self._updates = cursors["rows"], cursors["updates"]
        self._sums, self.reward = torch.tensor(cursors["sums"], dtype=torch.float64), cursors["reward"]
        self._batch = None
        if not self._updates:
            return
        if cursors["world_size"] != self._runtime.world_size:
            raise stage_failure(
                "E406",
                f"the checkpoint was made by {cursors['world_size']} processes, between two updates on their answers",
                help=f"go on with {cursors['world_size']} processes, or begin the stage anew with --fresh STAGE",
            )
        own = {name: array for name, array in state.buffers.items() if name.startswith(prefix)}
        tensors: Mapping[str, Any] = {name.removeprefix(prefix): torch.from_numpy(a) for name, a in own.items()}
        self._batch = PolicyBatch(**tensors)

    def close(self) -> None:
        """Nothing is under way between two calls."""


def tally(groups: Groups, rewards: Tensor) -> Tensor:
    """The sums over answers behind TOLD, and how many answers there are; float64. rewards (problems, samples)."""
    answers = [completion for group in groups for completion in group]
    samples = rewards.size(1)
    deviations, equal = rewards.var(dim=1, correction=0).sqrt(), rewards.amax(dim=1) == rewards.amin(dim=1)
    sums: list[Any] = [
        rewards.sum(),
        deviations.sum() * samples,
        sum(len(completion.ids) for completion in answers),
        sum(completion.finish_reason == "length" for completion in answers),
        sum(any(part["type"] == "python_output" for part in completion.parts) for completion in answers),
        equal.sum() * samples,
        len(answers),
    ]
    return torch.tensor([float(value) for value in sums], dtype=torch.float64)


def _reward(problem: Problem, completion: Completion) -> float:
    """What the task pays. StageError E202 where that is no finite number."""
    paid = problem.task.reward(problem.conversation, completion.text)
    if not isinstance(paid, int | float) or not math.isfinite(paid):
        raise stage_failure(
            "E202",
            f"`{problem.name}` rewards an answer to its example {problem.index} by {paid!r}, which is no finite number",
            help="the task's author can mend this; nanochat.testing.check_task shows it",
        )
    return float(paid)
