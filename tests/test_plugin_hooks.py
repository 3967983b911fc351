"""What a plugin's hooks are made of: a slip in one is told in one line, at the plugin's own file and line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_site import GOOD

from nanochat.hooks import hookimpl
from nanochat.registrar import PluginStatus
from nanochat.registry import Registry, load_registry

Load = Callable[[str], tuple[PluginStatus, Path]]
HEAD = "from nanochat.hooks import hookimpl\n"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a loose file `mine.py` of this source: its status, and the file."""
    monkeypatch.setenv("NANOCHAT_PLUGINS_DIR", str(tmp_path))
    file = tmp_path / "mine.py"

    def load(source: str) -> tuple[PluginStatus, Path]:
        file.write_text(source)
        return next(plugin for plugin in load_registry().plugins if plugin.name == "mine"), file

    return load


@pytest.mark.parametrize(
    "source, line, said",
    [
        (
            HEAD + "@hookimpl\ndef register_task(registry): ...\n",
            2,
            "there is no hook `register_task`; did you mean `register_tasks`",
        ),
        (
            HEAD + "@hookimpl\ndef register_tasks(registri): ...\n",
            2,
            "the hook `register_tasks` gives no `registri`; did you mean `registry`?",
        ),
        (
            HEAD + "@hookimpl\ndef on_step(batch): ...\n",
            2,
            "the hook `on_step` gives no `batch`; it gives `stage`, `step`, `figures`",
        ),
        (
            HEAD + "@hookimpl\ndef collect_provenance(run): ...\n",
            2,
            "the hook `collect_provenance` gives no `run`; it gives nothing",
        ),
        (
            "def register_sources(registry): ...\n",
            1,
            "`register_sources` is named as a hook is, but lacks `@hookimpl`",
        ),
        (HEAD + "def on_step(step): ...\n", 2, "`on_step` is named as a hook is, but lacks `@hookimpl`"),
        ("x = 1\n1 +\n", 2, "SyntaxError: invalid syntax"),
        ("raise ValueError('one\\n  two')\n", 1, "ValueError: one two"),
    ],
)
def test_a_slip_is_one_line_at_the_plugins_own_place(loaded: Load, source: str, line: int, said: str) -> None:
    status, file = loaded(source)
    assert status.status == "broken"
    assert status.reason.startswith(said)
    assert status.reason.endswith(f" ({file}:{line})")
    assert "\n" not in status.reason


@pytest.mark.parametrize("source", ["", "x = 1\n", "from nanochat.hooks import register_tasks\n"])
def test_a_file_without_a_hook_offers_nothing_and_says_so(loaded: Load, source: str) -> None:
    status, _ = loaded(source)
    assert (status.status, status.reason) == ("ok", "it offers nothing: nothing in it is marked with `@hookimpl`")


def test_a_hook_that_adds_nothing_offers_nothing(loaded: Load) -> None:
    status, _ = loaded(HEAD + "@hookimpl\ndef register_tasks(registry): ...\n")
    assert (status.status, status.reason) == ("ok", "it offers nothing")


def test_a_plugin_that_only_watches_needs_no_excuse(loaded: Load) -> None:
    status, _ = loaded(HEAD + "@hookimpl\ndef before_stage(stage): ...\n")
    assert (status.status, status.reason, status.observers) == ("ok", "", ["before_stage"])


def test_what_hookimpl_says_of_its_function_is_heard(loaded: Load) -> None:
    named = '@hookimpl(specname="on_step")\ndef watch(step, every=10): ...\n'
    later = "@hookimpl(optionalhook=True)\ndef on_epoch(epoch): ...\n"  # of a version that may come
    status, _ = loaded(HEAD + named + later)
    assert (status.status, status.observers[-1]) == ("ok", "on_step")
    status, file = loaded(HEAD + named.replace("(step,", "(stepp,"))
    assert status.reason == f"the hook `on_step` gives no `stepp`; did you mean `step` or `stage`? ({file}:2)"


def test_a_function_of_another_module_that_is_named_like_a_hook_is_no_slip(loaded: Load) -> None:
    status, _ = loaded("from textwrap import dedent as on_step\n" + GOOD)
    assert (status.status, status.reason) == ("ok", "")


@pytest.mark.parametrize("name", ["x y", "", "-x", "ü", "a.b", "a/b", "a\n"])
def test_a_components_name_is_letters_digits_underscores_and_dashes(name: str) -> None:
    class Plugin:
        @hookimpl
        def register_tasks(self, registry: Any) -> None:
            registry.add(name, build="a:b")

    status = Registry().register(Plugin(), name="p")
    assert status.status == "broken"
    assert "name is" in status.reason


@pytest.mark.parametrize("name", ["a.b", "acme.a-b.c_d"])
def test_a_derivation_alone_may_have_dots_in_its_name(name: str) -> None:
    class Plugin:
        @hookimpl
        def register_derivations(self, registry: Any) -> None:
            registry.add(name, build="a:b")

    assert [entry.name for entry in Registry().register(Plugin(), name="p").components] == [name]
