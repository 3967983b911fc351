"""The launcher `slurm`: a batch script for sbatch, in which srun starts one torchrun agent a node.

In: the hardware table, [hardware.job] with it. Out: the script, and a command that submits it and waits for the job
(`nanochat_plugins.launchers.slurm_wait`). nanochat-run itself stays where it was started, on a login node as a rule; it
computes nothing, holds the lease and writes the record.

A job that is preempted, or near its time limit, gets SIGTERM: the ranks finish their step, save and end; then the
script puts the job back into the queue, and it goes on from the checkpoint. So does one whose node failed (--requeue).
One that the user stopped is not put back, nor one that made no new checkpoint oftener than `restarts` allows.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from nanochat.errors import EXIT_STOPPED, wrong_input
from nanochat.hardware import Hardware
from nanochat.home import DATA_DIR, HOME, data_dir, home
from nanochat.installed import LOOSE_FILES
from nanochat.running.launcher import Launch
from nanochat_plugins.launchers.torchrun import (
    AGENT,
    GRACE,
    GRACE_SECONDS,
    INTERFACE_SETTINGS,
    meeting,
    ranks_of_a_node,
)

_FIRST_PORT, _PORTS = 20_000, 20_000
"""Where jobs meet: below the ports that Linux gives out by itself; jobs that share a node take different ones."""


@attrs.frozen
class Slurm:
    """Hands the stage to Slurm."""

    hardware: Hardware

    def command(self, launch: Launch) -> list[str]:
        waiter = [sys.executable, "-P", "-u", "-m", "nanochat_plugins.launchers.slurm_wait"]
        places = ["--run-folder", str(launch.run), "--stage", launch.stage, "--folder", str(launch.folder)]
        return [*waiter, *places, "--script", self.script(launch)]

    def environment(self) -> dict[str, str]:
        return {}

    def script(self, launch: Launch) -> str:
        """The whole batch script."""
        own, hardware = launch.folder / "launch", self.hardware
        directives = "\n".join(f"#SBATCH {directive}" for directive in self._directives(launch))
        exports = "\n".join(f"export {name}={value}" for name, value in self._exports())
        setup = "".join(f"{line}\n" for line in hardware.job.setup)
        return f"""#!/bin/bash
{directives}

words={_quoted(launch.words)}
stop={_quoted(own / "stop")}  # there where the user asked for the end
idle={_quoted(own / "idle")}  # how often the job was put back since its newest checkpoint
{exports}
{setup}set -u

# What an earlier go of this job said is no word of this one.
find "$words" -type f ! -name inputs.json -delete

newest() {{ find {_quoted(launch.folder / "checkpoints")} -maxdepth 1 -name 'step_*' 2> /dev/null | sort | tail -n 1; }}
before=$(newest)

export head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export port=$(({_FIRST_PORT} + SLURM_JOB_ID % {_PORTS}))

agent() {{  # on each node
{self._agent(launch)}
}}
export -f agent

code=0
# One that ends does not take the others down: they may be saving. They end by themselves when it is lost.
srun {" ".join(self._srun())} bash -c agent || code=$?

if [ -e "$words/stopped.json" ] && [ ! -e "$stop" ]; then
    # Saved, and not because the user asked: Slurm wanted the nodes back. A job that was cancelled is not RUNNING.
    if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        goes=0
        [ "$(newest)" = "$before" ] && goes=$(($(cat "$idle" 2> /dev/null || echo 0) + 1))
        echo $goes > "$idle"
        [ $goes -le {self.hardware.restarts} ] && scontrol requeue "$SLURM_JOB_ID" && exit {EXIT_STOPPED}
        touch "$idle.given_up"
    fi
fi
exit $code
"""

    def _directives(self, launch: Launch) -> Iterator[str]:
        hardware, job = self.hardware, self.hardware.job
        yield f"--job-name={_quoted(f'nanochat-{launch.run.name}-{launch.stage}')}"
        yield f"--nodes={hardware.nodes}"
        yield "--ntasks-per-node=1"
        if job.cores:
            yield f"--cpus-per-task={job.cores * hardware.nproc_per_node}"
        if hardware.device in ("cuda", "xpu"):
            yield f"--gpus-per-node={hardware.nproc_per_node}"
        for name, value in (("time", job.time), ("partition", job.partition), ("account", job.account)):
            if value:
                yield f"--{name}={value}"
        yield f"--signal=TERM@{job.notice}"
        yield "--requeue"
        yield f"--output={_quoted(launch.folder / 'launch' / 'slurm-%j.log')}"
        yield "--open-mode=append"
        yield from job.directives

    def _exports(self) -> Iterator[tuple[str, str]]:
        yield from ((HOME, _quoted(home())), (DATA_DIR, _quoted(data_dir())))
        if LOOSE_FILES in os.environ:
            yield LOOSE_FILES, _quoted(Path(os.environ[LOOSE_FILES]).absolute())
        yield GRACE, str(GRACE_SECONDS)
        yield "OMP_WAIT_POLICY", "passive"
        share = f"${{SLURM_CPUS_ON_NODE:-$(nproc)}} / {self.hardware.nproc_per_node}"
        yield "OMP_NUM_THREADS", f"$(( ({share}) > 0 ? ({share}) : 1 ))"
        if self.hardware.network_interface:
            for name in INTERFACE_SETTINGS:
                yield name, _quoted(self.hardware.network_interface)

    def _srun(self) -> Iterator[str]:
        yield from ('--nodes="$SLURM_NNODES"', '--ntasks="$SLURM_NNODES"', "--ntasks-per-node=1")
        if self.hardware.job.cores:  # srun does not take it over from sbatch since Slurm 22.05
            yield f"--cpus-per-task={self.hardware.job.cores * self.hardware.nproc_per_node}"
        yield from ("--kill-on-bad-exit=0", f"--wait={round(self.hardware.timeout_seconds) + 60}")

    def _agent(self, launch: Launch) -> str:
        """The agent's command, of which each node fills in its own part."""
        hardware = self.hardware
        lines = ['local is_host=false; [ "$SLURM_NODEID" = 0 ] && is_host=true']
        rank, name = "$SLURM_NODEID", "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}"
        there = [
            f'"{word}"' if "$" in word else word for word in meeting(hardware, "$head:$port", name, rank, "$is_host")
        ]
        if hardware.network_interface:
            shown = f"ip -o -4 addr show dev {_quoted(hardware.network_interface)}"
            lines.append(f"local address=$({shown} | awk '{{split($4, a, \"/\"); print a[1]; exit}}')")
            there += ["--local-addr", '"$address"']
        lines.append(f"exec {shlex.join(AGENT)} \\\n        {' '.join(there)} \\")
        lines.append(f"    {shlex.join(ranks_of_a_node(hardware))} \\\n        {shlex.join(launch.worker)}")
        return "\n".join(f"    {line}" for line in lines)


def _quoted(text: object) -> str:
    return shlex.quote(str(text))


def build(hardware: Hardware) -> Slurm:
    """A batch job on nodes that Slurm gives out; nanochat-run submits it, waits for it and shows its progress. It is
    put back into the queue when it is preempted or out of time, and goes on. What to ask for stands in [hardware.job].

    InputError E115 where a place to meet is set: the job's own first node is the place.
    """
    if hardware.rendezvous:
        raise wrong_input(
            "E115",
            f'launcher "slurm" lets nodes meet at the job\'s first one; rendezvous is "{hardware.rendezvous}"',
            help='take rendezvous out, or set launcher = "torchrun" where the nodes are yours already',
        )
    return Slurm(hardware)
