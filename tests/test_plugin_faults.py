"""Whatever a plugin does wrong stays its own fault: it is named, and everybody else goes on."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugin_site import GOOD, install
from tiny_plugin import CPU, TINY, tiny_registry, write

from nanochat.errors import InputError, StageError
from nanochat.hooks import GIVES, hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.recipe.resolved import Recipe
from nanochat.registry import Registry, load_registry
from nanochat.running import provenance
from nanochat.running.keys import stage_keys
from nanochat.running.tracker import Audience
from nanochat.stages import evaluation
from nanochat.testing import tiny_subject

SMALL = """
format = 1
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.data.docs]
use = "pydocs"
"""
LOOSE = Path(__file__).parent / "loose"


def plugin(**hooks: Any) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def observed(tmp_path: Path, **hooks: Any) -> Recipe:
    """The tiny recipe, loaded beside a plugin `odd` with these hooks."""
    registry = tiny_registry()
    registry.register(plugin(**hooks), name="odd", distribution="acme-odd")
    return load_recipe(write(tmp_path, TINY), registry=registry, machine=CPU)


# At import


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


def status(distribution: str) -> tuple[str, str]:
    found = next(p for p in load_registry().plugins if p.distribution == distribution)
    return found.status, found.reason


@pytest.mark.parametrize(
    "source, reason",
    [
        ("raise ImportError('needs a newer Python')", "ImportError: needs a newer Python"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 +", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Panic(BaseException): pass\nraise Panic('in Rust')", "Panic: in Rust"),
        (GOOD + "    registry.add('NAME', build='a:b')", "ValueError: task 'NAME' is registered twice"),
        (GOOD + "    raise SystemExit(3)", "SystemExit: 3"),
        ("from nanochat.hooks import hookimpl\n@hookimpl\ndef on_step(batch): ...", "gives no `batch`"),
    ],
)
def test_a_plugin_that_fails_when_it_is_loaded_is_broken_alone(site: Path, source: str, reason: str) -> None:
    name = f"acme_{abs(hash(source))}"
    install(site, "acme-broken", name, source)
    install(site, "acme-good", f"{name}_good", GOOD)
    state, told = status("acme-broken")
    assert state == "broken"
    assert reason in told
    assert status("acme-good") == ("ok", "")


def test_a_person_who_presses_ctrl_c_while_plugins_load_is_obeyed(site: Path) -> None:
    install(site, "acme-slow", "acme_slow_c", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_registry()


def test_a_distribution_whose_metadata_are_damaged_is_listed_by_its_folder(site: Path) -> None:
    install(site, "acme-torn", "acme_torn_a", GOOD)
    (site / "acme_torn-2.0.dist-info" / "METADATA").unlink()
    install(site, "acme-odd", "acme_odd_a", GOOD)
    (site / "acme_odd-2.0.dist-info" / "entry_points.txt").write_text("[nanochat.v1]\nno equals sign\n")
    (site / "foreign-1.dist-info").mkdir()
    (site / "foreign-1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe\x00")
    assert status("acme_torn-2.0.dist-info") == ("broken", "ValueError: it has no METADATA that says its name")
    assert status("acme_odd-2.0.dist-info")[0] == "broken"


def test_a_folder_of_loose_files_that_there_is_not_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", "/no/such/folder")
    reason = "NotADirectoryError: there is no folder /no/such/folder"
    assert status("NANOCHAT_PLUGINS_DIR") == ("broken", reason)
    (warning,) = load_recipe(write(tmp_path, SMALL), machine=CPU).warnings
    said = f"no loose plugin is loaded: NANOCHAT_PLUGINS_DIR is broken: {reason}"
    assert (warning.code, warning.severity, warning.message) == ("E202", "warning", said)


def test_what_a_plugin_prints_while_it_loads_does_not_spoil_json(site: Path) -> None:
    install(site, "acme-loud", "acme_loud", "print('hello')\n" + GOOD + "    print('world')\n")
    command = [sys.executable, "-m", "nanochat.cli.main", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)})
    assert {"acme-loud", "nanochat-run"} <= {p["distribution"] for p in json.loads(done.stdout)}
    assert done.stderr == "hello\nworld\n"


def test_a_blocked_name_may_be_spelt_as_package_names_are(site: Path) -> None:
    install(site, "acme-quiet", "acme_quiet_a", GOOD)
    for spelling in ("Acme_Quiet", "acme.quiet", "acme_quiet_a"):
        found = {p.distribution: p.status for p in load_registry(block=[spelling]).plugins}
        assert found["acme-quiet"] == "blocked"


# What it builds


@pytest.mark.parametrize("kind", GIVES)
def test_a_builder_that_makes_something_else_is_named_with_what_is_missing(kind: str) -> None:
    registry = Registry()
    add = {
        f"register_{kind}s": lambda registry: registry.add("odd", build="builtins:id", config="tiny_plugin:SgdConfig")
    }
    registry.register(plugin(**add), name="odd", distribution="acme-odd")
    with pytest.raises(InputError) as caught:
        registry.builder(kind, "odd")("a config")
    missing = ", ".join(GIVES[kind])
    assert f"error[E202]: {kind} `odd` of `acme-odd` is broken: builtins:id gave int without {missing}" in str(
        caught.value
    )


def test_a_build_that_is_no_function_is_named() -> None:
    registry = Registry()
    odd = plugin(register_tasks=lambda registry: registry.add("odd", build="sys:path", config="tiny_plugin:SgdConfig"))
    registry.register(odd, name="odd", distribution="acme-odd")
    with pytest.raises(InputError, match=r"task `odd` of `acme-odd` is broken: sys:path is of type list"):
        registry.builder("task", "odd")


def test_an_evaluation_that_gives_no_figures_is_named(tmp_path: Path) -> None:
    component = SimpleNamespace(use="odd")
    context: Any = SimpleNamespace(folder=tmp_path, runtime=SimpleNamespace(rank=0), build=lambda *_: {"accuracy": 0.5})
    with pytest.raises(StageError, match=r"E202.*the evaluation `odd` gave \{'accuracy': 0.5\}"):
        evaluation.run_evals({"mine": component}, tiny_subject(), context)  # type: ignore[dict-item]


def test_a_config_class_that_is_none_is_told_at_the_recipes_line(tmp_path: Path) -> None:
    registry = tiny_registry()
    odd = plugin(register_tasks=lambda registry: registry.add("odd", build="a:b", config="tiny_plugin:Sums"))
    registry.register(odd, name="odd", distribution="acme-odd")
    path = write(tmp_path, TINY.replace('use = "sums"', 'use = "odd"'))
    with pytest.raises(InputError) as caught:
        load_recipe(path, registry=registry, machine=CPU)
    (found,) = caught.value.diagnostics
    assert (found.code, found.location and found.location.text) == ("E202", 'use = "odd"')
    assert "`acme-odd` is broken: tiny_plugin:Sums is no attrs class" in found.message


# validate_recipe


def leave(*_: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "answer, told",
    [
        (lambda: 1 / 0, "plugin `odd` failed in validate_recipe: ZeroDivisionError: division by zero"),
        (leave, "plugin `odd` failed in validate_recipe: SystemExit: 3"),
        (lambda: 7, "plugin `odd` gave the integer 7 in validate_recipe, not a list of messages"),
        (lambda: True, "plugin `odd` gave the boolean true in validate_recipe, not a list of messages"),
        (lambda: [1, 2], "plugin `odd` gave the array [1, 2] in validate_recipe, not a list of messages"),
        (lambda: {"a": "b"}, "plugin `odd` gave a table in validate_recipe, not a list of messages"),
    ],
)
def test_a_wrong_answer_to_validate_recipe_is_a_warning_and_no_veto(tmp_path: Path, answer: Any, told: str) -> None:
    recipe = observed(tmp_path, validate_recipe=lambda recipe: answer())
    assert [(warning.code, warning.severity, warning.message) for warning in recipe.warnings] == [
        ("E202", "warning", told)
    ]
    assert stage_keys(recipe) == stage_keys(load_recipe(recipe.path, registry=tiny_registry(), machine=CPU))


@pytest.mark.parametrize("answer", [None, [], (), ""])
def test_no_objection_is_none(tmp_path: Path, answer: Any) -> None:
    assert observed(tmp_path, validate_recipe=lambda recipe: answer).warnings == []


def test_validate_recipe_alone_can_stop_a_run_and_every_message_is_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        observed(tmp_path, validate_recipe=lambda recipe: [f"{recipe.name} is too small", "and too young"])
    assert [d.message for d in caught.value.diagnostics] == [
        "plugin `odd`: tiny is too small",
        "plugin `odd`: and too young",
    ]


def test_one_message_alone_stops_a_run_as_a_list_does(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        observed(tmp_path, validate_recipe=lambda recipe: f"{recipe.name} is too small")
    assert [d.message for d in caught.value.diagnostics] == ["plugin `odd`: tiny is too small"]


def test_an_observer_can_print_and_change_what_it_is_given_without_any_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def validate_recipe(recipe: Recipe) -> None:
        print("looking")
        for stage in recipe.stages.values():
            stage.values.clear()  # type: ignore[attr-defined]
            stage.config.data.clear()
        recipe.stages.clear()  # type: ignore[attr-defined]

    changed = observed(tmp_path, validate_recipe=validate_recipe)
    assert changed.warnings == []
    assert stage_keys(changed) == stage_keys(load_recipe(changed.path, registry=tiny_registry(), machine=CPU))
    assert changed.stages["base"].config.data
    assert capsys.readouterr() == ("", "looking\n")


# The observers of a run

OBSERVERS = """
import sys
from nanochat.hooks import hookimpl

@hookimpl
def validate_recipe(recipe):
    raise ValueError("validate")

@hookimpl
def before_stage(stage, folder):
    sys.exit("before")

@hookimpl
def on_step(stage, step, figures):
    figures.clear()
    raise ValueError("step")

@hookimpl
def after_stage(stage, record):
    record.clear()
    raise ValueError("after")

@hookimpl
def collect_provenance():
    raise ValueError("provenance")
"""

RECIPE = """
format = 1
name = "watched"
[hardware]
launcher = "local"
device = "cpu"
[stages.one]
use = "count"
steps = 3
"""


def run_beside(folder: Path, observers: str) -> tuple[Path, str]:
    """Run the recipe beside a loose file of observers: its home, and what the terminal showed."""
    files = folder / "plugins"
    files.mkdir(parents=True)
    text = (LOOSE / "counting.py").read_text()
    (files / "counting.py").write_text(
        text[: text.index("@hookimpl\ndef on_step")] + text[text.index("class Diary:") :]
    )
    (files / "watcher.py").write_text(observers)
    environment = {**os.environ, "NANOCHAT_HOME": str(folder / "home"), "NANOCHAT_PLUGINS_DIR": str(files)}
    command = [sys.executable, "-m", "nanochat.cli.main", "run", str(write(folder, RECIPE))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "home", done.stdout + done.stderr


def test_observers_that_all_fail_change_neither_key_nor_result_and_each_is_named(tmp_path: Path) -> None:
    calm, _ = run_beside(tmp_path / "calm", "")
    wild, said = run_beside(tmp_path / "wild", OBSERVERS)
    stages = [next((home / "store").iterdir()) for home in (calm, wild)]
    assert stages[0].name == stages[1].name  # the key
    assert stages[0].name.startswith("one-")
    records = [json.loads((stage / "record.json").read_text()) for stage in stages]
    assert records[0]["figures"] == records[1]["figures"]
    metrics = [
        [{**json.loads(line), "time": 0} for line in (stage / "metrics.jsonl").read_text().splitlines()]
        for stage in stages
    ]
    assert metrics[0] == metrics[1]
    for line in (
        "plugin `watcher` failed in validate_recipe: ValueError: validate",
        "before_stage of plugin `watcher` failed and is passed over: SystemExit: before",
        "after_stage of plugin `watcher` failed and is passed over: ValueError: after",
    ):
        assert line in said
    assert "WARNING watcher: ValueError: step (said once)" in (stages[1] / "logs" / "worker.log").read_text()
    (run,) = (wild / "runs").iterdir()
    assert json.loads((run / "env.json").read_text())["observed"] == {"watcher": "failed: ValueError: provenance"}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    failed = [(event["plugin"], event["hook"]) for event in events if event["event"] == "observer_failed"]
    assert failed == [("watcher", "before_stage"), ("watcher", "after_stage")]


def test_facts_that_are_no_plain_data_cost_the_plugin_its_facts_and_nothing_else() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    registry = Registry()
    registry.register(plugin(collect_provenance=lambda: circle), name="round")
    registry.register(plugin(collect_provenance=lambda: {("a", "b"): 1}), name="tuple")
    registry.register(plugin(collect_provenance=lambda: {"place": Path("/x")}), name="path")
    facts, _ = provenance.collect(Path("recipe.toml"), CPU, registry)
    assert facts["observed"] == {
        "round": "failed: it is no plain data: Circular reference detected",
        "tuple": "failed: it is no plain data: keys must be str, int, float, bool or None, not tuple",
        "path": {"place": "/x"},
    }


def test_an_observer_of_steps_cannot_change_what_the_others_see() -> None:
    seen: list[Any] = []
    registry = Registry()
    registry.register(plugin(on_step=lambda figures: figures.clear()), name="greedy")
    registry.register(plugin(on_step=lambda figures: seen.append(dict(figures))), name="meek")
    figures = {"loss": 1.0}
    Audience("base", {}, registry).log(1, figures)
    assert figures == {"loss": 1.0}
    assert seen == [{"loss": 1.0}]  # each has a copy of its own
