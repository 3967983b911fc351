"""Sweeps: what varies, the queue on disk, workers that run, fail, stop and are killed, and what came out.

The stages come from tests/loose/counting.py; trials run by real processes.
"""

import itertools
import json
import math
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_running import MACHINE, House, enter

from nanochat.cli.main import _finish
from nanochat.errors import InputError, wrong_input
from nanochat.hardware import Machine
from nanochat.recipe.axis import Change
from nanochat.running.progress import Display, QuietDisplay
from nanochat.running.reports import Reports
from nanochat.running.request import Request
from nanochat.running.stop import StopRequests
from nanochat.sweeping.axes import (
    grid_axes,
    number_of_trials,
    random_ranges,
    split_values,
    trials,
)
from nanochat.sweeping.results import Row, best, over_seeds, sorted_by
from nanochat.sweeping.sweep import Sweep, find_sweep, make_sweep
from nanochat.sweeping.work import work

words = st.text("abc123._", min_size=1, max_size=4)


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> House:
    return enter(tmp_path_factory.mktemp("house"), monkeypatch)


def texts(trial: Sequence[Change]) -> list[str]:
    return [change.text for change in trial]


def the_sweep() -> Sweep:
    return find_sweep("counting")


def states(sweep: Sweep) -> list[str]:
    return [trial.state for trial in sweep.trials()]


# What varies


@given(st.dictionaries(words, st.lists(words, min_size=1, max_size=3, unique=True), min_size=1, max_size=3))
def test_a_grid_is_the_product_of_its_values_the_last_varying_fastest(axes: dict[str, list[str]]) -> None:
    found = grid_axes([f"{key}={','.join(values)}" for key, values in axes.items()])
    made = trials(found, [], 8, seed=0)
    expected = [
        [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        for values in itertools.product(*axes.values())
    ]
    assert [texts(trial) for trial in made] == expected
    assert len(made) == number_of_trials(found, [], 8)


@given(st.lists(st.sampled_from(["1", "-2.5", "[1, 2]", '"a,b"', "{x = [1, 2], y = 3}", "stage:tok"]), min_size=1))
def test_commas_within_brackets_and_quotes_part_no_values(values: list[str]) -> None:
    assert split_values(",".join(values)) == values


def test_draws_are_within_their_range_the_same_again_and_the_same_for_each_combination() -> None:
    (rate, whole), depths = random_ranges(["lr=0.001..0.1", "dim=10..20"]), grid_axes(["depth=2,4"])
    made = [texts(trial) for trial in trials(depths, [rate, whole], 500, seed=3)]
    assert made == [texts(trial) for trial in trials(depths, [rate, whole], 500, seed=3)]
    assert len(made) == number_of_trials(depths, [rate, whole], 500) == 1000
    assert [trial[1:] for trial in made[:500]] == [trial[1:] for trial in made[500:]]
    rates = [float(trial[1].removeprefix("lr=")) for trial in made[:500]]
    assert 0.001 <= min(rates) < 0.0012 and 0.08 < max(rates) <= 0.1
    assert statistics.fmean(map(math.log10, rates)) == pytest.approx(-2, abs=0.08)  # even in the logarithm
    assert {trial[2] for trial in made} == {f"dim={number}" for number in range(10, 21)}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["depth="], "--grid depth= has no values"),
        (["depth"], "--grid depth has no values"),
        (["=1,2"], "--grid =1,2 has no values"),
        (["depth=1,,2"], "--grid depth=1,,2 has no values"),
        (["depth=1", "depth=2"], "`depth` has its values already"),
    ],
)
def test_what_is_no_axis_is_refused(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(InputError, match="E407") as caught:
        grid_axes(arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "argument", ["lr", "lr=", "lr=1", "lr=2..1", "lr=1..1", "lr=a..b", "lr=1..inf", "lr=1e..2", "=1..2"]
)
def test_what_is_no_range_is_refused(argument: str) -> None:
    with pytest.raises(InputError, match="is no range of numbers"):
        random_ranges([argument])


# What is planned


@pytest.mark.parametrize(
    "words, said",
    [
        ("", "nothing varies"),
        ("--grid stages.two.stepz=1,2", "unknown key `stepz`"),
        ("--grid stages.two.steps=5,none", "stages.two.steps=none"),
        ("--random seed=1..100000 --draws 10000", "10,000 variants (10000 draws)"),
        ("--grid seed=1,2 --until three", "no stage `three`"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_runs(
    house: House, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert _finish(["sweep", str(house.recipe), *words.split()]) == 2
    assert said in "".join(capsys.readouterr())
    assert not (house.folder / "home" / "sweeps").exists()


def test_a_plan_shows_what_is_shared_where_it_comes_first(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(["sweep", str(house.recipe), "--grid", "stages.two.steps=5,6", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["5", "6"]
    assert "one, two, grade" in lines[1]
    assert "two, grade" in lines[2] and "one" not in lines[2]
    assert not (house.folder / "home").exists()


def test_a_workers_devices_are_all_that_its_plan_knows_of(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    looked = []

    def look() -> Machine:
        looked.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return MACHINE

    monkeypatch.setattr("nanochat.cli.sweep.probe_machine", look)
    assert _finish(["sweep", str(house.recipe), "--grid", "seed=1,2", "--devices", "2", "--dry-run"]) == 0
    assert looked == ["2"]


# What is run


def test_trials_share_stages_and_fail_alone_and_what_failed_is_tried_again(house: House) -> None:
    code, output = house.call("sweep", str(house.recipe), "--grid", 'stages.two.trouble="stage","none"')
    sweep = the_sweep()
    assert (code, states(sweep)) == (1, ["failed", "done"]), output
    assert len(list(house.store.glob("one-*"))) == 1  # the shared stage, once
    assert '[1/2 trouble="stage"]: failed: the loss is nan' in output
    assert "1 of 2 done. The results: nanochat sweeps show counting" in output
    assert "talk to it" not in output
    code, output = house.call("sweeps", "show", "counting", "--trials", "--json")
    failed, done = json.loads(output)
    assert (failed["error"], failed["figures"], done["error"]) == ("the loss is nan", {}, "")
    assert done["figures"] == {"counting.accuracy": 1.0}
    code, output = house.call("sweeps", "retry", "counting", "1")
    assert (code, states(sweep)) == (0, ["waiting", "done"]), output
    # What goes wrong is no part of a result's identity: by now the result is there.
    code, output = house.call("sweeps", "go", "counting")
    assert (code, states(sweep)) == (0, ["done", "done"]), output


def test_a_killed_worker_leaves_a_trial_that_waits_and_the_same_command_goes_on(house: House) -> None:
    asked = ["sweep", str(house.recipe), "--grid", "stages.two.steps=40,41", "--set", "stages.two.pause=0.1"]
    worker = house.start(*asked)
    until(lambda: list(house.store.glob("two-*/*")) and "running" in states(the_sweep()))
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=60)
    sweep = the_sweep()
    until(lambda: states(sweep) == ["waiting", "waiting"])
    sweep.move(2, 1)
    assert [trial.number for trial in sweep.trials()] == [2, 1]
    sweep.drop(1)
    code, output = house.call(*asked)  # asks for both: what was dropped comes back, at the end
    assert (code, states(sweep)) == (0, ["done", "done"]), output
    assert [trial.settings for trial in sweep.trials()] == [["stages.two.steps=41"], ["stages.two.steps=40"]]


@pytest.mark.slow
def test_two_workers_share_a_sweep_and_a_pause_ends_both_in_order(house: House) -> None:
    asked = ["sweep", str(house.recipe), "--grid", "stages.two.steps=31,32,33", "--set", "stages.two.pause=0.1"]
    workers = [house.start(*asked), house.start(*asked)]
    until(lambda: len(list(house.store.glob("two-*"))) == 2)  # behind the stage that they share
    sweep = the_sweep()
    sweep.pause(paused=True)
    ended = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [75, 75], ended
    assert sorted(states(sweep)) == ["done", "done", "waiting"]
    code, output = house.call("sweeps", "go", "counting")
    assert (code, states(sweep)) == (0, ["done"] * 3), output


def test_ctrl_c_stops_the_sweep_with_its_trial(house: House) -> None:
    asked = ["sweep", str(house.recipe), "--grid", "stages.two.steps=60,61", "--set", "stages.two.pause=0.1"]
    worker = house.start(*asked)
    until(lambda: list(house.store.glob("two-*/*")))
    worker.send_signal(signal.SIGINT)
    output, _ = worker.communicate(timeout=60)
    assert (worker.returncode, states(the_sweep())) == (75, ["waiting", "waiting"]), output


def test_ctrl_c_in_a_trials_last_moment_begins_no_further_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(request: Request, display: Display, reports: Reports, requests: StopRequests) -> int:
        requests.listen()
        os.kill(os.getpid(), signal.SIGINT)
        requests.restore()
        return 0  # it had been done by then

    monkeypatch.setattr("nanochat.sweeping.work.run_recipe", run)
    with pytest.raises(SystemExit, match="75"):
        _finish(["sweep", str(house.recipe), "--grid", "seed=1,2"])
    assert states(the_sweep()) == ["done", "waiting"]


def begun_in_turn(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int, is_busy: Callable[[list[str]], bool]
) -> list[str]:
    """A worker's way through so many trials: each time it begins one, which takes 0.4 s where someone else runs its
    stage, as `is_busy` says of those begun until then, and a minute else.
    """
    begun, clock = list[str](), [1000.0]

    def run(request: Request, *_: object) -> int:
        begun.append(request.recipe.stem)
        clock[0] += 0.4
        if is_busy(begun):
            raise wrong_input("E402", "someone else runs it")
        clock[0] += 60.0
        return 0

    def wait(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("nanochat.sweeping.work.run_recipe", run)
    monkeypatch.setattr("nanochat.sweeping.work.time", SimpleNamespace(monotonic=lambda: clock[0]))
    sweep = make_sweep("busy", recipe=str(house.recipe), until=None, overrides=[])
    sweep.add([([f"seed={seed}"], house.plan(f"seed={seed}")) for seed in range(1, number + 1)])
    assert work(sweep, QuietDisplay(sys.stderr), sleep=wait) == 0
    assert states(sweep) == ["done"] * number
    return begun


def test_a_trial_whose_stage_someone_else_runs_is_taken_as_soon_as_it_can_be(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three trials the first wants what another worker makes meanwhile: it comes second, and not last."""
    begun = begun_in_turn(house, monkeypatch, 3, lambda begun: len(begun) == 1)
    assert begun == ["0001", "0002", "0001", "0003"]


def test_many_trials_that_wait_for_one_stage_do_not_hold_up_the_one_behind_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begun_in_turn(house, monkeypatch, 20, lambda begun: "0020" not in begun)
    assert begun.index("0020") < 60


def until(true: object, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if true():  # type: ignore[operator]
                return
        except InputError:  # the sweep is not there yet
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


# What came out


def row(seed: int, depth: int, **figures: float) -> Row:
    settings = {"seed": str(seed), "depth": str(depth)}
    return Row(settings=settings, state="done", runs=[f"r{seed}"], seconds=1.0, figures=figures, errors={})


def test_seeds_are_averaged_with_the_standard_error_of_their_mean() -> None:
    generator = random.Random(0)
    values = [generator.gauss(1, 0.1) for _ in range(5)]
    found = over_seeds([row(seed, 4, bpb=value) for seed, value in enumerate(values)] + [row(1, 6, bpb=0.5)])
    assert [one.settings for one in found] == [{"depth": "4"}, {"depth": "6"}]
    mean = sum(values) / 5
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 4 / 5)
    assert found[0].figures["bpb"] == pytest.approx(mean)
    assert found[0].errors["bpb"] == pytest.approx(error)
    assert (found[1].figures, found[1].errors) == ({"bpb": 0.5}, {})


def test_one_lucky_seed_is_not_the_best_beside_means_of_several() -> None:
    found = [row(1, 4, bpb=1.0), row(2, 4, bpb=1.2), row(1, 6, bpb=1.3), row(2, 6, bpb=1.2), row(1, 8, bpb=0.9)]
    chosen = best(found)
    assert chosen is not None and chosen[1].settings == {"depth": "4"}


def test_rows_are_sorted_by_figure_or_key_and_those_without_come_last() -> None:
    found = [row(1, 10, bpb=2.0), row(2, 9), row(3, 8, bpb=1.0)]
    assert [one.settings["seed"] for one in sorted_by(found, "bpb")] == ["3", "1", "2"]
    assert [one.settings["seed"] for one in sorted_by(found, "-bpb")] == ["1", "3", "2"]
    assert [one.settings["depth"] for one in sorted_by(found, "depth")] == ["8", "9", "10"]
