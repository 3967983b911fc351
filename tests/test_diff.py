"""diff, show, plugins, explain and the command line around them."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
from tiny_plugin import CPU, EIGHT_GPUS, TINY, load, tiny_registry, write

from nanochat.cli.main import COMMANDS, main
from nanochat.errors import Stopped
from nanochat.recipe.diff import Difference, Side, diff
from nanochat.recipe.load import load_recipe
from nanochat.recipe.lock import lock_text

RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = """\
format = 1
name = "words"
[hardware]
device = "cpu"
[stages.tok]
use = "tokenizer"
vocab_size = 400
[stages.tok.data.docs]
use = "pydocs"
"""


def side(path: Path, *overrides: str, **more: Any) -> Side:
    return Side(label=path.name, recipe=load(path, *overrides), **more)


def groups(found: list[Difference]) -> dict[str, dict[str, tuple[Any, ...]]]:
    shown: dict[str, dict[str, tuple[Any, ...]]] = {}
    for difference in found:
        shown.setdefault(difference.group, {})[difference.key] = difference.values
    return shown


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_recipe_differs_in_nothing_from_itself_under_another_name(tiny: Path) -> None:
    assert diff([side(tiny), side(tiny, "name=other")]) == []


def test_differences_are_told_apart_by_what_they_mean(tiny: Path) -> None:
    changed = side(tiny, "stages.base.model.depth=4", "stages.base.device_batch_size=8")
    assert groups(diff([side(tiny), changed])) == {
        "identity": {"stages.base.model.depth": (2, 4)},
        "execution": {"stages.base.device_batch_size": (32, 8)},
        "derived": {
            "stages.base.model.dim": (128, 256),
            "stages.base.model.n_head": (2, 4),
            "stages.base.model.n_kv_head": (2, 4),
            "stages.base.tag": ("d2_w128_h2", "d4_w256_h4"),
            "stages.sft.tag": ("d2_w128_h2", "d4_w256_h4"),
        },
    }


def test_what_one_side_sets_by_hand_is_no_derived_value(tiny: Path) -> None:
    found = groups(diff([side(tiny), side(tiny, "stages.base.model.dim=256", "stages.base.model.n_head=4")]))
    assert set(found["identity"]) == {"stages.base.model.dim", "stages.base.model.n_head"}


def test_numbers_have_a_ratio_and_what_is_gone_is_none(tiny: Path) -> None:
    other = side(tiny, "stages.base.steps=20", 'stages.base.data.more={use="words"}')
    found = {difference.key: difference for difference in diff([side(tiny), other])}
    assert found["stages.base.steps"].ratio == 4.0
    assert found["stages.base.data.more"].values == (None, {"use": "words"})
    assert found["stages.base.data.more"].ratio is None


def test_a_changed_use_is_one_difference_that_says_what_is_declared_on_either_side(tiny: Path) -> None:
    group = '{use = "fussy", low = 0, match = "*", lr_factor = 2.0}'
    found, of_sft = diff([side(tiny), side(tiny, f"stages.base.optim.all={group}")])
    assert (found.group, found.key) == ("identity", "stages.base.optim.all")
    assert (of_sft.key, of_sft.values) == ("stages.sft.optim.all", found.values)  # it takes its groups from base
    assert found.values == (
        {"use": "sgd"},
        {"use": "fussy", "low": 0, "lr_factor": 2.0},
    )


def test_a_renamed_stage_is_named_and_compared_with_what_it_was(tiny: Path, tmp_path: Path) -> None:
    text = TINY.replace("[stages.base", "[stages.pre").replace('"stage:base"', '"stage:pre"')
    text = text.replace('"stages.base.optim"', '"stages.pre.optim"').replace("steps = 5", "steps = 7")
    a, b = (
        side(tiny, figures={"base.loss": 2.0}),
        side(write(tmp_path, text, "renamed.toml"), figures={"pre.loss": 1.0}),
    )
    assert groups(diff([a, b])) == {
        "identity": {"stages.base.steps": (5, 7)},
        "execution": {"stages.base: name": ("base", "pre")},
        "metrics": {"base.loss": (2.0, 1.0)},
    }


def test_what_was_derived_in_a_run_is_so_under_another_stage_name(tiny: Path, tmp_path: Path) -> None:
    text = TINY.replace("[stages.base", "[stages.pre").replace('"stage:base"', '"stage:pre"')
    renamed = write(tmp_path, text.replace('"stages.base.optim"', '"stages.pre.optim"'), "renamed.toml")
    sides = []
    for path, override in ((tiny, "seed=42"), (renamed, "stages.pre.model.depth=4")):
        lock = lock_text(load(path, override))
        derived = frozenset(tomllib.loads(lock)["lock"]["derived"])
        sides.append(side(write(tmp_path, lock, f"lock-{path.name}"), derived=derived))
    found = groups(diff(sides))
    assert set(found["identity"]) == {"stages.base.model.depth"}
    assert set(found["execution"]) == {"stages.base: name"}
    assert "stages.base.model.dim" in found["derived"]


def test_a_stage_of_another_kind_is_no_renamed_one(tiny: Path, tmp_path: Path) -> None:
    text = TINY[: TINY.index("[stages.sft]")] + '[stages.other]\nuse = "evaluate"\ncheckpoint = "stage:base"\n'
    other = write(tmp_path, text + '[stages.other.evals.score]\nuse = "score"\ntask = {use = "sums"}\n', "other.toml")
    found = groups(diff([side(tiny), side(other)]))
    assert {key: [value and value["use"] for value in values] for key, values in found["identity"].items()} == {
        "stages.sft": ["finetune", None],
        "stages.other": [None, "evaluate"],
    }


def test_more_than_two_sides_are_compared_value_by_value(tiny: Path) -> None:
    found = diff([side(tiny), side(tiny, "stages.base.steps=5"), side(tiny, "stages.base.steps=9")])
    assert groups(found) == {"identity": {"stages.base.steps": (5, 5, 9)}}
    assert found[0].ratio is None


def test_a_difference_of_figures_is_measured_in_its_standard_error(tiny: Path) -> None:
    a = side(tiny, figures={"eval.accuracy": 0.5, "eval.count": 3.0}, errors={"eval.accuracy": 0.03})
    b = side(tiny, figures={"eval.accuracy": 0.6, "eval.count": 4.0}, errors={"eval.accuracy": 0.04})
    accuracy, count = diff([a, b])
    assert accuracy.deviations == pytest.approx(0.1 / 0.05)
    assert count.deviations is None


def test_a_component_of_another_revision_is_a_difference_of_plugins(tiny: Path) -> None:
    a = side(tiny, 'stages.base.data.web={use="everything"}')
    recipe = a.recipe
    stage = recipe.stages["base"]
    raised = {path: (kind, use, n + (use == "everything"), d) for path, (kind, use, n, d) in stage.components.items()}
    newer = attrs.evolve(recipe, stages={**recipe.stages, "base": attrs.evolve(stage, components=raised)})
    b = Side(label="b", recipe=newer, versions={"acme-tiny": "2.0"})
    a = attrs.evolve(a, versions={"acme-tiny": "1.2"})
    assert groups(diff([a, b])) == {"plugins": {"source everything: revision": (3, 4), "acme-tiny": ("1.2", "2.0")}}


def test_figures_are_compared_where_both_sides_have_them(tiny: Path) -> None:
    a, b = side(tiny, figures={"base.bpb.bpb": 1.5}), side(tiny, figures={"base.bpb.bpb": 1.2})
    (metric,) = diff([a, b])
    assert (metric.group, metric.key, metric.ratio) == ("metrics", "base.bpb.bpb", pytest.approx(0.8))
    assert diff([a, side(tiny)]) == []


def test_a_run_keeps_apart_what_was_derived_though_its_lock_writes_every_value(tiny: Path, tmp_path: Path) -> None:
    locks = []
    for name, depth in (("a", 2), ("b", 4)):
        text = lock_text(load(tiny, f"stages.base.model.depth={depth}", machine=EIGHT_GPUS))
        derived = frozenset(tomllib.loads(text)["lock"]["derived"])
        locks.append(side(write(tmp_path, text, f"{name}.toml"), derived=derived))
    found = groups(diff(locks))
    assert set(found["identity"]) == {"stages.base.model.depth"}
    assert "stages.base.model.dim" in found["derived"]


def test_a_run_is_compared_with_the_data_and_revisions_that_its_lock_says(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("abc")
    table = "[stages.base.data.web]\nuse = "
    path = write(tmp_path, TINY.replace(f'{table}"words"', f'{table}"text"\npath = "data.txt"'))
    text = lock_text(load(path)).replace('"stages.base.data.web" = 1', '"stages.base.data.web" = 7')
    lock = write(tmp_path, text, "recipe.lock.toml")

    def of_run() -> Side:
        return Side(label="run", recipe=load_recipe(lock, registry=tiny_registry(), machine=CPU, record=True))

    data.write_text("abcd")
    found = groups(diff([of_run(), side(path)]))
    assert found["data"] == {"stages.base.data.web: size": (3, 4)}
    assert found["plugins"]["source text: revision"] == (7, 1)
    data.unlink()
    assert diff([of_run(), of_run()]) == []


def test_a_run_is_read_though_the_artifacts_that_it_took_are_gone(tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "meta.json").write_text("{}")
    lock = lock_text(load(write(tmp_path, TINY.replace('"stage:base"', '"path:ckpt"'))))
    path = write(tmp_path, lock.replace('"stage:tok"', f'"store:{"ab" * 32}"'), "recipe.lock.toml")
    (tmp_path / "ckpt" / "meta.json").unlink()
    recipe = load_recipe(path, registry=tiny_registry(), machine=CPU, record=True)
    assert recipe.values["stages", "base", "tokenizer"].value == f"store:{'ab' * 32}"


def test_everything_also_lists_what_is_the_same(tiny: Path) -> None:
    found = diff([side(tiny), side(tiny)], everything=True)
    assert all(difference.same for difference in found)
    assert {"stages.base.steps", "seed"} <= {difference.key for difference in found}


# The command line


def cells(shown: str, key: str) -> list[str]:
    """The values in a printed table's row."""
    (row,) = [line for line in shown.splitlines() if f" {key} " in line]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_diff_exits_0_for_the_same_and_1_for_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path, RECIPE, "a.toml")
    b = write(tmp_path, RECIPE.replace("400", "500"), "b.toml")
    assert run("diff", str(a), str(a)) == 0
    assert "no difference" in capsys.readouterr().out
    assert run("diff", str(a), str(b), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["sides"] == [str(a), str(b)]
    (found,) = answer["differences"]
    assert (found["group"], found["key"], found["ratio"]) == ("identity", "stages.tok.vocab_size", 1.25)
    assert (found["values"], found["origins"]) == ([400, 500], [f"{a}:7:14", f"{b}:7:14"])
    assert run("diff", str(a), str(b), "--md") == 1
    assert cells(capsys.readouterr().out, "stages.tok.vocab_size") == ["400", "500", "1.25"]
    assert run("diff", str(a), str(b), str(a)) == 1
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "vocab_size" in line]
    assert row.split() == ["stages.tok.vocab_size", "400", "500", "400"]
    assert run("diff", str(a)) == 2
    assert run("diff", str(a), str(b)) == 1
    assert "400 → 500  ×1.25" in capsys.readouterr().out


def test_a_lock_by_any_name_says_what_was_derived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write(tmp_path, RECIPE.replace('device = "cpu"\n', ""), "a.toml")
    lock = write(tmp_path, lock_text(load_recipe(recipe, machine=EIGHT_GPUS)), "kept.toml")
    assert run("diff", str(lock), str(recipe), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert {found["key"]: found["group"] for found in answer["differences"]}["hardware.device"] == "derived"


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (0.1 + 0.2, 0.6, "0.3 → 0.6  ×2"),
        (0.1 + 0.2, 0.3, "0.30000000000000004 → 0.3"),  # told apart by all of their digits
        (0.1, 1 / 3, "0.1 → 0.333333  ×3.33"),
    ],
)
def test_a_float_is_shown_in_as_few_digits_as_tell_the_sides_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one: float, other: float, expected: str
) -> None:
    recipe = f'extends = "{RECIPES / "quickstart.toml"}"\nstages.base.grad_clip = '
    paths = [str(write(tmp_path, f"{recipe}{value!r}\n", f"{name}.toml")) for name, value in (("a", one), ("b", other))]
    run("diff", *paths)
    assert f"stages.base.grad_clip  {expected}\n" in capsys.readouterr().out


def test_diff_compares_the_figures_of_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    lock = lock_text(load_recipe(write(tmp_path, RECIPE)))
    for name, value in (("one", 2.0), ("two", 1.0)):
        folder, store = tmp_path / "runs" / f"words-{name}", tmp_path / "store" / f"tok-{name}"
        folder.mkdir(parents=True)
        store.mkdir(parents=True)
        (folder / "recipe.lock.toml").write_text(lock)
        plan = {"recipe": "words", "stages": [{"stage": "tok", "key": name, "folder": str(store)}]}
        (folder / "plan.json").write_text(json.dumps(plan))
        (store / "record.json").write_text(
            json.dumps(
                {
                    "key": name,
                    "figures": {
                        "ratio": {"value": value, "n": 9, "standard_error": 0.1},
                        "parameters": {"value": 1_234_567.0 * value},
                    },
                }
            )
        )
    assert run("diff", "words-one", str(tmp_path / "runs" / "words-two")) == 1
    shown = capsys.readouterr().out
    assert "tok.ratio       2.0 → 1.0  ×0.5  (7.1 standard errors)" in shown
    assert "tok.parameters  2,469,134 → 1,234,567  ×0.5" in shown
    assert "identity" not in shown


def test_show_prints_the_resolved_recipe_and_where_each_value_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, RECIPE)
    assert run("show", "recipe.toml", "--set", "seed=7") == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert (shown["seed"], shown["stages"]["tok"]["max_chars"]) == (7, 2_000_000_000)
    assert run("show", "recipe.toml", "--origin", "--set", "seed=7") == 0
    text = capsys.readouterr().out
    lines = {line.split(" = ")[0]: line.rpartition("  # ")[2] for line in text.splitlines()}
    assert lines["seed"] == "--set 1:6"
    assert lines["stages.tok.vocab_size"] == "recipe.toml:7:14"
    assert lines["stages.tok.max_chars"] == "default"
    assert lines["stages.tok.hardware.dtype"].startswith("derived by hardware.dtype (")
    assert lines["stages.tok.hardware.dtype"].count('; device = "cpu", ') == 1  # what the rule was given
    assert tomllib.loads(text)["stages"]["tok"]["vocab_size"] == 400
    assert run("show", "recipe.toml", "--json", "--stage", "tok") == 0
    described = json.loads(capsys.readouterr().out)["stages.tok.vocab_size"]
    assert described == {
        "value": 400,
        "origin": "recipe.toml:7:14",
        "kind": "file",
        "identity": True,
        "default": False,
    }


def test_show_of_a_stage_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", str(write(tmp_path, RECIPE)), "--stage", "base") == 2
    assert "error[E405]" in capsys.readouterr().err


def test_a_bad_recipe_ends_with_its_diagnostics_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, RECIPE.replace("vocab_size = 400", "vocab_sise = 400\nmax_chars = 0"))
    assert run("show", str(path)) == 2
    shown = capsys.readouterr().err
    assert shown.index("error[E102]") < shown.index("error[E104]")
    assert "Traceback" not in shown
    assert "\x1b" not in shown


def test_whoever_asks_for_json_finds_the_errors_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, RECIPE.replace("vocab_size", "vocab_sise"))
    assert run("plan", str(path), "--json") == 2
    printed = capsys.readouterr()
    (error,) = json.loads(printed.out)["errors"]
    assert (error["code"], error["label"]) == ("E102", "did you mean `vocab_size`?")
    assert (error["location"]["line"], error["location"]["column"]) == (7, 1)
    assert "error[E102]" in printed.err


def test_data_that_differs_is_told_file_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text(f"the text of {name}")
    recipe = write(tmp_path, RECIPE.replace('use = "pydocs"', 'use = "files"\npath = "texts"'), "a.toml")
    lock = write(tmp_path, lock_text(load_recipe(recipe)), "kept.toml")
    (tmp_path / "texts" / "b.txt").write_text("another text")
    assert run("plan", str(lock)) == 2
    told = capsys.readouterr().err
    assert "what the lock was made with: files b.txt 17 bytes 1708efda → 12 bytes " in told
    assert "a.txt" not in told


def test_plugins_lists_names_versions_and_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plugins", "--json") == 0
    found = {plugin["distribution"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    gpt = {"kind": "model", "name": "gpt", "build": "nanochat.model.gpt:build", "revision": 1}
    assert gpt | {"claimed_by": ["nanochat-run"]} in found["nanochat-run"]["components"]
    assert run("plugins") == 0
    assert "derivation" in capsys.readouterr().out


def test_explain_says_what_a_code_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "e102") == 0
    assert capsys.readouterr().out.startswith("E102: unknown key\n")
    assert run("explain", "E999") == 2


@pytest.mark.parametrize("arguments", [["plam"], ["show"], ["show", "--no-such-option"], ["diff", "only-one"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_command_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    run("shwo")
    assert "did you mean `show`?" in capsys.readouterr().err


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys\nfrom nanochat.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('torch', 'attrs', 'pluggy', 'rich')]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["show", "diff", "plugins", "explain", "schema"])
def test_a_command_imports_no_torch(command: str, tmp_path: Path) -> None:
    path = str(write(tmp_path, RECIPE))
    arguments = {"show": [path], "diff": [path, path], "plugins": [], "explain": ["gpt"], "schema": []}[command]
    program = (
        "import sys\nfrom nanochat.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as done: assert done.code == 0, done.code\n"
        "assert 'torch' not in sys.modules"
    )
    line = [sys.executable, "-c", program, command, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m nanochat.cli.main show {write(tmp_path, RECIPE)} --origin | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_that_help_lists_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert f"Usage: nanochat {name}" in capsys.readouterr().out


def test_an_interrupt_and_a_stop_in_order_have_codes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    def stopped(*arguments: Any, **more: Any) -> None:
        raise Stopped

    monkeypatch.setattr("nanochat.cli.main.nanochat.main", interrupted)
    assert run("plan") == 130
    monkeypatch.setattr("nanochat.cli.main.nanochat.main", stopped)
    assert run("plan") == 75
