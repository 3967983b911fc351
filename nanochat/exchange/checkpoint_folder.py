"""Our own format on its way in and out: the model's part of a checkpoint, alone in a folder.

    model.safetensors · meta.json · tokenizer.json · MANIFEST.json

Such a folder is itself a checkpoint: `chat`, `serve` and a recipe's `path:` take it. In and out: folders and Weights.
Not here: the state of optimizers and loaders, which stays with the run.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanochat.config import Component
from nanochat.errors import wrong_input
from nanochat.exchange.weights import Weights, fitted
from nanochat.registry import Registry
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import describe, rebuild
from nanochat.training.manifest import FORMAT, broken, verify_model, write_manifest
from nanochat.training.saved_model import SavedModel
from nanochat.training.tensor_file import write_tensors


def refuse_taken(final: Path) -> None:
    """InputError E407 where there is something of this name."""
    if final.exists():
        raise wrong_input("E407", f"{final} is there already", help="name another folder, or remove it first")


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when all went well. InputError E407 where the name is taken."""
    refuse_taken(final)
    partial = final.absolute().with_name(f".writing_{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_model(checkpoint: Path, final: Path) -> None:
    """A checkpoint's model, of any model plugin, as a checkpoint of its own, in one file. StageError E406."""
    verify_model(checkpoint)
    with whole_folder(final) as folder:
        for name in ("meta.json", "tokenizer.json"):
            shutil.copyfile(checkpoint / name, folder / name)
        SavedModel(checkpoint).write(folder / "model.safetensors")
        write_manifest(folder)


def read_model(checkpoint: Path, registry: Registry) -> Weights:
    """The `gpt` model of a checkpoint. StageError E406 where it is broken, InputError E408 for another model."""
    verify_model(checkpoint)
    meta = json.loads((checkpoint / "meta.json").read_text())
    if meta["model"]["use"] != "gpt":
        raise wrong_input(
            "E408",
            f"the model of {checkpoint} is `{meta['model']['use']}`, and only `gpt` can be written in another format",
            help="export it with --format safetensors",
        )
    try:
        config = rebuild("model", meta["model"], registry).config
    except ValueError as fault:
        raise broken(checkpoint, f"{fault} (meta.json)") from fault
    return Weights(
        config=config,
        tensors=fitted(SavedModel(checkpoint).whole(), config, checkpoint),
        tokenizer=Tokenizer.load(checkpoint),
        tools=meta["tools"],
        step=int(meta.get("step", 0)),
    )


def write_model(weights: Weights, final: Path, registry: Registry) -> None:
    """Make a folder a checkpoint of a model."""
    revision = registry.entry("model", "gpt").revision
    model = Component(kind="model", name="model", use="gpt", revision=revision, config=weights.config)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "stage": "import",
        "tag": weights.config.tag(),
        "step": weights.step,
        "model": describe(model),
        "tools": list(weights.tools),
        "tokenizer": weights.tokenizer.digest,
    }
    with whole_folder(final) as folder:
        write_tensors(weights.tensors, folder / "model.safetensors")
        (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
        weights.tokenizer.save(folder)
        write_manifest(folder)
