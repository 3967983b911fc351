"""Texts into .parquet shards of about one size: zstd, small row groups, a checksum on every page.

In: texts. Out: FOLDER/shard_00000.parquet, … with one column `text`, and facts of each. The same texts give the same
bytes with one version of pyarrow. Small row groups, so that a reader begins near any place; without page checksums,
a flipped bit in zstd data can pass unnoticed.
"""

import hashlib
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

COLUMN = "text"
COMPRESSION_LEVEL = 3


@attrs.frozen(kw_only=True)
class WrittenShard:
    """A shard that is on disk."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    documents: int
    characters: int


class ShardWriter:
    """Shards of a folder; `close` ends the last one."""

    def __init__(self, folder: Path, *, shard_characters: int, group_rows: int) -> None:
        """A shard ends with the document that reaches `shard_characters`, a row group after `group_rows` documents."""
        self.written: list[WrittenShard] = []
        self._folder, self._limit, self._group_rows = folder, shard_characters, group_rows
        self._schema = pa.schema([pa.field(COLUMN, pa.string(), nullable=False)])
        self._writer: pq.ParquetWriter | None = None
        self._group: list[str] = []
        self._documents = self._characters = 0

    def add(self, text: str) -> None:
        """Append a document."""
        self._group.append(text)
        self._documents += 1
        self._characters += len(text)
        if len(self._group) == self._group_rows:
            self._flush()
        if self._characters >= self._limit:
            self.close()

    def close(self) -> None:
        """End the shard that is being written, if one is."""
        if not self._documents:
            return
        self._flush()
        assert self._writer is not None
        self._writer.close()
        path = self._path()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.written.append(
            WrittenShard(
                name=path.name,
                size=path.stat().st_size,
                sha256=sha256,
                documents=self._documents,
                characters=self._characters,
            )
        )
        self._writer, self._documents, self._characters = None, 0, 0

    def _flush(self) -> None:
        if not self._group:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._path(),
                self._schema,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=False,  # no text occurs twice
                write_statistics=False,
                write_page_checksum=True,
            )
        self._writer.write_table(pa.table([pa.array(self._group, pa.string())], schema=self._schema))
        self._group.clear()

    def _path(self) -> Path:
        return self._folder / f"shard_{len(self.written):05d}.parquet"
