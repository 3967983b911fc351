"""Tokenising a recipe's pretraining text before it is trained on, into the cache that training reads.

In: a resolved recipe whose tokenizers are trained. Out: the shards, one by one as they are done.
"""

from collections.abc import Callable, Iterator

import attrs

from nanochat.data.source import Shard
from nanochat.data.token_cache import CachedShard, TokenCache
from nanochat.errors import did_you_mean, wrong_input
from nanochat.hardware import Machine
from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry
from nanochat.running.plan import Plan, make_plan
from nanochat.running.store import Store
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.text.tokenizer import Tokenizer


@attrs.frozen(kw_only=True, eq=False)
class TokenizedShard:
    """A shard whose tokens are on disk."""

    name: str
    """STAGE.NAME, as in [stages.STAGE.data.NAME]."""
    shard: Shard
    cached: CachedShard


def tokenized_shards(
    recipe: Recipe,
    machine: Machine,
    registry: Registry,
    *,
    only: str | None = None,
    progress: Callable[[str, Shard, int], object],
) -> Iterator[TokenizedShard]:
    """Tokenise the train split of every source of every pretraining stage, or of `only` a stage, or STAGE.NAME.

    `progress` is called with STAGE.NAME, the shard and the documents done. InputError E405: no such source, or the
    stage's tokenizer is not trained yet.
    """
    store = Store()
    plan = make_plan(recipe, machine, store, registry)
    for stage, name in _chosen(recipe, only):
        _check_tokenizer(stage, plan)
        cache = TokenCache(Tokenizer.load(plan.inputs(stage, store)[stage.config.tokenizer.reference]))
        component = stage.config.data[name]
        source = registry.builder("source", component.use)(component.config)
        where = f"{stage.name}.{name}"
        for shard in source.shards("train"):

            def told(documents: int, where: str = where, shard: Shard = shard) -> None:
                progress(where, shard, documents)

            yield TokenizedShard(name=where, shard=shard, cached=cache.write(source, shard, told))


def _chosen(recipe: Recipe, only: str | None) -> list[tuple[Stage, str]]:
    """Pretraining stages and the names of their sources."""
    stages = [stage for stage in recipe.stages.values() if isinstance(stage.config, PretrainConfig)]
    known = {f"{stage.name}.{name}": (stage, name) for stage in stages for name in stage.config.data}
    chosen = [pair for full, pair in known.items() if only in (None, full, pair[0].name)]
    if not chosen:
        near = did_you_mean(only or "", [*known, *(stage.name for stage in stages)])
        message = f"{recipe.name} has no pretraining source" + (f" `{only}`" if only else "")
        raise wrong_input("E405", message, help=near or f"its sources: {', '.join(known) or 'none'}")
    return chosen


def _check_tokenizer(stage: Stage, plan: Plan) -> None:
    reference = stage.config.tokenizer.reference
    makes = stage.inputs.get(reference)
    if any(planned.name == makes and planned.to_do for planned in plan.stages):
        raise wrong_input(
            "E405",
            f"the tokenizer of stage `{stage.name}` ({reference}) is not trained yet",
            help=f"train it: nanochat-run {plan.recipe.path} --until {makes}",
        )
