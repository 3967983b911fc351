"""The launcher `local`: the worker itself, one process, nothing between it and the runner."""

from nanochat.errors import wrong_input
from nanochat.hardware import Hardware
from nanochat.running.launcher import Launch, thread_settings


class Local:
    """Starts one process on this machine."""

    def command(self, launch: Launch) -> list[str]:
        return list(launch.worker)

    def environment(self) -> dict[str, str]:
        return thread_settings(1)


def build(hardware: Hardware) -> Local:
    """The worker alone, one process on this machine with nothing between it and the runner. Take it on a laptop, or to
    see an error without a launcher's words around it.

    InputError E115 where more than one process is wanted.
    """
    processes = hardware.nodes * hardware.nproc_per_node
    if processes != 1:
        raise wrong_input(
            "E115",
            f'launcher "local" starts one process; the hardware table asks for {processes}',
            help='set launcher = "torchrun", or nproc_per_node = 1 and nodes = 1',
        )
    return Local()
