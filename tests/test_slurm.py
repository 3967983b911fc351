"""The launcher `slurm`: its script, and jobs that a Slurm of this machine (tests/fake_slurm.py) really runs."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import install
from patience import PATIENCE
from test_several_nodes import ONE_HOST, RECIPE, here, losses, wait_for_step
from two_hosts import COMMAND

from nanochat.errors import InputError
from nanochat.hardware import Hardware, Job
from nanochat.registry import load_registry
from nanochat.running.launcher import Launch, Scheduled

SLURM = RECIPE.replace('rendezvous = "10.201.77.1:29500"', 'launcher = "slurm"').replace('"wire"', '"lo"')
WAITER = [sys.executable, "-P", "-m", "nanochat_plugins.launchers.slurm_wait"]


def build(**changes: object) -> Scheduled:
    settings: dict[str, object] = {"nodes": 2, "nproc_per_node": 8, "device": "cuda", "dtype": "bfloat16"}
    made = load_registry().object("launcher", "slurm")(Hardware(**(settings | changes)))  # type: ignore[arg-type]
    assert isinstance(made, Scheduled)
    return made


def launch(folder: Path, *worker: str) -> Launch:
    return Launch(worker=worker or ["true"], stage="base", run=folder / "run", folder=folder / "base-0", attempt="a")


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm, and the folders of a run and a stage."""
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'slurm')}:{os.environ['PATH']}")
    (tmp_path / "run").mkdir()
    (tmp_path / "base-0" / "worker").mkdir(parents=True)
    return tmp_path


def waiter(cluster: Path, script: str) -> subprocess.Popen[str]:
    places = ["--run-folder", str(cluster / "run"), "--stage", "base", "--folder", str(cluster / "base-0")]
    return subprocess.Popen([*WAITER, *places, "--script", script], stderr=subprocess.PIPE, text=True)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state(cluster: Path, job: str = "100") -> str:
    path = cluster / "slurm" / "jobs" / job / "state"
    return path.read_text() if path.exists() else ""


def notes(cluster: Path) -> list[str]:
    events = cluster / "run" / "events.jsonl"  # there from the first note on
    return [json.loads(line)["text"] for line in events.read_text().splitlines()] if events.exists() else []


def test_the_script_asks_for_what_the_hardware_table_says(tmp_path: Path) -> None:
    job = Job(time="1-00:00:00", partition="gpu", account="ml", cores=4, notice=120, directives=["--constraint=h100"])
    assert directives(build(job=job).script(launch(tmp_path))) == [
        "--job-name=nanochat-run-base",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=32",
        "--gpus-per-node=8",
        "--time=1-00:00:00",
        "--partition=gpu",
        "--account=ml",
        "--signal=TERM@120",
        "--requeue",
        f"--output={tmp_path}/base-0/launch/slurm-%j.log",
        "--open-mode=append",
        "--constraint=h100",
    ]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("backend", ["c10d", "static"])
def test_bash_takes_the_script_whatever_the_paths_are_called(tmp_path: Path, nodes: int, backend: str) -> None:
    odd = tmp_path / 'it\'s a "$HOME" folder'
    hardware = {"nodes": nodes, "rendezvous_backend": backend, "network_interface": "ib0"}
    script = build(**hardware, job=Job(setup=["module load cuda"])).script(launch(odd, "echo", "it's $HOME"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert f"words={shlex.quote(str(odd / 'base-0' / 'worker'))}" in script
    assert "module load cuda\nset -u\n" in script


def test_a_place_to_meet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'E115.*first one; rendezvous is "node0:29500"'):
        build(rendezvous="node0:29500")


@pytest.mark.parametrize(
    "job, wrong",
    [
        ({"time": "soon"}, '"soon" is no time'),
        ({"directives": ["--nodes=3"]}, "--nodes follows from other keys"),
        ({"directives": ["constraint"]}, '"constraint" is no option'),
        ({"directives": ["--comment=a\nrm -rf x"]}, "is no option"),
    ],
)
def test_settings_of_a_job_that_cannot_be_are_refused(job: dict[str, object], wrong: str) -> None:
    (problem,) = Job(**job).problems()  # type: ignore[arg-type]
    assert wrong in problem[1]


def test_a_recipe_says_which_devices_there_are_for_they_are_not_here(tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(SLURM.replace('device = "cpu"\n', ""))
    environment = os.environ | {"NANOCHAT_HOME": str(tmp_path / "home")}
    done = subprocess.run([*COMMAND, str(recipe), "--dry-run"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'launcher "slurm" computes on other machines; device of stage `base` would be as on this one' in done.stderr
    done = subprocess.run(
        [
            *COMMAND,
            str(recipe),
            "--dry-run",
            "--set",
            "hardware.device=cuda",
            "--set",
            "stages.tok.hardware.device=cpu",
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "base: run (no result yet)\n    the script that is submitted:\n#!/bin/bash\n#SBATCH" in done.stdout


def test_a_job_that_waits_is_taken_out_of_the_queue_when_the_run_is_stopped(cluster: Path) -> None:
    (cluster / "slurm" / "busy").touch()
    process = waiter(cluster, "#!/bin/bash\ntrue\n")
    wait_until(lambda: "is pending" in " ".join(notes(cluster)) if (cluster / "run/events.jsonl").exists() else False)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert state(cluster) == "CANCELLED"


def test_a_runner_that_was_killed_comes_back_to_the_job_that_it_submitted(cluster: Path) -> None:
    (cluster / "slurm" / "busy").touch()
    script = f"#!/bin/bash\ntouch {cluster}/ran\n"
    first = waiter(cluster, script)
    wait_until(lambda: (cluster / "base-0" / "launch" / "job.json").exists())
    first.kill()
    first.wait()
    second = waiter(cluster, script)
    wait_until(lambda: "job 100 is still there; waiting for it" in notes(cluster))
    (cluster / "slurm" / "busy").unlink()
    assert second.wait(60) == 0
    assert (state(cluster), (cluster / "ran").exists()) == ("COMPLETED", True)
    assert [job.name for job in (cluster / "slurm" / "jobs").iterdir()] == ["100"]


def test_a_refusal_of_sbatch_is_told(cluster: Path) -> None:
    refusing = cluster / "slurm" / "bin" / "sbatch"
    refusing.write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    process = waiter(cluster, "#!/bin/bash\n")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "sbatch refused" in said and "invalid partition" in said


PREEMPTED = """
import os, pathlib, signal, sys, time
words, go = pathlib.Path(sys.argv[1]), os.environ["TORCHELASTIC_RUN_ID"]
if go == "100.1":
    (words / f"result-{os.environ['RANK']}.json").write_text(str(sorted(path.name for path in words.iterdir())))
    sys.exit(0)
def stop(*_):
    (words / "stopped.json").write_text("{}")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
(words / "began").touch()
time.sleep(100)
"""


def test_a_job_that_is_preempted_saves_is_put_back_and_goes_on(cluster: Path) -> None:
    words = cluster / "base-0" / "worker"
    (words / "inputs.json").write_text("{}")
    hardware = {"nodes": 1, "nproc_per_node": 1, "device": "cpu", "dtype": "float32", "network_interface": "lo"}
    script = build(**hardware).script(launch(cluster, sys.executable, "-c", PREEMPTED, str(words)))
    process = waiter(cluster, script)
    wait_until(lambda: (words / "began").exists())
    subprocess.run(["scancel", "--signal=TERM", "100"], check=True)  # as Slurm does ahead of the end
    assert process.wait(120) == 0
    log = (cluster / "base-0" / "launch" / "slurm-100.log").read_text()
    assert state(cluster) == "COMPLETED", log
    # What the first go said is gone before the second one begins.
    assert (words / "result-0.json").read_text() == "['inputs.json']"


@pytest.mark.parametrize("progress", [False, True])
def test_a_job_that_makes_no_new_checkpoint_is_not_put_back_without_end(cluster: Path, progress: bool) -> None:
    """Each go is stopped by Slurm at once; `restarts = 2`. One that saves something each time goes on."""
    stage, srun = cluster / "base-0", cluster / "slurm" / "bin" / "srun"
    goes = f"{stage}/checkpoints/step_$(ls {stage}/goes | wc -l)"
    srun.write_text(f"""#!/bin/bash
mkdir -p {stage}/goes; touch {stage}/goes/$(ls {stage}/goes | wc -l)
[ $(ls {stage}/goes | wc -l) = 6 ] && exit 0
{f"mkdir -p {goes}" if progress else ""}
echo '{{}}' > {stage}/worker/stopped.json
exit 1
""")
    script = build(nodes=1, nproc_per_node=1, device="cpu", dtype="float32", restarts=2).script(launch(cluster))
    assert waiter(cluster, script).wait(120) == 0
    assert len(list((stage / "goes").iterdir())) == (6 if progress else 3)
    assert ("is not put back any more, since it makes no new checkpoint" in notes(cluster)[-1]) is not progress


@pytest.mark.slow
def test_a_training_on_two_nodes_is_preempted_and_stopped_and_its_losses_are_those_of_one_machine(
    cluster: Path, tmp_path: Path
) -> None:
    home, recipe, longer = tmp_path / "home", tmp_path / "two.toml", ("--set", "stages.base.steps=300")
    recipe.write_text(SLURM)
    here(home, recipe, "--until", "tok", *longer)
    shutil.copytree(home, tmp_path / "alone")
    process = start(home, recipe, *longer)
    wait_for_step(home, 20)
    subprocess.run(["scancel", "--signal=TERM", "100"], check=True)
    (folder,) = (home / "store").glob("base-*")
    log = folder / "launch" / "slurm-100.log"
    wait_until(lambda: "SignalException" in log.read_text())
    (before,) = [max(losses(home))]
    wait_until(lambda: max(losses(home)) > before + 20)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, output
    assert "stopped base at step" in output and state(cluster) == "FAILED"
    process = start(home, recipe, *longer)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "base: resume" in output and "job 101 is submitted" in output
    here(tmp_path / "alone", recipe, *longer, *ONE_HOST, "--set", "hardware.launcher=torchrun")
    assert losses(home) == losses(tmp_path / "alone")


def start(home: Path, recipe: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(recipe), *options],
        env=os.environ | {"NANOCHAT_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
