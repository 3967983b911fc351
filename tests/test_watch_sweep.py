"""`nanochat watch SWEEP`: a queue of trials as its files tell. No process runs here."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from test_watch import House, at_work

from nanochat.cli.watch import command
from nanochat.cli.watch_sweep import SweepLines, sweep_screen
from nanochat.errors import InputError
from nanochat.running.json_file import write_json
from nanochat.running.lease import lease
from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.live import LiveSweep
from nanochat.sweeping.sweep import Sweep, make_sweep

TRIALS = [("4", "1"), ("4", "2"), ("6", "1"), ("6", "2"), ("8", "1")]
"""Depth and seed."""


def finish(home: Path, run: str, figures: Mapping[str, float]) -> None:
    """A run of one stage that is through."""
    folder, stage = RunFolder(home / "runs" / run), home / "store" / f"eval-{run}"
    key = run.ljust(64, "0")
    planned = {"stage": "eval", "use": "evaluate", "produces": "figures", "key": key, "folder": str(stage)}
    for made in (folder.path, stage):
        made.mkdir(parents=True)
    write_json(folder.path / "plan.json", {"recipe": "tale", "stages": [planned]})
    told = {name: {"value": value, "n": 100} for name, value in figures.items()}
    write_json(stage / "record.json", {"key": key, "seconds": 63.0, "produces": "figures", "figures": told})


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    return House(tmp_path)


@pytest.fixture
def sweep(house: House) -> Sweep:
    """Two trials done, one that has failed, one whose run is that of `house`, one that waits."""
    made = make_sweep("tale", recipe="/somewhere/tale.toml", until=None, overrides=[])
    runs = ["aaaa", "bbbb", "cccc", house.run.path.name, "eeee"]
    order = [
        {"number": i, "settings": [f"stages.base.model.depth={depth}", f"seed={seed}"], "run": run}
        for i, ((depth, seed), run) in enumerate(zip(TRIALS, runs, strict=True), start=1)
    ]
    write_json(made.path / "order.json", {"trials": order})
    for trial in made.trials():
        trial.folder.mkdir(parents=True)
    for number, bpb in ((1, 1.25), (2, 1.35)):
        finish(house.home, runs[number - 1], {"bpb.bpb": bpb, "core.core": 0.1})
        made.trial(number).end("done", seconds=63.0)
    made.trial(3).end("failed", seconds=5.0, code="E403", error="ZeroDivisionError: a bug\nmore of it")
    return made


def under_way(house: House, sweep: Sweep) -> ExitStack:
    """The fourth trial is at work on its stage `base`."""
    house.train(range(1, 101))
    house.report(100)
    held = at_work(house)
    assert isinstance(held, ExitStack)
    held.enter_context(lease(sweep.trial(4).folder, what="trial 4"))
    return held


def watch(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(words))
    return result.exit_code, result.output


def test_it_tells_the_queue_how_far_the_trial_at_work_is_and_the_best_mean_over_seeds(
    house: House, sweep: Sweep
) -> None:
    with under_way(house, sweep):
        seen = LiveSweep(sweep).look()
    assert (seen["state"], seen["counts"]) == ("running", {"done": 2, "running": 1, "failed": 1, "waiting": 1})
    assert [trial["state"] for trial in seen["trials"]] == ["done", "done", "failed", "running", "waiting"]
    at_work = seen["trials"][3]["at_work"]
    assert (at_work["stage"], at_work["progress"]["done"], "curves" in at_work) == ("base", 100, False)
    assert (seen["best"]["figure"], seen["best"]["figures"]["bpb.bpb"]) == ("bpb.bpb", pytest.approx(1.3))
    assert seen["best"]["settings"] == {"stages.base.model.depth": "4"} and len(seen["best"]["runs"]) == 2


def test_the_best_has_the_fewest_bits_and_without_such_the_most_accuracy(house: House, sweep: Sweep) -> None:
    finish(house.home, "eeee", {"bpb.bpb": 1.2, "core.core": 0.05})
    sweep.trial(5).end("done", seconds=1.0)
    best = LiveSweep(sweep).look()["best"]
    assert (best["settings"], best["text"]) == ({"stages.base.model.depth": "4"}, "1.3 ± 0.05"), "one seed proves less"
    for run, accuracy in (("aaaa", 0.5), ("bbbb", 0.3), ("eeee", 0.2)):
        told = {"count.steps": {"value": 9.0, "n": 1}, "arc.accuracy": {"value": accuracy, "n": 100}}
        path = house.home / "store" / f"eval-{run}" / "record.json"
        write_json(path, json.loads(path.read_text()) | {"figures": told})
    best = LiveSweep(sweep).look()["best"]
    assert (best["figure"], best["settings"]) == ("arc.accuracy", {"stages.base.model.depth": "4"})
    for run in ("aaaa", "bbbb", "eeee"):  # of which nobody knows whether more is better
        path = house.home / "store" / f"eval-{run}" / "record.json"
        write_json(path, json.loads(path.read_text()) | {"figures": {"count.steps": {"value": 9.0, "n": 1}}})
    assert LiveSweep(sweep).look()["best"] is None


def test_in_a_log_it_says_what_is_new_and_follows_until_no_trial_waits(
    house: House, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = under_way(house, sweep)

    def one_more(seconds: float) -> None:
        trial = next(trial for trial in sweep.trials() if not trial.outcome)
        held.close()
        if trial.number == 5:
            finish(house.home, trial.run, {"bpb.bpb": 6.0})
        trial.end("done", seconds=120.0)

    monkeypatch.setattr("nanochat.cli.watch.time.sleep", one_more)
    code, output = watch("tale")
    assert code == 1, "a trial has failed"
    assert output.splitlines() == [
        "[1/5 depth=4 seed=1]: done in 1 min 03 s: bpb.bpb 1.25, core.core 0.1",
        "[2/5 depth=4 seed=2]: done in 1 min 03 s: bpb.bpb 1.35, core.core 0.1",
        "[3/5 depth=6 seed=1]: failed in 5 s: ZeroDivisionError: a bug",
        "[4/5 depth=6 seed=2]: running",
        "[4/5 depth=6 seed=2]: base: 100 of 400 steps · smoothed loss 8 · 720 tokens/s · MFU 50.0% · 1 min 01 s left",
        "the best so far: depth=4 with bpb.bpb 1.3 ± 0.05 (mean of 2 seeds)",
        "tale: running; 2 done, 1 running, 1 failed, 1 waiting",
        "[4/5 depth=6 seed=2]: done in 1 min 03 s: bytes_per_token 3.25",
        "tale: waiting; 3 done, 1 failed, 1 waiting; `nanochat sweeps go tale` works on it",
        "[5/5 depth=8 seed=1]: done in 1 min 03 s: bpb.bpb 6",
        "tale: failed; 4 done, 1 failed",
    ]


def test_one_look_is_json_for_programs(house: House, sweep: Sweep) -> None:
    with under_way(house, sweep):
        code, output = watch("tale", "--once", "--json")
    (seen,) = map(json.loads, output.splitlines())
    assert (code, seen["sweep"], seen["counts"]["done"], seen["trials"][2]["error"][:4]) == (0, "tale", 2, "Zero")


def test_a_name_of_both_is_the_sweep_while_trials_wait_and_else_the_run(house: House, sweep: Sweep) -> None:
    assert "tale: waiting" in watch("tale", "--once")[1]
    assert "[1/5" not in watch(house.run.path.name, "--once")[1]
    sweep.pause(paused=True)
    for words in (["tale"], ["tale", "--sweep"]):
        assert "tale: paused" in watch(*words)[1], "and does not wait for the pause's end"
    for number in (4, 5):
        sweep.trial(number).end("done", seconds=1.0)
    assert "tale: " not in watch("tale", "--once")[1]


def test_what_is_not_there_or_was_removed_is_said(sweep: Sweep) -> None:
    for words, said in ((["tail", "--sweep"], "did you mean `tale`"), (["--sweep"], "--sweep needs a name")):
        result = CliRunner().invoke(command, words)
        assert isinstance(result.exception, InputError) and said in str(result.exception)
    live = LiveSweep(sweep)
    (sweep.path / "sweep.json").unlink()
    with pytest.raises(InputError, match=r"E405.*the sweep tale is gone"):
        live.look()


@pytest.mark.parametrize("width, height", [(80, 24), (40, 10), (20, 6)])
def test_a_long_queue_is_shown_around_what_is_at_work_within_the_screen(
    house: House, sweep: Sweep, width: int, height: int
) -> None:
    with under_way(house, sweep):
        seen: dict[str, Any] = LiveSweep(sweep).look()
    before, after = [dict(seen["trials"][0]) for _ in range(50)], [dict(seen["trials"][4]) for _ in range(70)]
    seen["trials"] = [*before, seen["trials"][3], *after]
    lines = [click.unstyle(line) for line in sweep_screen(seen, width, height)]
    assert len(lines) <= height and max(map(len, lines)) <= width
    assert any("running" in line or line.startswith("  [4/121 d") for line in lines[1:])
    shown = sum(line.startswith("  [") for line in lines)
    left_out = sum(int(line.split()[1]) for line in lines if line.startswith("  … "))
    assert shown + left_out == 121


def test_nothing_new_is_said_twice(house: House, sweep: Sweep) -> None:
    lines, live = SweepLines(), LiveSweep(sweep)
    assert len(lines.of(live.look())) == 5
    assert lines.of(live.look()) == []
