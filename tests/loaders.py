"""How tests load engines in a process of its own, which imports this by its name."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from nanochat.cli.checkpoint_engine import load_engine
from nanochat.errors import stage_failure
from nanochat.inference import kv
from nanochat.inference.engine import Engine
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import local_runtime
from nanochat.text.special import PYTHON_END, PYTHON_START
from nanochat.text.tokenizer import Tokenizer

CONTEXT = 200


class Dispositions:
    """A tool that runs a program, which tells what signals do to it."""

    name, start, end = "dispositions", PYTHON_START, PYTHON_END

    def run(self, code: str) -> str | None:
        told = "*map(int, (s.getsignal(s.SIGTERM), s.getsignal(s.SIGHUP))), *s.pthread_sigmask(0, [])"
        command = [sys.executable, "-c", f"import signal as s; print({told})"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def tiny(*, rows: int = 4, seconds: float = 0.0, tools: bool = False) -> Engine:
    """Of random weights, the same in every process; seconds: how long each step waits."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["how many r are in strawberry? the cat sat on the mat " * 8], vocab_size=290)
    shape = {"depth": 2, "dim": 32, "head_dim": 8, "n_head": 4, "n_kv_head": 4, "sequence_len": CONTEXT}
    model = GPT(GPTConfig(**(shape | {"vocab_size": tokenizer.vocab_size}))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    engine = Engine(model, tokenizer, local_runtime(), rows=rows, tools=[Dispositions()] if tools else [])
    step = engine.step

    def waiting() -> Any:
        time.sleep(seconds)
        return step()

    engine.step = waiting  # type: ignore[method-assign]
    return engine


def refused() -> Engine:
    """As a checkpoint that does not fit."""
    raise stage_failure("E502", "the weights take more than there is", help="use less")


def broken() -> Engine:
    """As one that finds a fault of our own."""
    raise RuntimeError("the floor gave way")


def killed() -> Engine:
    """As one that takes more memory than there is."""
    os.kill(os.getpid(), 9)
    raise AssertionError


def endless() -> Engine:
    """As one that takes its time."""
    time.sleep(600)
    raise AssertionError


def with_free_memory(free: int, folder: Path, **how: Any) -> Engine:
    """A checkpoint's engine on a machine with so much memory."""
    kv.free_memory = lambda _: free  # type: ignore[assignment]
    return load_engine(folder, **how)
