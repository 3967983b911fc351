"""Checkpoints: everything a model, and a run that goes on, needs, in one folder that is whole or absent.

    step_000400/  meta.json · tokenizer.json · model.safetensors          the model, enough to talk to it
                  optim-RANK · loader-RANK (.safetensors, .json) · state.json  the run, enough to go on
                  MANIFEST.json                                           size and sha256 of each of these

Written beside its place, synced, then renamed. No pickle anywhere. A checkpoint whose files do not have the sizes and
digests of its manifest is refused by name.
"""

import errno
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nanochat.config import Component, revived
from nanochat.durable import sha256, sync
from nanochat.errors import NanochatError, StageError, stage_failure
from nanochat.inference.tool import Tool
from nanochat.registry import Registry
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import Tokenizer

FORMAT = 1
MANIFEST = "MANIFEST.json"
MODEL_FILES = ("meta.json", "tokenizer.json", "model.safetensors")
"""What a reader of the model needs; the optimizers' state, twice its size, is not even hashed."""


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


# Writing


class CheckpointWriter:
    """One checkpoint in the making: files first, then `commit`, which makes them a checkpoint."""

    def __init__(self, folder: Path, step: int, runtime: Runtime, *, kept: int) -> None:
        self.runtime, self.kept = runtime, kept
        self.final = folder / f"step_{step:06d}"
        self.folder = folder / f".writing_{step:06d}"
        if runtime.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(".writing_*"):
                shutil.rmtree(stale)
            self.folder.mkdir()
        runtime.barrier()

    def tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write NAME.safetensors."""
        save_tensors(tensors, self.folder / f"{name}.safetensors")

    def json(self, name: str, value: Any) -> None:
        """Write NAME.json."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(value, indent=1, sort_keys=True))
        sync(path)

    def commit(self) -> Path:
        """Hash, write the manifest, rename into place, prune older ones. Every rank calls it."""
        self.runtime.barrier()
        if self.runtime.is_main:
            write_manifest(self.folder, world_size=self.runtime.world_size)
            if self.final.exists():
                shutil.rmtree(self.final)
            self.folder.rename(self.final)
            sync(self.final.parent)
            for old in checkpoints(self.final.parent)[: -self.kept]:
                shutil.rmtree(old)
        self.runtime.barrier()
        return self.final


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a .safetensors file. OSError where there is no room."""
    try:
        # The metadata is what Hugging Face's readers ask for.
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"}
        )
    except SafetensorError as fault:
        if "No space left" in str(fault):  # its own error hides the system's, which the runner knows how to tell
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from fault
        raise
    sync(path)


def write_manifest(folder: Path, *, world_size: int = 1) -> None:
    """Make a folder of files a checkpoint: the size and digest of each, written last."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    entries = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "world_size": world_size, "files": entries}, indent=1))
    sync(folder / MANIFEST)
    sync(folder)


# Reading


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints below a stage's `checkpoints` folder, oldest first."""
    found = [path for path in folder.glob("step_*") if (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def verify(checkpoint: Path, names: Collection[str] = ()) -> None:
    """Compare files, by default all, with the manifest. StageError E406 that names the first one that differs."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text())["files"]
        for name in names or files:
            path, expected = checkpoint / name, files[name]
            if path.stat().st_size != expected["bytes"]:
                raise ValueError(f"{name} has {path.stat().st_size} bytes, its manifest says {expected['bytes']}")
            if sha256(path) != expected["sha256"]:
                raise ValueError(f"{name} is not what was written: its digest differs from the manifest's")
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise broken(checkpoint, fault) from fault


def broken(checkpoint: Path, reason: object) -> StageError:
    """The error E406 of a checkpoint that cannot be used."""
    return stage_failure(
        "E406",
        f"the checkpoint {checkpoint} is broken: {reason}",
        help="train the stage again (`nanochat-run RECIPE --fresh STAGE`), or use an older checkpoint",
    )


def newest_valid(folder: Path, runtime: Runtime, note: Any) -> Path | None:
    """The newest checkpoint that verifies; rank 0 decides. Broken ones are set aside under a name that says so."""
    chosen: list[str | None] = [None]
    if runtime.is_main:
        for candidate in reversed(checkpoints(folder)):
            try:
                verify(candidate)
            except NanochatError as fault:
                note(fault.diagnostics[0].message + "; set aside, going back to the one before it")
                candidate.rename(candidate.with_name(f"broken_{candidate.name}"))
            else:
                chosen[0] = str(candidate)
                break
    if runtime.world_size > 1:
        torch.distributed.broadcast_object_list(chosen)
    return Path(chosen[0]) if chosen[0] else None


def load_checkpoint(checkpoint: Path, runtime: Runtime, registry: Registry) -> Loaded:
    """Build the model, tokenizer and tools that a checkpoint holds. StageError E406 where it is broken."""
    verify(checkpoint, MODEL_FILES)
    meta = json.loads((checkpoint / "meta.json").read_text())
    try:
        component = rebuild("model", meta["model"], registry)
        described_tools = [rebuild("tool", described, registry) for described in meta["tools"]]
    except ValueError as fault:
        raise broken(checkpoint, f"{fault} (meta.json)") from fault
    model = registry.builder("model", component.use)(component.config, runtime)
    model.load_state_dict(load_file(checkpoint / "model.safetensors", device=str(runtime.device)))
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
