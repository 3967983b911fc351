"""Memory and speed of low-rank streaming gradients beside what one would take instead; prints a table in Markdown.

    python tests/benchmarks/molegrad_table.py --depth 4 --lengths 1024,2048,4096,8192 --ranks 8,32,128

Ways: dense; activation checkpointing of every block; GaLore-style, dense activations whose gradients are projected on
the bases of molegrad after the backward pass (arXiv 2403.03507); molegrad. All in one process, a step of each in turn,
so that what else runs on the machine slows all of them alike; the time is that of this process's threads.
Saved bytes are told by autograd's hooks, peak bytes by torch's allocator over one step's forward and backward pass.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import attrs
import click
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import Runtime, local_runtime
from nanochat.training.factored_gradient import Tracked, forget_sums, tracked
from nanochat.training.step_memory import most_bytes
from nanochat_plugins.transforms import activation_checkpointing, molegrad
from nanochat_plugins.transforms.activation_checkpointing_config import ActivationCheckpointingConfig
from nanochat_plugins.transforms.molegrad_config import MolegradConfig


@attrs.define
class Way:
    """One way to train, and what it took."""

    name: str
    model: nn.Module
    after: Callable[[], None] = lambda: None
    """What follows a backward pass."""
    seconds: list[float] = attrs.field(factory=list)
    saved: int = 0
    peak: int = 0


def ways(shape: GPTConfig, ranks: list[int], chunk: int, runtime: Runtime) -> list[Way]:
    """Every way, with the same weights."""

    def model() -> GPT:
        torch.manual_seed(0)
        return GPT(shape, runtime.dtype).to(runtime.device).train()

    checkpointed = activation_checkpointing.build(ActivationCheckpointingConfig(), model(), runtime)
    found = [Way("dense", model()), Way("activation checkpointing", checkpointed)]
    for k in ranks:
        projected, streamed = model(), model()
        molegrad.build(MolegradConfig(rank_k=k, chunk=chunk, refresh=8, warm_start=0), streamed, runtime)
        bases = {name: its for name, p in streamed.named_parameters() if (its := tracked(p)) is not None}

        def project(model: GPT = projected, bases: dict[str, Tracked] = bases) -> None:
            held = []
            for name, p in model.named_parameters():
                if name in bases and p.grad is not None:
                    held.append(p.grad @ bases[name].basis)
                    p.grad = None

        def advance(bases: dict[str, Tracked] = bases) -> None:
            for its in bases.values():
                its.advance()

        found += [Way(f"GaLore-style, k = {k}", projected, project), Way(f"molegrad, k = {k}", streamed, advance)]
    return found


def step(way: Way, ids: Tensor) -> None:
    """Forward and backward."""
    way.model(ids[:, :-1], ids[:, 1:]).backward()
    way.after()
    way.model.zero_grad(set_to_none=True)
    forget_sums(way.model.parameters())


def measure_memory(way: Way, ids: Tensor) -> None:
    """Of one step that refines no basis."""
    own = {p.untyped_storage().data_ptr() for p in way.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = max(kept.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = way.model(ids[:, :-1], ids[:, 1:])
    way.saved = sum(kept.values())
    del loss
    way.peak = _peak(lambda: step(way, ids), ids.device)


def _peak(work: Callable[[], Any], device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    return most_bytes(profiler)


def _seconds(way: Way, ids: Tensor) -> float:
    if ids.device.type == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(way, ids)
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    step(way, ids)
    return time.process_time() - began


def _numbers(_: Any, __: Any, text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


@click.command()
@click.option("--depth", default=4, show_default=True)
@click.option("--dim", default=256, show_default=True)
@click.option("--lengths", callback=_numbers, default="1024,2048,4096,8192", show_default=True)
@click.option("--ranks", callback=_numbers, default="8,32,128", show_default=True)
@click.option("--chunk", default=1024, show_default=True, help="Tokens whose hidden activations stand at once.")
@click.option("--steps", default=9, show_default=True, help="Timed, of each way.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True)
def main(**options: Any) -> None:
    """Print the table."""
    runtime = local_runtime(device=options["device"], dtype=options["dtype"])
    print("| T | way | saved | of dense | peak | of dense | tokens/s of dense |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for length in options["lengths"]:
        heads = options["dim"] // 64
        shape = GPTConfig(
            depth=options["depth"], dim=options["dim"], head_dim=64, n_head=heads, n_kv_head=heads,
            sequence_len=length, vocab_size=2048,
        )  # fmt: skip
        ids = torch.randint(2048, (1, length + 1), device=runtime.device)
        found = ways(shape, options["ranks"], options["chunk"], runtime)
        for way in found:
            step(way, ids)
            measure_memory(way, ids)
        for _ in range(options["steps"]):
            for way in found:
                way.seconds.append(_seconds(way, ids))
        dense = found[0]
        for way in found:
            ratios = [own / other for own, other in zip(dense.seconds, way.seconds, strict=True)]
            print(
                f"| {length:,} | {way.name} | {way.saved / 2**20:,.1f} MiB | {way.saved / dense.saved:.0%} "
                f"| {way.peak / 2**20:,.1f} MiB | {way.peak / dense.peak:.0%} | {statistics.median(ratios):.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
