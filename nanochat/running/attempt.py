"""One attempt at a stage: its worker processes, from start to end.

In: a command line and a lease. Out: how the attempt ended, as the workers wrote it down. The processes run in a
session of their own, so that a terminal's Ctrl-C reaches the runner alone, which passes it on: once to stop in order,
twice to kill. SIGUSR1 it passes on to one rank. A rank that stands still, or one that does not end though
another has failed, is killed with all the others: no process outlives the attempt.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import psutil

from nanochat.errors import NanochatError, stage_failure
from nanochat.running.handover import Handover
from nanochat.running.json_file import read_lines
from nanochat.running.lease import Lease
from nanochat.running.leftovers import GONE_SECONDS, end
from nanochat.running.progress import Display
from nanochat.running.provenance import now
from nanochat.running.pulse import Pulses, Still
from nanochat.running.restarts import LOST
from nanochat.running.stop import StopRequests, die_with
from nanochat.running.store import LOG

_LOOK_SECONDS = 0.1
_SHOWN_LOG_LINES = 12
_LAST_WORDS_SECONDS = 30.0
"""How long the others may take to end once a rank has failed; less where `patience` is."""
_LEFT_ALONE = re.compile(
    r"^Traceback \(most recent call last\):\n(?:(?!^Traceback ).*\n)*?.* rank \d+: error\[(?:E410|E403)\].*\n?",
    re.MULTILINE,
)
"""What a worker writes that another's end has ended: its traceback, and the line in which it says so."""
_AGENT_LINE = re.compile(r"^[IWE]\d{4} .* torch/distributed/", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Ending:
    """How an attempt ended."""

    state: Literal["done", "stopped", "failed"]
    result: Mapping[str, Any] = attrs.field(factory=dict)
    """done: what the stage made."""
    place: str = ""
    """stopped: where."""
    error: NanochatError | None = None

    @property
    def why(self) -> dict[str, Any]:
        """failed: what the event says of it, which a report tells when the next attempt has cleared all else."""
        found = self.error.diagnostics if self.error is not None else ()
        return {"errors": [{"code": d.code, "message": d.message, "help": d.help} for d in found]} if found else {}


@attrs.define(kw_only=True)
class Attempt:
    """An attempt under way."""

    stage: str
    command: Sequence[str]
    environment: Mapping[str, str]
    lease: Lease
    events: Path
    """The run's events.jsonl: the notes of the workers appear there."""
    display: Display
    requests: StopRequests
    patience: float
    """Seconds that a rank may stand still."""
    scheduled: bool = False
    """Whether a scheduler has the workers: they are not this runner's to kill."""
    pulses: Pulses = attrs.field(init=False)
    still: Still | None = None
    given_up: bool = False
    """Whether the runner killed the processes before they ended."""

    def __attrs_post_init__(self) -> None:
        self.pulses = Pulses(Handover(self.lease.folder).folder)

    def run(self) -> Ending:
        """Start the processes, show their progress, pass requests to stop on, wait for the end."""
        log = self.lease.folder / LOG
        log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            output.write(f"=== {now()} {' '.join(self.command)}\n".encode())
            output.flush()
            process = self._start(output.fileno())
        try:
            self.display.begin(self.stage)  # after the fork: it may start a thread
            self._follow(process)
        finally:
            self._kill(process)
            self.display.end()
        exit_code = -signal.SIGKILL if process.returncode is None else process.returncode
        return self._ending(exit_code, log, log_start)

    def _start(self, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[self.lease.descriptor],
            preexec_fn=partial(die_with, os.getpid()),
        )

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        handover, seen, passed_on = Handover(self.lease.folder), self.events.stat().st_size, 0
        failed_at: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
            seen = self._show_notes(seen)
            progress = handover.progress()
            if progress is not None:
                self.display.update(progress)
            if process.returncode is not None:
                return
            if self.requests.count > passed_on:
                passed_on = self.requests.count
                self._pass_on(process, passed_on)
            if self.requests.take_save() and not self.pulses.signal(signal.SIGUSR1):
                self.display.say(f"{self.stage}: nothing to save yet")
            self.still = self.pulses.still(self.patience)
            if failed_at is None and handover.has_error():
                failed_at = time.monotonic()
            last_words = min(_LAST_WORDS_SECONDS, self.patience)
            if self.still or (failed_at is not None and time.monotonic() - failed_at > last_words):
                self.given_up = True
                return

    def _pass_on(self, process: subprocess.Popen[bytes], count: int) -> None:
        if count == 1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            self.display.say(f"stopping {self.stage} after this step; once more stops it at once")
        else:
            self._kill(process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the launcher's process and all below it; the ranks also where it is gone and they are not."""
        family, ended_well = list(self.pulses.ranks().values()), process.poll() == 0
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [psutil.Process(process.pid)] if process.returncode is None else []
        # torchrun's ranks are in sessions of their own, out of killpg's reach.
        end(family, None if ended_well or self.scheduled else self.lease.folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GONE_SECONDS)

    def _show_notes(self, start: int) -> int:
        size = self.events.stat().st_size
        for line in read_lines(self.events, start=start, end=size) if size > start else ():
            if line.get("event") == "note" and line.get("stage") == self.stage:
                self.display.say(f"{self.stage}: {line['text']}")
        return size

    def _ending(self, exit_code: int, log: Path, log_start: int) -> Ending:
        handover = Handover(self.lease.folder)
        error, result, stopped = handover.error(), handover.result(), handover.stopped()
        death = Death.read(exit_code, log, log_start)
        # A rank that is killed says nothing; the others fail in unforeseen ways because it is gone.
        killed = death.signal and not self.given_up
        if error is not None and error.diagnostics[0].code not in ((LOST, "E403") if killed else (LOST,)):
            return Ending(state="failed", error=error)
        if result is not None and error is None:
            return Ending(state="done", result=result)
        if stopped is not None and error is None:
            return Ending(state="stopped", place=_place(stopped))
        if self.requests.asked:
            # Killed by the second request, or so early that no handler stood, or lost on the way to its end.
            return Ending(state="stopped", place="at once, going back to its last checkpoint")
        if self.still is not None:
            return Ending(state="failed", error=_stood_still(self.stage, self.still))
        return Ending(state="failed", error=error if error and not killed else death.error(self.stage))


def _place(stopped: Mapping[str, Any]) -> str:
    """Where a stage stopped in order."""
    done, total, unit = stopped["done"], stopped["total"], stopped["unit"]
    if not total:
        return "before its first step"
    return f"at step {done} of {total}" if unit == "steps" else f"after {done:,} of {total:,} {unit}"


def _stood_still(stage: str, still: Still) -> NanochatError:
    return stage_failure(
        LOST,
        f"stage `{stage}`: rank {still.rank} (process {still.pid} on {still.host}) stood still for "
        f"{still.seconds:.0f} s, and was killed with the others",
        help="if it only was that slow, set a larger timeout_seconds in [hardware]",
    )


@attrs.frozen(kw_only=True)
class Death:
    """How processes ended that left no word: by which signal, or exit code, and after which lines in their log."""

    exit_code: int
    rank: str
    """That ended first, as torchrun tells it; empty where it does not."""
    signal: str
    """SIGKILL, SIGSEGV, …, of a rank as torchrun tells it, or of the process itself; empty where there was none."""
    last_lines: Sequence[str]

    @classmethod
    def read(cls, exit_code: int, log: Path, start: int) -> "Death":
        """From an attempt's part of the log."""
        with log.open("rb") as file:
            file.seek(start)
            text = file.read().decode(errors="replace")
        # SIGTERM is what torchrun's agent sends to the ranks that are left.
        killed = re.search(r"Signal \d+ \((SIG(?!TERM)[A-Z]+)\)", text)
        name = killed[1] if killed else signal.Signals(-exit_code).name if exit_code < 0 else ""
        first = re.search(r"Root Cause(?:.*\n)*?\s*rank\s*: (\d+)", text) if killed else None
        own = _AGENT_LINE.split(text)[0]  # torchrun's account of the end is long, and says no more than the signal
        if name:  # the others' tracebacks say no more than that it is gone
            own = _LEFT_ALONE.sub("", own)
        last_lines = own.splitlines()[1:][-_SHOWN_LOG_LINES:]
        return cls(exit_code=exit_code, rank=first[1] if first else "", signal=name, last_lines=last_lines)

    def error(self, stage: str) -> NanochatError:
        """The error that says so."""
        cause = f"was killed by {self.signal}" if self.signal else f"ended with exit code {self.exit_code}"
        if self.signal == "SIGKILL":
            cause += "; where nobody did so, the system was out of memory"
        lines = "".join(f"\n  | {line}" for line in self.last_lines)
        who = f"its rank {self.rank}" if self.rank else "its process"
        return stage_failure(LOST, f"stage `{stage}` failed: {who} {cause}{lines}")
