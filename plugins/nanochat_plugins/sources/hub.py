"""The source `hub`, and with other defaults `climbmix` and `fineweb_edu`: the files of a data set on the hub.

In: a config that has a `selection()`. Out: documents file by file. What the files are is known from the manifest
(`hub_manifest.py`), so `shards` downloads nothing; `documents` waits for its file, while later ones arrive in the
background, those for validation first. A file's content is compared with the manifest when a process opens it first.
StageError E301 where a file cannot be had, E304 where one is damaged.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nanochat.data.remote import OnBytes, State
from nanochat.data.source import Shard, Split, split_digest
from nanochat.errors import wrong_input
from nanochat_plugins.sources.arrivals import Arrivals
from nanochat_plugins.sources.data_file import DataFile, Reading
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_manifest import HubFile, pinned
from nanochat_plugins.sources.hub_selection import HubSelection

SPLITS: tuple[Split, ...] = ("train", "validation")


class Selects(Protocol):
    """What is used of a config."""

    def selection(self) -> HubSelection: ...


class HubSource:
    """The documents of the selected files; a shard is a file, or of a file what is of one split (`train/NAME`)."""

    def __init__(self, config: Selects) -> None:
        self._selection = config.selection()
        self._skipped: Counter[str] = Counter()
        self._checked: set[str] = set()
        # Not cached_property: in Python 3.11 all sources would wait for one that asks a silent hub.
        self._asking = threading.Lock()
        self._known: _Selected | None = None

    def shards(self, split: Split) -> Sequence[Shard]:
        return self._selected.shards[split]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        selected = self._selected
        file = selected.files[shard.name]
        path = selected.arrivals.wait(file)
        if file.name not in self._checked:
            selected.checkout.check(file)
            self._checked.add(file.name)
        split: Split = "validation" if shard.name.startswith("validation/") else "train"
        data = DataFile(path=path, digest=file.digest, reading=_reading(self._selection, split))
        yield from data.documents(start, self._skipped)

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    # nanochat.data.remote: what `nanochat data` asks

    def pin(self) -> str:
        return self._selected.pin

    def place(self, shard: Shard) -> Path:
        return self._selected.checkout.place(self._selected.files[shard.name])

    def state(self, shard: Shard) -> State:
        checkout, file = self._selected.checkout, self._selected.files[shard.name]
        return State(here=checkout.is_here(file), bytes_here=checkout.bytes_here(file))

    def fetch(self, shard: Shard, on_bytes: OnBytes) -> None:
        self._selected.checkout.fetch(self._selected.files[shard.name], on_bytes)

    def check(self, shard: Shard) -> None:
        self._selected.checkout.check(self._selected.files[shard.name])

    @property
    def _selected(self) -> "_Selected":
        with self._asking:
            if self._known is None:
                self._known = _Selected(self._selection)
            return self._known


class _Selected:
    """What a manifest and a selection make: files and shards. The hub is asked for the manifest on first contact."""

    def __init__(self, selection: HubSelection) -> None:
        manifest = pinned(selection.repo, selection.revision)
        chosen = {split: selection.files(manifest, split) for split in SPLITS}
        named = {split: [(_shard_name(selection, split, file), file) for file in chosen[split]] for split in SPLITS}
        self.pin = f"{manifest.repo}@{manifest.commit}"
        self.checkout = Checkout(manifest)
        self.files = {name: file for split in SPLITS for name, file in named[split]}
        """By shard's name."""
        self.shards = {split: [_shard(selection, split, *one) for one in named[split]] for split in SPLITS}
        self.arrivals = Arrivals(
            self.checkout, train=chosen["train"], validation=chosen["validation"], workers=selection.workers
        )
        self._check_validation(selection.validation_digest)

    def _check_validation(self, wanted: str) -> None:
        """InputError E304 where the validation split is another than the recipe pins."""
        found = split_digest(self.shards["validation"])
        if wanted and wanted != found:
            raise wrong_input(
                "E304",
                f"the validation split of {self.pin} is another than the recipe wants: its digest is {found}",
                help=f"pin the `revision` of the day when it was {wanted}, or change `validation_digest`",
            )


def _reading(selection: HubSelection, split: Split) -> Reading:
    """How files are read; where validation has files of its own, those of both splits alike."""
    return Reading(
        column=selection.column,
        separator=selection.separator,
        longest=selection.longest_document,
        split=split if selection.validation_share else "",
        validation_share=selection.validation_share,
    )


def _shard(selection: HubSelection, split: Split, name: str, file: HubFile) -> Shard:
    digest = file.digest.partition(":")[2]
    return Shard(name=name, size_bytes=file.size, digest=digest, reading=_reading(selection, split).text())


def _shard_name(selection: HubSelection, split: Split, file: HubFile) -> str:
    return f"{split}/{file.name}" if selection.validation_share else file.name
