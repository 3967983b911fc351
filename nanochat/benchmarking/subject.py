"""What a benchmark of inference runs on: a recipe's model with the weights it begins with, and prompts of random ids.

In: a model's component. Out: engines. Weights do not matter to speed, so nothing need be trained.
"""

import psutil
import torch

from nanochat.config import Component
from nanochat.inference.engine import Engine
from nanochat.inference.int8 import quantised
from nanochat.inference.sampling import Sampling
from nanochat.model.gpt import GPT, build
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import MINIMUM_VOCABULARY, Tokenizer


def built(model: Component, runtime: Runtime, *, int8: bool) -> GPT:
    """The model, ready to be asked."""
    made = build(model.config, runtime).to(runtime.dtype).eval()
    return quantised(made) if int8 else made


def engine_of(model: GPT, runtime: Runtime, *, rows: int, context: int, chunk: int | None = None) -> Engine:
    """An engine whose tokenizer knows bytes alone; chunk: as the engine's, timed like a server's."""
    tokenizer = Tokenizer.train(["bytes"], vocab_size=MINIMUM_VOCABULARY)
    return Engine(model, tokenizer, runtime, rows=rows, context=context, chunk=chunk, graphs=True)


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


def limit_threads(threads: int | None) -> None:
    """Those of torch, in this process; None: as many as there are cores."""
    if threads is not None:
        torch.set_num_threads(threads)
