"""What a benchmark of inference runs on: a recipe's model with the weights it begins with, and prompts of random ids.

In: a model's component. Out: engines, in this process or in another. Weights do not matter to speed, so nothing need be
trained.
"""

import sys
from functools import partial

import attrs
import psutil
import torch

from nanochat.config import Component
from nanochat.inference.engine import Engine
from nanochat.inference.int8 import quantised
from nanochat.inference.sampling import Sampling
from nanochat.model.gpt import GPT, build
from nanochat.runtime import Runtime, local_runtime
from nanochat.text.tokenizer import MINIMUM_VOCABULARY, Tokenizer


@attrs.frozen(kw_only=True)
class Subject:
    """What is measured, said so that another process can make it, too."""

    model: Component
    device: str
    dtype: str
    seed: int
    int8: bool
    compiled: bool
    threads: int | None
    """Of torch, in the process that makes it; None: as many as there are cores."""

    def made(self) -> tuple[GPT, Runtime]:
        """The model, ready to be asked, and where it computes."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        runtime = local_runtime(device=self.device, dtype=self.dtype, seed=self.seed)
        runtime.seed_everything()
        made = build(self.model.config, runtime).to(runtime.dtype).eval()
        # What becomes of its graphs is told.
        return quantised(made) if self.int8 else made, attrs.evolve(runtime, note=partial(print, file=sys.stderr))

    def engine(self, *, rows: int, context: int) -> Engine:
        """An engine of its own."""
        return engine_of(*self.made(), rows=rows, context=context, compiled=self.compiled)

    @property
    def element_bytes(self) -> int:
        """Of a weight in a matrix product."""
        return 1 if self.int8 else int(getattr(torch, self.dtype).itemsize)


def engine_of(
    model: GPT, runtime: Runtime, *, rows: int, context: int, chunk: int | None = None, compiled: bool = False
) -> Engine:
    """An engine whose tokenizer knows bytes alone; chunk: as the engine's, timed like a server's."""
    tokenizer = Tokenizer.train(["bytes"], vocab_size=MINIMUM_VOCABULARY)
    engine = Engine(model, tokenizer, runtime, rows=rows, context=context, chunk=chunk, graphs=True, compiled=compiled)
    if engine.graphs is not None:
        engine.graphs.warm()
    return engine


def prompts(count: int, length: int, seed: int) -> list[list[int]]:
    """Prompts of bytes, all different."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(97, 123, (count, length), generator=generator).tolist()


def endless(tokens: int) -> Sampling:
    """Greedy, to the last of so many ids."""
    return Sampling(max_tokens=tokens, ignore_eos=True)


def memory_bytes() -> int:
    """What this process holds."""
    return int(psutil.Process().memory_info().rss)
