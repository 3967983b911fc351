"""The registry: each plugin stands alone, names are owned by one, strings are imported when they are asked for."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugin_site import GOOD, install
from tiny_plugin import Sums, tiny_registry

from nanochat import builtin
from nanochat.errors import InputError
from nanochat.hooks import KINDS, hookimpl
from nanochat.registry import Registry, load_registry


def plugin(**hooks: Any) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def offers(kind: str, name: str, build: str = "tiny_plugin:Sums", **more: Any) -> Any:
    """A plugin with one component."""

    def hook(registry: Any) -> None:
        registry.add(name, build=build, **more)

    return plugin(**{f"register_{kind}s": hook})


def refused(registry: Registry, kind: str, name: str, ask: str = "entry") -> str:
    with pytest.raises(InputError) as caught:
        getattr(registry, ask)(kind, name)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_door(kind: str) -> None:
    registry = Registry()
    registry.register(offers(kind, "it", revision=4), name="p", distribution="acme")
    entry = registry.entry(kind, "it")
    assert (entry.kind, entry.revision, entry.distribution) == (kind, 4, "acme")
    assert registry.names(kind) == ["it"]


def test_a_broken_plugin_is_listed_with_its_reason_and_stops_no_other() -> None:
    def fails(registry: Any) -> None:
        registry.add("early", build="a:b")
        raise RuntimeError("no such luck")

    registry = tiny_registry()
    registry.register(plugin(register_tasks=fails), name="bad", distribution="acme-bad")
    status = registry.plugins[-1]
    assert status.status == "broken"
    line = fails.__code__.co_firstlineno + 2
    assert status.reason == f"RuntimeError: no such luck ({__file__}:{line})"
    assert registry.entry("task", "sums").distribution == "acme-tiny"
    assert "; broken, and may offer it: bad" in refused(registry, "task", "early")


@pytest.mark.parametrize(
    "added, reason",
    [
        ({"build": Sums}, "must be a string"),
        ({"build": "no_colon"}, "must be a string"),
        ({"build": "a:b", "config": "a b:c"}, "must be a string"),
        ({"build": "a:b", "revision": 0}, "at least 1"),
        ({"build": "a:b", "revision": True}, "at least 1"),
    ],
)
def test_what_a_plugin_registers_is_checked_at_the_door(added: dict[str, Any], reason: str) -> None:
    status = Registry().register(plugin(register_tasks=lambda registry: registry.add("x", **added)), name="p")
    assert status.status == "broken"
    assert reason in status.reason


def test_a_misspelt_hook_is_found_and_not_ignored() -> None:
    status = Registry().register(plugin(register_task=lambda registry: None), name="p")
    assert status.status == "broken"
    assert "register_task" in status.reason


def test_two_plugins_that_claim_one_name_are_both_named() -> None:
    registry = tiny_registry()
    registry.register(offers("task", "sums"), name="other", distribution="acme-other")
    shown = refused(registry, "task", "sums")
    assert "E203" in shown
    assert "`acme-tiny` and `acme-other`" in shown
    assert registry.collisions() == [("task", "sums", ["acme-tiny", "acme-other"])]


@pytest.mark.parametrize(
    "others, owners, told",
    [
        (["b"], "`acme-tiny` and `b`", 'block one of them: with [plugins] block = ["b"]'),
        (["b", "c"], "`acme-tiny`, `b` and `c`", 'block all of them but one: with [plugins] block = ["b", "c"]'),
    ],
)
def test_what_settles_a_claim_is_told_and_does_it(others: list[str], owners: str, told: str) -> None:
    registry = tiny_registry()
    for name in others:
        registry.register(offers("task", "sums"), name=name)
    shown = refused(registry, "task", "sums")
    assert f"task `sums` is claimed by {owners}" in shown
    assert f"{told} it is that of `acme-tiny`" in shown
    registry.block(others)
    assert registry.entry("task", "sums").distribution == "acme-tiny"


def test_blocking_one_of_them_settles_it() -> None:
    registry = tiny_registry()
    registry.register(offers("task", "sums"), name="other", distribution="acme-other")
    registry.block(["acme-other"])
    assert registry.entry("task", "sums").distribution == "acme-tiny"
    assert registry.plugins[-1].status == "blocked"


def test_two_distributions_may_call_their_entry_points_alike() -> None:
    registry = Registry()
    registry.register(offers("task", "one"), name="plugin", distribution="acme")
    registry.register(offers("task", "two"), name="plugin", distribution="other")
    assert registry.names("task") == ["one", "two"]
    registry.block(["other"])
    assert registry.names("task") == ["one"]


def test_a_name_that_is_not_there_suggests_near_ones() -> None:
    shown = refused(tiny_registry(), "optimizer", "sdg")
    assert "did you mean `sgd`?" in shown
    assert "known: fussy, sgd" in shown


def test_a_component_that_cannot_be_imported_is_named_with_its_distribution() -> None:
    registry = Registry()
    registry.register(offers("task", "x", build="no_such_module:X"), name="p", distribution="acme")
    shown = refused(registry, "task", "x", "builder")
    assert "E202" in shown
    assert "`acme`" in shown
    assert "No module named 'no_such_module'" in shown
    assert "E202" in refused(registry, "task", "x", "config_class")


def test_a_config_that_is_no_attrs_class_is_refused() -> None:
    registry = Registry()
    registry.register(offers("task", "x", config="tiny_plugin:Sums"), name="p")
    assert "is no attrs class" in refused(registry, "task", "x", "config_class")


def test_keywords_become_a_config_class_that_is_the_same_each_time() -> None:
    first, again = tiny_registry(), tiny_registry()
    made = first.config_class("task", "sums")
    assert made is again.config_class("task", "sums")
    config: Any = made(digits=3)
    built = first.builder("task", "sums")(config)
    assert isinstance(built, Sums)
    assert (built.size, built.digits) == (10, 3)


def test_nothing_is_imported_until_it_is_asked_for() -> None:
    registry = Registry()
    registry.register(builtin, name="nanochat")
    assert {"gpt", "pretrain"} <= {*registry.names("model"), *registry.names("stage")}
    registry.register(offers("task", "far", build="xml.dom.pulldom:PullDOM"), name="p")
    sys.modules.pop("xml.dom.pulldom", None)
    registry.names("task")
    assert "xml.dom.pulldom" not in sys.modules
    registry.builder("task", "far")
    assert "xml.dom.pulldom" in sys.modules


def test_an_observers_fault_is_handed_back_under_its_name_and_the_others_are_asked() -> None:
    def fails(stage: str) -> None:
        raise RuntimeError(stage)

    seen: list[str] = []
    registry = Registry()
    registry.register(plugin(before_stage=fails), name="bad")
    registry.register(plugin(before_stage=lambda stage, folder: seen.append(folder)), name="good")
    results = dict(registry.observe("before_stage", stage="base", folder="/f"))
    assert isinstance(results["bad"], RuntimeError)
    assert seen == ["/f"]


# What is installed


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path for made-up distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


def test_installed_plugins_are_loaded_each_by_itself(site: Path) -> None:
    install(site, "acme-good", "acme_good_a", GOOD.replace("NAME", "made_up"))
    install(site, "acme-bad", "acme_bad_a", "raise ImportError('needs a newer Python')")
    install(site, "acme-exit", "acme_exit_a", "import sys; sys.exit('bye')")
    install(site, "acme-next", "acme_next_a", "raise AssertionError('imported')", group="nanochat.v2")
    registry = load_registry()
    found = {p.distribution: (p.version, p.status, p.reason) for p in registry.plugins if p.distribution[:4] == "acme"}
    assert found == {
        "acme-good": ("2.0", "ok", ""),
        "acme-bad": ("2.0", "broken", f"ImportError: needs a newer Python ({site / 'acme_bad_a.py'}:1)"),
        "acme-exit": ("2.0", "broken", f"SystemExit: bye ({site / 'acme_exit_a.py'}:1)"),
        "acme-next": ("2.0", "other API", "it is made for nanochat.v2; this nanochat has nanochat.v1"),
    }
    assert registry.entry("task", "made_up").distribution == "acme-good"
    assert registry.entry("stage", "pretrain").distribution == "nanochat-run"


def test_a_blocked_plugin_is_listed_and_not_imported(site: Path) -> None:
    install(site, "acme-blocked", "acme_blocked_b", "raise AssertionError('imported')")
    registry = load_registry(block=["acme-blocked"])
    assert {p.distribution: p.status for p in registry.plugins}["acme-blocked"] == "blocked"


def test_loose_files_are_plugins_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(GOOD.replace("NAME", "made_up"))
    (tmp_path / "worse.py").write_text("1 +")
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", str(tmp_path))
    registry = load_registry()
    entry = registry.entry("task", "made_up")
    assert (entry.plugin, entry.distribution) == ("mine", "mine")  # not its place, which decides no result
    status = {p.name: p.status for p in registry.plugins}
    assert (status["mine"], status["worse"]) == ("ok", "broken")
    assert {p.name: p.status for p in load_registry(block=["mine"]).plugins}["mine"] == "blocked"


def test_the_description_of_plugins_is_plain_data() -> None:
    registry = tiny_registry()
    registry.register(offers("task", "sums"), name="other", distribution="acme-other")
    (_, tiny, other) = json.loads(json.dumps(registry.describe(registry.plugins)))
    assert (tiny["name"], tiny["distribution"], tiny["version"], tiny["status"]) == ("tiny", "acme-tiny", "1.2", "ok")
    everything = {"kind": "source", "name": "everything", "build": "tiny_plugin:EverythingConfig", "revision": 3}
    assert everything | {"claimed_by": ["acme-tiny"]} in tiny["components"]
    assert [component["claimed_by"] for component in other["components"]] == [["acme-tiny", "acme-other"]]
