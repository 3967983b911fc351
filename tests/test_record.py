"""The record: written last and whole, found again under any name, and by one of two runners only."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_running import RECIPE, House, enter, record_of

from nanochat.running.find import list_runs

KILLED = """
import os, signal, sys
from pathlib import Path
from nanochat.running.store import StageFolder
from nanochat.cli.main import main
def die(): os.kill(os.getpid(), signal.SIGKILL)
where, write, replace = sys.argv.pop(1), StageFolder.write_record, Path.replace
def written(folder, record):
    if where == "before it is written": die()
    write(folder, record)
    die()
def replaced(path, target):
    if where == "before it has its name" and Path(target).name == "record.json": die()
    return replace(path, target)
StageFolder.write_record, Path.replace = written, replaced
main()
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return enter(tmp_path, monkeypatch)


def events(house: House, event: str) -> list[dict[str, Any]]:
    """Events of that name in all runs."""
    lines = [line for run in list_runs() for line in (run.path / "events.jsonl").read_text().splitlines()]
    return [found for line in lines if (found := json.loads(line))["event"] == event]


@pytest.mark.parametrize(
    "where, afterwards",
    [
        ("before it is written", "resume"),
        ("before it has its name", "resume"),
        ("after it is written", "reuse"),
    ],
)
def test_a_runner_that_is_killed_around_the_record_leaves_it_whole_or_not_at_all(
    house: House, where: str, afterwards: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, "run", str(house.recipe), "--until", "one"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (house.stage("one") / "checkpoints" / "step_000004").is_dir()
    assert house.actions()["one"] == afterwards
    code, output = house.run("--until", "one")
    assert code == 0, output
    assert record_of(house.stage("one"))["figures"]["count.count"]["value"] == 4.0
    assert len(events(house, "stage_started")) == (2 if afterwards == "resume" else 1)


def test_a_result_is_reused_by_another_recipe_under_another_stages_name(house: House) -> None:
    code, output = house.run("--until", "two")
    assert code == 0, output
    renamed = RECIPE.replace('"counting"', '"other"')
    for old, new in (("one", "first"), ("two", "second")):
        renamed = renamed.replace(f"stages.{old}]", f"stages.{new}]").replace(f"stage:{old}", f"stage:{new}")
    house.write(renamed)
    assert house.actions() == {"first": "reuse", "second": "reuse", "grade": "run"}
    code, output = house.run()
    assert code == 0, output
    assert [event["stage"] for event in events(house, "stage_started")] == ["grade", "one", "two"]
    assert record_of(house.stage("two"))["run"] != record_of(house.stage("grade"))["run"]


@pytest.mark.slow
def test_two_runners_of_one_store_at_once_do_no_work_twice_and_both_end_well_when_run_again(house: House) -> None:
    slow = RECIPE.replace("steps = 4", "steps = 20\npause = 0.1")
    other = house.folder / "other.toml"
    other.write_text(slow.replace('"counting"', '"other"').replace("steps = 5", "steps = 6"))  # shares stage `one`
    house.write(slow)
    started = [house.start("run", str(recipe)) for recipe in (house.recipe, house.recipe, other)]
    ended = [(process.communicate(timeout=120)[0], process.returncode) for process in started]
    assert {code for _, code in ended} <= {0, 2}, ended  # 0 for all only where one came seconds late
    assert 0 in {code for _, code in ended}, ended
    pids = [process.pid for process in started]
    for output, code in ended:
        if code == 2:
            assert any(f"is being run by process {pid} on " in output for pid in pids), output
    for recipe in (house.recipe, other):
        code, output = house.call("run", str(recipe))
        assert code == 0, output
    begun = [(event["stage"], event["folder"]) for event in events(house, "stage_started")]
    assert len(begun) == len(set(begun)) == 5  # `one` once, `two` and `grade` for each recipe
    assert [run.path.name.partition("-")[0] for run in list_runs()].count("counting") == 1
