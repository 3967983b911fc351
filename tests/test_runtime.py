"""The runtime of a process: what is left of its process group when the work is done."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_the_threads_of_a_process_group_end_with_it_though_torch_was_imported_piece_by_piece() -> None:
    """Left alone at the end of Python, one of them may abort the process, whose work is done."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert sorted(line for line in ran.stdout.splitlines() if line.startswith("left")) == ["left 0", "left 0"]


if __name__ == "__main__":  # one of the two processes
    import torch

    from nanochat.runtime import distributed_runtime

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    with distributed_runtime(device="cpu", dtype="float32", seed=1) as runtime:
        torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)  # imports more of torch
        assert runtime.sum(torch.ones(1)) == 2
        assert threads() > before
    deadline = time.monotonic() + 10
    while threads() > before and time.monotonic() < deadline:  # a thread that was joined may be listed a moment longer
        time.sleep(0.01)
    sys.stdout.write(f"left {threads() - before}\n")
