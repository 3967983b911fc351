"""What makes a folder a checkpoint: MANIFEST.json, with the size and sha256 of each file beside it, written last.

In: folders. Out: checkpoints in the order of their steps, and what is wrong with one. Not here: what the files mean.
No torch: `nanochat runs verify` answers at once.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nanochat.durable import sha256, sync, write_synced
from nanochat.errors import StageError, stage_failure, wrong_input

FORMAT = 1
MANIFEST = "MANIFEST.json"
Entry = dict[str, Any]
"""Of one file: {"bytes": …, "sha256": …}."""


def write_manifest(folder: Path, files: Mapping[str, Entry] | None = None, *, world_size: int = 1) -> None:
    """Make a folder of files a checkpoint. files: their entries where they are known; else all are hashed."""
    if files is None:
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
        files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names}
    text = json.dumps({"format": FORMAT, "world_size": world_size, "files": files}, indent=1, sort_keys=True)
    write_synced(folder / MANIFEST, [text.encode()])
    sync(folder)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints below a stage's `checkpoints` folder, oldest first."""
    return [path for path in step_folders(folder) if (path / MANIFEST).is_file()]


def step_folders(folder: Path) -> list[Path]:
    """What is called a checkpoint there, oldest first; one that lost its manifest too."""
    found = [path for path in folder.glob("step_*") if path.name.removeprefix("step_").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def sizes(checkpoint: Path) -> Mapping[str, int]:
    """The bytes that each file should have; empty where the manifest cannot tell."""
    try:
        return {name: int(entry["bytes"]) for name, entry in _files(checkpoint).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def faults(
    checkpoint: Path, names: Collection[str] = (), seen: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """What is wrong with a checkpoint's files, by default all: a sentence each. `seen` is told of each file before."""
    try:
        files = _files(checkpoint)
        if (newer := newer_format(checkpoint)) is not None:
            yield f"{MANIFEST} has format {newer}: a newer nanochat wrote it, this one reads {FORMAT}"
            return
        expected = {name: (files[name]["bytes"], files[name]["sha256"]) for name in names or files}
    except KeyError as missing:
        yield f"{MANIFEST} does not say {missing.args[0]}"
        return
    except (OSError, ValueError, TypeError, AttributeError) as fault:
        yield f"{MANIFEST} cannot be read: {_reason(fault)}"
        return
    for name, (n_bytes, digest) in expected.items():
        seen(name)
        path = checkpoint / name
        try:
            found = path.stat().st_size
            if found != n_bytes:
                yield f"{name} has {found} bytes, its manifest says {n_bytes}"
            elif sha256(path) != digest:
                yield f"{name} is not what was written: its digest differs from the manifest's"
        except FileNotFoundError:
            yield f"{name} is missing"
        except OSError as fault:
            yield f"{name} cannot be read: {_reason(fault)}"


def model_weights(checkpoint: Path) -> list[str]:
    """The files with a model's weights: one, or one for each process that held rows of it (saved_model.py)."""
    return sorted(name for name in sizes(checkpoint) if name.startswith("model-")) or ["model.safetensors"]


def files_of_ranks(checkpoint: Path, kind: str, ranks: Collection[int] | None) -> list[Path]:
    """The files KIND-RANK.json that there are of ranks; None: of all."""
    found = sorted(checkpoint.glob(f"{kind}-*.json"))
    return found if ranks is None else [path for path in found if int(path.stem.rpartition("-")[2]) in ranks]


def newer_format(checkpoint: Path) -> int | None:
    """The format of a checkpoint that a later version wrote, which this one cannot judge; None for every other."""
    try:
        found = _content(checkpoint)["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > FORMAT else None


def refuse_newer(checkpoint: Path) -> None:
    """StageError E406 for a checkpoint that is not broken, but of a later version. It is to be left as it is."""
    if (found := newer_format(checkpoint)) is not None:
        raise stage_failure(
            "E406",
            f"the checkpoint {checkpoint} has format {found}, and this nanochat reads {FORMAT}",
            help="go on with the nanochat that wrote it, or make the stage anew with this one: --fresh STAGE",
        )


def refuse_weights_alone(checkpoint: Path, reference: str, options: str) -> None:
    """InputError E115 for a checkpoint that was made without the optimizers' state, as exports and imports are.

    reference, options: the checkpoint, and what needs that state, as the recipe has them. One whose manifest cannot be
    read, or is of a later version, is not judged here.
    """
    there = sizes(checkpoint)
    if there and newer_format(checkpoint) is None and not any(name.startswith("optim") for name in there):
        raise wrong_input(
            "E115",
            f"{reference} holds weights alone, as exports and imports do: no state of optimizers for {options}",
            help=f"leave {options} out, or name the checkpoint that the run itself wrote",
        )


def verify(checkpoint: Path, names: Collection[str] = ()) -> None:
    """Compare files, by default all, with the manifest. StageError E406 that names the first one that differs, or
    says that a later version wrote it.
    """
    refuse_newer(checkpoint)
    for fault in faults(checkpoint, names):
        raise broken(checkpoint, fault)


def verify_model(checkpoint: Path) -> None:
    """As `verify`, of what a reader of the model needs: the optimizers' state, twice its size, is not even hashed."""
    verify(checkpoint, ["meta.json", "tokenizer.json", *model_weights(checkpoint)])


def broken(checkpoint: Path, reason: object) -> StageError:
    """The error E406 of a checkpoint that cannot be used."""
    return stage_failure(
        "E406",
        f"the checkpoint {checkpoint} is broken: {reason}",
        help="copy it again from where it came, train the stage again (`nanochat-run RECIPE --fresh STAGE`), or use an "
        "older checkpoint",
    )


def _files(checkpoint: Path) -> Mapping[str, Entry]:
    files: Mapping[str, Entry] = _content(checkpoint)["files"]
    return files


def _content(checkpoint: Path) -> Any:
    try:
        return json.loads((checkpoint / MANIFEST).read_text())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _reason(fault: Exception) -> str:
    return (fault.strerror or str(fault)) if isinstance(fault, OSError) else f"it is damaged ({fault})"
