"""What `nanochat sweep` and `nanochat sweeps` print and do, through the command line, in this process.

The recipe is that of test_running.py. Its trials are not trained: `worked` writes down what a run would have left.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_running import MACHINE, RECIPE, House, enter

from nanochat.cli.main import _finish
from nanochat.errors import StageError, stage_failure
from nanochat.home import runs_dir
from nanochat.quantity import duration
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.reporting.sweep_report import sweep_document
from nanochat.running.plan import make_plan
from nanochat.running.progress import Display
from nanochat.running.reports import Reports
from nanochat.running.request import Request
from nanochat.running.run_folder import RunFolder
from nanochat.running.stop import StopRequests
from nanochat.running.store import Store
from nanochat.sweeping.results import rows
from nanochat.sweeping.sweep import find_sweep

Captured = pytest.CaptureFixture[str]
SECONDS = 20.0
"""That each stage took."""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A home whose runs take no time; `count.loss` is 100 × the steps of `two`, plus the seed."""
    house = enter(tmp_path, monkeypatch)
    monkeypatch.setattr("nanochat.sweeping.work.run_recipe", worked)
    monkeypatch.setattr("nanochat.cli.sweep_run.FileReports", lambda: None)
    surroundings = {"time": "2026-01-01T00:00:00+00:00", "argv": [], "source_trees": []}
    monkeypatch.setattr("nanochat.running.provenance.collect", lambda *_: (surroundings, {}))
    monkeypatch.setattr("nanochat.cli.sweep.probe_machine", lambda: MACHINE)
    monkeypatch.setattr("nanochat.estimating.device._probes", lambda: [1e9] * 4)
    return house


def worked(request: Request, display: Display, reports: Reports | None, requests: StopRequests) -> int:
    """Leave what a run leaves; one of 13 steps fails, and one of 99 has something to warn of."""
    registry = load_registry()
    recipe = load_recipe(request.recipe, registry=registry, machine=MACHINE)
    steps = recipe.stages["two"].config.steps
    if steps == 13:
        raise StageError(stage_failure("E403", "the loss is nan").diagnostics)
    plan = make_plan(recipe, MACHINE, Store(), registry)
    RunFolder(plan.run_folder).open(plan, MACHINE, registry)
    for stage in plan.stages:
        stage.folder.open({"stage": stage.name})
        figures = {"count.loss": {"value": 100.0 * steps + recipe.seed, "n": 1}} if stage.name == "grade" else {}
        record = {"stage": stage.name, "produces": stage.stage.produces, "figures": figures, "seconds": SECONDS}
        if stage.folder.record is None:
            stage.folder.write_record(record)
    display.say("two: the parameter groups\nname  shape\nwte   8 × 8")
    display.say("warning: it is late" if steps == 99 else "two: done in 1 s")
    return 0


def call(capsys: Captured, *words: str) -> tuple[int, str]:
    """A command's exit code, and all that it printed."""
    capsys.readouterr()
    try:
        code = _finish(list(words))
    except SystemExit as end:
        code = int(end.code or 0)
    return code, "".join(capsys.readouterr())


def swept(capsys: Captured, house: House, *grid: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    words = [word for axis in grid for word in ("--grid", axis)]
    return call(capsys, "sweep", str(house.recipe), *words, *options)


# Trials and their numbers


def test_a_trial_that_was_dropped_and_comes_back_changed_is_run(house: House, capsys: Captured) -> None:
    swept(capsys, house, "seed=1,2")
    before = {trial.run for trial in find_sweep("counting").trials()}
    house.write(RECIPE.replace("steps = 5", "steps = 6"))
    assert "trial 2 is there as the recipe was: nanochat sweeps drop counting 2" in swept(capsys, house, "seed=1,2")[1]
    call(capsys, "sweeps", "drop", "counting", "2")
    code, output = swept(capsys, house, "seed=1,2")
    (new,) = (trial for trial in find_sweep("counting").trials() if trial.run not in before)
    assert (code, new.number) == (0, 3)
    assert RunFolder(runs_dir() / new.run).plan, "it was run"
    assert "2 of 2 done" in output


def test_the_same_trial_asked_for_in_another_order_is_the_same_trial(house: House, capsys: Captured) -> None:
    swept(capsys, house, "stages.two.steps=5,6", "seed=1")
    swept(capsys, house, "seed=1,2", "stages.two.steps=5")
    assert [trial.name for trial in find_sweep("counting").trials()] == [
        "steps=5 seed=1",
        "steps=6 seed=1",
        "steps=5 seed=2",
    ]
    rows = json.loads(call(capsys, "sweeps", "show", "counting", "--json")[1])
    assert [(row["state"], row["figures"]) for row in rows] == [
        ("2 seeds", {"count.loss": 501.5}),
        ("1 seed", {"count.loss": 601.0}),
    ]


@pytest.mark.parametrize("torn", ['{"trials": [{"number"', "[]", '{"trials": [3]}'])
def test_an_order_that_cannot_be_read_is_an_error_and_nothing_is_lost(
    house: House, capsys: Captured, torn: str
) -> None:
    swept(capsys, house, "seed=1,2")
    order = find_sweep("counting").path / "order.json"
    order.write_text(torn)
    for words in (["sweeps", "show", "counting"], ["sweep", str(house.recipe), "--grid", "seed=1,2"]):
        code, output = call(capsys, *words)
        assert code == 2 and str(order) in output and "remove this file" in output
    assert order.read_text() == torn
    assert "cannot be read" in call(capsys, "sweeps")[1]
    assert "cannot be read" in json.loads(call(capsys, "sweeps", "--json")[1])[0]["error"]
    order.unlink()
    assert "2 of 2 done" in swept(capsys, house, "seed=1,2")[1]
    assert [trial.number for trial in find_sweep("counting").trials()] == [3, 4]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/b", "", "-x", "."])
def test_a_sweep_is_called_by_a_name_and_written_nowhere_else(house: House, capsys: Captured, name: str) -> None:
    code, output = swept(capsys, house, "seed=1", options=(f"--name={name}",))
    if not name:  # as if it were not given
        assert code == 0
        return
    assert code == 2 and "E407" in output
    assert not list(house.folder.glob("**/sweep.json"))
    refused = swept(capsys, house, "seed=1", options=(f"--name={name}", "--dry-run"))
    assert refused == (2, output), "before any plan is shown"


def test_a_name_that_another_sweep_has_is_refused_before_any_plan_is_shown(house: House, capsys: Captured) -> None:
    swept(capsys, house, "seed=1")
    for options in (("--until", "two"), ("--until", "two", "--dry-run")):
        code, output = swept(capsys, house, "seed=1", options=options)
        assert code == 2 and output.startswith("error[E407]: there is a sweep `counting` already, with another until")


# What the command line says twice, or in vain


def test_a_value_that_is_set_of_a_key_that_is_varied_is_refused(house: House, capsys: Captured) -> None:
    code, output = swept(capsys, house, "seed=1,2", options=("--set", "seed=3"))
    assert code == 2 and "E407" in output and "--set seed=3: `seed` is varied" in output and "--grid seed=3" in output
    drawn = ("--random", "stages.two.steps=4..6", "--set", 'stages."two".steps = 3')
    code, output = call(capsys, "sweep", str(house.recipe), *drawn)
    assert code == 2 and "is varied" in output
    house.write(RECIPE + "[sweep.grid]\nseed = [1, 2]\n")
    assert call(capsys, "sweep", str(house.recipe), "--set", "seed=3", "--dry-run")[0] == 2
    assert call(capsys, "sweep", str(house.recipe), "--set", "stages.two.steps=3", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    "words", ["--grid name=a,b", "--grid seed=1,2 --grid trackers.x.use=a", "--random parent=1..2"]
)
def test_keys_that_are_of_no_stage_are_refused(house: House, capsys: Captured, words: str) -> None:
    code, output = call(capsys, "sweep", str(house.recipe), *words.split())
    assert code == 2 and "E407" in output and "is of no stage" in output
    assert not (house.folder / "home" / "sweeps").exists()


@pytest.mark.parametrize(
    ("typed", "visible"),
    [
        ("0", "0"),
        ("0,2", "0,2"),
        ("0-2,5", "0,1,2,5"),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1a", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1a"),
        ("MIG-GPU-8932f937/1/0", "MIG-GPU-8932f937/1/0"),
        *(
            (typed, None)
            for typed in ("foo", "", "0,", "-1", "2-1", "0,0", "1,0-2", "0;1", "GPU-", "cuda:0", "²", "0-9999")
        ),
    ],
)
def test_the_devices_of_a_worker_are_numbers_ranges_or_uuids(
    house: House, capsys: Captured, monkeypatch: pytest.MonkeyPatch, typed: str, visible: str | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    code, output = swept(capsys, house, "seed=1", options=(f"--devices={typed}", "--dry-run"))
    if visible is not None:
        assert (code, os.environ["CUDA_VISIBLE_DEVICES"]) == (0, visible)
    else:
        assert code == 2 and "E407" in output and f"--devices {typed}" in output
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


# Runs that were removed


def test_a_run_that_was_removed_is_left_out_of_the_mean_which_says_so(house: House, capsys: Captured) -> None:
    swept(capsys, house, "stages.two.steps=5,6", "seed=1,2")
    trial = find_sweep("counting").trial(1)
    listed = call(capsys, "runs", "rm", trial.run, "--dry-run")[1]
    assert "trial 1 of the sweep counting, steps=5 seed=1" in listed and "nanochat sweeps retry counting 1" in listed
    told = json.loads(call(capsys, "runs", "rm", trial.run, "--dry-run", "--json")[1])
    assert list(told["trials"].values()) == [[{"sweep": "counting", "trial": 1}]]
    code, output = call(capsys, "runs", "rm", trial.run)
    assert code == 2 and "say --yes" in output and trial.is_removed is False
    call(capsys, "runs", "rm", trial.run, "--yes")
    rows = json.loads(call(capsys, "sweeps", "show", "counting", "--json")[1])
    assert [(row["state"], row["figures"]) for row in rows] == [
        ("1 of 2 seeds; 1 run was removed", {"count.loss": 502.0}),
        ("2 seeds", {"count.loss": 601.5}),
    ]
    assert "done; its run was removed" in call(capsys, "sweeps", "show", "counting", "--trials")[1]
    assert "4 done; 1 run was removed" in call(capsys, "sweeps")[1]


def test_a_trial_whose_run_was_removed_is_run_again_where_it_is_named(house: House, capsys: Captured) -> None:
    swept(capsys, house, "seed=1,2")
    call(capsys, "runs", "rm", find_sweep("counting").trial(1).run, "--yes")
    assert "`nanochat sweeps retry counting 1` lets it run again" in swept(capsys, house, "seed=1,2")[1]
    assert call(capsys, "sweeps", "retry", "counting")[1].startswith("0 of 2 wait again")
    assert call(capsys, "sweeps", "retry", "counting", "1", "2")[1].startswith("1 of 2 wait again")
    assert call(capsys, "sweeps", "go", "counting")[0] == 0
    rows = json.loads(call(capsys, "sweeps", "show", "counting", "--json")[1])
    assert [(row["state"], row["figures"]) for row in rows] == [("2 seeds", {"count.loss": 501.5})]


def test_of_a_mean_all_of_whose_runs_were_removed_there_is_a_row_without_figures(
    house: House, capsys: Captured
) -> None:
    swept(capsys, house, "seed=1,2")
    shutil.rmtree(runs_dir())
    (row,) = json.loads(call(capsys, "sweeps", "show", "counting", "--json")[1])
    assert (row["state"], row["figures"]) == ("0 of 2 seeds; 2 runs were removed", {})


# What it took


def test_a_sweeps_time_is_that_of_its_stages_also_where_another_sweep_made_them(house: House, capsys: Captured) -> None:
    """`one` and `two` and `grade` of two sizes: five stages, `one` in common."""
    for options in ((), (), ("--name", "again")):
        swept(capsys, house, "stages.two.steps=5,6", options=options)
    for name in ("counting", "again"):
        for trial in find_sweep(name).trials():
            trial.retry()
        call(capsys, "sweeps", "go", name)  # its results are there: it takes no time
        sweep = find_sweep(name)
        assert [row["seconds"] for row in json.loads(call(capsys, "sweeps", "show", name, "--json")[1])] == [
            3 * SECONDS,
            3 * SECONDS,
        ]
        assert dict(sweep_document(sweep).headlines)["time of all trials"] == duration(5 * SECONDS)
        shutil.rmtree(runs_dir() / sweep.trials()[0].run)
        assert [row.seconds for row in rows(sweep)] == [3 * SECONDS, 3 * SECONDS]
        call(capsys, "sweeps", "retry", name, "1")
        call(capsys, "sweeps", "go", name)


def test_a_failed_trials_time_is_that_of_all_its_attempts(house: House, capsys: Captured) -> None:
    swept(capsys, house, "stages.two.steps=5")
    trial = find_sweep("counting").trials()[0]
    run = RunFolder(runs_dir() / trial.run)
    (two,) = (stage for stage in run.stages if stage.name == "two")
    for name in ("two", "grade"):
        (found,) = (stage.folder for stage in run.stages if stage.name == name)
        (found.path / "record.json").unlink()
    for seconds in (3.0, 4.0):
        run.event("stage_failed", stage="two", key=two.folder.key, seconds=seconds)
    trial.end("failed", seconds=4.0)
    assert [row.seconds for row in rows(find_sweep("counting"))] == [SECONDS + 7]


# What is shown


def test_short_names_are_taken_where_they_are_shown(house: House, capsys: Captured) -> None:
    swept(capsys, house, "stages.two.steps=6,5", "seed=1,2")
    shown = call(capsys, "sweeps", "show", "counting", "--against", "steps=5", "--sort", "loss")[1]
    first, second = shown.splitlines()[1:3]
    assert first.split()[0] == "5" and second.split()[0] == "6"
    assert "+100" in second
    by_steps = json.loads(call(capsys, "sweeps", "show", "counting", "--sort", "-steps", "--json")[1])
    assert [row["settings"]["stages.two.steps"] for row in by_steps] == ["6", "5"]
    assert "did you mean" in call(capsys, "sweeps", "show", "counting", "--sort", "stages.two.step")[1]


def test_the_list_says_how_each_sweep_stands_also_to_programs(house: House, capsys: Captured) -> None:
    assert "no sweeps yet" in call(capsys, "sweeps")[1]
    assert json.loads(call(capsys, "sweeps", "--json")[1]) == []
    swept(capsys, house, "stages.two.steps=5,13")
    titles, row = call(capsys, "sweeps")[1].splitlines()
    assert titles.split() == ["sweep", "recipe", "trials"]
    assert row.split() == ["counting", str(house.recipe), "1", "done,", "1", "failed"]
    (told,) = json.loads(call(capsys, "sweeps", "--json")[1])
    assert (told["sweep"], told["recipe"], told["paused"]) == ("counting", str(house.recipe), False)
    assert told["trials"] == {"done": 1, "running": 0, "failed": 1, "waiting": 0}
    assert call(capsys, "sweeps", "--json", "show", "counting")[0] == 2


def test_the_plan_for_programs_has_each_variant_and_what_it_shares(house: House, capsys: Captured) -> None:
    code, output = swept(capsys, house, "stages.two.steps=5,6", options=("--dry-run", "--json", "--until", "two"))
    plan = json.loads(output)
    assert (code, plan["sweep"], plan["until"]) == (0, "counting", "two")
    assert [(variant["settings"], variant["to_do"]) for variant in plan["variants"]] == [
        (["stages.two.steps=5"], ["one", "two"]),
        (["stages.two.steps=6"], ["two"]),
    ]
    assert not (house.folder / "home" / "sweeps").exists()


def test_a_trials_lines_begin_with_its_name_and_are_no_tables(house: House, capsys: Captured) -> None:
    output = swept(capsys, house, "stages.two.steps=5,99")[1]
    assert "[1/2 steps=5]: two: done in 1 s" in output
    assert "the parameter groups" not in output and "wte" not in output


@pytest.mark.parametrize("command", [["sweep"], ["sweeps", "go"]])
def test_quiet_shows_warnings_and_failures_alone(house: House, capsys: Captured, command: list[str]) -> None:
    grid = ["--grid", "stages.two.steps=5,13,99"]
    if command == ["sweeps", "go"]:
        swept(capsys, house, "stages.two.steps=5,13,99")
        for trial in find_sweep("counting").trials():
            trial.retry()
        said = call(capsys, "sweeps", "go", "counting", "-q")
    else:
        said = call(capsys, "sweep", str(house.recipe), *grid, "-q")
    assert said == (
        1,
        "warning: [2/3 steps=13]: failed: the loss is nan\nwarning: [3/3 steps=99]: it is late\n",
    )


def test_work_is_json_lines_for_programs(house: House, capsys: Captured) -> None:
    _, output = swept(capsys, house, "seed=1,2", options=("--json",))
    plan, *lines = map(json.loads, output.splitlines())
    assert len(plan["variants"]) == 2
    assert lines[-1]["said"] == "2 of 2 done. The results: nanochat sweeps show counting"


def test_what_changes_a_sweep_says_what_is_now_so(house: House, capsys: Captured) -> None:
    swept(capsys, house, "seed=1,2,3", options=("--until", "two"))
    assert call(capsys, "sweeps", "move", "counting", "3", "1") == (0, "trial 3, seed=3, comes as 1 of 3\n")
    assert call(capsys, "sweeps", "move", "counting", "3", "99") == (0, "trial 3, seed=3, comes as 3 of 3\n")
    find_sweep("counting").trial(3).retry()
    said = "counting: 2 done, 1 waiting (paused); no further trial is begun until `nanochat sweeps go counting`\n"
    assert call(capsys, "sweeps", "pause", "counting") == (0, said)
    said = "trial 2, seed=2, is out of counting, which has 2 left; what it made stays\n"
    assert call(capsys, "sweeps", "drop", "counting", "2") == (0, said)
    code, output = call(capsys, "sweeps", "go", "counting")
    assert code == 0 and "2 of 2 done" in output
    for words in (["drop", "counting", "2"], ["move", "counting", "2", "1"], ["retry", "counting", "2"]):
        code, output = call(capsys, "sweeps", *words)
        assert code == 2 and "its trials are 1, 3" in output


def test_a_trial_that_is_done_does_not_wait_again_and_it_is_said_why_and_how_to_redo_it(
    house: House, capsys: Captured
) -> None:
    swept(capsys, house, "seed=1,2", options=("--until", "two"))
    trial = find_sweep("counting").trial(1)
    code, output = call(capsys, "sweeps", "retry", "counting", "1")
    again = f"nanochat run {trial.recipe} --fresh STAGE --until two"
    assert (code, output) == (
        0,
        f"0 of 1 wait again\ntrial 1, seed=1, is done, and its results stay; to make them again: {again}\n",
    )
    assert load_recipe(trial.recipe).stages.keys() == {"one", "two", "grade"}
    trial.retry()
    code, output = call(capsys, "sweeps", "retry", "counting", "1")
    assert code == 0 and "trial 1, seed=1, is waiting: it has not failed" in output


@pytest.mark.parametrize(("grid", "code"), [("stages.two.steps=5,6", 0), ("stages.two.steps=5,13", 1)])
def test_a_paused_sweep_of_which_no_trial_waits_has_ended(house: House, capsys: Captured, grid: str, code: int) -> None:
    swept(capsys, house, grid)
    call(capsys, "sweeps", "pause", "counting")
    ended, output = swept(capsys, house, grid)
    assert ended == code and "paused;" not in output
    find_sweep("counting").trials()[0].retry()
    stopped, output = swept(capsys, house, grid)
    assert stopped == 75 and "paused;" in output


def test_laws_of_trials_without_the_figure_name_those_there_are(house: House, capsys: Captured) -> None:
    swept(capsys, house, "seed=1")
    code, output = call(capsys, "sweeps", "laws", "counting")
    assert code == 2 and "no trial of `counting` that is done has bpb.bpb" in output and "figures: count.loss" in output
