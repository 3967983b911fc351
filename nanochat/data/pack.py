"""Repack a source: its documents, shuffled by a seed, into shards that the source `files` reads.

In: a source and a folder that is not there yet. Out: FOLDER/train/, FOLDER/validation/ (each split stays on its side)
and FOLDER/manifest.json, which says what was packed, how, and each file's sha256. The folder appears when it is whole.
The same source, seed and sizes give the same bytes.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from errno import EEXIST
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from nanochat.data.encoding import unusable
from nanochat.data.scratch import remove_leftovers, scratch_folder
from nanochat.data.shard_writer import ShardWriter, WrittenShard
from nanochat.data.shuffle import Shuffle
from nanochat.data.source import Source, Split, digests
from nanochat.errors import wrong_input

MANIFEST = "manifest.json"
SPLITS: tuple[Split, ...] = ("train", "validation")
Packed = Mapping[Split, Sequence[WrittenShard]]


def pack(
    source: Source,
    folder: Path,
    *,
    description: Mapping[str, Any],
    seed: int,
    shard_characters: int,
    group_rows: int,
    progress: Callable[[str], None],
) -> Packed:
    """Repack both splits. `description` of the source is kept in the manifest, which is for others too: no path of
    this machine belongs in it. `progress` is told now and then.

    InputError E407 where the folder is there, before or after the work; E302 where the source has no document to train
    on.
    """
    if folder.exists():
        raise wrong_input("E407", f"{folder} is there already", help="name a folder that is not, or remove it")
    for left in remove_leftovers(folder):
        progress(f"{left}, which a pack that was cut off had left, is removed")
    sizes = {"shard_characters": shard_characters, "group_rows": group_rows}
    with scratch_folder(folder) as scratch:
        partial = scratch / folder.name
        written: dict[Split, Sequence[WrittenShard]] = {}
        passed_over: Counter[str] = Counter()
        for split in SPLITS:
            shuffle = Shuffle(partial / "shuffle", seed=seed)
            passed_over += _spread(source, split, shuffle, progress)
            written[split] = _write(shuffle, split, ShardWriter(partial / split, **sizes), progress)
        if not written["train"]:
            raise wrong_input("E302", "the source has no document to pack", help="see nanochat data stats RECIPE")
        passed_over += Counter(source.skipped())
        facts = {
            "source": dict(description),
            "digests": digests({"source": source}),
            "passed_over": dict(passed_over),
            "seed": seed,
            **sizes,
        }
        _write_manifest(partial / MANIFEST, facts, written)
    _publish(partial, folder)
    scratch.rmdir()
    if passed_over:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(passed_over.items()))
        progress(f"passed over: {told}")
    return written


def _publish(partial: Path, folder: Path) -> None:
    """Move the finished work to its place; it stays where it is, and InputError E407 says so, if that is taken."""
    try:
        if os.path.lexists(folder):  # the move would replace an empty folder
            raise FileExistsError(EEXIST, "it appeared meanwhile")
        partial.rename(folder)
    except OSError as fault:
        raise wrong_input(
            "E407",
            f"{folder} cannot be made: {fault.strerror}",
            help=f"what was packed is whole and lies in {partial}: move it to a place that is free",
        ) from fault


def _write_manifest(path: Path, facts: Mapping[str, Any], written: Packed) -> None:
    files = {split: [attrs.asdict(shard) for shard in shards] for split, shards in written.items()}
    whole = {"format": 1, **facts, "pyarrow": pa.__version__, "files": files}
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False, default=str) + "\n")


def _spread(source: Source, split: Split, shuffle: Shuffle, progress: Callable[[str], None]) -> Counter[str]:
    """Put the documents of a split into the shuffle; what has no bytes is counted and left out."""
    passed_over: Counter[str] = Counter()
    shards = source.shards(split)
    for number, shard in enumerate(shards, 1):
        for text in source.documents(shard):
            if reason := unusable(text):
                passed_over[reason] += 1
            else:
                shuffle.add(text)
        progress(f"{split}: {number} of {len(shards)} shards read")
    return passed_over


def _write(
    shuffle: Shuffle, split: Split, writer: ShardWriter, progress: Callable[[str], None]
) -> Sequence[WrittenShard]:
    for text in shuffle:
        before = len(writer.written)
        writer.add(text)
        if len(writer.written) > before:
            progress(f"{split}: {writer.written[-1].name} written")
    before = len(writer.written)
    writer.close()
    for shard in writer.written[before:]:
        progress(f"{split}: {shard.name} written")
    return writer.written
