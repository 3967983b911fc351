"""`nanochat schema`: what an editor is told of a recipe. Whatever the schema refuses, the engine refuses too."""

import copy
import json
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_plugin
import tomli_w
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from tiny_plugin import CPU, TINY, write

import nanochat_plugins
from nanochat import builtin
from nanochat.cli.main import main
from nanochat.config import components, config, option
from nanochat.errors import InputError
from nanochat.hooks import hookimpl
from nanochat.recipe.json_schema import json_schema, schema_text
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text
from nanochat.registry import Registry

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
EXAMPLES = re.findall(r"```toml\n(.*?)```", (ROOT / "recipes/README.md").read_text(encoding="utf-8"), re.DOTALL)


def first_party() -> Registry:
    """The core and nanochat-plugins, nothing else of what is installed."""
    registry = Registry()
    registry.register(builtin, name="nanochat", distribution="nanochat-run")
    registry.register(nanochat_plugins, name="nanochat_plugins", distribution="nanochat-plugins")
    return registry


def with_tiny() -> Registry:
    """The same, and the tests' plugin with every type of option."""
    registry = first_party()
    launcherless = {name: value for name, value in vars(tiny_plugin).items() if name != "register_launchers"}
    registry.register(SimpleNamespace(**launcherless), name="tiny", distribution="acme-tiny")
    return registry


SCHEMA = json_schema(with_tiny())
VALIDATOR = Draft4Validator(SCHEMA)


def faults(text: str, schema: dict[str, Any] = SCHEMA) -> list[str]:
    """Where the schema finds a text wrong: dotted keys."""
    return sorted(
        {".".join(map(str, error.absolute_path)) for error in Draft4Validator(schema).iter_errors(tomllib.loads(text))}
    )


# The document


def test_it_is_valid_draft_4() -> None:
    Draft4Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-04/schema#"


def test_the_committed_schema_is_the_one_of_the_core_and_nanochat_plugins() -> None:
    committed = (ROOT / "recipes/schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(json_schema(first_party())), "nanochat schema --output recipes/schema.json"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_the_schema_and_follows_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    place = "." if path.parent == ROOT / "recipes" else ".."
    assert text.startswith(f"#:schema {place}/schema.json\n")
    assert faults(text) == []


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_of_the_language_follows_it(number: int) -> None:
    assert faults(EXAMPLES[number]) == []


def test_an_editor_is_told_what_a_key_means_its_default_and_what_derives_it() -> None:
    keys = SCHEMA["definitions"]["optimizer_GroupSlot"]["properties"]
    told = keys["weight_decay"]["description"]
    assert "**muon.weight_decay**: share of a weight" in told
    assert '"auto": 0.28 · √(total_batch_size / 2^19)' in told
    assert keys["iterations"]["default"] == 5
    hardware = SCHEMA["properties"]["hardware"]["properties"]
    assert "execution" in hardware["nodes"]["description"]
    assert hardware["launcher"]["anyOf"][0]["enum"] == ["auto", "local", "slurm", "torchrun"]


def test_an_editor_is_told_what_each_name_stands_for() -> None:
    (names, _) = SCHEMA["definitions"]["optimizer_GroupSlot"]["properties"]["use"]["anyOf"]
    docs = dict(zip(names["enum"], names["x-taplo"]["docs"]["enumValues"], strict=True))
    assert docs["adamw"].startswith("Adam with decoupled weight decay (arXiv 1711.05101). ")


# What it refuses


@pytest.mark.parametrize(
    "before, after, where",
    [
        ("seed = 42", "sed = 42", "sed"),
        ("seed = 42", "seed = -1", "seed"),
        ("seed = 42", "seed = true", "seed"),
        ("seed = 42", "seed = 42.0", "seed"),
        ("seed = 42", 'from = "stages"', "from"),
        ("seed = 42", "extends = 1", "extends"),
        ("format = 1", "format = 2", "format"),
        ('name = "quickstart"', 'name = "two words"', "name"),
        ('device = "cpu"', 'device = "gpu"', "hardware.device"),
        ('device = "cpu"', 'launcher = "lokal"', "hardware.launcher"),
        ('device = "cpu"', "nodes = 0", "hardware.nodes"),
        ("vocab_size = 2048", "vocab_size = 264", "stages.tok.vocab_size"),
        ("vocab_size = 2048", 'vocab_size = "2048"', "stages.tok.vocab_size"),
        ("vocab_size = 2048", 'vocab_size = "auto"', "stages.tok.vocab_size"),
        ("vocab_size = 2048", "vocab_size = {form = 'seed'}", "stages.tok.vocab_size"),
        ("vocab_size = 2048", "steps = 3", "stages.tok.use"),
        ('use = "pydocs"', 'use = "pydoc"', "stages.tok.data.docs.use"),
        ('use = "pydocs"', 'use = "pydocs"\nwieght = 1', "stages.tok.data.docs.wieght"),
        ('use = "pydocs"', 'use = "pydocs"\nsize = 9', "stages.tok.data.docs.use"),
        ('use = "pydocs"', 'use = "arithmetic"', "stages.tok"),
        ("[stages.tok.data.docs]", '[stages.tok.data."a b"]', "stages.tok.data.a b"),
        ('tokenizer = "stage:tok"', 'tokenizer = "tok"', "stages.base.tokenizer"),
        ('tokenizer = "stage:tok"', 'tokenizer = ["stage:tok"]', "stages.base.tokenizer"),
        ('packing = "stream"', 'packing = "best"', "stages.base.packing"),
        ("depth = 4", "depth = 0", "stages.base.model.depth"),
        ("lr = 0.02", "lr = -0.02", "stages.base.optim.matrices.lr"),
        ("lr = 0.02", "momentum = 1.5", "stages.base.optim.matrices.momentum"),
        ("lr = 0.008", "nesterov = true", "stages.base.optim.head.use"),
        ('match = "head.*"', "match = [1]", "stages.base.optim.head.match.0"),
        ('match = "head.*"', 'scale_lr = ["depth"]', "stages.base.optim.head.scale_lr.0"),
        ("steps = 150", 'steps = "many"', "stages.base.steps"),
        ("steps = 150", "schedule.warmdown_ratio = 2", "stages.base.schedule.warmdown_ratio"),
        ("steps = 150", "schedule = 1", "stages.base.schedule"),
        ("steps = 150", "hardware.cpus = 2", "stages.base.hardware.cpus"),
        ("steps = 400", 'steps = "auto"', "stages.sft"),
    ],
)  # fmt: skip
def test_an_editor_marks_what_the_engine_would_refuse(before: str, after: str, where: str, tmp_path: Path) -> None:
    text = (ROOT / "recipes/quickstart.toml").read_text(encoding="utf-8")
    assert before in text
    changed = text.replace(before, after, 1)
    assert where in faults(changed)
    (tmp_path / "quickstart_identity.jsonl").write_bytes((ROOT / "recipes/quickstart_identity.jsonl").read_bytes())
    with pytest.raises(InputError):
        load_recipe(write(tmp_path, changed), registry=with_tiny(), machine=CPU)


# What it must let through


@pytest.mark.parametrize(
    "text",
    [
        'extends = "base.toml"',
        'extends = ["a.toml"]\nunset = ["stages.x"]\n[stages.base]\nsteps = 3',
        "[stages.base.optim.a]\nmomentum = 0.9\neps = 1e-9",  # keys of two optimizers, `use` not said
        "[stages.base.model]\ndim = 'auto'\ntied = true",
        '[stages.base.data]\nfrom = "stages.tok.data"',
        '[stages.base.data.a]\nuse = {from = "stages.tok.data.a.use"}\nsize = 3',
        '[stages.base]\nuse = "pretrain"\nsteps = {from = "stages.sft.steps"}\ntokenizer = {from = "stages.a.init"}',
        '[stages.base]\nuse = "pretrain"\nsteps = "auto"\ntokens_per_param = 8',  # an integer is a number
        '[stages.a.data.e]\nuse = "everything"\nendless = inf\nmaybe = 3\neither = ["a"]\nchoice = 3',
        '[stages.a.data.e]\nuse = "everything"\ntable = {from = "x", a = 1, b = {from = "seed"}}',
        '[lock]\nanything.at = ["all", 1]',
    ],
)
def test_what_may_be_said_elsewhere_is_not_asked_for(text: str) -> None:
    assert faults(text) == []


def test_the_lock_of_a_recipe_follows_the_schema_too(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/quickstart.toml", registry=first_party(), machine=CPU)
    assert faults(lock_text(recipe)) == []


# The command


def test_it_is_printed_or_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--output", str(tmp_path / "schema.json")]):
        with pytest.raises(SystemExit, match="0"):
            main(["schema", *arguments])
    printed = capsys.readouterr().out
    written = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert printed == f"{written}wrote {tmp_path / 'schema.json'}\n"
    assert json.loads(written)["definitions"]["stage"]["properties"]["use"]


# Plugins


def plugin(**hooks: Callable[[Any], None]) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})


def test_a_broken_and_a_twice_claimed_component_are_left_open_and_the_rest_is_checked() -> None:
    def broken(registry: Any) -> None:
        registry.add("lost", build="nowhere:Lost")

    def claiming(registry: Any) -> None:
        registry.add("stories", build="tiny_plugin:Sums")

    registry = first_party()
    registry.register(plugin(register_optimizers=broken), name="broken")
    registry.register(plugin(register_sources=claiming), name="claiming")
    schema = json_schema(registry)
    Draft4Validator.check_schema(schema)
    assert faults('[stages.a.optim.a]\nuse = "lost"\nanything = 1', schema) == []
    assert faults('[stages.a.data.a]\nuse = "stories"\nanything = 1', schema) == []
    assert faults('[stages.a.optim.a]\nuse = "muon"\nmomentum = 2', schema) == ["stages.a.optim.a.momentum"]
    assert faults("[stages.a.model]\nanything = 1", schema) == ["stages.a.model.anything"]


@config
class Blend:
    """A source of sources."""

    parts: dict[str, Any] = components("source", doc="what is blended")
    share: float | list[float] = option(0.5, minimum=0.0, doc="of the first")


def test_a_component_may_hold_others_of_its_own_kind() -> None:
    def blending(registry: Any) -> None:
        registry.add("blend", build=f"{__name__}:Blend", config=f"{__name__}:Blend")

    registry = first_party()
    registry.register(plugin(register_sources=blending), name="blend")
    schema = json_schema(registry)
    deep = 'use = "blend"\n[stages.a.data.b.parts.c]\nuse = "blend"\n[stages.a.data.b.parts.c.parts.d]\n'
    assert faults(f'[stages.a.data.b]\n{deep}use = "pydocs"', schema) == []
    assert faults(f"[stages.a.data.b]\n{deep}share = [1, -1]", schema) == ["stages.a.data.b.parts.c.parts.d.share.1"]


# Whatever the schema refuses, the engine refuses too


PARENT = "tour.toml"
DOCUMENTS: list[dict[str, Any]] = [
    *(tomllib.loads(path.read_text(encoding="utf-8")) for path in RECIPES),
    *({"extends": PARENT, **tomllib.loads(text)} for text in EXAMPLES[1:]),
    tomllib.loads(TINY.replace('use = "torchrun"', "")),
    tomllib.loads(
        TINY + '[stages.tok.data.all]\nuse = "everything"\nwhole = 3\ntable = {a = 1.5}\nchoice = "b"\nitems = [1]\n'
        '[stages.sft.schedule]\nwarmup_steps = 3\n[stages.base.evals.s]\nuse = "score"\ntask.use = "sums"\n'
    ),
]
VALUES: list[Any] = [
    *(True, False, 0, 1, -1, 3, 2**62, 0.0, 0.5, 1.0, -2.5, float("inf"), float("nan"), "", "auto", "x", "cpu"),
    *("stage:tok", "path:.", "store:00000000", "stages.base.optim", [], [1], ["*"], [[]], {}, {"a": 1}, [{"a": 1}]),
    *({"from": "seed"}, {"from": "stages.base.steps"}, {"from": "nowhere"}, {"from": 1}, {"from": "seed", "a": 1}),
    *({"from": "stages.tok.data"}, {"use": "muon"}, {"use": {"from": "stages.tok.use"}}, date(2020, 1, 1)),
]  # fmt: skip


def _keys(node: Any) -> Iterator[str]:
    """Every key that the schema knows, and the names of every component."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        yield from (name for name in node.get("enum", []) if isinstance(name, str))
        for inner in node.values():
            yield from _keys(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _keys(inner)


KEYS = [*sorted(set(_keys(SCHEMA))), "nme", "a b", "-a", "", "x" * 65, "from", "use", "web"]
NAMES = sorted(
    {
        name
        for kind in ("stage", "model", "optimizer", "source", "task", "eval", "tool")
        for name in with_tiny().names(kind)
    }
)


def tables(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The table itself and all below it."""
    return [node, *(inner for value in node.values() if isinstance(value, dict) for inner in tables(value))]


def mutated(document: dict[str, Any], chance: random.Random) -> str:
    """Change a document at one place; returns what was done."""
    every = tables(document)
    table = chance.choice(every)
    name = chance.choice([*table]) if table else "new"
    done = chance.choice(["delete", "rename", "copy", "replace", "add", "move", "use", "from", "extends", "leaf"])
    if done == "delete":
        table.pop(name, None)
    elif done == "rename" and table:
        table[chance.choice(KEYS)] = table.pop(name)
    elif done == "copy" and table:
        table[chance.choice(KEYS)] = copy.deepcopy(table[name])
    elif done == "replace":
        table[name] = copy.deepcopy(chance.choice(VALUES))
    elif done == "add":
        table[chance.choice(KEYS)] = copy.deepcopy(chance.choice(VALUES))
    elif done == "move" and table:
        moved = table.pop(name)
        chance.choice(tables(document))[name] = moved
    elif done == "use":
        chance.choice([inner for inner in every if "use" in inner] or every)["use"] = chance.choice(NAMES)
    elif done == "from":
        table["from"] = chance.choice(
            ["stages.tok", "stages.base.optim", "stages.base.model", "seed", "stages.tok.data"]
        )
    elif done == "extends":
        document["extends"] = chance.choice([PARENT, [PARENT], [], [1], "nowhere.toml"])
    elif done == "leaf":
        leaves = [(inner, key) for inner in every for key, value in inner.items() if not isinstance(value, dict)]
        if leaves:
            inner, key = chance.choice(leaves)
            inner[key] = copy.deepcopy(chance.choice(VALUES))
    return done


def check_soundness(folder: Path, chance: random.Random) -> bool:
    """One mutated document: True where the schema refuses it, and then the engine must too."""
    document = copy.deepcopy(chance.choice(DOCUMENTS))
    done = [mutated(document, chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    try:
        text = tomli_w.dumps(document)
    except (TypeError, ValueError):
        return False
    # As the editor and the engine read it: the file, not the object.
    refused = not VALIDATOR.is_valid(tomllib.loads(text))
    event(f"{'+'.join(sorted(set(done)))}: {'refused' if refused else 'passed'}")
    if refused:
        path = write(folder, text)
        try:
            load_recipe(path, registry=with_tiny(), machine=CPU)
        except InputError:
            return True
        pytest.fail(f"the engine takes what the schema refuses:\n{text}\n{next(VALIDATOR.iter_errors(document))}")
    return refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the documents lie, with all that they name."""
    place = tmp_path_factory.mktemp("recipes")
    write(place, EXAMPLES[0], PARENT)
    (place / "corpus").mkdir()
    (place / "corpus/a.txt").write_text("Once upon a time.")
    (place / "quickstart_identity.jsonl").write_bytes((ROOT / "recipes/quickstart_identity.jsonl").read_bytes())
    return place


def soundness(folder: Path, examples: int) -> None:
    refused = []

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.integers(min_value=0, max_value=2**64))
    def each(seed: int) -> None:
        refused.append(check_soundness(folder, random.Random(seed)))

    each()
    assert sum(refused) > len(refused) / 4, f"only {sum(refused)} of {len(refused)} were refused: nothing is shown"


def test_what_the_schema_refuses_the_engine_refuses(folder: Path) -> None:
    soundness(folder, 300)


@pytest.mark.slow
def test_what_the_schema_refuses_the_engine_refuses_ten_thousand_times(folder: Path) -> None:
    soundness(folder, 10_000)
