"""The launcher `torchrun`: one agent a machine, which starts the ranks and takes them down together.

torchrun never restarts workers here (`--max-restarts 0`): a stage resumes from its checkpoint in a fresh agent, at a
rendezvous of its own.
"""

import os
import re
import socket
import sys

import attrs
import psutil

from nanochat.errors import InputError, wrong_input
from nanochat.hardware import Hardware
from nanochat.running.launcher import Launch, thread_settings

AGENT = (sys.executable, "-P", "-m", "torch.distributed.run")
GRACE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
GRACE_SECONDS = 900
"""How long the agent waits after SIGTERM for ranks that finish a step and save; its default of 30 is too short."""
INTERFACE_SETTINGS = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_ENDPOINT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\s/]+):(?P<port>\d{1,5})")


@attrs.frozen
class Torchrun:
    """Starts `nproc_per_node` processes on this machine, joined with those of the other nodes."""

    hardware: Hardware

    def command(self, launch: Launch) -> list[str]:
        return [*AGENT, *self._rendezvous(launch), *ranks_of_a_node(self.hardware), *launch.worker]

    def environment(self) -> dict[str, str]:
        settings = thread_settings(self.hardware.nproc_per_node)
        settings |= dict.fromkeys(self._interface_settings(), self.hardware.network_interface)
        return settings if GRACE in os.environ else {**settings, GRACE: str(GRACE_SECONDS)}

    def is_first_node(self) -> bool:
        """Whether the rendezvous is at one of this machine's addresses."""
        host, _ = endpoint(self.hardware)
        if host in (socket.gethostname(), socket.getfqdn()):
            return True
        try:
            meant = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
        except OSError:
            return False
        here = {address.address.partition("%")[0] for each in psutil.net_if_addrs().values() for address in each}
        return bool(meant & here)

    def _interface_settings(self) -> tuple[str, ...]:
        return INTERFACE_SETTINGS if self.hardware.network_interface and self.hardware.nodes > 1 else ()

    def _rendezvous(self, launch: Launch) -> list[str]:
        hardware, rank = self.hardware, launch.node_rank
        if hardware.nodes == 1:
            return ["--standalone"]
        own = ["--local-addr", self._own_address(launch)] if hardware.network_interface else []
        if rank is None and hardware.rendezvous_backend == "static" and hardware.nodes > 2:
            raise wrong_input(
                "E407",
                f'rendezvous_backend = "static" cannot tell which of {hardware.nodes} nodes this machine is',
                help="give --node-rank 1, 2, … to nanochat-run, each number on one machine; or take c10d",
            )
        host, port = endpoint(hardware)
        place, number, is_host = f"{host}:{port}", str(1 if rank is None else rank), "true" if rank == 0 else "false"
        wanted = meeting(hardware, place, launch.attempt, number, is_host)
        return [*wanted, *own]

    def _own_address(self, launch: Launch) -> str:
        try:
            return address_of(self.hardware.network_interface)
        except InputError:
            if not launch.shown:
                raise
            return f"ADDRESS_OF_{self.hardware.network_interface}"


def meeting(hardware: Hardware, place: str, name: str, rank: str, is_host: str) -> list[str]:
    """torchrun's words for several nodes. rank and is_host may be a shell's expansions."""
    nodes, seconds = ["--nnodes", str(hardware.nodes)], hardware.rendezvous_timeout
    if hardware.rendezvous_backend == "static":
        host, _, port = place.rpartition(":")
        at = ["--rdzv-backend", "static", "--rdzv-id", name, "--node-rank", rank]
        return [*nodes, *at, "--master-addr", host, "--master-port", port, "--rdzv-conf", f"timeout={seconds}"]
    # is_host: torchrun compares names and addresses to find out, and errs behind veth and NAT: two hosts, or none.
    conf = f"is_host={is_host},join_timeout={seconds}"
    at = ["--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", name]
    return [*nodes, *at, "--rdzv-conf", conf]


def ranks_of_a_node(hardware: Hardware) -> list[str]:
    """torchrun's words for what it starts on one machine; the worker follows."""
    return ["--nproc-per-node", str(hardware.nproc_per_node), "--max-restarts", "0", "--no-python"]


def endpoint(hardware: Hardware) -> tuple[str, int]:
    """Host and port of the rendezvous. InputError E115."""
    found = _ENDPOINT.fullmatch(hardware.rendezvous)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise wrong_input(
            "E115",
            f'rendezvous = "{hardware.rendezvous}" is no HOST:PORT',
            help='the first node\'s name or address and a free port there: rendezvous = "node0:29500"',
        )
    return found["host"].strip("[]"), int(found["port"])


def address_of(interface: str) -> str:
    """This machine's address on a network interface, IPv4 before IPv6. InputError E404."""
    there = psutil.net_if_addrs()
    for family in (socket.AF_INET, socket.AF_INET6):
        for found in there.get(interface, ()):
            if found.family == family:
                return str(found.address)
    raise wrong_input(
        "E404",
        f'network_interface = "{interface}": this machine has {"no address on it" if interface in there else "none"}',
        help=f"it has {', '.join(sorted(there))}; `ip addr` shows which of them leads to the other nodes",
    )


def build(hardware: Hardware) -> Torchrun:
    """As many processes as [hardware] says, on this machine or on several. It is the default; take it for whatever
    uses more than one GPU. On several machines, give the same command on each.

    InputError E115 where several nodes have no place to meet.
    """
    if hardware.nodes > 1:
        if not hardware.rendezvous:
            raise wrong_input(
                "E115",
                f"{hardware.nodes} nodes have no place to meet",
                help='set rendezvous = "HOST:PORT" in [hardware]: the first node\'s address, the same on every node',
            )
        endpoint(hardware)
    return Torchrun(hardware)
