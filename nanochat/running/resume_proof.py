"""The proof that nothing is lost: a run that is killed again and again equals one that nobody disturbed, bit for bit.

In: a recipe with a stage that trains, and a number of kills. Out: a Proof: whom and where each `kill -9` hit, and what
differs in the end. Both runs are real: `nanochat run` in homes of their own, with an agent and ranks below it. Whom and
about when a kill hits is drawn from a seed; what it hit is then looked up, not believed.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import psutil

from nanochat.errors import stage_failure
from nanochat.home import DATA_DIR, HOME, OLDER_HOME, RUN_DIR
from nanochat.running.json_file import read_lines
from nanochat.running.trace import Comparison, Trace, compare

VICTIMS = ("rank 0", "rank 1", "agent", "runner")
START, STEP, WRITE = MOMENTS = ("start", "step", "write")
"""Before an attempt's first step; in a step; while a checkpoint is written."""
RANKS = 2
MOST_STEPS = 4
"""A kill in a step comes so many steps at most after an attempt's first."""
_LONGEST_START_SECONDS = 6.0
"""A kill in the start comes at most so long after the ranks are there."""
_LONGEST_WRITE_SECONDS = 0.03
"""A kill in a write comes at most so long after it began."""
_LOOK_SECONDS, _LOOK_AT_WRITES_SECONDS = 0.02, 0.002
_PATIENCE_SECONDS = 300.0
"""Until an attempt comes to the moment that is waited for; more is a hang."""
_GONE_SECONDS = 60.0


@attrs.frozen(kw_only=True)
class Kill:
    """One kill -9."""

    victim: str
    moment: str
    """What it hit, as the files say: one of MOMENTS."""
    step: int
    """How many steps were begun in all attempts, repeated ones counted again."""


@attrs.frozen(kw_only=True)
class Proof:
    """The kills, and the two runs compared."""

    kills: Sequence[Kill]
    restarts_by_runner: int
    restarts_by_hand: int
    """Of the runner itself, by the same command."""
    comparison: Comparison

    def count(self, victim: str, moment: str) -> int:
        """How many kills hit this one then."""
        return sum(kill.victim == victim and kill.moment == moment for kill in self.kills)


@attrs.frozen(kw_only=True)
class Trial:
    """What is run, and where."""

    recipe: Path
    stage: str
    """It writes its batches down, and logs each step."""
    overrides: Sequence[str]
    folder: Path
    """Empty; two homes come to lie in it."""
    data: Path | None = None
    """Where downloaded data are kept; None: in the homes."""

    def prove(self, kills: int, seed: int, say: Callable[[str], None]) -> Proof:
        """Run both, compare. StageError E403 where one of them fails, or ends before it was killed so often."""
        calm, killed = self.folder / "undisturbed", self.folder / "killed"
        say("the undisturbed run")
        process = self.start(calm)
        self.require(process.wait() == 0, calm, "the undisturbed run failed")
        # What comes before the stage is not made twice.
        shutil.copytree(calm, killed, ignore=shutil.ignore_patterns(f"{self.stage}-*", "runs", "output"))
        trace, chance, hits, by_hand = Trace(killed, self.stage), random.Random(seed), [], 0
        victims, moments = in_rounds(VICTIMS, chance), in_rounds(MOMENTS, chance)
        process = self.start(killed)
        try:
            for number in range(1, kills + 1):
                hit = strike(trace, process, next(victims), next(moments), chance)
                self.require(
                    hit is not None, killed, f"the run ended, or hung, before kill {number}: it may need more steps"
                )
                assert hit is not None
                hits.append(hit)
                say(f"kill {number} of {kills}: {hit.victim}, in a {hit.moment}, {hit.step} steps begun")
                if hit.victim == "runner":
                    process, by_hand = self.start(killed), by_hand + 1
            self.require(process.wait() == 0, killed, "the run that was killed did not come to its end")
        finally:
            process.kill()
            process.wait()
        events = [line for path in killed.glob("runs/*/events.jsonl") for line in read_lines(path)]
        return Proof(
            kills=hits,
            restarts_by_runner=sum(line["event"] == "attempt_lost" for line in events),
            restarts_by_hand=by_hand,
            comparison=compare(Trace(calm, self.stage), trace),
        )

    def start(self, home: Path) -> subprocess.Popen[bytes]:
        """`nanochat run`, in a home of its own; what it says goes to the file `output` there."""
        home.mkdir(exist_ok=True)
        moved = {HOME: str(home)} | ({DATA_DIR: str(self.data)} if self.data else {})
        kept = {name: value for name, value in os.environ.items() if name not in (OLDER_HOME, DATA_DIR, RUN_DIR)}
        command = [sys.executable, "-P", "-m", "nanochat.cli.main", "run", str(self.recipe), "--until", self.stage]
        with (home / "output").open("ab") as output:
            return subprocess.Popen(
                [*command, *(f"--set={override}" for override in self.overrides)],
                env=kept | moved,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def require(self, kept: bool, home: Path, otherwise: str) -> None:
        """StageError with the last words of the run, unless it did what it must."""
        if not kept:
            said = (home / "output").read_text(errors="replace").splitlines()[-12:]
            raise stage_failure("E403", "\n  | ".join([otherwise, *said]))


def in_rounds(names: Sequence[str], chance: random.Random) -> Iterator[str]:
    """The names in a random order, then all of them in another: none is left out for long."""
    while True:
        yield from chance.sample(names, len(names))


def strike(
    trace: Trace, process: subprocess.Popen[bytes], victim: str, moment: str, chance: random.Random
) -> Kill | None:
    """Wait for a moment of the attempt that is coming, or under way, then kill. None where the run ends before."""
    before = trace.steps_begun()
    while _come(trace, process, moment, before, chance):
        found = trace.ranks()
        if len(found) < RANKS:
            continue
        family = {f"rank {rank}": its for rank, its in found.items()}
        try:
            family |= {"agent": found[0].parent(), "runner": psutil.Process(process.pid)}
            step = trace.steps_begun()
            family[victim].kill()
        except (psutil.NoSuchProcess, AttributeError):  # it has just gone by itself: wait for the next
            continue
        gone = [its for name, its in family.items() if its is not None and name != "runner"]
        psutil.wait_procs(gone, timeout=_GONE_SECONDS)  # who wrote a checkpoint writes no more, and no lease is held
        if victim == "runner":
            process.wait()
        # Before an attempt's first step, what is half written is another's.
        hit = START if step == before else WRITE if trace.writing() else STEP
        return Kill(victim=victim, moment=hit, step=step)
    return None


def _come(trace: Trace, process: subprocess.Popen[bytes], moment: str, before: int, chance: random.Random) -> bool:
    """Wait until there are all ranks and the moment is there. False where the run ended, or hangs."""
    started, wanted = time.monotonic(), chance.randint(1, MOST_STEPS) if moment != START else 0
    first: float | None = None
    while True:
        if process.poll() is not None or time.monotonic() - started > _PATIENCE_SECONDS:
            return False
        begun = trace.steps_begun() - before
        if begun and first is None:
            first = time.monotonic()
        if begun >= wanted and len(trace.ranks()) == RANKS and (moment != WRITE or trace.writing()):
            break
        time.sleep(_LOOK_AT_WRITES_SECONDS if moment == WRITE and begun >= wanted else _LOOK_SECONDS)
    pace = (time.monotonic() - first) / wanted if first is not None and wanted else 0.0
    longest = {START: _LONGEST_START_SECONDS, STEP: pace, WRITE: _LONGEST_WRITE_SECONDS}[moment]
    until = time.monotonic() + chance.uniform(0, longest)
    while (left := until - time.monotonic()) > 0 and process.poll() is None:
        if moment == START and trace.steps_begun() > before:
            break
        time.sleep(min(left, _LOOK_SECONDS))
    return process.poll() is None
