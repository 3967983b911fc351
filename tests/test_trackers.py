"""The trackers of nanochat-plugins, read back by their packages' own readers, and what keeps a bad one from a run."""

import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nanochat.config import Component
from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.running import tracker_thread
from nanochat.running.keys import stage_keys
from nanochat.running.tracker import Audience
from nanochat.running.tracker_thread import any_left

README = (Path(__file__).parent.parent / "plugins" / "README.md").read_text()
RECIPE = """
format = 1
name = "tracked"
[hardware]
device = "cpu"
[stages.one]
use = "tokenizer"
vocab_size = 300
data.docs = { use = "pydocs" }
"""


def record(folder: Path, *, step: int = 0) -> dict[str, Any]:
    names = {"run": "story-12345678", "recipe": "story", "stage": "base", "use": "pretrain"}
    return {**names, "folder": str(folder), "step": step, "settings": {"depth": 4, "data.web.use": "hub"}}


def audience(use: str, **options: Any) -> Audience:
    registry = load_registry()
    config = registry.config_class("tracker", use)(**options)
    return Audience(
        "base", {use: Component(kind="tracker", name=use, use=use, revision=1, config=config)}, registry, patience=120
    )


def track(told: Audience, folder: Path, steps: range, *, after: int = 0) -> None:
    told.start(record(folder, step=after))
    for step in steps:
        told.log(step, {"loss": 10.0 / step, "lr.head": 0.5})
    told.finish({"state": "done", "figures": {"bpb.bpb": {"value": 1.25, "n": 3}}})


@pytest.fixture
def stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """A stage's folder in a store, whose trackers nobody may complain of."""
    folder = tmp_path / "store" / "base-d9fde679"
    folder.mkdir(parents=True)
    yield folder
    assert complaints(caplog) == []


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "nanochat.running.tracker"]


# TensorBoard


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_tensorboard_has_the_figures_of_every_step_in_the_stages_folder(stage: Path) -> None:
    track(audience("tensorboard"), stage, range(1, 5))
    assert scalars(stage / "tensorboard", "loss") == [(1, 10.0), (2, 5.0), (3, pytest.approx(10 / 3)), (4, 2.5)]
    assert scalars(stage / "tensorboard", "lr.head") == [(step, 0.5) for step in (1, 2, 3, 4)]


def test_tensorboard_goes_on_with_one_curve_without_the_steps_that_a_kill_undid(stage: Path) -> None:
    killed = audience("tensorboard")  # at step 6, whose last checkpoint was at step 4
    track(killed, stage, range(1, 7))
    track(audience("tensorboard"), stage, range(5, 9), after=4)
    assert [step for step, _ in scalars(stage / "tensorboard", "loss")] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_tensorboard_writes_below_a_folder_that_is_said(stage: Path, tmp_path: Path) -> None:
    track(audience("tensorboard", folder=tmp_path / "curves"), stage, range(1, 3))
    assert len(scalars(tmp_path / "curves" / stage.name, "loss")) == 2


# wandb


WANDB_HEADER, LEVELDB_BLOCK = 7, 32_768


def leveldb_log(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format behind seven bytes (leveldb/doc/log_format.md)."""
    assert content.startswith(b":W&B")
    at, record = WANDB_HEADER, b""
    while at < len(content):
        if LEVELDB_BLOCK - at % LEVELDB_BLOCK < 7:  # a block's trailer
            at += LEVELDB_BLOCK - at % LEVELDB_BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # FULL, LAST
            yield record
            record = b""


def offline_runs(folder: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """(run id, lines of history) of every offline run, as wandb's own messages, the oldest first."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        name, history = "", []
        for data in leveldb_log(path.read_bytes()):
            told = Record()
            told.ParseFromString(data)
            name = told.run.run_id or name
            if items := told.history.item:
                history.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        found.append((name, history))
    return found


def test_wandb_offline_has_every_step_and_a_stage_that_goes_on_keeps_its_run(stage: Path) -> None:
    track(audience("wandb", mode="offline"), stage, range(1, 4))
    track(audience("wandb", mode="offline"), stage, range(3, 6), after=2)
    (first, lines), (second, more) = offline_runs(stage)
    assert first == second != ""
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 10.0), (2, 5.0), (3, 10.0 / 3)]
    assert [line["step"] for line in more] == [3, 4, 5]


def test_a_stage_done_afresh_is_another_run(stage: Path) -> None:
    from nanochat_plugins.trackers.identity import identity

    first = identity(record(stage), "wandb")
    assert identity(record(stage), "wandb") == first
    assert identity(record(stage), "trackio") != first
    stage.rename(stage.with_name("set aside"))
    stage.mkdir()
    assert identity(record(stage), "wandb") != first
    (stage / "wandb.json").write_text("{torn")
    assert identity(record(stage), "wandb") == identity(record(stage), "wandb")


# trackio


def test_trackio_has_every_step_and_a_stage_that_goes_on_keeps_its_run(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", "")  # put back afterwards
    options = {"folder": tmp_path / "trackio", "project": "stories"}
    track(audience("trackio", **options), stage, range(1, 4))
    track(audience("trackio", **options), stage, range(4, 6), after=3)
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as opened:
        rows = opened.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert len({run for run, _, _ in rows}) == 1
    assert [step for _, step, _ in rows] == [1, 2, 3, 4, 5]
    assert json.loads(rows[1][2])["loss"] == 5.0
    from trackio.sqlite_storage import SQLiteStorage

    assert len(SQLiteStorage.get_run_records("stories")) == 1


# A folder that cannot be had


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_folder_that_cannot_be_made_is_told(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    track(audience(name, folder=tmp_path / "file" / "below"), tmp_path, range(1, 3))
    assert len(complaints(caplog)) == 1 and name in complaints(caplog)[0]


# A package that is missing


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_package_that_is_missing_is_said_with_its_extra_before_anything_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanochat_plugins.trackers.needed.find_spec", lambda package: None)
    recipe = tmp_path / "tracked.toml"
    recipe.write_text(RECIPE + f'[trackers.mine]\nuse = "{name}"\n')
    with pytest.raises(InputError) as caught:
        load_recipe(recipe)
    (found,) = caught.value.diagnostics
    assert f"pip install 'nanochat-plugins[{name}]'" in found.render()
    assert found.location is not None and found.location.text == "[trackers.mine]"


def test_the_trackers_of_the_readme_are_in_the_recipe_and_in_no_stages_key(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^`trackers.toml`:\n```toml\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    recipe = tmp_path / "tracked.toml"
    recipe.write_text(RECIPE)
    bare = stage_keys(load_recipe(recipe))
    recipe.write_text(RECIPE + shown)
    tracked = load_recipe(recipe)
    assert {name: tracker.use for name, tracker in tracked.trackers.items()} == {
        "curves": "tensorboard",
        "cloud": "wandb",
        "local": "trackio",
    }
    assert stage_keys(tracked) == bare


def test_the_extras_have_the_trackers_names() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "plugins" / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].keys() == {"tensorboard", "trackio", "wandb"}


# Trackers that misbehave


class Bad:
    """Fails in one method, or stands still there until it is let go."""

    def __init__(self, where: str, let_go: threading.Event | None = None) -> None:
        self.where, self.let_go, self.told = where, let_go, []
        self._at("build")

    def start(self, record: Mapping[str, Any]) -> None:
        self._at("start")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._at("log")

    def finish(self, record: Mapping[str, Any]) -> None:
        self._at("finish")

    def _at(self, place: str) -> None:
        self.told: list[str]
        self.told.append(place)
        if place == self.where:
            if self.let_go is None:
                raise SystemExit("no network")
            self.let_go.wait()


def bad_audience(make: Any, *, patience: float = 60.0) -> Audience:
    registry = Registry()
    registry.builder = lambda kind, use: lambda config: make()  # type: ignore[method-assign, assignment]
    bad = Component(kind="tracker", name="bad", use="bad", revision=1, config=None)
    return Audience("base", {"bad": bad}, registry, patience=patience)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("build", ["build"]),
        ("start", ["build", "start"]),
        ("log", ["build", "start", "log", "log", "finish"]),
        ("finish", ["build", "start", "log", "log", "finish"]),
    ],
)
def test_a_tracker_that_raises_is_complained_of_once(
    where: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Bad] = []

    def make() -> Bad:
        made.append(Bad.__new__(Bad))
        made[0].__init__(where)  # type: ignore[misc]
        return made[0]

    audience = bad_audience(make)
    track_two(audience)
    assert made[0].told == told
    assert complaints(caplog) == ["tracker `bad`: SystemExit: no network (said once)"]
    assert not any_left()


@pytest.mark.parametrize("where", ["build", "start", "log", "finish"])
def test_a_tracker_that_stands_still_is_left_behind(where: str, caplog: pytest.LogCaptureFixture) -> None:
    let_go = threading.Event()
    try:
        track_two(bad_audience(lambda: Bad(where, let_go), patience=0.2))
        assert complaints(caplog) == ["tracker `bad`: it did not end in time, and is left behind"]
        assert any_left()
    finally:
        let_go.set()
    for thread in threading.enumerate():
        if thread.name == "tracker":
            thread.join(60)
    assert not any_left()


def test_one_that_stands_still_takes_no_time_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    let_go = threading.Event()
    made = iter([Bad("finish", let_go), good := Bad("nowhere")])
    registry = Registry()
    registry.builder = lambda kind, use: lambda config: next(made)  # type: ignore[method-assign, assignment]
    names = ("bad", "good")
    parts = {name: Component(kind="tracker", name=name, use=name, revision=1, config=None) for name in names}
    audience = Audience("base", parts, registry, patience=1.0)
    track_two(audience)
    try:
        assert good.told[-1] == "finish"
        assert len(complaints(caplog)) == 1  # of the other, whichever thread was quicker to build it
    finally:
        let_go.set()


def test_a_tracker_that_does_not_keep_up_loses_figures_and_holds_nobody_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_thread, "WAITING", 3)
    let_go = threading.Event()
    bad = Bad("log", let_go)
    audience = bad_audience(lambda: bad)
    audience.start({})
    for step in range(100):
        audience.log(step, {})
    assert complaints(caplog) == ["tracker `bad`: it does not keep up: 3 calls wait, and further figures are left out"]
    let_go.set()
    audience.finish({"state": "done"})
    assert 1 <= bad.told.count("log") <= 4 and bad.told[-1] == "finish"


def track_two(audience: Audience) -> None:
    audience.start({})
    audience.log(1, {"loss": 1.0})
    audience.log(2, {"loss": 0.5})
    audience.finish({"state": "done"})
