"""The engine behind a CHECKPOINT argument: found, loaded, put where this machine computes fastest.

In: what a person writes as CHECKPOINT. Out: an engine and the model's name. torch is imported when it is called.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from nanochat.errors import stage_failure, wrong_input
from nanochat.hardware import default_device, default_dtype, probe_machine
from nanochat.quantity import size
from nanochat.registry import load_registry
from nanochat.running.find import find_checkpoint
from nanochat.running.store import CHECKPOINTS, is_step

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine
    from nanochat.runtime import Runtime

checkpoint_argument = click.argument("checkpoint", required=False)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cuda", "mps", "cpu"]), default="auto", help="Where to compute."
)


def open_engine(checkpoint: str | None, *, device: str, rows: int) -> "tuple[Engine, str]":
    """An engine that answers `rows` requests at once.

    InputError E405 where there is no such checkpoint, E404 where the device is not here; StageError E406 for a broken
    one, E502 where there is not the memory.
    """
    folder = find_checkpoint(checkpoint)  # before torch is imported: a wrong name is known at once
    return load_engine(folder, device=device, rows=rows), model_name(folder)


def load_engine(
    folder: Path,
    *,
    device: str,
    rows: int,
    gpu: int | None = None,
    deterministic: bool = False,
    int8: bool = False,
    compiled: bool = False,
) -> "Engine":
    """The engine of one checkpoint. gpu: which, where there are several. Errors as `open_engine`."""
    from nanochat.inference.engine import Engine
    from nanochat.inference.int8 import quantised_if_alike
    from nanochat.inference.kv import slots_in_memory
    from nanochat.inference.scheduler import UNTIMED_CHUNK
    from nanochat.training.checkpoint import load_checkpoint

    runtime = _runtime(device, gpu, int8=int8)
    _refuse_too_large(folder, runtime)
    loaded = load_checkpoint(folder, runtime, load_registry())
    # Matrix products take the weights in this dtype anyway; cast once, they are not cast for every token.
    model = loaded.model.to(runtime.dtype).eval()
    engine = Engine(
        quantised_if_alike(model, loaded.tokenizer) if int8 else model,
        loaded.tokenizer,
        attrs.evolve(runtime, note=partial(click.echo, err=True)),  # what becomes of its graphs; the rest is no news
        tools=loaded.tools,
        rows=min(rows, slots_in_memory(model.config, runtime)),
        chunk=UNTIMED_CHUNK if deterministic else None,
        reuse=not deterministic,
        patient=False,
        alone=deterministic,
        graphs=not deterministic,
        compiled=compiled,
    )
    if engine.graphs is not None:
        engine.graphs.warm()
    return engine


def _runtime(device: str, gpu: int | None, *, int8: bool) -> "Runtime":
    from nanochat.runtime import is_available, local_runtime

    machine = probe_machine()
    chosen = default_device(machine) if device == "auto" else device
    if not is_available(chosen):
        if device != "auto":
            raise wrong_input("E404", f"torch finds no {device} device here", help="leave --device out, or use cpu")
        chosen = "cpu"  # the device is there, but this torch was built without it
    dtype = "float32" if int8 else default_dtype(chosen, machine)
    return local_runtime(device=f"cuda:{gpu}" if chosen == "cuda" and gpu is not None else chosen, dtype=dtype)


def _refuse_too_large(folder: Path, runtime: "Runtime") -> None:
    """StageError E502 where the weights, which are read in the dtype of their file, do not fit into what is free."""
    from nanochat.inference.kv import free_memory

    free, weights = free_memory(runtime.device), sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    if weights > free:
        raise stage_failure(
            "E502",
            f"the weights of {folder} take {size(weights)} of memory, and {size(free)} are free",
            help="use a machine with more memory, or a smaller model",
        )


def model_name(folder: Path) -> str:
    """A checkpoint's name for people and clients: that of its stage in the store, or its own folder's."""
    return next(_names(folder))


def model_names(folders: Iterable[Path]) -> Mapping[str, Path]:
    """Name → folder of checkpoints that are offered together, in the order given; one that is named twice is one.

    Each has its name, as `model_name` gives it. Those that share it have their steps after it, NAME@STEP; those that
    still share it, as much of the path before it as tells them apart, FOLDER:NAME. The order decides nothing.
    """
    lengths = dict.fromkeys(folders, 0)
    while True:
        names = {folder: next(islice(_names(folder), length, None)) for folder, length in lengths.items()}
        count = Counter(names.values())
        if max(count.values(), default=1) == 1:
            return {name: folder for folder, name in names.items()}
        lengths = {folder: length + (count[names[folder]] > 1) for folder, length in lengths.items()}


def _names(folder: Path) -> Iterator[str]:
    """What a checkpoint can be called, ever more exactly; in the end by its path, which no other has."""
    named, suffix = folder, ""
    if folder.parent.name == CHECKPOINTS:
        step = folder.name.removeprefix("step_")
        named, suffix = folder.parent.parent, f"@{int(step) if is_step(step) else step}"
        yield named.name
    for length in range(1, len(named.parts)):
        yield ":".join(named.parts[-length:]) + suffix
    yield from repeat(str(folder))
