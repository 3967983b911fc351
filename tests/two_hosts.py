"""Two network namespaces joined by a veth pair, for tests: as two machines that share a file system."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

COMMAND = [sys.executable, "-c", "from nanochat.cli.main import run_main; run_main()"]


@attrs.frozen
class TwoHosts:
    """The namespaces, each with a network interface `wire` and an address on it."""

    names: tuple[str, str]
    addresses: tuple[str, str] = ("10.201.77.1", "10.201.77.2")

    def start(self, host: int, home: Path, recipe: Path, *options: str) -> subprocess.Popen[str]:
        """nanochat-run on one of the hosts."""
        return self.spawn(host, [*COMMAND, str(recipe), *options], NANOCHAT_HOME=str(home))

    def spawn(self, host: int, command: Sequence[str], **variables: str) -> subprocess.Popen[str]:
        """A process on one of the hosts."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *command],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wire(self, state: str) -> None:
        """Cut the network between them ("down"), or mend it ("up")."""
        _ip("-n", self.names[0], "link", "set", "wire", state)


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Made, and taken away. Skips the test where this is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the command `ip` (package iproute2)")
    names = (f"nanochat-a-{os.getpid()}", f"nanochat-b-{os.getpid()}")
    hosts = TwoHosts(names)
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
            _ip("link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns", names[1])
            for name, address in zip(names, hosts.addresses, strict=True):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", "wire", "up")
        except subprocess.CalledProcessError as fault:
            pytest.skip(f"network namespaces cannot be made here: {fault.stderr.strip()}")
        yield hosts
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> Sequence[str]:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout.splitlines()
