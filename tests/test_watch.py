"""`nanochat watch`: a run as its files tell, on a terminal, in a pipe and for programs. No process runs here."""

import json
import math
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from nanochat.cli.braille import BLANK, plot
from nanochat.cli.watch import command
from nanochat.cli.watch_screen import screen
from nanochat.errors import InputError, stage_failure
from nanochat.running.handover import Handover
from nanochat.running.json_file import append_line, write_json
from nanochat.running.lease import lease
from nanochat.running.live import POINTS, LiveRun, Metrics, run_to_watch
from nanochat.running.pulse import beating
from nanochat.running.run_folder import RunFolder

NAMES = ("tok", "base", "eval")


class House:
    """A home with a run of three stages: one done, one under way, one not begun."""

    def __init__(self, home: Path) -> None:
        self.home, self.run = home, RunFolder(home / "runs" / "tale-0a1b2c3d")
        self.run.path.mkdir(parents=True)
        planned = [
            {
                "stage": name,
                "use": name,
                "produces": "checkpoint",
                "key": self.key(name),
                "folder": str(self.stage(name)),
            }
            for name in NAMES
        ]
        write_json(self.run.path / "plan.json", {"recipe": "tale", "stages": planned})
        for name in NAMES[:2]:
            self.stage(name).mkdir(parents=True)
            write_json(self.stage(name) / "config.json", {"key": self.key(name)})
        figures = {"bytes_per_token": {"value": 3.25, "n": 10}}
        write_json(self.stage("tok") / "record.json", {"key": self.key("tok"), "seconds": 63.0, "figures": figures})
        Handover(self.stage("base")).clear()

    @staticmethod
    def key(name: str) -> str:
        return {"tok": "aa", "base": "bb", "eval": "cc"}[name] * 32

    def stage(self, name: str) -> Path:
        return self.home / "store" / f"{name}-{self.key(name)[:8]}"

    @property
    def metrics(self) -> Path:
        return self.stage("base") / "metrics.jsonl"

    def train(self, steps: range) -> None:
        for step in steps:
            line = {
                "step": step,
                "time": 1e9 + step,
                "loss": 8 - step / 100,
                "smoothed_loss": 8.0,
                "tokens": 1e3 * step,
            }
            speed = {
                "tokens_per_second": 720.0,
                "mfu": 0.5,
                "seconds_left": 61.0,
                "lr.head": 0.01,
                "data.web.epoch": 2.0,
            }
            append_line(self.metrics, line | speed)
            if step % 50 == 0:
                append_line(self.metrics, {"step": step, "time": 1e9, "val.bpb": 2 - step / 1000})

    def report(self, done: int) -> None:
        told = {"done": done, "total": 400, "unit": "steps", "figures": {"loss": 7.5}}
        Handover(self.stage("base")).write_progress(told)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    return House(tmp_path)


def at_work(house: House) -> Any:
    """The leases and the pulse that a runner and a worker would hold."""
    from contextlib import ExitStack

    held = ExitStack()
    held.enter_context(lease(house.run.path, what="the run"))
    held.enter_context(lease(house.stage("base"), what="the stage"))
    held.enter_context(beating(Handover(house.stage("base")).folder, rank=0))
    return held


def stage_of(seen: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in seen["stages"] if stage["stage"] == name)


# What is seen


def test_a_run_under_way_tells_its_stages_speed_rates_data_memory_and_curves(house: House) -> None:
    house.train(range(1, 101))
    house.report(100)
    with at_work(house):
        seen = LiveRun(house.run).look()
    assert (seen["state"], seen["done"], seen["planned"]) == ("running", 1, 3)
    assert [stage["state"] for stage in seen["stages"]] == ["finished", "running, 100 of 400 steps", "not begun"]
    base = stage_of(seen, "base")
    assert base["progress"] == {"done": 100, "total": 400, "unit": "steps"}
    assert (base["tokens_per_second"], base["seconds_left"]) == (720.0, 61.0)
    assert (base["rates"], base["data"]) == ({"head": 0.01}, {"web.epoch": 2.0})
    assert base["figures"]["mfu"] == 0.5
    assert base["evaluation"]["val.bpb"] == 1.9
    assert base["memory"].keys() == {"0"} and base["memory"]["0"] > 2**20
    assert base["curves"]["loss"][0] == (1, 7.99) and len(base["curves"]["loss"]) == 100
    assert base["curves"]["val.bpb"] == [(50, 1.95), (100, 1.9)]
    assert stage_of(seen, "tok")["results"] == {"bytes_per_token": 3.25}


def test_a_rate_of_the_last_seconds_counts_more_than_that_of_the_last_line(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.train(range(1, 11))
    live = LiveRun(house.run)
    with at_work(house):
        for at, done in ((100.0, 10), (110.0, 30)):
            monkeypatch.setattr("nanochat.running.handover.time.time", lambda at=at: at)
            house.report(done)
            base = stage_of(live.look(), "base")
    assert base["seconds_left"] == 370 / 2  # two steps a second


def test_lines_that_are_torn_foreign_or_not_finite_are_passed_over(house: House) -> None:
    house.train(range(1, 3))
    with house.metrics.open("ab") as file:
        file.write(
            b'\xff\xfe\n[1]\n{"step": "x"}\n{"step": 3, "loss": null}\n{"step": 4, "loss": 2.0}\n{"step": 5, "lo'
        )
    metrics = Metrics(house.metrics)
    assert [line["step"] for line in metrics.read_on()] == [1, 2, 3, 4]
    with house.metrics.open("ab") as file:
        file.write(b'ss": 1.5}\n')
    assert metrics.read_on()[-1] == {"step": 5, "loss": 1.5}
    base = stage_of(LiveRun(house.run).look(), "base")
    assert [step for step, _ in base["curves"]["loss"]] == [1, 2, 4, 5]


def test_metrics_that_are_cut_back_or_gone_are_read_anew(house: House) -> None:
    house.train(range(1, 9))
    metrics = Metrics(house.metrics)
    assert len(metrics.read_on()) == 8
    whole = house.metrics.read_bytes().splitlines(keepends=True)
    house.metrics.write_bytes(b"".join(whole[:3]))  # cut back in place
    assert [line["step"] for line in metrics.read_on()] == [1, 2, 3]
    other = house.metrics.with_name("other")
    other.write_bytes(b"".join(whole))
    other.replace(house.metrics)  # another file, and longer
    assert len(metrics.read_on()) == 8
    house.metrics.unlink()
    assert metrics.read_on() == []


def test_a_long_curve_is_thinned_and_keeps_its_last_point(house: House) -> None:
    house.metrics.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(1, 5 * POINTS + 4)))
    curve = stage_of(LiveRun(house.run).look(), "base")["curves"]["loss"]
    assert len(curve) <= POINTS and curve[-1][0] == 5 * POINTS + 3


def test_a_run_that_failed_tells_its_error(house: House) -> None:
    house.run.event("stage_started", stage="base")
    house.run.event("stage_failed", stage="base", seconds=3.0)
    Handover(house.stage("base")).write_error(stage_failure("E501", "the loss is not finite", help="lower it"), rank=0)
    seen = LiveRun(house.run).look()
    assert seen["state"] == "failed"
    assert seen["error"] == {
        "stage": "base",
        "code": "E501",
        "message": "the loss is not finite",
        "help": "lower it",
        "log": str(house.stage("base") / "logs" / "worker.log"),
    }


def test_a_run_that_was_removed_meanwhile_is_said_to_be_gone(house: House) -> None:
    import shutil

    live = LiveRun(house.run)
    live.look()
    shutil.rmtree(house.run.path)
    with pytest.raises(InputError, match="is gone"):
        live.look()


def test_without_a_name_the_run_at_work_is_watched_and_else_the_newest(house: House) -> None:
    older = house.run
    newer = RunFolder(house.home / "runs" / "newer-12345678")
    newer.path.mkdir()
    write_json(newer.path / "plan.json", {"recipe": "newer", "stages": []})
    assert run_to_watch().path == newer.path
    with lease(older.path, what="the run"):
        assert run_to_watch().path == older.path


def test_without_any_run_watching_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="no run yet"):
        run_to_watch()


# The screen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 24), (120, 50), (24, 10)])
def test_no_line_of_the_screen_is_wider_than_the_terminal(house: House, width: int, height: int) -> None:
    house.train(range(1, 101))
    house.report(100)
    with at_work(house):
        lines = [click.unstyle(line) for line in screen(LiveRun(house.run).look(), width, height)]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "tok" in text and "finished" in text and "100 of 400" in text
    assert any(ord(c) > BLANK for c in text)
    if (width, height) == (80, 24):
        assert len(lines) <= height
        for told in (
            "1 min 01 s left",
            "720 tokens/s",
            "MFU 50.0%",
            "head 0.01",
            "web.epoch 2",
            "rank 0 ",
            "val.bpb 1.9",
        ):
            assert told in text
        assert "loss 7, steps 1 to 100" in text and "val.bpb 1.9, steps 50 to 100" in text


def test_a_curve_runs_through_its_points_in_braille() -> None:
    # A diagonal of four dots: 7 and 6, then 2 and 4 of Unicode's patterns.
    assert plot([(0, 0.0), (1, 1.0)], 9, 1) == ["     1 \N{BRAILLE PATTERN DOTS-67}\N{BRAILLE PATTERN DOTS-24}"]
    falling = plot([(step, 10.0 / step) for step in range(1, 100)], 47, 5)
    assert [len(line) for line in falling] == [47] * 5
    assert falling[0].startswith("    10 ") and falling[-1].startswith(" 0.101 ")
    for x in (0, 39):  # in its first column it is at the top, in its last at the bottom
        column = [ord(line[7 + x]) - BLANK for line in falling]
        assert (column[0] != 0, column[-1] != 0) == (x == 0, x == 39)
    assert plot([], 80, 5) == []
    assert plot([(1, 2.0)], 80, 2)[1].startswith("     2 ")
    assert all(len(line) == 30 for line in plot([(0, -math.pi * 1e-9), (5, 123456789.0)], 30, 3))


# The command, outside of a terminal


def watch(*arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments), standalone_mode=False)


def test_in_a_pipe_watching_prints_plain_lines_and_ends_with_the_run(house: House) -> None:
    house.train(range(1, 101))
    house.report(100)
    with at_work(house):
        result = watch("tale", "--once")
    assert result.output.splitlines() == [
        "tok: finished in 1 min 03 s",
        "base: running",
        "eval: not begun",
        "base: 100 of 400 steps · smoothed loss 8 · 720 tokens/s · MFU 50.0% · 1 min 01 s left",
    ]
    assert "\x1b" not in result.output
    ended = watch("tale")  # by itself: nobody works on it any longer
    assert ended.output.splitlines()[-1] == "tale-0a1b2c3d: unfinished"


def test_for_programs_each_look_is_an_object_a_line(house: House) -> None:
    house.train(range(1, 11))
    (line,) = watch("--json").output.splitlines()
    told = json.loads(line)
    assert told["run"] == "tale-0a1b2c3d"
    assert "curves" not in told["stages"][1] and told["stages"][1]["figures"]["step"] == 10


def test_watching_a_run_that_failed_shows_the_error_and_exits_with_one(house: House) -> None:
    house.run.event("stage_failed", stage="base", seconds=3.0)
    Handover(house.stage("base")).write_error(stage_failure("E502", "out of memory"), rank=0)
    result = watch()
    assert "error[E502] in base: out of memory" in result.output
    assert isinstance(result.exception, SystemExit) and result.exception.code == 1


def test_a_name_that_no_run_has_is_answered_with_one_that_is_near(house: House) -> None:
    with pytest.raises(InputError) as caught:
        raise watch("tael").exception
    assert "tale" in caught.value.diagnostics[0].help
