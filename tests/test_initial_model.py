"""Pretraining that goes on from a checkpoint's weights: what fits is loaded bit for bit, what does not is named."""

import itertools
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from test_training import CONFIG, REGISTRY, Recorder, group, stage
from tiny_plugin import TINY, load, refused, write

from nanochat.config import Artifact, Component
from nanochat.errors import StageError
from nanochat.model.gpt import GPT
from nanochat.running.keys import stage_keys
from nanochat.runtime import local_runtime
from nanochat.stages import pretrain
from nanochat.stages.context import StageContext
from nanochat.stages.initial_weights import load_initial_weights
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.slots import SourceSlot
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.schedule_config import ScheduleConfig

MORE = """
[stages.more]
use = "pretrain"
init = "stage:base"
tokenizer = "stage:tok"
steps = 5
total_batch_size = 4096
[stages.more.model]
from = "stages.base.model"
[stages.more.data.web]
use = "words"
[stages.more.optim]
from = "stages.base.optim"
"""


def planned(folder: Path, *changes: tuple[str, str]) -> Path:
    text = TINY + MORE
    for old, new in changes:
        assert old in text
        head, _, tail = text.rpartition(old)  # of the last stage
        text = head + new + tail
    return write(folder, text)


def test_a_stage_of_the_same_model_and_tokenizer_is_planned_behind_its_init(tmp_path: Path) -> None:
    recipe = load(planned(tmp_path))
    more = recipe.stages["more"]
    assert set(more.inputs.values()) == {"base", "tok"}
    assert more.config.tag == recipe.stages["base"].config.tag


def test_the_start_is_part_of_the_identity(tmp_path: Path) -> None:
    with_init = stage_keys(load(planned(tmp_path)))["more"]
    without = stage_keys(load(planned(tmp_path, ('init = "stage:base"\ntokenizer', "tokenizer"))))["more"]
    assert with_init != without


@pytest.mark.parametrize(
    "change, said",
    [
        ("depth = 3", "`resid_lambdas` is 2 there and 3 here"),
        ("dim = 256", "`wte.weight` is 512 × 128 there and 512 × 256 here"),
        ("smear = false", "`smear_lambda` is only there"),
    ],
)
def test_another_shape_is_named_where_the_init_is_written(change: str, said: str, tmp_path: Path) -> None:
    path = planned(tmp_path, ('from = "stages.base.model"', f'from = "stages.base.model"\n{change}'))
    (found,) = refused(path)
    assert (found.code, said in found.message) == ("E115", True)
    assert found.location is not None and found.location.text == 'init = "stage:base"'
    assert "stages.base.model" in found.help


def test_what_is_no_parameter_may_differ(tmp_path: Path) -> None:
    load(planned(tmp_path, ('from = "stages.base.model"', 'from = "stages.base.model"\nwindow_pattern = "L"')))


def test_another_tokenizer_of_the_recipe_is_named(tmp_path: Path) -> None:
    other = '[stages.tok2]\nuse = "tokenizer"\nvocab_size = 512\n[stages.tok2.data.web]\nuse = "words"\n[stages.more]'
    path = planned(
        tmp_path, ("[stages.more]", other), ('base"\ntokenizer = "stage:tok"', 'base"\ntokenizer = "stage:tok2"')
    )
    (found,) = refused(path)
    assert "stage:base, which has another tokenizer than stage:tok2" in found.message
    assert found.help == 'take the tokenizer that it was trained with: tokenizer = "stage:tok"'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=280)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return folder / stage(folder, tokenizer, Recorder()).execute().artifact


def test_a_checkpoint_in_a_folder_is_compared_when_planned(tmp_path: Path, checkpoint: Path) -> None:
    own = ('init = "stage:base"', f'init = "path:{checkpoint}"')
    (found,) = refused(planned(tmp_path, own))
    assert "`resid_lambdas`" not in found.message  # both have two blocks
    assert "`wte.weight` is 320 × 32 there and 512 × 128 here" in found.message


def test_a_checkpoint_whose_tokenizer_has_more_ids_than_the_recipes_can_have_is_named(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer
) -> None:
    """Where tables are padded the parameters' shapes do not tell."""
    model = ('from = "stages.base.model"', 'use = "gpt"\ndepth = 2\ndim = 32\nhead_dim = 16')
    path = planned(tmp_path, ('init = "stage:base"', f'init = "path:{checkpoint}"'), model)
    named = f"cannot start from path:{checkpoint}, which has another tokenizer than stage:tok"
    for more, differs in ((-1, True), (0, False), (1, False)):  # a small text gives fewer ids than are asked for
        size = f"stages.tok.vocab_size={tokenizer.vocab_size + more}"
        assert [named in each.message for each in refused(path, size)] == [True] if differs else load(path, size)


def context(folder: Path) -> StageContext:
    runtime = local_runtime()
    runtime.seed_everything()
    return StageContext(
        stage="more", folder=folder, runtime=runtime, registry=REGISTRY, reporter=Recorder(),
        should_stop=lambda: next(itertools.repeat(False)),
    )  # fmt: skip


def start(checkpoint: Path) -> Artifact:
    return Artifact(reference=f"path:{checkpoint}", kind="checkpoint", path=checkpoint)


def test_pretraining_begins_with_the_weights_bit_for_bit_and_with_optimizers_that_know_nothing(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer
) -> None:
    """One step at a learning rate of 0 leaves them as they were."""
    tokenizer.save(tmp_path)
    config = PretrainConfig(
        tokenizer=Artifact(reference="path:tok", kind="tokenizer", path=tmp_path),
        model=Component(kind="model", name="model", use="gpt", revision=1, config=CONFIG),
        init=start(checkpoint), data={"docs": source()}, optim={"all": group("all", "adamw", "*", lr=0.0)},
        steps=1, total_batch_size=128, packing="stream", tag="more", compile=False,
        schedule=ScheduleConfig(warmup_steps=0),
    )  # fmt: skip
    record = pretrain.run(config, context(tmp_path))
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / record.artifact))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    state = json.loads((tmp_path / record.artifact / "state.json").read_text())
    assert (state["step"], state["tokens"]) == (1, 128)
    moments = load_file(tmp_path / record.artifact / "optim-0.safetensors")
    assert {float(value) for name, value in moments.items() if name.endswith("/step")} == {1.0}


def source() -> Component:
    config: Any = REGISTRY.config_class("source", "stories")()
    return Component(kind="source", name="docs", use="stories", revision=1, config=config, slot=SourceSlot(weight=1.0))


def test_the_worker_names_another_tokenizer_and_another_shape(
    tmp_path: Path, checkpoint: Path, tokenizer: Tokenizer
) -> None:
    model = GPT(CONFIG)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    other = Tokenizer.train(["that is another question " * 20], vocab_size=270)
    with pytest.raises(StageError, match="it was trained with another tokenizer"):
        load_initial_weights(start(checkpoint), model, other, context(tmp_path))
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    wider = GPT(attrs.evolve(CONFIG, mlp_ratio=2))
    with pytest.raises(StageError, match=r"`blocks.0.mlp.up.weight` is \(128, 32\) there and \(64, 32\) here"):
        load_initial_weights(start(checkpoint), wider, tokenizer, context(tmp_path))
