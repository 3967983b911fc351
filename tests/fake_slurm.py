"""A Slurm of one machine, for tests: sbatch, squeue, scancel, srun and scontrol, that really run what they are given.

`install(folder)` writes the commands. A job lies in folder/jobs/ID: its state, its script, the processes that srun has
started for it. What is kept of the real one: a job runs once its nodes are free (unless folder/busy is there), srun
starts a task a node with SLURM_NODEID, `scancel --signal` reaches the tasks and not the script, `scancel` ends the job,
`scontrol requeue` puts it back with SLURM_RESTART_COUNT one higher, a job that has ended is forgotten.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "srun", "scontrol")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def install(folder: Path) -> Path:
    """Write the commands; returns the folder for PATH."""
    place = folder / "bin"
    place.mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in COMMANDS:
        (place / name).write_text(f'#!/bin/bash\nexec {sys.executable} -S {__file__} {folder} {name} "$@"\n')
        (place / name).chmod(0o755)
    return place


def sbatch(root: Path, words: list[str]) -> int:
    script = Path(words[-1]).read_text()
    number = str(100 + len(list((root / "jobs").iterdir())))
    job = root / "jobs" / number
    job.mkdir()
    (job / "script").write_text(script)
    (job / "state").write_text("PENDING")
    subprocess.Popen(
        [sys.executable, "-S", __file__, str(root), "_run", number],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sys.stdout.write(f"{number}\n")
    return 0


def _run(root: Path, words: list[str]) -> int:
    """The life of a job."""
    job, restarts = root / "jobs" / words[0], 0
    script = (job / "script").read_text()
    nodes = re.search(r"#SBATCH --nodes=(\d+)", script)
    output = re.search(r"#SBATCH --output=(\S+)", script)
    log = Path(output[1].replace("%j", words[0])) if output else job / "log"
    while True:
        while (root / "busy").exists():
            if (job / "state").read_text() == "CANCELLED":
                return 0
            time.sleep(0.05)
        (job / "state").write_text("RUNNING")
        environment = os.environ | {
            "SLURM_JOB_ID": words[0],
            "SLURM_JOB_NODELIST": "the-nodes",
            "SLURM_NNODES": nodes[1] if nodes else "1",
            "SLURM_CPUS_ON_NODE": "2",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        with log.open("ab") as written:
            done = subprocess.run(
                ["bash", job / "script"], env=environment, stdout=written, stderr=written, check=False
            )
        if not (job / "requeue").exists():
            if (job / "state").read_text() != "CANCELLED":
                (job / "state").write_text("FAILED" if done.returncode else "COMPLETED")
            return 0
        (job / "requeue").unlink()
        (job / "state").write_text("PENDING")
        restarts += 1
        time.sleep(0.2)


def squeue(root: Path, words: list[str]) -> int:
    number = next(word for word in words if word.startswith("--jobs=")).removeprefix("--jobs=")
    if not (root / "jobs" / number).exists():
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return 1
    state = (root / "jobs" / number / "state").read_text()
    sys.stdout.write("" if state in ENDED else f"{state}\n")
    return 0


def scancel(root: Path, words: list[str]) -> int:
    job, to_tasks = root / "jobs" / words[-1], "--signal=TERM" in words
    if not to_tasks:
        (job / "state").write_text("CANCELLED")
    for line in (job / "tasks").read_text().split() if (job / "tasks").exists() else ():
        with suppress(ProcessLookupError):
            os.kill(int(line), signal.SIGTERM)
    return 0


def srun(root: Path, words: list[str]) -> int:
    count = int(next(word for word in words if word.startswith("--ntasks=")).removeprefix("--ntasks="))
    command = words[next(i for i, word in enumerate(words) if not word.startswith("-")) :]
    tasks = [subprocess.Popen(command, env=os.environ | {"SLURM_NODEID": str(node)}) for node in range(count)]
    (root / "jobs" / os.environ["SLURM_JOB_ID"] / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
    return max(abs(task.wait()) for task in tasks)


def scontrol(root: Path, words: list[str]) -> int:
    if words[:2] == ["show", "hostnames"]:
        sys.stdout.write("127.0.0.1\n" * int(os.environ["SLURM_NNODES"]))
    else:
        (root / "jobs" / words[1] / "requeue").touch()
    return 0


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[2]](Path(sys.argv[1]), sys.argv[3:]))
