"""The records of one data file: .parquet, .jsonl or .txt, plain or compressed.

In: a path, a column's name, a separator. Out: one `Record` for each row, line or piece: its text, or why it has none.
Reading may begin at the place of any record: the number of a row group in a .parquet, a byte of another file (of its
text, where that is compressed: what is before it is unpacked then, and not looked at).
InputError E303 where the column is not there, E304 where the file is damaged: both name the file, and the line where
there are lines. Memory stays at one row group, one line or one document.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.errors import wrong_input
from nanochat_plugins.sources.files_config import COMPRESSIONS
from nanochat_plugins.sources.json_lines import BLOCK, Record, damaged, json_lines, no_column, record
from nanochat_plugins.sources.pieces import pieces

ROWS = 1_024  # rows of a parquet file decoded at once


def records(path: Path, *, column: str, separator: str, begin: int = 0) -> Iterator[Record]:
    """The records of a file, in order, from the first of a place on."""
    compression = COMPRESSIONS.get(path.suffix)
    form = path.with_suffix("").suffix if compression else path.suffix
    try:
        if compression and not path.stat().st_size:  # of nothing, a decompressor makes nothing
            raise damaged(path, f"it is empty, and holds no {compression} frame")
        if form == ".parquet":
            yield from _parquet(path, compression, column, begin)
            return
        with _opened(path, compression, begin) as stream:
            if form == ".jsonl":
                yield from json_lines(path, stream, column, begin, lambda: _lines(path, compression, begin))
            else:
                yield from pieces(stream, separator.encode(), begin)
    except (OSError, pa.ArrowException) as fault:
        raise damaged(path, str(fault)) from fault


@contextmanager
def _opened(path: Path, compression: str | None, begin: int) -> Iterator[BinaryIO]:
    """A file's bytes from `begin` on, unpacked."""
    if not compression:
        with path.open("rb") as plain:
            plain.seek(begin)
            yield plain
        return
    with pa.input_stream(str(path), compression=compression, buffer_size=BLOCK) as opened:
        # pyarrow's stream has all that a BufferedReader asks of a raw file.
        stream = io.BufferedReader(cast(io.RawIOBase, opened), BLOCK)
        for size in _blocks(begin):
            stream.read(size)
        yield stream


def _lines(path: Path, compression: str | None, end: int) -> int:
    """How many lines end before a byte of the file."""
    with _opened(path, compression, 0) as stream:
        return sum(stream.read(size).count(b"\n") for size in _blocks(end))


def _blocks(size: int) -> Iterator[int]:
    """The sizes in which so many bytes are read."""
    yield from (min(BLOCK, size - before) for before in range(0, size, BLOCK))


def _parquet(path: Path, compression: str | None, column: str, first_group: int) -> Iterator[Record]:
    place: Any = str(path)
    if compression:  # parquet is read from its end
        with pa.input_stream(place, compression=compression) as opened:
            place = pa.BufferReader(opened.read())
    with pq.ParquetFile(place, page_checksum_verification=True) as file:  # of pages that have one
        kind = _text_column(path, file.schema_arrow, column)
        for group in range(first_group, file.num_row_groups):
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column]):
                # As bytes: a parquet file may claim to hold strings that are no UTF-8.
                for value in batch.column(0).cast(kind).cast(pa.large_binary()):
                    yield record(value.as_py(), group)


def check_parquet(path: Path, column: str) -> None:
    """Look at the schema alone, which stands at a file's end. InputError E303, E304."""
    try:
        with pq.ParquetFile(str(path)) as file:
            _text_column(path, file.schema_arrow, column)
    except (OSError, pa.ArrowException) as fault:
        raise damaged(path, str(fault)) from fault


def _text_column(path: Path, schema: pa.Schema, column: str) -> pa.DataType:
    """The type of a column that holds text."""
    if column not in schema.names:
        raise no_column(str(path), column, "columns", schema.names)
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not _is_text(kind):
        raise wrong_input("E303", f"{path}: column `{column}` holds {kind}, not text", help="set `column`")
    return kind


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
