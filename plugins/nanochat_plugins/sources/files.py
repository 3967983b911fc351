"""The source `files`: a user's own text from .parquet, .jsonl and .txt files, each also .zst or .gz.

In: a `FilesConfig`. Out: documents file by file, in the order of the file names, split for validation by each
document's text (or by files of their own). A record that is null, empty, no UTF-8, no text or too long is counted and
passed over; a file that is damaged, or whose first record is of another shape, stops the work with its name, and the
line's number where there are lines. So does one that is changed meanwhile: what a result was made from stands in its
record, and a run that goes on must find the same documents. Not here: which files; that is
`nanochat_plugins.sources.files_config`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nanochat.data.source import Shard, Split
from nanochat.errors import wrong_input
from nanochat_plugins.sources.data_file import DataFile, Reading
from nanochat_plugins.sources.digest_cache import file_digest
from nanochat_plugins.sources.files_config import FilesConfig, described, find_files


class Files:
    """The documents of the files of a config; a shard is one file of one split, named `train/NAME`."""

    def __init__(self, config: FilesConfig) -> None:
        self._config = config
        self._skipped: Counter[str] = Counter()
        self._shards: dict[str, list[Shard]] = {"train": [], "validation": []}
        self._files: dict[str, DataFile] = {}
        self._add(find_files(config.path), ["train"] if config.validation else ["train", "validation"])
        if config.validation:
            self._add(find_files(config.validation), ["validation"])
        self._check_not_empty()

    def shards(self, split: Split) -> Sequence[Shard]:
        return self._shards[split]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        file = self._files[shard.name]
        _check_unchanged(file)
        yield from file.documents(start, self._skipped)
        _check_unchanged(file)

    def skipped(self) -> Mapping[str, int]:
        return dict(self._skipped)

    def _add(self, files: Sequence[Path], splits: Sequence[Split]) -> None:
        for path, (name, size, digest) in zip(files, described(files), strict=True):
            for split in splits:
                reading = Reading(
                    column=self._config.column,
                    separator=self._config.separator,
                    longest=self._config.longest_document,
                    split=split if self._config.validation is None else "",
                    validation_share=self._config.validation_share,
                )
                shard = Shard(name=f"{split}/{name}", size_bytes=size, digest=digest, reading=reading.text())
                self._shards[split].append(shard)
                self._files[shard.name] = DataFile(path=path, digest=digest, reading=reading)

    def _check_not_empty(self) -> None:
        """InputError E302 where there is nothing to train on: said before any work, not after the tokenizer's."""
        faults: Counter[str] = Counter()
        for shard in self._shards["train"]:
            for _ in self._files[shard.name].documents(0, faults):
                return
        seen = ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items()))
        raise wrong_input(
            "E302",
            f"{self._config.path} holds no document to train on" + (f" (records passed over: {seen})" if seen else ""),
            help="give files with text in them, another `column`, or a larger `longest_document`",
        )


def _check_unchanged(file: DataFile) -> None:
    """InputError E304 where a file is another than at the beginning. It is read again only if its times tell so."""
    try:
        if file_digest(file.path) == file.digest:
            return
        what = "it was changed while this work was going on"
    except OSError as fault:
        what = str(fault.strerror)
    raise wrong_input(
        "E304",
        f"{file.path} cannot be read: {what}",
        help="put back what it was, and the same command goes on; of other text, a result is made anew",
    )
