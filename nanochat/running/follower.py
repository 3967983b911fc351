"""The runner of a node that is not the first: it does its share of each attempt that the first node calls.

In: a plan, the same as the first node's. Out: processes of this machine, their log, the exit code of the whole run. It
holds no lease and writes no record. Of how an attempt ended it knows only what the first node says.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import psutil

from nanochat.errors import EXIT_STOPPED, stage_failure, wrong_input
from nanochat.running.launcher import Launch
from nanochat.running.lease import is_held
from nanochat.running.leftovers import GONE_SECONDS, end
from nanochat.running.nodes import Call, read_call
from nanochat.running.plan import PlannedStage
from nanochat.running.progress import Display
from nanochat.running.provenance import now
from nanochat.running.stop import StopRequests, die_with
from nanochat.running.store import LOG

_LOOK_SECONDS = 0.1


@attrs.define(kw_only=True)
class Follower:
    """A node at work."""

    run: Path
    """The run's folder, which the first node makes."""
    stages: Mapping[str, PlannedStage]
    worker: Callable[[Path, PlannedStage], list[str]]
    node_rank: int | None
    patience: float
    """Seconds to wait for a first node that does not show itself."""
    display: Display
    requests: StopRequests = attrs.field(factory=StopRequests)
    _agent: subprocess.Popen[bytes] | None = None
    _stage: str = ""

    def go(self) -> int:
        """Follow the first node until it says how the run ended."""
        self.requests.listen()
        try:
            return self._follow(read_call(self.run))
        finally:
            if self._agent is not None:
                _kill(self._agent)
            self.requests.restore()

    def _follow(self, heard: Call) -> int:
        # What an earlier run said last is no news; an attempt that is under way may be this run's.
        heard = heard if heard.exit_code is not None else Call()
        self.display.say(f"waiting for the first node to call, in {self.run}")
        last_sign, passed_on = time.monotonic(), 0
        while True:
            call = read_call(self.run)
            if call != heard:
                heard, last_sign = call, time.monotonic()
                if call.exit_code is not None:
                    return self._ended(call.exit_code)
                if call.attempt:
                    self._join(call)
            if self._at_work() or is_held(self.run):
                last_sign = time.monotonic()
            if self.requests.count > passed_on:
                passed_on = self.requests.count
                self._pass_on(passed_on)
            if passed_on and not self._at_work():
                self.display.say("stopped; the same command on every node goes on")
                return EXIT_STOPPED
            if time.monotonic() - last_sign > self.patience:
                raise self._alone()
            time.sleep(_LOOK_SECONDS)

    def _at_work(self) -> bool:
        return self._agent is not None and self._agent.poll() is None

    def _join(self, call: Call) -> None:
        """Start this node's share; what is left of an attempt before is ended."""
        if self._agent is not None:
            _kill(self._agent)
        planned = self.stages.get(call.stage)
        if planned is None or not planned.to_do or planned.launcher is None:
            raise wrong_input(
                "E407",
                f"the first node is at stage `{call.stage}`, which this node's command does not run",
                help="give the same command on every node",
            )
        folder, rank = planned.folder.path, self.node_rank
        launch = Launch(
            worker=self.worker(self.run, planned),
            stage=planned.name,
            run=self.run,
            folder=folder,
            attempt=call.attempt,
            node_rank=rank,
        )
        log = (folder / LOG).with_name(f"node-{socket.gethostname() if rank is None else rank}.log")
        command = planned.launcher.command(launch)
        with log.open("ab") as output:
            output.write(f"=== {now()} {' '.join(command)}\n".encode())
            output.flush()
            self._agent = subprocess.Popen(
                command,
                env={**os.environ, **planned.launcher.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid()),
            )
        self._stage = planned.name
        self.display.say(f"{planned.name}: joined. The log: {log}")

    def _pass_on(self, count: int) -> None:
        """As a runner does: once to stop in order, the ranks of all nodes together; twice to kill."""
        if not self._at_work() or self._agent is None:
            return
        if count == 1:
            with suppress(ProcessLookupError):
                os.killpg(self._agent.pid, signal.SIGTERM)
            self.display.say(f"stopping {self._stage} after this step; once more stops it at once")
        else:
            _kill(self._agent)

    def _ended(self, exit_code: int) -> int:
        if exit_code == 0:
            self.display.say("done, as the first node says")
        elif exit_code == EXIT_STOPPED:
            self.display.say("stopped; the same command on every node goes on")
        else:
            raise stage_failure("E403", "the run has failed", help="the first node's output says why")
        return exit_code

    def _alone(self) -> Exception:
        return wrong_input(
            "E404",
            f"nobody has begun {self.run.name} within {self.patience:g} seconds",
            help="give the same command on the first node, the one that `rendezvous` names (or with --node-rank 0); "
            "all nodes must see the same NANOCHAT_HOME",
        )


def _kill(agent: subprocess.Popen[bytes]) -> None:
    """Kill the agent and all below it: its ranks are in sessions of their own, out of killpg's reach."""
    with suppress(psutil.NoSuchProcess):
        end([psutil.Process(agent.pid)] if agent.poll() is None else [], None)
    with suppress(subprocess.TimeoutExpired):
        agent.wait(GONE_SECONDS)
