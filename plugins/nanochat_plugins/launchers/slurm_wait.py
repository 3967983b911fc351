"""Submits a batch script to Slurm and stays until the job has ended: `python -m nanochat_plugins.launchers.slurm_wait`.

In: the script. Out: exit code 0 when the job has left the queue, whatever became of it: that the workers have written
down. SIGTERM is passed on, so that the ranks save and end; a job that still waits is cancelled. Killed, it leaves the
job at work; started again for the same stage, it waits for that job and submits no second one.
"""

import argparse
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import attrs

from nanochat.running.json_file import append_line, read_json, write_json, write_text
from nanochat.running.provenance import now
from nanochat.running.run_folder import EVENTS

_ENDED = re.compile(r"COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL|BOOT_FAIL|DEADLINE|OUT_OF_MEMORY|PREEMPTED")
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 10.0
"""How long between two looks at the queue; every question is work for the whole cluster's controller."""


@attrs.define(kw_only=True)
class Job:
    """A stage's job."""

    run: Path
    stage: str
    folder: Path
    """The launcher's own, in the stage's folder."""
    id: str = ""
    asked: threading.Event = attrs.field(factory=threading.Event)
    told: bool = False
    """Whether Slurm knows of the request to stop."""

    def submit(self, script: str) -> None:
        """Into the queue; the job of a runner that was killed is taken over where it is still there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "stop").unlink(missing_ok=True)
        before = (read_json(self.folder / "job.json") or {}).get("id", "")
        if before and self._state(before) not in ("", None):
            self.id = before
            self._say(f"job {self.id} is still there; waiting for it")
            return
        for name in ("idle", "idle.given_up"):
            (self.folder / name).unlink(missing_ok=True)
        path = self.folder / "job.sh"
        write_text(path, script)
        done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"sbatch refused {path}: {done.stderr.strip()}")
        self.id = done.stdout.strip().partition(";")[0]
        write_json(self.folder / "job.json", {"id": self.id})
        self._say(f"job {self.id} is submitted; its log: {self.folder}/slurm-{self.id}.log")

    def wait(self) -> None:
        """Until the job has left the queue, seen twice: one that is put back is out of it for a moment."""
        seconds, shown, gone = _FIRST_SECONDS, "", 0
        while gone < 2:
            state = self._state(self.id)
            if state and state != shown:
                self._say(f"job {self.id} is {state.lower()}")
                shown, seconds = state, _FIRST_SECONDS
            gone = gone + 1 if state == "" else 0
            if self.asked.is_set() and not self.told:
                self._stop(state)
            self._pause(_FIRST_SECONDS if gone else seconds)
            seconds = min(_LONGEST_SECONDS, seconds * 1.5)
        if (self.folder / "idle.given_up").exists():
            self._say(
                f"job {self.id} is not put back any more, since it makes no new checkpoint: give it a longer time, or "
                "an earlier notice, in [hardware.job]"
            )

    def _pause(self, seconds: float) -> None:
        if self.asked.is_set():
            threading.Event().wait(_FIRST_SECONDS)
        else:
            self.asked.wait(seconds)

    def _state(self, job: str) -> str | None:
        """As squeue says; empty where it has ended; None where there is no answer now."""
        asked = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode:
            return "" if "Invalid job id" in done.stderr else None
        state = done.stdout.strip()
        return "" if _ENDED.match(state) else state

    def _stop(self, state: str | None) -> None:
        """Pass a request to stop on: to the ranks, which save; a job that has none is taken out of the queue."""
        (self.folder / "stop").touch()
        waits = state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED")
        words = [] if waits else ["--signal=TERM"]
        done = subprocess.run(["scancel", *words, self.id], capture_output=True, text=True, check=False)
        self.told = done.returncode == 0
        if not self.told:
            sys.stderr.write(f"scancel: {done.stderr.strip()}\n")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        append_line(self.run / EVENTS, {"time": now(), "event": "note", "stage": self.stage, "text": text})


def main() -> None:
    """Submit the script that the command line holds, and wait; exits."""
    parser = argparse.ArgumentParser(prog="nanochat_plugins.launchers.slurm_wait")
    parser.add_argument("--run-folder", type=Path, required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--script", required=True)
    arguments = parser.parse_args()
    job = Job(run=arguments.run_folder, stage=arguments.stage, folder=arguments.folder / "launch")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: job.asked.set())
    job.submit(arguments.script)
    job.wait()


if __name__ == "__main__":
    main()
