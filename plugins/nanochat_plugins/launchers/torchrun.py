"""The launcher `torchrun`: one agent a machine, which starts the ranks and takes them down together.

torchrun never restarts workers here (`--max-restarts 0`): a stage resumes from its checkpoint in a fresh agent.
"""

import os
import sys
from collections.abc import Sequence

import attrs

from nanochat.errors import wrong_input
from nanochat.hardware import Hardware
from nanochat.running.launcher import thread_settings

_GRACE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_GRACE_SECONDS = "900"
"""How long the agent waits after SIGTERM for ranks that finish a step and save; its default of 30 is too short."""


@attrs.frozen
class Torchrun:
    """Starts `nproc_per_node` processes on this machine, joined with those of the other nodes."""

    hardware: Hardware

    def command(self, worker: Sequence[str]) -> list[str]:
        agent = [sys.executable, "-P", "-m", "torch.distributed.run", *self._rendezvous()]
        agent += ["--nproc-per-node", str(self.hardware.nproc_per_node), "--max-restarts", "0", "--no-python"]
        return [*agent, *worker]

    def environment(self) -> dict[str, str]:
        settings = thread_settings(self.hardware.nproc_per_node)
        return settings if _GRACE in os.environ else {**settings, _GRACE: _GRACE_SECONDS}

    def _rendezvous(self) -> list[str]:
        nodes, endpoint = self.hardware.nodes, self.hardware.rendezvous
        if nodes == 1:
            return ["--standalone"]
        return ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "nanochat"]


def build(hardware: Hardware) -> Torchrun:
    """As many processes as [hardware] says, on this machine or on several. It is the default; take it for whatever
    uses more than one GPU.

    InputError E115 where several nodes have no place to meet.
    """
    if hardware.nodes > 1 and not hardware.rendezvous:
        raise wrong_input(
            "E115",
            f"{hardware.nodes} nodes have no place to meet",
            help='set rendezvous = "HOST:PORT" in [hardware]: the first node\'s address, the same on every node',
        )
    return Torchrun(hardware)
