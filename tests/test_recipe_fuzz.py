"""Whatever is written: a recipe whose every value is what was written and what its field allows, or diagnostics.

Never a traceback, a hang, or nonsense that is accepted. `-m slow` tries 10,000 recipes of each sort.
"""

import datetime
import math
import random
import signal
import string
import tomllib
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_plugin import CPU, TINY, shared_registry

from nanochat.config import Artifact, Component, Rules, rules_of
from nanochat.errors import CODES, InputError
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text
from nanochat.recipe.notation import key_text
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry, load_registry

RECIPES = Path(__file__).parents[1] / "recipes"
SECONDS = 10
OURS = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPES.glob("*.toml"))}
TOKENS = [
    *("=", "[", "]", "{", "}", '"', "'", "\n", ".", ",", "#", "[[", "]]", "\r", "\t", "é", "\0", "[]", "{}", "-1"),
    *("true", "auto", "from", "use", "stages", "extends", "unset", "nan", "1e999", "1979-05-27", "'*'", "9" * 30),
    *("stage:tok", "path:", "path:/", "store:00000000", '"\\u0000"', '"""', "'''", "0x", "1_", "\\", "\ufeff"),
    *('{from = "stages"}', '{from = "stages.base"}', '{use = "sgd"}', "{use = 3}"),
]
VALUES: list[Any] = [
    *(0, 1, -1, 2**62, -(2**63), 10**30, 0.0, -0.0, 0.5, 1e308, math.nan, math.inf, -math.inf, True, False),
    *("", "auto", "4", "true", "stage:tok", "stage:base", "stage:", "path:.", "path:~x/y", "store:zz", "é\u202e", "*"),
    *([], [1], ["a", 1], [[]], [{}], ["batch"], ["*"], {}, {"use": "gpt"}, {"use": 1}, {"from": "stages.base.steps"}),
    *({"from": "seed"}, {"from": "stages.base.optim"}, {"from": ""}, {"from": "a..b"}, {"from": "stages", "x": 1}),
    *(datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 1, 1), datetime.time(1)),
]
NAMES = [
    "use",
    "from",
    "match",
    "extends",
    "unset",
    "format",
    "hardware",
    "stages",
    "name",
    "",
    "a b",
    "é",
    "lock",
    "-x",
]


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """A hang becomes a failure."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# What an accepted recipe has to satisfy, said again without the engine's own code


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is exactly of an annotated type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (list, tuple):
        return isinstance(value, origin) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if kind is Path:
        return isinstance(value, Path) and value.is_absolute()
    return value is None if kind in (None, type(None)) else type(value) is kind


def in_range(value: Any, rules: Rules) -> bool:
    if isinstance(value, list | tuple):
        return all(in_range(item, rules) for item in value)
    if rules.choices and value is not None and value not in rules.choices:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    finite = math.isfinite(value) or not rules.finite
    low = -math.inf if rules.minimum is None else rules.minimum
    high = math.inf if rules.maximum is None else rules.maximum
    return finite and (low <= value <= high or (not rules.finite and rules.minimum is None))


def nonsense(config: Any) -> Iterator[str]:
    """Every value of a config, nested ones included, that its field does not allow."""
    if isinstance(config, Component):
        yield from nonsense(config.config)
        yield from nonsense(config.slot)
    elif isinstance(config, Mapping):
        for item in config.values():
            yield from nonsense(item)
    elif attrs.has(type(config)) and not isinstance(config, Artifact):
        attrs.resolve_types(type(config))
        for field in attrs.fields(type(config)):
            value, rules = getattr(config, field.name), rules_of(field)
            default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
            if rules.role != "option" or attrs.has(type(value)):
                yield from nonsense(value)
            elif type(value) is type(default) and value == default:
                continue  # a class may declare a default that no recipe could give
            elif not fits(value, field.type) or not in_range(value, rules):
                yield f"{type(config).__name__}.{field.name} = {value!r}"


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What is written, without what is taken from elsewhere."""
    if isinstance(node, dict) and "from" in node:
        return
    if isinstance(node, dict):
        for name, item in node.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, node


def lost(document: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    """Every written value that the recipe does not hold as it was written."""
    for path, written in leaves(document):
        if path[0] in ("format", "extends", "unset", "lock") or written in ("auto", {}):
            continue
        above = [recipe.values[path[:n]].value for n in range(len(path), 0, -1) if path[:n] in recipe.values]
        if not above:
            inherited = path[:-1] == ("hardware",)  # a recipe of no stage that would use it
            if not inherited and written != []:
                yield f"{'.'.join(path)} = {written!r} is gone"
            continue
        held = above[0]
        place = isinstance(held, str) and isinstance(written, str) and (held.startswith(("/", "path:", "store:")))
        inside = isinstance(held, dict)  # a table that is one value
        if not (place or inside or held == written):
            yield f"{'.'.join(path)} = {written!r} became {held!r}"


def check(path: Path, content: bytes, registry: Registry, *overrides: str) -> None:
    """Load what a file and arguments say; accepted, it must make sense, and refused, the diagnostics must be whole."""
    path.write_bytes(content)
    with limited(SECONDS):
        try:
            recipe = load_recipe(path, overrides=overrides, registry=registry, machine=CPU)
        except InputError as fault:
            refused = fault
        else:
            for stage in recipe.stages.values():
                assert not list(nonsense(stage.config)), list(nonsense(stage.config))
                assert not list(nonsense(stage.hardware))
            if not overrides:
                document = tomllib.loads(content.decode().removeprefix("\ufeff"))
                assert not list(lost(document, recipe)), list(lost(document, recipe))
            assert tomllib.loads(lock_text(recipe))
            return
    assert refused.diagnostics
    for found in refused.diagnostics:
        assert found.code in CODES and found.message
        assert found.render().encode()


# Mutations


def mutated_text(generator: random.Random, text: str) -> bytes:
    """A recipe after a few edits of its lines, values or bytes."""
    for _ in range(generator.randint(1, 4)):
        lines = text.split("\n")
        spot = generator.randrange(len(lines))
        edit = generator.randrange(6)
        if edit == 0:
            lines[spot] = lines[generator.randrange(len(lines))]
        elif edit == 1:
            del lines[spot]
        elif edit == 2:
            name = generator.choice(["k", "use", "from", "steps", "match", *NAMES])
            lines.insert(spot, f"{name} = {generator.choice(TOKENS)}")
        elif edit == 3 and "=" in lines[spot]:
            lines[spot] = lines[spot].split("=")[0] + "= " + generator.choice(TOKENS)
        elif edit == 4:
            column = generator.randrange(len(lines[spot]) + 1)
            lines[spot] = lines[spot][:column] + generator.choice(TOKENS) + lines[spot][column:]
        else:
            lines[spot], lines[0] = lines[0], lines[spot]
        text = "\n".join(lines)
    content = bytearray(text.encode())
    for _ in range(generator.choice([0, 0, 0, 1, 3])):
        content[generator.randrange(len(content))] = generator.randrange(256)
    return bytes(content)


def tables(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(inner for item in node.values() if isinstance(item, dict) for inner in tables(item))]


def mutated_structure(generator: random.Random, text: str) -> bytes:
    """A recipe after a few edits of its values: other types, other names, tables moved, copied, emptied."""
    document = tomllib.loads(text)
    for _ in range(generator.randint(1, 4)):
        table = generator.choice(tables(document))
        name = generator.choice([*table, *generator.sample(NAMES, 2)])
        edit = generator.randrange(7)
        if edit <= 2:
            table[name] = deepcopy(generator.choice(VALUES))  # a later edit may reach into it
        elif edit == 3:
            table.pop(name, None)
        elif edit == 4 and name in table:
            table[generator.choice([name + "x", name[:-1], *NAMES])] = table.pop(name)
        elif edit == 5:
            copied = dict(generator.choice(tables(document)))
            if not any(inner is table for inner in tables(copied)):
                table[name] = copied
        elif isinstance(table.get(name), int | float) and not isinstance(table[name], bool):
            table[name] = generator.choice([-table[name], table[name] * 1.0, str(table[name]), [table[name]], 10**30])
    return tomli_w.dumps(document).encode("utf-8", "surrogatepass")


@st.composite
def recipes(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A mutated recipe, and whether it is one of ours (else the tiny one)."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    ours = generator.random() < 0.4
    text = OURS[generator.choice(sorted(OURS))] if ours else TINY
    return generator.choice([mutated_text, mutated_structure])(generator, text), ours


installed = pytest.fixture(scope="module")(load_registry)
RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck))


def example_file(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.getbasetemp() / name


def check_mutated(installed: Registry, factory: pytest.TempPathFactory, recipe: tuple[bytes, bool]) -> None:
    content, ours = recipe
    registry = load_registry() if b"block" in content else installed if ours else shared_registry()
    check(example_file(factory, "mutated.toml"), content, registry)


@given(recipe=recipes())
@settings(RELAXED, max_examples=600)
def test_a_mutated_recipe_makes_sense_or_is_refused(
    installed: Registry, tmp_path_factory: pytest.TempPathFactory, recipe: tuple[bytes, bool]
) -> None:
    check_mutated(installed, tmp_path_factory, recipe)


@pytest.mark.slow
@given(recipe=recipes())
@settings(RELAXED, max_examples=10_000)
def test_ten_thousand_mutated_recipes_make_sense_or_are_refused(
    installed: Registry, tmp_path_factory: pytest.TempPathFactory, recipe: tuple[bytes, bool]
) -> None:
    check_mutated(installed, tmp_path_factory, recipe)


OF_EVERY_RUN = "quickstart.toml"
"""It has most keys; the others take as long again, each."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == OF_EVERY_RUN else pytest.mark.slow)
        for name, text in sorted(OURS.items())
        if "extends" not in text
    ],
)
def test_no_giant_number_in_any_key_makes_a_plan_hang(
    installed: Registry, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    path = example_file(tmp_path_factory, name)
    path.write_text(OURS[name])
    (path.parent / "quickstart_identity.jsonl").write_bytes((RECIPES / "quickstart_identity.jsonl").read_bytes())
    recipe = load_recipe(path, registry=installed, machine=CPU)
    numbers = [key for key, leaf in recipe.values.items() if type(leaf.value) in (int, float)]
    assert len(numbers) >= 40
    for key in numbers:
        for number in ("1_000_000_000", str(2**62), "1e300"):
            check(path, OURS[name].encode(), installed, f"{key_text(key)}={number}")


@given(st.text(max_size=40) | st.sampled_from(TOKENS).map(lambda token: f"stages.base.steps={token}"))
@settings(RELAXED, max_examples=200)
def test_any_set_argument_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, argument: str) -> None:
    check(example_file(tmp_path_factory, "set.toml"), TINY.encode(), shared_registry(), argument)


@given(st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
@settings(RELAXED, max_examples=300)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    check(example_file(tmp_path_factory, "bytes.toml"), content, shared_registry())


@pytest.mark.parametrize(
    "content",
    [
        b"tag = x" + b"y" * 1_000_000,
        b"x" * (2**20 + 1),
        b"[a]\n" * 200_000,
        b"x = " + b"[" * 400_000,
        b"x = " + b"{a=" * 250_000,
        b"a" + b".a" * 500_000 + b" = 1",
        b'x = """' + b'\\"' * 500_000,
        b"\n".join(b"k%d = {from = 'k%d'}" % (n, n + 1) for n in range(20_000)),
        b"\n".join(b"[t%d]\nfrom = 't%d'\n[t%d.x]\nfrom = 't%d'" % (n, n + 1, n, n + 1) for n in range(9_000)),
        b"format = 1\n" + b"\n".join(b"[stages.s%d]\nuse = 'tokeniser'" % n for n in range(30_000)),
        b"\n".join(b"k%d = 1" % n for n in range(80_000)) + b"\nb 1" * 30,
        b"k = 1\n" * 2 + b"\n".join(b"b%d 1" % n for n in range(100_000)),
        b"format = 1\n[stages.a]\nuse = 'tokenizer'\n" + b"\n".join(b"k%d = 1" % n for n in range(100_000)),
    ],
    ids=lambda content: content[:16].decode(errors="replace").replace("\n", " "),
)
def test_a_file_made_to_be_slow_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "slow.toml").write_bytes(content)
    with limited(SECONDS), pytest.raises(InputError):
        load_recipe(tmp_path / "slow.toml", registry=shared_registry(), machine=CPU)
