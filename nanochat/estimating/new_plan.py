"""A new recipe made to measure: depth and steps that a budget allows, a batch that fits, as much text as is read.

In: a NewRecipe without sizes, a budget or a depth, the machine. Out: the NewRecipe with sizes, and its estimate. Each
candidate is written, loaded and estimated as a user's recipe is, so what is promised is what `nanochat estimate` says.
"""

import tempfile
from functools import partial
from pathlib import Path

import attrs

from nanochat.config import rules_of
from nanochat.errors import InputError
from nanochat.estimating.budget import Budget, Taken, fill
from nanochat.estimating.device import Device
from nanochat.estimating.estimate import TOKENIZER_CHARACTERS_PER_SECOND, Estimate, estimate
from nanochat.estimating.new_recipe import CLIMBMIX, PYDOCS, NewRecipe, recipe_text
from nanochat.estimating.stage_estimate import StageEstimate, Training
from nanochat.hardware import Machine
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry

TOKENIZER_SHARE = 0.1
"""Of a time budget, at most for the tokenizer."""
MOST_TOKENIZER_CHARACTERS = 2_000_000_000
MOST_FINETUNING_TOKENS = 32_000_000
"""Without conversations of the user's own: some ten passes over 60,000 short examples; more teaches nothing."""


@attrs.frozen(kw_only=True)
class NewPlan:
    """Candidates of one new recipe, and how they are estimated."""

    new: NewRecipe
    folder: Path
    """Where the recipe will lie: paths in it are relative to that."""
    machine: Machine
    here: Device
    """What it is to run on, measured once."""
    registry: Registry = attrs.field(factory=load_registry)

    def filled(self, budget: Budget | None, depth: int | None) -> tuple[NewRecipe, Estimate]:
        """With the sizes that the budget allows, or a depth's usual ones. InputError E407 where nothing fits."""
        plan = attrs.evolve(self, new=self._with_tokenizer_limit(budget)) if budget is not None else self
        if budget is None:
            assert depth is not None
            new = plan._candidate(depth, None)
        else:
            depth, steps = fill(budget, partial(plan._measure, budget=budget), depth=depth)
            new = plan._candidate(depth, steps)
        training = _base(plan.estimate(new))
        needed = training.data[0].shards_needed if training.data else None
        new = attrs.evolve(
            new, shards=max(new.shards, min(needed or 1, self._most_shards())), why=_why(budget, depth, training)
        )
        fitting = training.fitting_batch_size
        if fitting and fitting < training.device_batch_size:
            new = attrs.evolve(new, device_batch_size=fitting)
        return new, plan.estimate(new)

    def estimate(self, new: NewRecipe) -> Estimate:
        """What a candidate takes. InputErrors are about what the person gave: their place in a draft says nothing."""
        try:
            with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".toml", encoding="utf-8") as file:
                file.write(recipe_text(new))
                file.flush()
                recipe = load_recipe(file.name, registry=self.registry, machine=self.machine)
        except InputError as fault:
            raise InputError([attrs.evolve(found, location=None, label="") for found in fault.diagnostics]) from None
        return estimate(recipe, self.machine, here=self.here, registry=self.registry)

    def _most_shards(self) -> int:
        """climbmix: as many as there are. More text than that is read more than once."""
        if self.new.data != CLIMBMIX:
            return 1
        shards = attrs.fields_dict(self.registry.config_class("source", CLIMBMIX))["shards"]
        return int(rules_of(shards).maximum or 1)

    def _candidate(self, depth: int, steps: int | None) -> NewRecipe:
        new = attrs.evolve(self.new, depth=depth, steps=steps)
        if new.goal == "chat":
            base = _base(self.estimate(new))
            assert base.steps is not None
            share = round(new.finetuning_share * base.steps)
            most = share if new.conversations else MOST_FINETUNING_TOKENS // base.batch_tokens
            new = attrs.evolve(new, finetuning_steps=max(1, min(share, most)))
        return new

    def _measure(self, depth: int, steps: int | None, budget: Budget) -> Taken:
        found = self.estimate(self._candidate(depth, steps))
        training = _base(found)
        assert training.steps is not None
        assert training.tokens is not None
        took = found.durations[-1]
        amounts = {
            "time": took.seconds if took.complete else None,
            "FLOPs": found.flops,
            "tokens": float(training.tokens),
        }
        return Taken(steps=training.steps, amount=amounts[budget.kind], fits=training.fitting_batch_size != 0)

    def _with_tokenizer_limit(self, budget: Budget) -> NewRecipe:
        if budget.kind != "time" or self.new.data == PYDOCS:
            return self.new
        rate = TOKENIZER_CHARACTERS_PER_SECOND * self.machine.cpu_cores
        most = int(TOKENIZER_SHARE * budget.amount * rate / 1e6) * 1_000_000
        limit = max(1_000_000, most)
        return attrs.evolve(self.new, tokenizer_characters=limit if limit < MOST_TOKENIZER_CHARACTERS else None)


def _base(found: Estimate) -> Training:
    stage: StageEstimate = next(stage for stage in found.stages if stage.name == "base")
    assert stage.training is not None
    return stage.training


def _why(budget: Budget | None, depth: int, training: Training) -> str:
    if budget is None:
        return ""
    return f"Depth {depth} and {training.steps:,} steps fill a budget of {budget}, by `nanochat estimate`."
