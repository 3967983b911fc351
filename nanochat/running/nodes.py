"""Several machines at one stage: which of them this one is, and how the first one calls the others.

    runs/NAME-ID/call.json   {"attempt": …, "stage": …}, at the end {"exit_code": …}      first node → others

The same command is given on each. The runner of the first node holds the leases, plans, sets aside and writes records;
before each attempt at a stage of several nodes it names the attempt here. The runners of the others
(`nanochat.running.follower`) start their share of it and write nothing but a log. So there is one owner of a run,
however many machines work at it; what they share is the file system.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from nanochat.errors import EXIT_DONE, EXIT_STAGE_FAILED, NanochatError, wrong_input
from nanochat.running.json_file import read_json, write_json
from nanochat.running.launcher import OnEachNode
from nanochat.running.plan import PlannedStage

FILE = "call.json"


def is_shared(planned: PlannedStage) -> bool:
    """Whether a runner on each of several machines takes part in the stage."""
    return planned.to_do and planned.stage.hardware.nodes > 1 and isinstance(planned.launcher, OnEachNode)


def node_rank(asked: int | None, stages: Sequence[PlannedStage]) -> int | None:
    """Which node this machine is for the stages to do: 0 the first, which a single one is too; None one of the others.

    asked: --node-rank. Without it, the first node is the one where the others come to. InputError E407.
    """
    shared = [planned for planned in stages if is_shared(planned)]
    if asked is not None:
        finished = [p for p in stages if not p.to_do and p.stage.hardware.nodes > 1]
        least = min((planned.stage.hardware.nodes for planned in shared + finished), default=1)
        if asked >= least:
            nodes = f"nodes = {least}" if least > 1 else "no stage is started by a command on each of several nodes"
            raise wrong_input("E407", f"--node-rank {asked}: {nodes}", help="ranks count from 0, the first node")
        return asked
    here = [planned.launcher.is_first_node() for planned in shared if isinstance(planned.launcher, OnEachNode)]
    return 0 if all(here) else None


@attrs.frozen(kw_only=True)
class Call:
    """What the first node says."""

    attempt: str = ""
    """Empty: nothing yet."""
    stage: str = ""
    exit_code: int | None = None
    """The run has ended so."""


def read_call(run: Path) -> Call:
    """What the first node said last."""
    return Call(**(read_json(run / FILE) or {}))


@attrs.define
class Calls:
    """The first node's voice."""

    run: Path
    heard: bool
    """Whether other nodes take part in the run."""
    exit_code: int = EXIT_DONE
    """How the run ends, where it ends in order."""

    def attempt(self, planned: PlannedStage) -> str:
        """A fresh attempt's name; the other nodes are told of it where they take part."""
        name = f"{planned.name}-{secrets.token_hex(4)}"
        if is_shared(planned):
            self.say(Call(attempt=name, stage=planned.name))
        return name

    def say(self, call: Call) -> None:
        """Let the others know."""
        if self.heard:
            write_json(self.run / FILE, attrs.asdict(call))


@contextmanager
def calling(run: Path, stages: Sequence[PlannedStage]) -> Iterator[Calls]:
    """A run of these stages: the others hear of its attempts, and of its end."""
    calls = Calls(run, heard=any(is_shared(planned) for planned in stages))
    calls.say(Call())
    calls.exit_code = EXIT_STAGE_FAILED
    try:
        yield calls
    except NanochatError as error:
        calls.exit_code = error.exit_code
        raise
    finally:
        calls.say(Call(exit_code=calls.exit_code))
