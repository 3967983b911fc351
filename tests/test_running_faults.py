"""What goes wrong around a run: screens that close, results that vanish, orders that contradict each other."""

import io
import math
import shutil

import pytest
from test_running import House

from nanochat.home import HOME, home
from nanochat.running.find import find_checkpoint
from nanochat.running.progress import PlainDisplay, ShieldedDisplay
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
