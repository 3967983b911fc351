"""Runs over time: listing them, showing one, moving the home.

The stages are those of tests/loose/counting.py, run by real processes.
"""

import json
import re
import signal
import sys
from pathlib import Path

import click
import pytest
from test_running import RECIPE, House, enter, wait_for_step

from nanochat.cli.sheet import print_pairs, print_table
from nanochat.running import provenance
from nanochat.running.figures import finished_stages
from nanochat.running.find import find_checkpoint, find_run
from nanochat.running.run_folder import RunFolder
from nanochat.running.summary import begun, so_far, spent

# Listing and showing


def test_time_is_that_of_attempts_that_ended_and_of_the_one_at_work_so_far(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nanochat.running.provenance.age", lambda time: {"T2": 40.0}[time])
    run, held = RunFolder(tmp_path), [True]
    monkeypatch.setattr("nanochat.running.summary.is_held", lambda _: held[0])
    events = [
        {"event": "run_started", "time": "T0"},
        {"event": "stage_started", "stage": "base", "time": "T1"},
        {"event": "stage_stopped", "stage": "base", "seconds": 7.5},
        {"event": "stage_started", "stage": "sft", "time": "T2"},
    ]
    assert spent(events) == 7.5
    assert so_far(begun(run, events)) == so_far(begun(run, events), "sft") == 40.0
    assert so_far(begun(run, events), "base") == 0.0
    assert begun(run, events[:3]) is None
    assert begun(run, [*events, {"event": "run_started", "time": "T3"}]) is None, "killed, and only just taken up again"
    held[0] = False
    assert begun(run, events) is None, "it was killed, and nobody knows when"


def test_an_age_is_counted_in_seconds_from_a_time_as_it_is_written() -> None:
    assert 0 <= provenance.age(provenance.now()) < 2
    assert provenance.age("2020-01-01T00:00:00+00:00") > 1e8


def test_on_a_narrow_terminal_a_row_is_a_paragraph_whose_names_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = [["a-name-to-be-copied", "9 s"]]
    for columns in ("80", "24"):
        monkeypatch.setenv("COLUMNS", columns)
        print_table(["run", "time"], rows)
    assert [line.rstrip() for line in click.unstyle(capsys.readouterr().out).splitlines()] == [
        "run                  time",
        "a-name-to-be-copied  9 s",
        "a-name-to-be-copied:",
        "  time 9 s",
    ]


def test_a_path_that_does_not_fit_beside_what_comes_before_it_has_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["stage", "folder"], [["base", "/home/somebody/store/base-d9fde679"]])
    print_pairs([("name", "here"), ("folder", "/home/somebody/store/base-d9fde679")])
    assert [line.rstrip() for line in click.unstyle(capsys.readouterr().out).splitlines()] == [
        "base: folder",
        "  /home/somebody/store/base-d9fde679",
        "name    here",
        "folder",
        "    /home/somebody/store/base-d9fde679",
    ]


def test_on_a_narrow_terminal_sentences_are_wrapped_in_their_column_and_figures_stay_beside_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["stage", "why"], [["base", "`total_batch_size` of its own is another\n  now 4,096"]])
    print_table(["stage", "weights", "peak memory"], [["base", "13.7 MB", "430 MB at the loss"]], words=1)
    assert [line.rstrip() for line in click.unstyle(capsys.readouterr().out).splitlines()] == [
        "stage  why",
        "base   `total_batch_size` of its own is",
        "       another",
        "         now 4,096",
        "stage  weights         peak memory",
        "base   13.7 MB  430 MB at the loss",
    ]
    monkeypatch.setenv("COLUMNS", "32")
    print_table(["stage", "weights", "peak memory"], [["base", "13.7 MB", "430 MB at loss"]], words=1)
    print_table(["stage", "weights", "a"], [["base", "13.7 MB", "430 MB at the loss"]], words=1)
    assert [line.rstrip() for line in click.unstyle(capsys.readouterr().out).splitlines()] == [
        "stage  weights     peak memory",
        "base   13.7 MB  430 MB at loss",
        "base: weights 13.7 MB ·",
        "  a 430 MB at the loss",
    ]


def test_a_pipe_has_a_row_a_line_however_narrow_the_terminal_and_no_markdown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["run", "figures"], [["a-name", "accuracy 50.0%, bpb 1.2"]])
    print_pairs([("stages.base.steps", "150 → 300"), ("seed", "1 → 2")])
    assert capsys.readouterr().out.splitlines() == [
        "run     figures",
        "a-name  accuracy 50.0%, bpb 1.2",
        "stages.base.steps  150 → 300",
        "seed               1 → 2",
    ]


def test_the_list_is_a_markdown_table_where_one_is_asked_for(made: House) -> None:
    titles, line, row = made.call("runs", "--md")[1].splitlines()
    assert [title.strip() for title in titles.strip("|").split("|")][:3] == ["run", "last started (UTC)", "state"]
    assert set(line) == {"|", "-", " "}
    assert row.startswith("| counting-")


def test_the_list_has_state_stages_time_and_figures_and_can_be_narrowed(made: House) -> None:
    code, output = made.call("runs")
    assert code == 0
    titles, row = (re.split(r"  +", line) for line in output.splitlines())
    assert titles == ["run", "last started (UTC)", "state", "stages", "time", "figures"]
    assert row[0] == find_run("counting").path.name
    assert row[2:4] == ["finished", "3 of 3"]
    assert row[5] == "counting.accuracy 100.0%"
    for narrowed, expected in (
        (["--recipe", "counting", "--state", "finished"], 1),
        (["--state", "failed"], 0),
        (["--recipe", "other"], 0),
    ):
        assert len(json.loads(made.call("runs", *narrowed, "--json")[1])) == expected


def test_a_run_is_shown_with_its_stages_and_where_it_came_from(made: House) -> None:
    code, output = made.call("runs", "show", "counting", "--json")
    assert code == 0, output
    run = json.loads(output)
    assert [(stage["stage"], stage["state"], stage["tag"]) for stage in run["stages"]] == [
        ("one", "finished", "counted"),
        ("two", "finished", "counted"),
        ("grade", "finished", ""),
    ]
    two = run["stages"][1]
    assert (two["device"], two["world_size"], two["figures"]["count.count"]["value"]) == ("cpu", 1, 9.0)
    assert two["bytes"] == sum(file.stat().st_size for file in made.stage("two").rglob("*") if file.is_file())
    known = run["provenance"]
    assert known["argv"][1:2] == ["run"]
    assert {"nanochat", "counting"} <= set(known["plugins"])
    assert {"source_trees", "user", "host", "machine"} <= set(known)
    code, output = made.call("runs", "show")
    assert code == 0, output
    assert "grade:  counting.accuracy 100.0%" in output
    assert "commit " in output


def test_the_list_and_one_run_name_the_stages_alike(made: House) -> None:
    (listed,) = json.loads(made.call("runs", "--json")[1])
    shown = json.loads(made.call("runs", "show", "--json")[1])
    assert [stage["state"] for stage in listed["stages"]] == ["finished"] * 3
    for brief, full in zip(listed["stages"], shown["stages"], strict=True):
        assert brief.items() <= full.items()


@pytest.mark.parametrize("options", [["--json"], ["--recipe", "counting"], ["--state", "failed"]])
def test_what_narrows_the_list_is_refused_before_a_command(made: House, options: list[str]) -> None:
    code, output = made.call("runs", *options, "show")
    assert (code, "others come after the command" in output) == (2, True), output


def test_a_stage_that_failed_and_one_that_was_not_begun_are_told_apart(made: House) -> None:
    code, _ = made.run("--set", "stages.two.steps=6", "--set", "stages.two.trouble=bug")
    assert code == 1
    run = json.loads(made.call("runs", "show", "--json")[1])
    assert run["state"] == "failed"
    assert [stage["state"] for stage in run["stages"]] == ["finished", "failed", "not begun"]


def test_a_run_that_goes_on_is_shown_so_and_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = enter(tmp_path, monkeypatch)
    house.write(RECIPE.replace("steps = 4", "steps = 400\npause = 0.1"))
    process = house.start("run", str(house.recipe), "--until", "one")
    wait_for_step(house, "one", process)
    try:
        (run,) = json.loads(house.call("runs", "--state", "running", "--json")[1])
        shown = json.loads(house.call("runs", "show", run["run"], "--json")[1])
        assert shown["stages"][0]["state"].startswith("running, ")
        assert shown["stages"][0]["state"].endswith(" of 400 steps")
        code, output = house.call("runs", "rm", run["run"], "--yes")
        assert code == 2
        assert f"error[E402]: the run {run['run']} is being run by process {process.pid} on " in output
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 75
    shown = json.loads(house.call("runs", "show", run["run"], "--json")[1])
    assert shown["stages"][0]["state"].startswith("stopped at step ")


# A home that moves


def test_a_copied_home_is_read_from_itself_and_not_from_the_one_it_was_copied_from(made: House) -> None:
    run = find_run("counting")
    assert {stage.folder.path.parent for stage in run.stages} == {made.store}


@pytest.mark.parametrize("variable", ["NANOCHAT_HOME", "NANOCHAT_RUN_DIR"])
def test_a_moved_home_keeps_its_runs_and_their_results(
    made: House, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    elsewhere = made.folder / "elsewhere"
    (made.folder / "home").rename(elsewhere)
    monkeypatch.setenv(variable, str(elsewhere))
    assert [stage.name for stage in finished_stages(find_run("counting"))] == ["one", "two", "grade"]
    assert find_checkpoint("counting/one").is_relative_to(elsewhere / "store")
    assert made.actions() == {"one": "reuse", "two": "reuse", "grade": "reuse"}


def test_a_run_of_another_home_is_read_with_the_results_beside_it(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_run("counting").path
    monkeypatch.setenv("NANOCHAT_HOME", str(made.folder / "empty"))
    assert len(finished_stages(find_run(str(run)))) == 3


# Tags


def test_a_tag_set_for_a_finished_stage_renames_it_and_nothing_is_run(made: House) -> None:
    code, output = made.run("--set", "stages.two.tag=mine")
    assert code == 0, output
    assert "two: its tag is `mine` now, was `counted`" in output
    assert "nothing to do" in output
    assert find_checkpoint("mine").is_relative_to(made.stage("two"))
    assert made.actions("stages.two.tag=mine")["two"] == "reuse"
