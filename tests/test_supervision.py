"""Supervision: processes that are killed, stopped or hang are given up within a bound, and the stage goes on.

The stages come from tests/loose/counting.py; the processes, and what is done to them, are real.
"""

import contextlib
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import PATIENCE
from test_running import RECIPE, House, enter, record_of, wait_for, workers

from nanochat.errors import stage_failure
from nanochat.running.attempt import Death
from nanochat.running.handover import Handover
from nanochat.running.leftovers import WORKER
from nanochat.running.pulse import Pulses, beating
from nanochat.running.restarts import LOST, Restarts
from nanochat.running.worker import is_connection_fault

TWO_RANKS = RECIPE.replace('"local"', '"torchrun"\nnproc_per_node = 2\ntimeout_seconds = 8')


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return enter(tmp_path, monkeypatch)


def ranks(house: House) -> dict[int, psutil.Process]:
    """The ranks of the stage `one` that live."""
    told = [path.read_text() for path in house.store.glob("one-*/worker/pulse-*.json")]
    found = {json.loads(text)["rank"]: json.loads(text)["pid"] for text in told}
    return {rank: psutil.Process(pid) for rank, pid in found.items() if lives(pid)}


def lives(pid: int) -> bool:
    """Whether there is such a process, and not only its number, which a parent has yet to take note of."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def attempt_of(rank: psutil.Process) -> list[psutil.Process]:
    """The agent that started a rank, and all below it. The runner has other children too, which write its reports."""
    return [rank.parent(), *rank.parent().children(recursive=True)]


def started(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks below a runner, from the first moment on."""
    found = []
    for below in workers(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [below] if WORKER in below.cmdline()[:6] else []
    return found


def alive(family: list[psutil.Process]) -> list[str]:
    """Command lines of those that have not ended."""
    found = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [" ".join(process.cmdline())] if process.is_running() else []
    return found


def newest(house: House) -> int:
    return max((int(p.name[5:]) for p in house.store.glob("one-*/checkpoints/step_*")), default=0)


def events(house: House, name: str) -> list[dict[str, Any]]:
    (path,) = house.folder.glob("home/runs/*/events.jsonl")
    return [event for line in path.read_text().splitlines() if (event := json.loads(line))["event"] == name]


def wait_for_progress(house: House, process: subprocess.Popen[str], beyond: int) -> None:
    wait_for(lambda: (len(ranks(house)) == 2 and newest(house) > beyond) or process.poll() is not None)


@pytest.mark.slow
def test_a_rank_killed_one_stopped_and_a_killed_agent_each_cost_an_attempt_and_leave_no_process(house: House) -> None:
    house.write(TWO_RANKS.replace("timeout_seconds = 8", "timeout_seconds = 24"))
    sets = [f"--set=stages.one.{word}" for word in ("steps=300", "pause=0.02", "checkpoint_every=1")]
    process = house.start("run", str(house.recipe), "--until", "one", *sets)
    beyond, gone = 0, []
    for blow in ("kill rank", "stop rank", "kill agent"):
        wait_for_progress(house, process, beyond)
        assert process.poll() is None, process.communicate()[0]
        struck = ranks(house)[1]
        family = attempt_of(struck)
        if blow == "kill agent":
            struck.parent().kill()
        else:
            struck.send_signal(signal.SIGKILL if blow == "kill rank" else signal.SIGSTOP)
        wait_for(lambda: len(events(house, "attempt_lost")) > len(gone) or process.poll() is not None)
        assert not alive(family), blow
        beyond = newest(house)
        gone.append((blow, struck.pid))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    told = [event["error"] for event in events(house, "attempt_lost")]
    assert "its rank 1 was killed by SIGKILL" in told[0]
    assert f"rank 1 (process {gone[1][1]} on " in told[1] and "stood still for 12 s" in told[1]
    assert "was killed by SIGKILL" in told[2]
    assert [event["restart"] for event in events(house, "attempt_lost")] == [1, 1, 1]
    assert output.count("starts again in 1 s from its checkpoint of step ") == 3
    assert "Traceback" not in output
    lines = (house.stage("one") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 301))
    assert record_of(house.stage("one"))["figures"]["count.count"]["value"] == 300.0


@pytest.mark.slow
def test_ranks_whose_agent_is_killed_before_they_watch_it_are_killed_before_the_next_attempt(house: House) -> None:
    house.write(TWO_RANKS.replace("timeout_seconds = 8", "timeout_seconds = 24"))
    process = house.start("run", str(house.recipe), "--until", "one")
    wait_for(lambda: len(started(process)) == 2 or process.poll() is not None)
    family = attempt_of(started(process)[0])
    family[0].kill()
    wait_for(lambda: events(house, "attempt_lost") or process.poll() is not None)
    assert not alive(family)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert record_of(house.stage("one"))["figures"]["count.count"]["value"] == 4.0


def test_a_rank_that_hangs_ends_the_attempt_within_the_timeout_and_the_error_is_short(house: House) -> None:
    house.write(TWO_RANKS)
    code, output = house.run("--set", 'stages.one.trouble="last rank hangs"', "--set", "hardware.restarts=0")
    assert code == 1, output
    assert "error[E410]: stage `one`: rank 0 lost the connection to the others: " in output
    assert f"the log: {house.stage('one') / 'logs' / 'worker.log'}" in output
    assert "Traceback" not in output and len(output.splitlines()) < 12
    assert not ranks(house)


def test_a_stage_that_always_dies_is_given_up_with_the_last_error_alone(house: House) -> None:
    code, output = house.run("--set", 'stages.one.trouble="killed"', "--set", "hardware.restarts=1")
    assert code == 1, output
    assert output.count("starts again in 1 s from its beginning (restart 1 of 1 without a new checkpoint)") == 1
    assert output.count("error[E410]: stage `one` failed: its process was killed by SIGKILL") == 1
    assert [event["restart"] for event in events(house, "attempt_lost")] == [1]


def test_of_a_killed_rank_its_own_last_words_are_told_and_not_what_the_others_said_of_its_end(tmp_path: Path) -> None:
    lost = (
        "Traceback (most recent call last):\n  File loop.py, line 1, in train\n    work.wait()\n"
        "RuntimeError: gloo/pair.cc:545] Connection reset by peer\n"
        "2026-11-28 22:22:05,304 ERROR nanochat.running.worker: rank {}: error[E410]: stage `one`: rank {} lost\n"
    )
    agent = "W1128 22:22:05.376000 29037 torch/distributed/elastic/api.py:1] Sending process 1 closing signal SIGTERM\n"
    end = "Root Cause (first observed failure):\n  rank      : 1 (local_rank: 1)\n  traceback : Signal 9 (SIGKILL)\n"
    log = tmp_path / "worker.log"
    log.write_text("=== command\nthe last words of rank 1\n" + lost.format(0, 0) + lost.format(2, 2) + agent + end)
    death = Death.read(1, log, 0)
    assert (death.rank, death.signal, list(death.last_lines)) == ("1", "SIGKILL", ["the last words of rank 1"])
    log.write_text("=== command\n" + lost.format(0, 0))
    assert len(Death.read(1, log, 0).last_lines) == 5


def test_what_a_worker_says_of_itself_is_not_tried_again(house: House) -> None:
    code, output = house.run("--set", 'stages.one.trouble="stage"')
    assert (code, "error[E501]" in output, "starts again" in output) == (1, True, False), output


def test_pauses_double_up_to_a_minute_and_a_new_checkpoint_begins_the_count_anew() -> None:
    restarts, lost = Restarts(allowed=8, reached=-1), stage_failure(LOST, "killed")
    pauses = [restarts.pause(lost, -1) for _ in range(9)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, None]
    assert [restarts.pause(lost, 5), restarts.pause(lost, 5), restarts.pause(lost, 6)] == [1.0, 2.0, 1.0]
    assert restarts.pause(stage_failure("E502", "no memory"), 7) is None
    assert restarts.pause(None, 7) is None
    assert Restarts(allowed=0, reached=-1).pause(lost, 5) is None


def test_a_rank_stands_still_when_its_pulse_does_and_a_runner_that_slept_counts_anew(tmp_path: Path) -> None:
    now = 0.0
    (tmp_path / "pulse-1.json").write_text('{"rank": 1, "pid": 7, "host": "there"}')
    pulses = Pulses(tmp_path, clock=lambda: now)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):  # noqa: B007
        assert pulses.still(4.0) is None
    now = 4.5
    found = pulses.still(4.0)
    assert found is not None and (found.rank, found.pid, found.host, found.seconds) == (1, 7, "there", 4.5)
    now = 1000.0
    assert pulses.still(4.0) is None
    (tmp_path / "pulse-1.json").unlink()
    now = 1004.5
    assert pulses.still(4.0) is None


def test_a_process_beats_while_it_works_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with beating(tmp_path, rank=3):
        path = tmp_path / "pulse-3.json"
        before = path.stat().st_mtime_ns
        wait_for(lambda: path.stat().st_mtime_ns > before)
        assert Pulses(tmp_path).ranks() == {3: psutil.Process()}
    assert list(tmp_path.iterdir()) == []


def test_the_cause_is_told_and_not_what_it_did_to_the_others(tmp_path: Path) -> None:
    handover = Handover(tmp_path)
    handover.clear()
    handover.write_error(stage_failure(LOST, "the connection is closed"), rank=0)
    handover.write_error(stage_failure("E502", "no memory"), rank=1)
    found = handover.error()
    assert found is not None and found.diagnostics[0].message == "no memory"


def test_faults_of_the_connection_are_told_from_those_of_the_code() -> None:
    import torch

    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:33117"
    assert is_connection_fault(RuntimeError(gloo))
    assert is_connection_fault(RuntimeError("Application timeout caused pair closure")), (
        "to the second of two exchanges"
    )
    assert is_connection_fault(torch.distributed.DistNetworkError("timed out"))
    assert not is_connection_fault(RuntimeError("shapes differ"))
    assert not is_connection_fault(KeyError("gloo"))
