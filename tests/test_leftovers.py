"""What is left of an attempt: processes that nobody watches any more, killed before another attempt begins."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from test_running import House, enter, wait_for

from nanochat.running.leftovers import WORKER, end, workers_in

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return enter(tmp_path, monkeypatch)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that sleeps, with these words in its command line."""
    started = []

    def sleeper(*words: str, code: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", f"import subprocess, sys, time\n{code}\ntime.sleep(600)", *words]
        started.append(subprocess.Popen(command, start_new_session=True))
        return started[-1]

    yield sleeper
    for process in started:
        process.kill()
        process.wait()


def test_what_works_in_the_folder_is_killed_with_its_children_and_nothing_else(tmp_path: Path, start: Start) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
    ours = start(WORKER, "--stage", "one", "--folder", str(tmp_path / "one-1"), code=child)
    others = [start(WORKER, "--folder", str(tmp_path / "one-2")), start("--folder", str(tmp_path / "one-1"))]
    wait_for(lambda: len(psutil.Process(ours.pid).children()) == 1)
    (below,) = psutil.Process(ours.pid).children()
    wait_for(lambda: below.cmdline()[1:2] == ["-c"])
    assert workers_in(tmp_path / "one-1") == [psutil.Process(ours.pid)]
    assert end((), tmp_path / "one-1") == []
    assert ours.wait() == -9
    assert not below.is_running() or below.status() == psutil.STATUS_ZOMBIE
    assert [process.poll() for process in others] == [None, None]


def test_a_process_that_killing_does_not_end_is_named(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = psutil.Process(start(WORKER, "--folder", str(tmp_path)).pid)
    wait_for(lambda: workers_in(tmp_path) == [process])
    monkeypatch.setattr(psutil.Process, "kill", lambda self: None)  # as one that waits for a disk takes it
    assert end((), tmp_path, seconds=0.2) == [process]


def test_a_stage_does_not_begin_beside_what_is_left_of_an_earlier_run(house: House, start: Start) -> None:
    folder = house.plan().stages[0].folder.path
    orphan = start(WORKER, "--folder", str(folder))
    wait_for(lambda: workers_in(folder))
    code, output = house.run("--until", "one")
    assert (code, orphan.wait()) == (0, -9), output
