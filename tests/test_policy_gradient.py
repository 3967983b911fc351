"""REINFORCE against closed forms and float64 code of its own: advantages, gradients, clipping, divergence, the mask."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from nanochat.inference.completion import Completion
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_conversation, tiny_tokenizer
from nanochat.text.conversation import render_conversation, render_prompt
from nanochat.training.loop import TrainingRun, accumulate_gradients
from nanochat.training.policy_gradient import (
    PolicyBatch,
    PolicyObjective,
    advantages,
    clipped_loss,
    divergence_loss,
    divergence_of,
)
from nanochat.training.rollouts import row_of, written_mask
from nanochat.training.schedule_config import ScheduleConfig

GROUPS = st.integers(1, 4).flatmap(
    lambda problems: st.integers(2, 5).flatmap(
        lambda samples: st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 1.0, -3.0, 0.1]), min_size=samples, max_size=samples),
            min_size=problems,
            max_size=problems,
        )
    )
)


@given(rewards=GROUPS, normalize=st.booleans())
def test_advantages_are_those_of_the_textbook(rewards: list[list[float]], normalize: bool) -> None:
    """Group by group and answer by answer, by loops over plain numbers."""
    for baseline in ("mean", "leave_one_out", "none"):
        found = advantages(torch.tensor(rewards, dtype=torch.float64), baseline=baseline, normalize=normalize)
        for group, row in zip(rewards, found.tolist(), strict=True):
            for place, advantage in enumerate(row):
                others = group[:place] + group[place + 1 :]
                compared = {"mean": np.mean(group), "leave_one_out": np.mean(others), "none": 0.0}[baseline]
                deviation = float(np.std(group)) if len(set(group)) > 1 else math.inf
                expected = (group[place] - compared) / (deviation if normalize else 1.0)
                assert advantage == pytest.approx(expected, abs=1e-9)


def test_equal_rewards_give_no_advantage_even_where_their_mean_is_rounded() -> None:
    for baseline in ("mean", "leave_one_out"):
        found = advantages(torch.full((2, 3), 0.1), baseline=baseline, normalize=True)
        assert torch.equal(found, torch.zeros(2, 3))


class Toy(nn.Module):
    """Two tokens, 0 and 1. Three parameters: the first token's logit, and the second's behind a 0 and behind a 1."""

    def __init__(self, theta: tuple[float, float, float]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, inputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        assert reduction == "none"
        logits = torch.stack([self.theta[0].expand(len(inputs)), self.theta[1 + inputs[:, 1]]], dim=1)  # (B, 2)
        return -nn.functional.logsigmoid(logits * (2 * targets - 1))


def gradient(model: Toy, batch: PolicyBatch, objective: PolicyObjective, rows: int = 99) -> NDArray[np.float64]:
    """As the loop computes it."""
    model.theta.grad = None
    run = TrainingRun(
        model=model, optimizers={}, loader=Any, runtime=local_runtime(), schedule=ScheduleConfig(), steps=1,
        fraction=lambda step: 0.0, device_batch_size=rows, objective=objective, metrics=lambda *_: None,
        progress=lambda *_: None, evaluate=lambda step: {}, save=lambda: None, stop_asked=lambda: False,
    )  # type: ignore[arg-type]  # fmt: skip
    accumulate_gradients(run, batch)
    assert model.theta.grad is not None
    return model.theta.grad.numpy().copy()


def answers_of(tokens: list[tuple[int, int]], found: Tensor, **nats: Tensor) -> PolicyBatch:
    targets = torch.tensor(tokens)
    inputs = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.int64), targets[:, :1]], dim=1)
    return PolicyBatch(inputs, targets, advantages=found.view(-1, 1), **nats)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


THETA = (0.3, -0.8, 1.1)
REWARDS = {(0, 0): 0.25, (0, 1): 1.0, (1, 0): -0.5, (1, 1): 0.75}


def exact_gradient() -> NDArray[np.float64]:
    """∇ E[reward] by hand: ∂J/∂θ₀ = p(1−p)(V₁ − V₀), ∂J/∂θ₁₊ₐ = P(a) q(1−q)(r₁ − r₀); p = σ(θ₀), q = σ(θ₁₊ₐ)."""
    p, q = sigmoid(THETA[0]), (sigmoid(THETA[1]), sigmoid(THETA[2]))
    value = [(1 - q[a]) * REWARDS[a, 0] + q[a] * REWARDS[a, 1] for a in (0, 1)]
    behind = [(p if a else 1 - p) * q[a] * (1 - q[a]) * (REWARDS[a, 1] - REWARDS[a, 0]) for a in (0, 1)]
    return np.array([p * (1 - p) * (value[1] - value[0]), *behind])


@pytest.mark.parametrize("baseline, factor", [("none", 1.0), ("leave_one_out", 1.0), ("mean", 3 / 4)])
def test_the_expected_gradient_is_that_of_the_expected_reward(baseline: str, factor: float) -> None:
    """Over all 256 groups of four answers, each weighed by its probability. The group's own mean takes a 1/G of it.

    The loop divides by the tokens, two for each answer, so that half of −∇E[reward] is descended.
    """
    model, expected = Toy(THETA), np.zeros(3)
    p, q = sigmoid(THETA[0]), (sigmoid(THETA[1]), sigmoid(THETA[2]))
    chance = {(a, b): (p if a else 1 - p) * (q[a] if b else 1 - q[a]) for a, b in REWARDS}
    for group in itertools.product(REWARDS, repeat=4):
        rewards = torch.tensor([[REWARDS[answer] for answer in group]], dtype=torch.float64)
        found = advantages(rewards, baseline=baseline, normalize=False)
        weight = math.prod(chance[answer] for answer in group)
        expected += weight * gradient(model, answers_of(list(group), found), PolicyObjective())
    np.testing.assert_allclose(expected, -factor * exact_gradient() / 2, atol=1e-14)


def test_on_the_first_of_several_updates_the_gradient_is_that_of_a_single_one() -> None:
    model, found = Toy(THETA), torch.tensor([0.5, -1.5], dtype=torch.float64)
    plain = answers_of([(0, 1), (1, 1)], found)
    nats = model(plain.inputs, plain.targets, "none").detach()
    first = answers_of([(0, 1), (1, 1)], found, sampled_nats=nats)
    once = gradient(model, plain, PolicyObjective())
    np.testing.assert_allclose(gradient(model, first, PolicyObjective(clip=0.2)), once, atol=1e-15)


@pytest.mark.parametrize("clip", [0.0, 0.2])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_later_update_descends_the_clipped_objective(clip: float, rows: int) -> None:
    """Against central differences of −mean(min(ρA, clip(ρ)A)), written in NumPy."""
    model = Toy(THETA)
    tokens, given_ = [(0, 0), (0, 1), (1, 0), (1, 1)], np.array([1.0, -2.0, 0.5, -0.25])
    before = np.log([[0.5, 0.2], [0.5, 0.35], [0.35, 0.25], [0.7, 0.9]])  # log π of the tokens when they were sampled

    def objective(theta: NDArray[np.float64]) -> float:
        total = 0.0
        for (a, b), advantage, old in zip(tokens, given_, before, strict=True):
            first, second = sigmoid(theta[0]), sigmoid(theta[1 + a])
            for chance, was in zip((first if a else 1 - first, second if b else 1 - second), old, strict=True):
                ratio = chance / math.exp(was)
                bounded = min(max(ratio, 1 - clip), 1 + clip) if clip else ratio
                total -= min(ratio * advantage, bounded * advantage)
        return total / 8

    steps = 1e-6 * np.eye(3)
    differences = [(objective(np.array(THETA) + s) - objective(np.array(THETA) - s)) / 2e-6 for s in steps]
    batch = answers_of(tokens, torch.tensor(given_), sampled_nats=torch.tensor(-before))
    np.testing.assert_allclose(gradient(model, batch, PolicyObjective(clip=clip), rows), differences, atol=1e-9)


def test_it_is_counted_where_the_clip_takes_the_gradient_away() -> None:
    """Gains are cut off above for a good answer, and below for a bad one; losses never."""
    ratio, advantage = (
        torch.tensor([[1.3], [0.7], [1.3], [0.7], [1.1]]),
        torch.tensor([[1.0], [-1.0], [-1.0], [1.0], [1.0]]),
    )
    loss, clipped = clipped_loss(ratio, advantage, 0.2)
    torch.testing.assert_close(loss, torch.tensor([[-1.2], [0.8], [1.3], [-0.7], [-1.1]]))
    assert clipped.flatten().tolist() == [1, 1, 0, 0, 0]


@given(
    logits=st.lists(st.floats(-3, 3), min_size=5, max_size=5),
    initial=st.lists(st.floats(-3, 3), min_size=5, max_size=5),
)
def test_the_divergence_and_its_gradient_are_on_average_the_exact_ones(
    logits: list[float], initial: list[float]
) -> None:
    """Of one token of five: KL(π ‖ π₀) = Σ π log(π/π₀), and its derivative by each logit π(log(π/π₀) − KL)."""
    x, y = np.array(logits), np.array(initial)
    p, p0 = (np.exp(z) / np.exp(z).sum() for z in (x, y))
    exact = float((p * np.log(p / p0)).sum())
    theta = torch.tensor(x, requires_grad=True)
    difference = theta.log_softmax(0) - torch.tensor(y).log_softmax(0)
    weights = torch.tensor(p)
    (weights * divergence_loss(difference, None)).sum().backward()  # type: ignore[no-untyped-call]
    assert theta.grad is not None
    np.testing.assert_allclose(theta.grad.numpy(), p * (np.log(p / p0) - exact), atol=1e-12)
    assert float((weights * divergence_of(difference.detach())).sum()) == pytest.approx(exact, abs=1e-12)


def test_tokens_of_an_earlier_policy_are_weighed_in_the_divergence() -> None:
    """Sampled by π_old, weighed by π/π_old: on average the gradient under π."""
    old, now, initial = (torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0.4], [0.9, -0.3], [0.0, 0.2]))
    gradients = []
    for sampled in (now, old):
        theta = now.clone().requires_grad_()
        ratio = (theta.log_softmax(0) - sampled.log_softmax(0)).exp()
        penalty = divergence_loss(theta.log_softmax(0) - initial.log_softmax(0), ratio)
        (sampled.softmax(0) * penalty).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(theta.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_only_targets_count_and_what_was_seen_is_told_once() -> None:
    class Unused(nn.Module):
        def forward(self, inputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
            return torch.where(targets >= 0, 2.0, 0.0)

    targets = torch.tensor([[-1, 5, 7], [-1, -1, 3]])
    nats = torch.where(targets >= 0, 1.0, 0.0)
    batch = PolicyBatch(
        targets.clamp(min=0), targets, advantages=torch.tensor([[1.0], [-2.0]]), sampled_nats=nats, initial_nats=nats
    )
    objective = PolicyObjective(clip=0.2, kl=0.5)
    loss = objective(Unused(), batch, torch.device("cpu"))
    ratio = math.exp(-1)  # 1 nat dearer than when sampled: below the clip, which saves the bad answer's loss alone
    assert float(loss) == pytest.approx(-2 * ratio + 2 * 0.8 + 0.5 * 3 * ratio * 0.5, rel=1e-6)
    assert objective.take().tolist() == pytest.approx([3, 1, 3 * (math.e - 2)], rel=1e-6)
    assert objective.take().tolist() == [0, 0, 0]


def completion_of(ids: list[int]) -> Completion:
    return Completion(ids=ids, text="", parts=[], finish_reason="stop", prompt_tokens=0)


def test_what_is_learnt_of_an_answer_is_what_finetuning_learns_of_the_same_words() -> None:
    """The end token and the tool's call are; the question and the tool's output are not."""
    tokenizer, conversation = tiny_tokenizer(), tiny_conversation()
    rendered, prompt = render_conversation(conversation, tokenizer), render_prompt(conversation, tokenizer)
    inputs, targets = row_of(prompt, completion_of(rendered.ids[len(prompt) :]), tokenizer)
    assert inputs == rendered.ids[:-1]
    expected = [token if own else -1 for token, own in zip(rendered.ids[1:], rendered.mask[1:], strict=True)]
    assert targets == expected
    assert targets[-1] == tokenizer.special_id("<|assistant_end|>")
    assert tokenizer.special_id("<|output_start|>") not in targets


def test_an_answer_that_was_cut_off_inside_a_tools_output_ends_unlearnt() -> None:
    tokenizer = tiny_tokenizer()
    special: Callable[[str], int] = tokenizer.special_id
    ids = [70, special("<|python_start|>"), 71, special("<|python_end|>"), special("<|output_start|>"), 72]
    assert written_mask(ids, tokenizer) == [True, True, True, True, False, False]
