"""Checkpoints as they are read: all that a model, and a run that goes on, needs, in a folder that is whole or absent.

    step_000400/  meta.json · tokenizer.json · model.safetensors          the model, enough to talk to it
                  optim-RANK · loader-RANK (.safetensors, .json) · random.safetensors · state.json
                  bases.safetensors where gradients are kept in factors
                                                                          the run, enough to go on
                  MANIFEST.json                                           size and sha256 of each of these

No pickle anywhere. A checkpoint whose files do not have the sizes and digests of its manifest (manifest.py) is refused
by name. Not here: how one is written (checkpoint_writer.py).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from nanochat.config import Component, revived
from nanochat.durable import delete
from nanochat.inference.tool import Tool
from nanochat.registry import Registry
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint_writer import clear_remains
from nanochat.training.manifest import broken, faults, refuse_newer, sizes, step_folders, verify_model
from nanochat.training.saved_model import SavedModel


@attrs.frozen(kw_only=True)
class Loaded:
    """A model ready to be used."""

    model: Any
    """The module that the model's plugin built, on the runtime's device."""
    tokenizer: Tokenizer
    tools: Sequence[Tool]
    meta: Mapping[str, Any]


def describe(component: Component) -> dict[str, Any]:
    """A component as plain data, enough to build it again: its plugin's name and its config's values."""
    return {"use": component.use, "config": attrs.asdict(component.config)}


def rebuild(kind: str, described: Mapping[str, Any], registry: Registry) -> Component:
    """The component that `describe` wrote down. ValueError as `config.revived`."""
    config: Any = revived(registry.config_class(kind, described["use"]), described["config"])
    entry = registry.entry(kind, described["use"])
    return Component(kind=kind, name=described["use"], use=described["use"], revision=entry.revision, config=config)


def newest_valid(folder: Path, runtime: Runtime, note: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies. Broken ones are set aside under a name that says so.

    Rank 0 says which there are, and each rank hashes its share of the files of one. StageError E406 where the newest is
    of a later version, which is no reason to lose its steps.
    """
    found: list[list[str]] = [[]]
    if runtime.is_main:
        clear_remains(folder)
        found = [[str(path) for path in reversed(step_folders(folder))]]
    if runtime.world_size > 1:
        torch.distributed.broadcast_object_list(found)
    for candidate in map(Path, found[0]):
        refuse_newer(candidate)
        fault = _fault(candidate, runtime)
        if fault is None:
            return candidate
        if runtime.is_main:
            note(broken(candidate, fault).diagnostics[0].message + "; set aside, going back to the one before it")
            aside = candidate.with_name(f"broken_{candidate.name}")
            delete(aside)
            candidate.rename(aside)
    return None


def _fault(checkpoint: Path, runtime: Runtime) -> str | None:
    """What is wrong with a checkpoint, the same on every rank."""
    files = sizes(checkpoint)  # none, where the manifest is what is wrong
    share = sorted(files, key=lambda name: (-files[name], name))[runtime.rank :: runtime.world_size]
    own = next(faults(checkpoint, share), None) if share or not files else None
    said = [own] * runtime.world_size
    if runtime.world_size > 1:
        torch.distributed.all_gather_object(said, own)
    return next((fault for fault in said if fault is not None), None)


def processes(runtime: Runtime) -> dict[str, Any]:
    """What says which process keeps what: their number, and what they share out."""
    return {"world_size": runtime.world_size, "shard": runtime.shard}


def ranks_to_read(state: Mapping[str, Any], runtime: Runtime) -> set[int] | None:
    """The ranks in whose files is all that this one goes on with; None: any.

    state: a checkpoint's state.json. Where the processes are as they were it is its own, and the main rank's with what
    is everybody's: were each to open the files of all, a thousand would open millions.
    """
    return {0, runtime.rank} if state.get("processes") == processes(runtime) else None


def load_checkpoint(checkpoint: Path, runtime: Runtime, registry: Registry) -> Loaded:
    """Build the model, tokenizer and tools that a checkpoint holds. StageError E406 where it is broken."""
    verify_model(checkpoint)
    meta = json.loads((checkpoint / "meta.json").read_text())
    try:
        component = rebuild("model", meta["model"], registry)
        described_tools = [rebuild("tool", described, registry) for described in meta["tools"]]
    except ValueError as fault:
        raise broken(checkpoint, f"{fault} (meta.json)") from fault
    model = registry.builder("model", component.use)(component.config, runtime)
    model.load_state_dict(SavedModel(checkpoint, runtime.device).whole())
    tools = [registry.builder("tool", tool.use)(tool.config) for tool in described_tools]
    return Loaded(model=model, tokenizer=Tokenizer.load(checkpoint), tools=tools, meta=meta)


# State of torch's generators and NumPy's arrays as named tensors


def random_states(runtime: Runtime) -> dict[str, torch.Tensor]:
    """torch's random number generators, as byte tensors."""
    states = {"random/cpu": torch.get_rng_state()}
    if runtime.device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(runtime.device)
    return states


def restore_random_states(states: Mapping[str, torch.Tensor], runtime: Runtime) -> None:
    """Undo `random_states`."""
    torch.set_rng_state(states["random/cpu"])
    if "random/cuda" in states and runtime.device.type == "cuda":
        torch.cuda.set_rng_state(states["random/cuda"], runtime.device)


def as_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    """NumPy arrays as tensors over the same memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
