"""The recipe language: merging, overrides, references, types, derivations, the lock, identity."""

import math
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_plugin
from tiny_plugin import CPU, EIGHT_GPUS, TINY, Sums, load, tiny_registry, write

from nanochat.config import Artifact
from nanochat.errors import InputError
from nanochat.hooks import hookimpl
from nanochat.model.gpt_config import GPTConfig
from nanochat.recipe.content import content_digest
from nanochat.recipe.load import load_recipe, locate
from nanochat.recipe.lock import lock_text
from nanochat.recipe.resolved import Recipe
from nanochat.recipe.strict import Mismatch, structure
from nanochat.running.keys import stage_keys
from nanochat.stages import derivations
from nanochat.training.schedule_config import ScheduleConfig

RECIPES = Path(__file__).parents[1] / "recipes"


def value(recipe: Recipe, key: str) -> Any:
    return recipe.values[tuple(key.split("."))].value


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


# What is read


def test_a_recipe_becomes_frozen_typed_configs(tiny: Path) -> None:
    recipe = load(tiny)
    base = recipe.stages["base"].config
    assert recipe.name == "tiny"
    assert recipe.seed == 42
    assert base.tokenizer == Artifact(reference="stage:tok", kind="tokenizer")
    assert base.model.config.dim == 128  # 64 a block
    assert base.model.config.vocab_size == 512  # the tokenizer's
    assert (base.data["web"].slot.weight, base.data["web"].config.size) == (2.0, 10)
    with pytest.raises(AttributeError):
        base.steps = 6


def test_stages_come_after_their_inputs_and_otherwise_as_in_the_file(tmp_path: Path) -> None:
    blocks = TINY.split("\n\n")
    head, tok, base, sft = "\n\n".join(blocks[:2]), blocks[2], blocks[3], blocks[4]
    again = tok.replace("stages.tok", "stages.other")
    recipe = load(write(tmp_path, "\n\n".join([head, sft, again, base, tok])))
    assert list(recipe.stages) == ["tok", "base", "sft", "other"]


def test_an_artifact_is_located_wherever_it_stands_in_a_config(tmp_path: Path) -> None:
    text = TINY + '[stages.sft.data.spell]\nuse = "spell"\nwords = "stage:tok"\n'
    stage = load(write(tmp_path, text)).stages["sft"]
    assert stage.inputs == {"stage:base": "base", "stage:tok": "tok"}
    config = locate(stage, {"stage:base": tmp_path / "b", "stage:tok": tmp_path / "t"})
    assert config.init.folder() == tmp_path / "b"
    assert config.data["spell"].config.words.folder() == tmp_path / "t"


def test_keywords_serve_as_the_config_of_a_component_without_one(tmp_path: Path) -> None:
    text = TINY.replace('use = "sums"', 'use = "sums"\nsize = 7\noperations = ["+"]')
    part = load(write(tmp_path, text)).stages["sft"].config.data["sums"]
    built = tiny_registry().builder("task", "sums")(part.config)
    assert isinstance(built, Sums)
    assert (built.size, built.digits, built.operations) == (7, 2, ["+"])


# Merging


def test_a_child_merges_tables_deeply_and_replaces_scalars_and_arrays(tmp_path: Path) -> None:
    write(tmp_path, TINY.replace('match = "*"', 'match = ["a", "*"]'), "base.toml")
    child = 'extends = "base.toml"\n[stages.base.model]\ndepth = 3\n[stages.base.optim.all]\nmatch = ["*"]\n'
    recipe = load(write(tmp_path, child, "child.toml"))
    assert value(recipe, "stages.base.model.depth") == 3
    assert value(recipe, "stages.base.model.head_dim") == 64
    assert value(recipe, "stages.base.optim.all.match") == ["*"]
    assert [Path(path).name for path in recipe.files] == ["child.toml", "base.toml"]
    assert str(recipe.values["stages", "base", "model", "head_dim"].origin).endswith("base.toml:21:12")


def test_later_parents_are_merged_over_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, TINY, "one.toml")
    write(tmp_path, "seed = 7\n[stages.base]\nsteps = 8\n", "two.toml")
    recipe = load(write(tmp_path, 'extends = ["one.toml", "two.toml"]\nseed = 9\n'))
    assert (recipe.seed, value(recipe, "stages.base.steps")) == (9, 8)


def test_a_changed_use_replaces_its_table(tmp_path: Path) -> None:
    write(tmp_path, TINY.replace('use = "sgd"', 'use = "sgd"\nlr = 0.5'), "base.toml")
    child = 'extends = "base.toml"\n[stages.base.optim.all]\nuse = "fussy"\nmatch = "*"\n'
    recipe = load(write(tmp_path, child))
    assert not [path for path in recipe.values if path[-1] == "lr"]


def test_unset_takes_away_what_a_parent_has(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    recipe = load(write(tmp_path, 'extends = "base.toml"\nunset = ["stages.sft", "stages.base.data.web.weight"]\n'))
    assert list(recipe.stages) == ["tok", "base"]
    assert value(recipe, "stages.base.data.web.weight") == 1.0


@pytest.mark.parametrize(
    "argument, key, expected",
    [
        ("stages.base.steps=9", "stages.base.steps", 9),
        ("stages.base.steps = 1_000", "stages.base.steps", 1000),
        ("name=other", "name", "other"),
        ('name="other"', "name", "other"),
        ("stages.base.grad_clip=1", "stages.base.grad_clip", 1.0),
        ('stages.base.optim.all.match=["*"]', "stages.base.optim.all.match", ["*"]),
        ('stages.base.optim = {all = {use = "sgd", match = "*", lr = 3}}', "stages.base.optim.all.lr", 3.0),
        ('stages.base.data.more = {use = "words", size = 3}', "stages.base.data.more.size", 3),
        ('stages."base".compile=true', "stages.base.compile", True),
        ("stages.base.total_batch_size=auto", "stages.base.total_batch_size", 2**16),
    ],
)
def test_set_takes_toml_or_a_bare_word(tiny: Path, argument: str, key: str, expected: Any) -> None:
    recipe = load(tiny, argument)
    found = recipe.values[tuple(key.split("."))]
    assert found.value == expected
    assert type(found.value) is type(expected)
    assert found.origin.kind == ("derived" if "auto" in argument else "set")


def test_later_arguments_are_set_over_earlier_ones(tiny: Path) -> None:
    assert load(tiny, "seed=1", "seed=2").seed == 2


# References


def test_from_copies_a_table_with_its_origins_and_merges_the_other_keys_over_it(tmp_path: Path) -> None:
    text = TINY + "all.lr = 0.3\n"
    recipe = load(write(tmp_path, text))
    copied = recipe.values["stages", "sft", "optim", "all", "match"]
    original = recipe.values["stages", "base", "optim", "all", "match"]
    assert copied == original
    assert value(recipe, "stages.sft.optim.all.lr") == 0.3
    assert value(recipe, "stages.base.optim.all.lr") == 0.1


@pytest.mark.parametrize(
    "target, expected",
    [
        ("stages.tok.vocab_size", 512),  # written
        ("stages.base.packing_buffer", 1000),  # a default
        ("stages.base.model.dim", 128),  # derived
        ("stages.base.schedule.warmup_steps", 40),  # in a nested table that is not there
        ("seed", 42),
    ],
)
def test_from_takes_a_value_that_is_written_a_default_or_derived(tmp_path: Path, target: str, expected: int) -> None:
    text = TINY.replace("steps = 5", f'steps = {{ from = "{target}" }}')
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.base.steps") == expected
    taken = recipe.values["stages", "base", "steps"].origin
    assert taken == recipe.values[tuple(target.split("."))].origin


def test_from_may_name_what_is_itself_taken_from_elsewhere(tmp_path: Path) -> None:
    text = TINY + '[stages.more]\nfrom = "stages.sft"\n[stages.third]\nuse = "finetune"\ninit = "stage:more"\n'
    text += (
        '[stages.third.data.sums]\nfrom = "stages.more.data.sums"\n[stages.third.optim]\nfrom = "stages.more.optim"\n'
    )
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.third.optim.all.use") == "sgd"


# Types and defaults


def test_a_partial_nested_table_keeps_the_rest_of_the_default_instance(tmp_path: Path) -> None:
    text = TINY + "[stages.sft.schedule]\nfinal_lr = 0.5\n"
    schedule = load(write(tmp_path, text)).stages["sft"].config.schedule
    assert (schedule.final_lr, schedule.momentum_peak, schedule.warmdown_ratio) == (0.5, 0.95, 0.5)


EVERYTHING = TINY.replace("weight = 2\n", "").replace(
    '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "everything"'
)


@pytest.mark.parametrize(
    "written, expected",
    [
        ("whole = 3", 3),
        ("real = 3", 3.0),
        ("endless = inf", math.inf),
        ("flag = true", True),
        ('choice = "b"', "b"),
        ("choice = 3", 3),
        ("maybe = 4", 4),
        ('either = ["x", "y"]', ["x", "y"]),
        ("items = []", []),
        ("table = {b = 1, a = 2}", {"a": 2.0, "b": 1.0}),
        ("table.x = 1", {"x": 1.0}),
        ("anything = [1, {x = 'y'}]", [1, {"x": "y"}]),
    ],
)
def test_a_value_of_the_right_type_arrives_as_it_is(tmp_path: Path, written: str, expected: Any) -> None:
    key = written.split("=")[0].strip().split(".")[0]
    source = load(write(tmp_path, EVERYTHING.replace('use = "everything"', f'use = "everything"\n{written}')))
    found = getattr(source.stages["base"].config.data["web"].config, key)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "written, code",
    [
        ('whole = "4"', "E103"),
        ("whole = 4.0", "E103"),
        ("whole = 2.9", "E103"),
        ("whole = true", "E103"),
        ("whole = [1]", "E103"),
        ("whole = 11", "E104"),
        ("whole = -1", "E104"),
        ("real = true", "E103"),
        ('real = "1"', "E103"),
        ("real = nan", "E104"),
        ("real = inf", "E104"),
        ("flag = 1", "E103"),
        ('flag = "false"', "E103"),
        ("text = 1", "E103"),
        ('choice = "c"', "E103"),
        ("choice = 3.0", "E103"),
        ("maybe = 1.5", "E103"),
        ("either = 1", "E103"),
        ("either = [1]", "E103"),
        ('items = "12"', "E103"),
        ("items = [1, 2.0]", "E103"),
        ("items = {}", "E103"),
        ("table = 1", "E103"),
        ('table = {a = "1"}', "E103"),
        ("anything = 1979-05-27", "E103"),
        ("text = 1979-05-27", "E103"),
    ],
)
def test_nothing_is_coerced(tmp_path: Path, written: str, code: str) -> None:
    path = write(tmp_path, EVERYTHING.replace('use = "everything"', f'use = "everything"\n{written}'))
    with pytest.raises(InputError) as caught:
        load(path)
    assert [found.code for found in caught.value.diagnostics] == [code]
    assert caught.value.diagnostics[0].location is not None
    assert caught.value.diagnostics[0].location.text == written


def test_a_relative_path_starts_at_the_file_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "data.txt").write_text("abc")
    (tmp_path / "here.txt").write_text("abcd")
    text = TINY.replace(
        '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "text"\npath = "data.txt"'
    )
    write(inner, text, "base.toml")
    child = write(tmp_path, 'extends = "inner/base.toml"\n')
    recipe = load(child)
    assert recipe.stages["base"].config.data["web"].config.path == inner / "data.txt"
    assert recipe.stages["base"].fingerprints == {("stages", "base", "data", "web"): {"size": 3}}
    monkeypatch.chdir(tmp_path)
    changed = load(child, "stages.base.data.web.path=here.txt")
    assert changed.stages["base"].config.data["web"].config.path == tmp_path / "here.txt"


def test_a_path_without_a_fingerprint_of_its_own_is_identified_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "b.txt").write_text("abc")
    text = TINY.replace('use = "sums"', 'use = "from_file"\nwords = "a.txt"')
    first = keys(write(tmp_path, text))
    assert keys(write(tmp_path, text.replace("a.txt", "moved/b.txt"))) == first
    (tmp_path / "a.txt").write_text("abd")
    assert keys(write(tmp_path, text))["sft"] != first["sft"]


# Derivations


def test_the_scaling_rules_give_the_published_speedrun() -> None:
    """d24 at 8 tokens a parameter: batches of 2^20 tokens, 5,568 steps."""
    model = GPTConfig(depth=24, dim=1536, n_head=12, n_kv_head=12, vocab_size=32768)
    # 24 blocks of 12·1536² + the gates of 12 blocks (12 × 12) + the head
    n = 24 * 12 * 1536**2 + 12 * 12 * 12 + 32768 * 1536
    batch = derivations.total_batch_size(model)
    assert batch == 2**20
    assert derivations.steps(8.0, model, batch) == round(8 * n / 2**20) == 5568


def test_depth_12_is_its_own_reference() -> None:
    model = GPTConfig(depth=12, dim=768, n_head=6, n_kv_head=6, vocab_size=32768)
    assert derivations.total_batch_size(model) == 2**19
    steps = derivations.steps(12.0, model, 2**19)
    assert derivations.muon_weight_decay(12.0, model, 2**19, steps) == pytest.approx(0.28, rel=1e-3)


def test_weight_decay_falls_with_the_tokens_and_grows_with_the_root_of_the_batch() -> None:
    """0.28·√(B/2^19)·D12/D, by hand for d24: D12/D = N12/N."""
    model = GPTConfig(depth=24, dim=1536, n_head=12, n_kv_head=12, vocab_size=32768)
    n = 24 * 12 * 1536**2 + 12 * 12 * 12 + 32768 * 1536
    n12 = 12 * 12 * 768**2 + 6 * 6 * 12 + 32768 * 768
    found = derivations.muon_weight_decay(8.0, model, 2**20, 5568)
    assert found == pytest.approx(0.28 * math.sqrt(2) * n12 / n, rel=1e-3)


@pytest.mark.parametrize(
    "scale, expected", [([], 1.0), (["batch"], math.sqrt(2)), (["width"], 0.5), (["batch", "width"], math.sqrt(2) / 2)]
)
def test_learning_rates_follow_batch_and_width(scale: list[str], expected: float) -> None:
    assert derivations.lr_factor(scale, 2**20, 3072) == pytest.approx(expected)


def test_a_finetuning_stage_takes_the_width_of_the_model_that_it_starts_from(tmp_path: Path) -> None:
    text = TINY + '[stages.sft.optim.all]\nscale_lr = ["width"]\n'
    recipe = load(write(tmp_path, text))
    assert value(recipe, "stages.sft.optim.all.lr_factor") == pytest.approx((128 / 768) ** -0.5)
    assert value(recipe, "stages.sft.optim.all.scaled") == pytest.approx(0.1 * (128 / 768) ** -0.5)


def test_a_derived_value_knows_its_rule_and_inputs(tiny: Path) -> None:
    origin = load(tiny).values["stages", "base", "model", "dim"].origin
    assert (origin.kind, origin.rule) == ("derived", "gpt.dim")
    assert origin.inputs == {"depth": 2, "aspect_ratio": 64, "head_dim": 64}


def test_hardware_is_derived_from_the_machine_and_each_stage_may_have_its_own(tmp_path: Path) -> None:
    text = TINY.replace('device = "cpu"', 'device = "auto"') + '[stages.tok.hardware]\ndevice = "cpu"\n'
    recipe = load(write(tmp_path, text.replace("4096", "16384")), machine=EIGHT_GPUS)
    base, tok = recipe.stages["base"].hardware, recipe.stages["tok"].hardware
    assert (base.device, base.dtype, base.nproc_per_node) == ("cuda", "bfloat16", 8)
    assert (tok.device, tok.dtype, tok.nproc_per_node) == ("cpu", "float32", 1)


# Identity and the lock


def keys(path: Path, *overrides: str) -> dict[str, str]:
    return stage_keys(load(path, *overrides))


@pytest.mark.parametrize(
    "override",
    [
        "stages.base.device_batch_size=3",  # execution
        "stages.base.lanes=8",  # equal to its default
        "stages.base.model.dim=128",  # equal to what auto gives
        "stages.base.model.dim=auto",
        "hardware.nproc_per_node=2",
        "name=other",
        "trackers = {}",
    ],
)
def test_a_key_does_not_change_for(tiny: Path, override: str) -> None:
    assert keys(tiny, override) == keys(tiny)


@pytest.mark.parametrize(
    "override, changed",
    [
        ("stages.base.model.mlp_ratio=2", {"base", "sft"}),
        ("stages.tok.vocab_size=600", {"tok", "base", "sft"}),
        ("stages.sft.loss_on=all", {"sft"}),
        ("hardware.dtype=bfloat16", {"base", "sft"}),  # the tokenizer computes in no dtype
        ("seed=1", {"tok", "base", "sft"}),
    ],
)
def test_a_key_changes_for(tiny: Path, override: str, changed: set[str]) -> None:
    before, after = keys(tiny), keys(tiny, override)
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_key_does_not_change_for_the_order_of_keys_comments_or_the_folder(tmp_path: Path) -> None:
    plain = write(tmp_path, TINY + '[stages.base.data.more]\nuse = "words"\n')
    parts = TINY.replace('[stages.base.data.web]\nuse = "words"\nweight = 2\n', "")
    parts += '[stages.base.data.more]\nuse = "words"\n[stages.base.data.web] # moved\nweight = 2\nuse = "words"\n'
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere", parts)
    assert keys(plain) == keys(moved)
    assert list(load(plain).stages["base"].config.data) == list(load(moved).stages["base"].config.data)


def test_a_lock_gives_the_same_values_and_keys_on_another_machine(tmp_path: Path) -> None:
    text = TINY.replace('device = "cpu"', 'device = "auto"').replace("steps = 5\n", "")
    recipe = load(write(tmp_path, text.replace("4096", "16384")), machine=EIGHT_GPUS)
    locked = load(write(tmp_path, lock_text(recipe), "recipe.lock.toml"), machine=CPU)
    assert stage_keys(locked) == stage_keys(recipe)
    assert {path: leaf.value for path, leaf in locked.values.items()} == {
        path: leaf.value for path, leaf in recipe.values.items()
    }
    assert [stage.config for stage in locked.stages.values()] == [stage.config for stage in recipe.stages.values()]
    assert all(leaf.origin.kind == "file" for leaf in locked.values.values())


def test_a_lock_keeps_rules_inputs_plugins_and_data(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("abc")
    text = TINY.replace(
        '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "text"\npath = "data.txt"'
    )
    lock = tomllib.loads(lock_text(load(write(tmp_path, text))))["lock"]
    assert lock["derived"]["stages.base.model.dim"]["rule"] == "gpt.dim"
    assert lock["derived"]["stages.base.model.dim"]["inputs"] == {"depth": 2, "aspect_ratio": 64, "head_dim": 64}
    assert set(lock["plugins"]) == {"nanochat-run", "acme-tiny"}
    assert lock["data"] == {"stages.base.data.web": {"size": 3}}


def test_a_lock_needs_the_plugins_that_it_names(tmp_path: Path) -> None:
    text = lock_text(load(write(tmp_path, TINY))).replace("acme-tiny", "acme-gone")
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, text, "recipe.lock.toml"))
    assert [found.code for found in caught.value.diagnostics] == ["E204"]


def with_data(folder: Path) -> Path:
    """The tiny recipe with a file as its data."""
    (folder / "data.txt").write_text("abc")
    table = "[stages.base.data.web]\nuse = "
    return write(folder, TINY.replace(f'{table}"words"', f'{table}"text"\npath = "data.txt"'))


def test_a_lock_whose_data_has_changed_is_refused_with_the_table_and_the_change(tmp_path: Path) -> None:
    lock = write(tmp_path, lock_text(load(with_data(tmp_path))), "recipe.lock.toml")
    (tmp_path / "data.txt").write_text("abcd")
    with pytest.raises(InputError) as caught:
        load(lock)
    (found,) = caught.value.diagnostics
    assert found.code == "E304"
    assert "stages.base.data.web is not what the lock was made with: size 3 → 4" in found.message
    assert "run the recipe itself" in found.help
    assert found.location is not None


def test_a_component_of_another_revision_than_the_locks_is_a_warning(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, TINY.replace('"words"', '"everything"').replace("weight = 2\n", "")))
    text = lock_text(recipe)
    assert tomllib.loads(text)["lock"]["revisions"]["stages.base.data.web"] == 3
    older = write(tmp_path, text.replace('"stages.base.data.web" = 3', '"stages.base.data.web" = 2'), "older.toml")
    (warning,) = load(older).warnings
    assert (warning.severity, "revision 2 of stages.base.data.web; it is now 3" in warning.message) == ("warning", True)


def test_the_launchers_distribution_is_among_the_plugins_of_the_lock(tiny: Path) -> None:
    registry = tiny_registry()
    registry.register(Faraway, name="far", distribution="acme-far", version="1.0")
    found = load_recipe(tiny, overrides=["hardware.launcher=far"], registry=registry, machine=CPU)
    assert "acme-far" in found.plugins
    assert "acme-far" not in load(tiny).plugins


def test_a_name_that_another_distribution_offers_is_another_identity(tiny: Path) -> None:
    found = []
    for blocked in ("acme-far", "acme-tiny"):
        registry = tiny_registry()
        registry.register(SimpleNamespace(**vars(tiny_plugin)), name="far", distribution="acme-far")
        found.append(load_recipe(tiny, overrides=[f"plugins.block=['{blocked}']"], registry=registry, machine=CPU))
    one, other = (stage_keys(recipe) for recipe in found)
    assert not set(one.values()) & set(other.values())


def test_a_stage_that_does_not_say_whether_it_is_numeric_has_the_dtype_in_its_key(tmp_path: Path) -> None:
    text = 'format = 1\n[hardware]\ndevice = "cpu"\n[stages.one]\nuse = "plain"\n'
    found = []
    for dtype in ("float32", "bfloat16"):
        registry = tiny_registry()
        registry.register(Faraway, name="far", distribution="acme-far")
        path = write(tmp_path, text)
        found.append(load_recipe(path, overrides=[f"hardware.dtype={dtype}"], registry=registry, machine=CPU))
    assert stage_keys(found[0]) != stage_keys(found[1])


class Faraway:
    """A plugin with a launcher, and a stage whose config says nothing of itself."""

    @staticmethod
    @hookimpl
    def register_launchers(registry: Any) -> None:
        registry.add("far", build="tiny_plugin:Sums")

    @staticmethod
    @hookimpl
    def register_stages(registry: Any) -> None:
        registry.add("plain", build="tiny_plugin:Sums")


def test_weights_beside_their_manifest_are_not_read(tmp_path: Path) -> None:
    for name, content in (("MANIFEST.json", "{}"), ("model.safetensors", "one"), ("loose.txt", "x")):
        (tmp_path / name).write_text(content)
    before = content_digest(tmp_path)
    (tmp_path / "model.safetensors").write_text("two")
    assert content_digest(tmp_path) == before
    (tmp_path / "loose.txt").write_text("y")
    assert content_digest(tmp_path) != before


# The recipes of the repository


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads_without_torch_and_its_lock_without_a_change(
    recipe: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from nanochat.recipe.load import load_recipe; from nanochat.recipe.lock import lock_text\n"
        "recipe = load_recipe(sys.argv[1]); lock = Path(sys.argv[2]); lock.write_text(lock_text(recipe))\n"
        "again = load_recipe(lock)\n"
        "assert {p: v.value for p, v in again.values.items()} == {p: v.value for p, v in recipe.values.items()}\n"
        "a, b = ([s.identity(seed=1) for s in r.stages.values()] for r in (again, recipe))\n"
        "assert a == b\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    arguments = [sys.executable, "-c", program, str(recipe), str(tmp_path / "recipe.lock.toml")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("written", [5, "x", [1], {"warmup_steps": 1}])
def test_no_value_of_a_key_is_a_config_class_which_is_a_table_of_its_own(written: Any) -> None:
    with pytest.raises(Mismatch):
        structure(written, ScheduleConfig | None)
