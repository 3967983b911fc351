"""What goes wrong around a run: screens that close, results that vanish, orders that contradict each other."""

import io
import json
import math
import shutil

import pytest
from test_running import House

from nanochat.home import HOME, home
from nanochat.running.find import find_checkpoint
from nanochat.running.progress import JsonDisplay, Pace, PlainDisplay, QuietDisplay, ShieldedDisplay, bar_line
from nanochat.running.run_folder import LOCK


def test_a_screen_that_closes_ends_nothing() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    display = ShieldedDisplay(PlainDisplay(Closed()))
    display.begin("base")
    display.say("stopping")
    display.update({"time": 1.0, "done": 1, "total": 2, "unit": "steps", "figures": {}})
    display.end()


def test_what_is_counted_has_a_unit() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    display.begin("tok")
    display._said_at = -math.inf  # a line is due
    display.update({"time": 1.0, "done": 320, "total": 759_459, "unit": "characters", "figures": {}})
    assert stream.getvalue() == "tok: 320 of 759,459 characters\n"


def test_a_stage_that_reports_nothing_new_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 11))
    monkeypatch.setattr("nanochat.running.progress.time.monotonic", lambda: float(next(clock)))
    for display, stream in ((PlainDisplay(out := io.StringIO()), out), (JsonDisplay(out := io.StringIO()), out)):
        display.begin("base")
        for at, done in ((1.0, 1), (2.0, 2), (2.0, 2), (2.0, 2)):  # the runner looks again and again
            display.update({"time": at, "done": done, "total": 2, "unit": "steps", "figures": {}})
        assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize("width", [24, 44, 80, 200])
def test_a_stage_fits_in_one_line_of_any_terminal_and_keeps_what_counts(width: int) -> None:
    pace = Pace()
    figures = {"loss": 3.93812, "mfu": 0.5843}
    for second in range(3):
        tokens = {"tokens": 1e5 * second}
        progress = {"time": second, "done": second, "total": 60_000, "unit": "steps", "figures": figures | tokens}
        pace.add(progress)
    line = bar_line("base", progress, pace, 9.0, width)
    assert len(line) <= width and line.startswith("base ")
    assert "2 of 60,000 steps" in line
    assert ("16 h 40 min left" in line) == (width >= 44)
    assert ("loss 3.938" in line, "100,000 tokens/s" in line) == (width >= 80, width >= 80)
    assert ("mfu" in line, "╌" in line) == (width >= 200, width >= 200)
    assert bar_line("base", None, pace, 9.0, width) == "base starting · 9 s"


def test_a_quiet_run_tells_its_warnings_alone_and_one_for_programs_tells_objects() -> None:
    quiet, told = io.StringIO(), io.StringIO()
    for display in (QuietDisplay(quiet), JsonDisplay(told)):
        display.say("base: run (no result yet)")
        display.begin("base")
        display.update({"time": 1.0, "done": 1, "total": 2, "unit": "steps", "figures": {"loss": 2.0}})
        display.end()
        display.say("warning: the disk is slow")
    assert quiet.getvalue() == "warning: the disk is slow\n"
    said, progress, warning = map(json.loads, told.getvalue().splitlines())
    assert (said["said"], warning["said"]) == ("base: run (no result yet)", "warning: the disk is slow")
    assert progress == {"stage": "base", "time": 1.0, "done": 1, "total": 2, "unit": "steps", "figures": {"loss": 2.0}}


def test_what_is_made_afresh_leaves_no_result_behind_that_follows_from_the_old_one(made: House) -> None:
    code, output = made.run("--fresh", "one", "--until", "one")
    assert code == 0, output
    assert made.actions() == {"one": "reuse", "two": "run", "grade": "run"}


def test_a_result_that_was_deleted_by_hand_is_made_again_and_not_chatted_with(made: House) -> None:
    shutil.rmtree(made.stage("two") / "checkpoints")
    assert made.actions() == {"one": "reuse", "two": "run", "grade": "reuse"}
    assert find_checkpoint().is_relative_to(made.stage("one"))


@pytest.mark.parametrize("options", [("--from", "grade", "--until", "one"), ("--fresh", "two", "--until", "one")])
def test_orders_that_contradict_each_other_are_refused(made: House, options: tuple[str, ...]) -> None:
    code, output = made.run(*options)
    assert code == 2
    assert "error[E407]: --until one comes before" in output


def test_a_run_of_a_runs_own_lock_keeps_what_it_says_of_derived_values(made: House) -> None:
    (run,) = (made.folder / "home" / "runs").iterdir()
    before = (run / LOCK).read_text()
    shutil.rmtree(made.stage("grade"))
    code, output = made.call("run", str(run / LOCK))
    assert code == 0, output
    assert (run / LOCK).read_text() == before
    assert "[lock.derived" in before


def test_a_home_of_a_user_who_is_not_there_is_a_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, "~nobody-of-that-name/x")
    assert home().name == "x"


@pytest.mark.parametrize("name", ["~nobody-of-that-name", "x" * 300, "a@b", "²", "counting@" + "9" * 200])
def test_a_strange_name_of_a_checkpoint_is_an_error_and_no_traceback(made: House, name: str) -> None:
    code, output = made.call("chat", name, "-p", "hi")
    assert code == 2
    assert "error[E4" in output
    assert "Traceback" not in output


def test_a_terminal_that_cannot_show_a_sign_gets_another_and_no_traceback(
    made: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, output = made.call("plan", str(made.recipe), "--set", "stages.one.steps=9")
    assert code == 0
    assert "Traceback" not in output
