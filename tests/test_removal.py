"""Removing: what `nanochat runs rm` and `gc` take away, what they keep and why, and what a crash leaves.

Homes are made by hand here: run folders with a plan and a lock, results with a key, inputs and a record.
"""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nanochat.cli.main import main
from nanochat.errors import InputError
from nanochat.running.find import list_runs, the_run
from nanochat.running.lease import lease
from nanochat.running.removal import find_garbage, plan_removal, remove
from nanochat.running.store import Store, folder_at


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NANOCHAT_RUN_DIR", "NANOCHAT_BASE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    (tmp_path / "store").mkdir()
    return tmp_path


def key_of(stage: str) -> str:
    """Sixty-four hex digits that begin as the stage's name says."""
    return stage.encode().hex().ljust(64, "0")


def result(stage: str, *inputs: str, finished: bool = True) -> Path:
    """A result with a key of its own, made from others."""
    folder = Store().folder(stage, key_of(stage))
    folder.open({"stage": stage, "inputs": {f"input{i}": key_of(name) for i, name in enumerate(inputs)}})
    (folder.path / "weights").write_bytes(b"\0" * 1000)
    if finished:
        folder.write_record({"stage": stage, "produces": "checkpoint"})
    return folder.path


def run(name: str, stages: Sequence[str], home: Path, lock: str = "") -> Path:
    """A run that plans these stages."""
    folder = home / "runs" / name
    folder.mkdir()
    planned = [
        {"stage": s, "key": key_of(s), "folder": str(Store().folder(s, key_of(s)).path), "produces": "checkpoint"}
        for s in stages
    ]
    (folder / "plan.json").write_text(json.dumps({"recipe": name.partition("-")[0], "stages": planned}))
    (folder / "recipe.lock.toml").write_text(lock)
    return folder


def folder_of(stage: str) -> Path:
    return Store().folder(stage, key_of(stage)).path


def names(paths: Any) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in paths)


def stored() -> list[str]:
    return names(folder.path for folder in Store())


# rm


def test_a_run_goes_with_its_results_but_not_with_those_that_another_run_plans(home: Path) -> None:
    for stage, inputs in (("tok", []), ("base", ["tok"]), ("sft", ["base"])):
        result(stage, *inputs)
    one, two = run("demo-1", ["tok", "base", "sft"], home), run("demo-2", ["tok", "base"], home)
    removal = plan_removal([the_run("demo-1")])
    assert names(r.path for r in removal.results) == ["sft"]
    assert {path.name.partition("-")[0]: who for path, who in removal.kept.items()} == {
        "tok": ["run demo-2", f"result {Store().folder('base', key_of('base')).path.name}"],
        "base": ["run demo-2"],
    }
    assert remove(removal) > 1000
    assert (stored(), one.exists(), two.exists()) == (["base", "tok"], False, True)


def test_what_a_kept_result_was_made_from_is_kept_though_no_run_plans_it(home: Path) -> None:
    for stage, inputs in (("tok", []), ("base", ["tok"]), ("sft", ["base"])):
        result(stage, *inputs)
    run("demo-1", ["tok", "base"], home)
    removal = plan_removal([the_run("demo-1")])  # sft is nobody's plan, and stays: only gc removes it
    assert removal.results == ()
    assert [who[0].partition("-")[0] for who in removal.kept.values()] in (
        ["result base", "result sft"],
        ["result sft", "result base"],
    )


@pytest.mark.parametrize(
    "lock",
    [
        'init = "store:{key}"',
        'init = "path:{folder}"',
        'init = "path:{folder}/checkpoints/step_000001"',
        '[stages.x.data.mine]\npath = ["{folder}/samples.jsonl"]',
    ],
)
def test_a_result_that_another_runs_lock_refers_to_is_kept(home: Path, lock: str) -> None:
    folder = result("base")
    run("demo-1", ["base"], home)
    run("demo-2", [], home, lock.format(key=key_of("base"), folder=folder))
    assert plan_removal([the_run("demo-1")]).kept == {folder: ["run demo-2"]}


def test_of_many_runs_that_need_a_result_a_few_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result("base")
    for number in range(8):
        run(f"demo-{number}", ["base"], home)
    with pytest.raises(SystemExit):
        main(["runs", "rm", "demo-0", "--dry-run"])
    (kept,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("keep")]
    assert kept.endswith(": needed by run demo-7, run demo-6, run demo-5 and 4 more")


def test_of_two_runs_that_share_results_both_can_be_removed_at_once(home: Path) -> None:
    result("base")
    run("demo-1", ["base"], home)
    run("demo-2", ["base"], home)
    remove(plan_removal([the_run("demo-1"), the_run("demo-2")]))
    assert (stored(), list_runs()) == ([], [])


def test_a_run_that_came_after_the_question_keeps_what_it_plans(home: Path) -> None:
    result("base")
    run("demo-1", ["base"], home)
    removal = plan_removal([the_run("demo-1")])
    run("demo-2", ["base"], home)
    remove(removal)
    assert stored() == ["base"]


def test_a_result_that_is_worked_on_is_named_and_nothing_is_removed(home: Path) -> None:
    result("tok")
    base = result("base", finished=False)
    run("demo-1", ["tok", "base"], home)
    with lease(base, what="stage `base`"), pytest.raises(InputError, match=rf"E402.*{base.name} is being run by"):
        remove(plan_removal([the_run("demo-1")]))
    assert (stored(), len(list_runs())) == (["base", "tok"], 1)


def test_a_recipes_name_removes_nothing_where_it_has_several_runs(home: Path) -> None:
    run("demo-1", [], home)
    run("demo-2", [], home)
    with pytest.raises(InputError, match=r"E405.*2 runs are called `demo`(?s:.)*demo-1"):
        the_run("demo")


DYING = """
import os, shutil, signal, sys
from pathlib import Path
from nanochat.running.find import the_run
from nanochat.running.removal import plan_removal, remove
def die(*arguments): os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv[1]
if where == "rename": Path.rename = die
if where == "rmtree": shutil.rmtree = die
remove(plan_removal([the_run("demo-1")]))
"""


@pytest.mark.parametrize("where", ["rename", "rmtree"])
def test_killed_in_the_middle_nothing_that_is_left_looks_finished_and_the_same_command_goes_on(
    home: Path, where: str
) -> None:
    base = result("base")
    run("demo-1", ["base"], home)
    done = subprocess.run([sys.executable, "-c", DYING, where], check=False)
    assert done.returncode == -signal.SIGKILL
    folder = folder_at(base)
    assert folder is None or folder.record is None
    remove(plan_removal([the_run("demo-1")]))
    for garbage in find_garbage():
        garbage.remove()
    assert [path.name for path in home.glob("*/*")] == [".old"] * len(list(home.glob("*/.old")))
    assert not list(home.glob("*/.old/*"))


@pytest.mark.parametrize("answer, left", [("n", ["base"]), ("y", [])])
def test_rm_asks_on_a_terminal(home: Path, answer: str, left: list[str]) -> None:
    result("base")
    run("demo-1", ["base"], home)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from nanochat.cli.main import main; main()", "runs", "rm", "demo-1"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    said = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while part := os.read(ours, 1000):
            said += part
    os.close(ours)
    assert process.wait() == 0
    assert (b"Remove? [y/N]" in said, stored()) == (True, left)


def test_rm_dry_run_says_what_would_go_and_touches_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result("base")
    run("demo-1", ["base"], home)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "rm", "demo-1", "--dry-run"])
    output = capsys.readouterr().out
    assert (ended.value.code, stored()) == (0, ["base"])
    assert f"remove {folder_of('base').name}" in output
    assert "would be freed" in output
    with pytest.raises(SystemExit) as ended:
        main(["runs", "rm", "demo-1", "--dry-run", "--json"])
    described = json.loads(capsys.readouterr().out)
    assert [Path(gone["path"]).name for gone in described["remove"]] == [folder_of("base").name, "demo-1"]
    assert described["keep"] == {}
    assert (home / "runs" / "demo-1").is_dir()


def test_rm_needs_yes_where_nobody_can_be_asked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result("base")
    run("demo-1", ["base"], home)
    for options, code in ((["demo-1"], 2), (["demo-1", "--yes"], 0)):
        with pytest.raises(SystemExit) as ended:
            main(["runs", "rm", *options])
        assert ended.value.code == code
        output = capsys.readouterr()
        assert ("error[E407]: nothing is removed unasked" in output.err) == (code == 2)
        assert f"remove {Store().folder('base', key_of('base')).path.name}, 1." in output.out
        assert (stored() == ["base"]) == (code == 2)
    assert "removed; 1." in output.out
    assert "kB freed" in output.out


# gc


def reasons() -> dict[str, str]:
    return {garbage.path.name.partition("-")[0]: garbage.reason for garbage in find_garbage()}


def test_gc_takes_results_that_no_run_refers_to_and_what_only_they_were_made_from(home: Path) -> None:
    result("tok")
    result("base", "tok")
    result("other", "tok")
    result("alone")
    run("demo-1", ["base"], home)
    assert reasons() == {"other": "no run refers to it", "alone": "no run refers to it"}
    for garbage in find_garbage():
        assert garbage.remove() > 1000
    assert stored() == ["base", "tok"]


def test_gc_takes_what_interrupted_work_left_behind_but_nothing_that_is_worked_on(home: Path) -> None:
    base = result("base")
    run("demo-1", ["base"], home)
    for name in ("step_000002", "broken_step_000003", ".writing_000004", ".pruned_step_000001"):
        (base / "checkpoints" / name).mkdir(parents=True)
    (home / "store" / "empty-0123abcd").mkdir()
    (home / "store" / "my-notes").mkdir()
    (home / "runs" / "my-notes").mkdir()
    with lease(home / "runs" / "torn", what="the run"):
        pass
    found = {garbage.path.name: garbage.reason for garbage in find_garbage()}
    assert found == {
        "broken_step_000003": "a damaged checkpoint that was set aside",
        ".writing_000004": "a checkpoint that was cut off",
        ".pruned_step_000001": "an old checkpoint whose removal was cut off",
        "empty-0123abcd": "it holds no result",
        "torn": "a run without a plan",
    }
    with lease(base, what="stage `base`"), lease(home / "runs" / "torn", what="the run"):
        assert reasons() == {"empty": "it holds no result"}
    for garbage in find_garbage():
        garbage.remove()
    assert find_garbage() == []
    assert [path.name for path in (base / "checkpoints").iterdir()] == ["step_000002"]


def test_gc_keeps_what_was_set_aside_until_the_new_result_is_there(home: Path) -> None:
    base = result("base")
    run("demo-1", ["base"], home)
    store = Store()
    store.set_aside(store.folder("base", key_of("base")))
    assert reasons() == {}
    store.folder("base", key_of("base")).open({})
    store.folder("base", key_of("base")).write_record({})
    assert reasons() == {"base": "set aside, and not needed any more"}
    assert base.exists()


def test_gc_shows_before_it_asks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result("alone")
    for options, code in ((["--dry-run"], 0), (["--dry-run", "--json"], 0), ([], 2), (["--json"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["runs", "gc", *options])
        assert (ended.value.code, folder.exists()) == (code, True)
        output = capsys.readouterr().out
        if options == ["--dry-run", "--json"]:
            (row,) = json.loads(output)
            assert (row["path"], row["reason"], row["bytes"] > 1000) == (str(folder), "no run refers to it", True)
    with pytest.raises(SystemExit):
        main(["runs", "gc", "--yes"])
    assert not folder.exists()


def test_gc_passes_over_what_is_used_or_needed_by_now_and_removes_the_rest(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("busy", "wanted", "alone"):
        result(stage)
    found = find_garbage()
    monkeypatch.setattr("nanochat.cli.runs_remove.find_garbage", lambda: found)
    run("demo-1", ["wanted"], home)  # it came after the list was made
    with lease(folder_of("busy"), what="stage `busy`"), pytest.raises(SystemExit) as ended:
        main(["runs", "gc", "--yes"])
    output = capsys.readouterr().out
    assert (ended.value.code, stored()) == (0, ["busy", "wanted"])
    assert f"kept {folder_of('busy').name}: the stage of {folder_of('busy').name} is being run by" in output
    assert f"kept {folder_of('wanted').name}: it is needed now" in output
    assert "removed; 1." in output
