"""The process that runs one stage: `python -m nanochat.running.worker --run-folder … --stage … --folder …`.

Started by a launcher, on one rank or many. In: the run's lock and the inputs that the runner wrote. Out: what the
stage makes, and the files of `handover` that say how it ended; the record is the runner's. Exit codes are DESIGN's: 0,
1, 2, 75. This module looks after the process (signals, faults, exit); `nanochat.running.execute` does the work.
"""

import argparse
import faulthandler
import logging
import os
import sys
import traceback
from pathlib import Path

from nanochat.errors import EXIT_DONE, EXIT_STOPPED, NanochatError, Stopped, stage_failure
from nanochat.running.handover import Handover
from nanochat.running.home import disk_failure, is_disk_fault
from nanochat.running.pulse import beating
from nanochat.running.restarts import LOST
from nanochat.running.stop import StopRequests, die_with_parent
from nanochat.running.tracker_thread import any_left


def main() -> None:
    """Run the stage that the command line names; exits."""
    parser = argparse.ArgumentParser(prog="nanochat.running.worker")
    parser.add_argument("--run-folder", type=Path, required=True)  # torchrun takes --run for its own --run-path
    parser.add_argument("--stage", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    requests = StopRequests()
    requests.listen()  # before torch is imported, which takes seconds in which a stop may be asked for
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with beating(Handover(arguments.folder).folder, rank=_rank()):
        code = run_stage(arguments.run_folder, arguments.stage, arguments.folder, requests)
    if any_left():  # the exit functions of a tracker's library may wait for it
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def run_stage(run: Path, stage: str, folder: Path, requests: StopRequests) -> int:
    """The exit code; whatever goes wrong is written down for the runner."""
    try:
        from nanochat.running.execute import execute

        execute(run, stage, folder, requests)
    except Stopped:
        return EXIT_STOPPED
    except NanochatError as error:
        return _failed(folder, error)
    except OSError as fault:
        traceback.print_exc()
        return _failed(folder, disk_failure(folder, fault) if is_disk_fault(fault) else _unexpected(stage, fault))
    except Exception as fault:
        traceback.print_exc()
        return _failed(folder, _unexpected(stage, fault))
    return EXIT_DONE


_CONNECTION_FAULTS = {"DistError", "AcceleratorError"}
"""torch's exceptions, and what is derived from them: between processes, or of a GPU."""


def is_connection_fault(fault: Exception) -> bool:
    """Whether another process, the network or the GPU is behind it, not this process's code. Imports no torch."""
    names = {kind.__name__ for kind in type(fault).__mro__}
    # gloo raises a bare RuntimeError, whose text begins with the place in its source, or is this.
    said = str(fault) if isinstance(fault, RuntimeError) else ""
    return bool(names & _CONNECTION_FAULTS) or "gloo" in said or said == "Application timeout caused pair closure"


def _unexpected(stage: str, fault: Exception) -> NanochatError:
    if not is_connection_fault(fault):
        return stage_failure("E403", f"stage `{stage}` failed: {type(fault).__name__}: {fault}")
    said = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    return stage_failure(LOST, f"stage `{stage}`: rank {_rank()} lost the connection to the others: {said}")


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _failed(folder: Path, error: NanochatError) -> int:
    rank = _rank()
    logging.getLogger(__name__).error("rank %d: %s", rank, error)
    try:
        Handover(folder).write_error(error, rank=rank)
    except OSError as fault:  # a full disk; the log says it, if anything can
        logging.getLogger(__name__).error("cannot say so in %s: %s", folder, fault)
    return error.exit_code


if __name__ == "__main__":
    main()
