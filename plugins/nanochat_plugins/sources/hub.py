"""The source `hub`, and with other defaults `climbmix` and `fineweb_edu`: the files of a data set on the hub.

In: a config that has a `selection()`. Out: documents file by file. What the files are is known from the manifest
(`hub_manifest.py`), so `shards` downloads nothing; `documents` waits for its file, while later ones arrive in the
background, those for validation first. A file's content is compared with the manifest when a process opens it first.
StageError E301 where a file cannot be had, E304 where one is damaged.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from nanochat.data.remote import OnBytes, State
from nanochat.data.source import Shard, Split, split_digest
from nanochat.errors import wrong_input
from nanochat_plugins.sources.arrivals import Arrivals
from nanochat_plugins.sources.data_file import DataFile, Reading
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_manifest import HubFile, Manifest, pinned
from nanochat_plugins.sources.hub_selection import HubSelection


class Selects(Protocol):
    """What is used of a config."""

    def selection(self) -> HubSelection: ...


class HubSource:
    """The documents of the selected files; a shard is a file, or of a file what is of one split (`train/NAME`)."""

    def __init__(self, config: Selects) -> None:
        self._selection = config.selection()
        self._skipped: Counter[str] = Counter()
        self._checked: set[str] = set()

    def shards(self, split: Split) -> Sequence[Shard]:
        return self._shards[split]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        file = self._files[shard.name]
        path = self._arrivals.wait(file)
        if file.name not in self._checked:
            self._checkout.check(file)
            self._checked.add(file.name)
        split: Split = "validation" if shard.name.startswith("validation/") else "train"
        data = DataFile(path=path, digest=file.digest, reading=self._reading(split))
        yield from data.documents(start, self._skipped)

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    # nanochat.data.remote: what `nanochat data` asks

    def pin(self) -> str:
        manifest = self._manifest
        return f"{manifest.repo}@{manifest.commit}"

    def place(self, shard: Shard) -> Path:
        return self._checkout.place(self._files[shard.name])

    def state(self, shard: Shard) -> State:
        file = self._files[shard.name]
        return State(here=self._checkout.is_here(file), bytes_here=self._checkout.bytes_here(file))

    def fetch(self, shard: Shard, on_bytes: OnBytes) -> None:
        self._checkout.fetch(self._files[shard.name], on_bytes)

    def check(self, shard: Shard) -> None:
        self._checkout.check(self._files[shard.name])

    @cached_property
    def _manifest(self) -> Manifest:
        return pinned(self._selection.repo, self._selection.revision)

    @cached_property
    def _checkout(self) -> Checkout:
        return Checkout(self._manifest)

    @cached_property
    def _arrivals(self) -> Arrivals:
        files = {split: [self._files[shard.name] for shard in self._shards[split]] for split in self._shards}
        workers = self._selection.workers
        return Arrivals(self._checkout, train=files["train"], validation=files["validation"], workers=workers)

    @cached_property
    def _files(self) -> Mapping[str, HubFile]:
        """Shard name → file."""
        splits: tuple[Split, ...] = ("train", "validation")
        selected = {split: self._selection.files(self._manifest, split) for split in splits}
        return {self._shard_name(split, file): file for split in splits for file in selected[split]}

    @cached_property
    def _shards(self) -> Mapping[Split, Sequence[Shard]]:
        made: dict[Split, list[Shard]] = {"train": [], "validation": []}
        for split in made:
            for file in self._selection.files(self._manifest, split):
                name = self._shard_name(split, file)
                digest, reading = file.digest.partition(":")[2], self._reading(split).text()
                made[split].append(Shard(name=name, size_bytes=file.size, digest=digest, reading=reading))
        self._check_validation(made["validation"])
        return made

    def _reading(self, split: Split) -> Reading:
        """How files are read; where validation has files of its own, those of both splits alike."""
        chosen = self._selection
        return Reading(
            column=chosen.column,
            separator=chosen.separator,
            longest=chosen.longest_document,
            split=split if chosen.validation_share else "",
            validation_share=chosen.validation_share,
        )

    def _shard_name(self, split: Split, file: HubFile) -> str:
        return f"{split}/{file.name}" if self._selection.validation_share else file.name

    def _check_validation(self, shards: Sequence[Shard]) -> None:
        """InputError E304 where the validation split is another than the recipe pins."""
        wanted, found = self._selection.validation_digest, split_digest(shards)
        if wanted and wanted != found:
            raise wrong_input(
                "E304",
                f"the validation split of {self.pin()} is another than the recipe wants: its digest is {found}",
                help=f"pin the `revision` of the day when it was {wanted}, or change `validation_digest`",
            )
