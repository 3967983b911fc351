"""The source `files`: a user's own text from .parquet, .jsonl and .txt files, each also .zst or .gz.

In: a `FilesConfig`. Out: documents file by file, in the order of the file names, split for validation by each
document's text (or by files of their own). A record that is null, empty or no UTF-8 is counted and passed over; what
is damaged or of another shape stops the work with the file's name, and the line's number where there are lines. Not
here: which files; that is `nanochat_plugins.sources.files_config`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nanochat.data.source import Shard, Split
from nanochat.errors import wrong_input
from nanochat_plugins.sources.files_config import FilesConfig, described, find_files
from nanochat_plugins.sources.held_out import split_of
from nanochat_plugins.sources.json_lines import Record
from nanochat_plugins.sources.records import records


class Files:
    """The documents of the files of a config; a shard is one file of one split, named `train/NAME`."""

    def __init__(self, config: FilesConfig) -> None:
        self._config = config
        self._skipped: Counter[str] = Counter()
        self._shards: dict[str, list[Shard]] = {"train": [], "validation": []}
        self._paths: dict[str, Path] = {}
        self._add(find_files(config.path), ["train"] if config.validation else ["train", "validation"])
        if config.validation:
            self._add(find_files(config.validation), ["validation"])
        self._check_not_empty()

    def shards(self, split: Split) -> Sequence[Shard]:
        return self._shards[split]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        """The shard's documents from number `start` on. What comes before is read too: the text decides the split."""
        number = 0
        for record in self._of_split(shard):
            if record.text is not None:
                number += 1
                if number > start:
                    yield record.text
            elif number >= start:
                self._skipped[record.fault] += 1

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    def _add(self, files: Sequence[Path], splits: Sequence[str]) -> None:
        for path, (name, size, digest) in zip(files, described(files), strict=True):
            for split in splits:
                shard = Shard(name=f"{split}/{name}", size_bytes=size, digest=digest)
                self._shards[split].append(shard)
                self._paths[shard.name] = path

    def _of_split(self, shard: Shard) -> Iterator[Record]:
        """The records of a shard: those of the other split left out, faulty ones told by the train split alone."""
        split, by_text = shard.name.partition("/")[0], self._config.validation is None
        for record in records(self._paths[shard.name], column=self._config.column, separator=self._config.separator):
            if record.text is None:
                told = split == "train" or not by_text
            else:
                told = not by_text or split_of(record.text, self._config.validation_share) == split
            if told:
                yield record

    def _check_not_empty(self) -> None:
        """InputError E302 where there is nothing to train on: said before any work, not after the tokenizer's."""
        faults: Counter[str] = Counter()
        for shard in self._shards["train"]:
            for record in self._of_split(shard):
                if record.text is not None:
                    return
                faults[record.fault] += 1
        seen = ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items()))
        raise wrong_input(
            "E302",
            f"{self._config.path} holds no document to train on" + (f" (records passed over: {seen})" if seen else ""),
            help="give files with text in them, or another `column`",
        )
