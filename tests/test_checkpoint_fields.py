"""A checkpoint that is older than an option of the model: what it does not record is as it was then."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from nanochat.config import config, option, revived
from nanochat.errors import NanochatError
from nanochat.exchange.checkpoint_folder import write_model
from nanochat.exchange.weights import Weights
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.recipe.artifacts import NotRecorded, recorded
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_model, tiny_tokenizer
from nanochat.training.checkpoint import load_checkpoint
from nanochat.training.manifest import write_manifest

REGISTRY = load_registry()

CLASSIC: dict[str, Any] = {
    "aspect_ratio": 64,
    "head_dim": 128,
    "vocab_multiple": 1,
    "mlp_ratio": 4,
    "sequence_len": 2048,
    "rotary_base": 10_000.0,
    "rotary_margin": 10,
    "qk_scale": 1.0,
    "logit_softcap": 15.0,
    "loss_chunk": 0,
    "window_pattern": "L",
    "short_window": 0.5,
    "embedding_dtype": "float32",
    "tied": False,
    "value_embeddings": False,
    "residual_lambdas": False,
    "smear": False,
    "backout": False,
    "init": "classic",
}
"""The model of the first release, in which hardly any of this could be chosen."""
ALWAYS = {"depth", "dim", "n_head", "n_kv_head", "vocab_size"}
"""No model without them."""


def checkpoint_without(field: str, folder: Path, model: GPT) -> Path:
    """A checkpoint whose meta.json does not say the value of a field."""
    weights = Weights(config=model.config, tensors=model.state_dict(), tokenizer=tiny_tokenizer())
    write_model(weights, folder, REGISTRY)
    meta = json.loads((folder / "meta.json").read_text())
    del meta["model"]["config"][field]
    (folder / "meta.json").write_text(json.dumps(meta))
    write_manifest(folder)
    return folder


def test_every_option_is_either_in_the_table_or_in_every_checkpoint() -> None:
    assert {field.name for field in attrs.fields(GPTConfig)} == set(CLASSIC) | ALWAYS


@pytest.mark.parametrize("field", sorted(CLASSIC))
def test_a_checkpoint_from_before_an_option_computes_as_it_did_then(field: str, tmp_path: Path) -> None:
    shape = {"dim": 128, "head_dim": 128, "n_head": 1, "n_kv_head": 1, "sequence_len": 512}
    then = tiny_model(**{**shape, field: CLASSIC[field]})
    loaded = load_checkpoint(checkpoint_without(field, tmp_path / "old", then), local_runtime(), REGISTRY)
    assert getattr(loaded.model.config, field) == CLASSIC[field]
    ids = torch.randint(300, (1, 400), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.model(ids), then(ids))


@pytest.mark.parametrize("field", sorted(ALWAYS))
def test_a_checkpoint_without_what_every_model_has_is_refused_by_name(field: str, tmp_path: Path) -> None:
    folder = checkpoint_without(field, tmp_path / "old", tiny_model())
    with pytest.raises(NanochatError, match=rf"E406.*lacks the option `{field}`"):
        load_checkpoint(folder, local_runtime(), REGISTRY)


def test_a_checkpoint_with_an_option_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    folder = checkpoint_without("smear", tmp_path / "new", tiny_model())
    meta = json.loads((folder / "meta.json").read_text())
    meta["model"]["config"]["experts"] = 8
    (folder / "meta.json").write_text(json.dumps(meta))
    write_manifest(folder)
    with pytest.raises(NanochatError, match=r"E406.*`experts`, which this version does not know"):
        load_checkpoint(folder, local_runtime(), REGISTRY)


def test_a_recipe_that_starts_from_an_old_checkpoint_derives_from_the_same_config(tmp_path: Path) -> None:
    folder = checkpoint_without("rotary_base", tmp_path / "old", tiny_model())
    assert recorded(folder, ["model", "rotary_base"], REGISTRY) == 10_000.0
    broken = checkpoint_without("dim", tmp_path / "broken", tiny_model())
    with pytest.raises(NotRecorded):
        recorded(broken, ["model", "dim"], REGISTRY)


def test_values_that_do_not_fit_together_are_no_config() -> None:
    @config
    class Pair:
        a: int = option(1)
        b: int = option(1)

        def problems(self) -> list[str]:
            return [] if self.a == self.b else ["a and b differ"]

    assert revived(Pair, {"a": 1}) == Pair(a=1, b=1)
    with pytest.raises(ValueError, match="a and b differ"):
        revived(Pair, {"a": 2})
