"""REINFORCE: answers that were rewarded above their group's become likelier, the others less likely.

In: the rewards of groups of answers, each group to one problem. Out: advantages, and the objective of a step over rows
of sampled tokens, whose gradient is −Σ A·∇log π (Williams, 1992). π is the model's own distribution of the next token,
at temperature 1 and over all tokens, whatever the answers were sampled by. Not here: sampling (rollouts.py), rewards.
"""

from typing import Any

import attrs
import torch
from torch import Tensor

from nanochat.data.loader import Batch

BASELINES = ("mean", "leave_one_out", "none")


def advantages(rewards: Tensor, *, baseline: str, normalize: bool) -> Tensor:
    """rewards (problems, samples) → advantages of the same shape.

    baseline: "mean", r − the mean of the group; "leave_one_out", r − the mean of the others (arXiv 2402.14740), which
    is the former times G/(G−1) and, other than it, leaves the expected gradient as it is; "none", r itself.
    normalize: divided by the group's standard deviation (of a population; arXiv 2402.03300), 0 where that is 0.
    """
    assert baseline in BASELINES, baseline
    samples = rewards.size(1)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
    found = rewards if baseline == "none" else centred
    if baseline == "leave_one_out":
        found = found * (samples / (samples - 1))
    if normalize:
        # What is left of equal rewards by rounding is no deviation.
        equal = rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)
        found = torch.where(equal, 0.0, found / deviation)
    return found


@attrs.frozen(eq=False)
class PolicyBatch(Batch):
    """Rows of sampled answers behind their prompts; the targets are the tokens that the model itself wrote."""

    advantages: Tensor = attrs.field(kw_only=True)  # (B, 1) float32
    sampled_nats: Tensor | None = attrs.field(default=None, kw_only=True)
    """(B, T) −log π of the targets when they were sampled; None: the policy is still the one that sampled them."""
    initial_nats: Tensor | None = attrs.field(default=None, kw_only=True)
    """(B, T) −log π of the targets under the model that the stage began with."""


@attrs.define(kw_only=True)
class PolicyObjective:
    """The objective of a step, and what it saw on the way."""

    clip: float = 0.0
    """How far the ratio of a token's probability to what it was may gain from 1 (arXiv 1707.06347); 0: without end."""
    kl: float = 0.0
    """The weight of the divergence from the initial model."""
    seen: Tensor = attrs.field(factory=lambda: torch.zeros(3))
    """Targets, those of them that the clip kept still, and their summed divergence from the initial model: on the
    device, which nobody waits for."""

    def __call__(self, model: Any, batch: Batch, device: torch.device) -> Tensor:
        """The sum over the targets, in nats."""
        assert isinstance(batch, PolicyBatch)
        moved = batch.map(lambda tensor: tensor.to(device, non_blocking=True))
        nats: Tensor = model(moved.inputs, moved.targets, reduction="none")  # (B, T)
        learnt = moved.targets >= 0
        clipped = divergence = torch.zeros((), device=device)
        if moved.sampled_nats is None:
            ratio, loss = None, moved.advantages * nats
        else:
            ratio = (moved.sampled_nats - nats).exp()
            loss, clipped = clipped_loss(ratio, moved.advantages, self.clip)
        if moved.initial_nats is not None:
            difference = moved.initial_nats - nats  # log π − log π of the initial model
            penalty, divergence = divergence_loss(difference, ratio), divergence_of(difference.detach())
            loss = loss + self.kl * penalty
        found = [learnt.float(), clipped * learnt, divergence * learnt]
        self.seen = self.seen.to(device) + torch.stack([values.detach().sum() for values in found])
        return (loss * learnt).sum()

    def take(self) -> Tensor:
        """What was `seen` since this was called last."""
        seen, self.seen = self.seen.cpu(), torch.zeros(3)
        return seen


def clipped_loss(ratio: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """−min(ρA, clip(ρ, 1 − ε, 1 + ε)A) (arXiv 1707.06347, equation 7), and where the clip took the gradient away."""
    if not clip:
        return -ratio * advantage, torch.zeros_like(ratio)
    gain, bounded = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    return -torch.minimum(gain, bounded), (bounded < gain).float()


def divergence_loss(difference: Tensor, ratio: Tensor | None) -> Tensor:
    """½(log π − log π₀)² of sampled tokens, whose gradient is on average that of KL(π ‖ π₀) (arXiv 2510.01555).

    The estimator below is no loss: its gradient is on average that of KL(π₀ ‖ π). ratio: where the tokens were sampled
    by an earlier policy, what their expectation is weighed by.
    """
    penalty = 0.5 * difference.square()
    return penalty if ratio is None else ratio.detach() * penalty


def divergence_of(difference: Tensor) -> Tensor:
    """KL(π ‖ π₀) of each token, estimated without bias and never below 0: e^−d − 1 + d for d = log π − log π₀."""
    return (-difference).exp() - 1 + difference
