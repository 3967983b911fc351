"""A process that runs out of memory for real: said, nothing lost, and mended by the setting that is named."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE

RECIPE = Path(__file__).parents[1] / "recipes/quickstart.toml"
ADDRESS_SPACE = 4 * 2**30
"""A worker maps 3.8 GB with 16 rows of 128 tokens at once, and 5.2 GB with 1,024."""
REDUCED = {
    "stages.tok.max_chars": 1_000_000,
    "stages.base.steps": 3,
    "stages.base.total_batch_size": 2**17,
    "stages.base.checkpoint_every": 1,
    "stages.base.log_every": 1,
    "stages.base.model.depth": 1,
    "stages.base.evals.bpb.tokens": 4096,
}


def start(home: Path, rows: int, *, limit: int | None = None) -> subprocess.Popen[str]:
    """The recipe up to its pretraining, `rows` at once, each process with at most `limit` bytes."""
    sets = [f"--set={key}={value}" for key, value in (REDUCED | {"stages.base.device_batch_size": rows}).items()]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NANOCHAT")}
    return subprocess.Popen(
        [Path(sys.executable).parent / "nanochat-run", RECIPE, "--until", "base", *sets],
        env=kept | {"NANOCHAT_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: limit and resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip


def steps_saved(home: Path) -> list[str]:
    return sorted(path.parent.name for path in home.glob("store/base-*/checkpoints/step_*/MANIFEST.json"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_out_of_memory_names_the_setting_and_keeps_the_checkpoint_from_which_a_smaller_one_goes_on(
    tmp_path: Path,
) -> None:
    with start(tmp_path, rows=16) as running:
        while not steps_saved(tmp_path) and running.poll() is None:
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 75, said
    before = steps_saved(tmp_path)

    with start(tmp_path, rows=1024, limit=ADDRESS_SPACE) as running:
        said, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1, said
    assert "error[E502]: stage `base` ran out of memory" in said
    assert "you tried to allocate" in said
    assert "--set stages.base.device_batch_size=512 (now 1024; the result stays the same)" in said
    assert "what was saved before is intact" in said
    assert steps_saved(tmp_path) == before

    with start(tmp_path, rows=16) as running:
        said, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, said
    assert f"goes on from step {int(before[-1].removeprefix('step_'))}" in said
    (metrics,) = tmp_path.glob("store/base-*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
