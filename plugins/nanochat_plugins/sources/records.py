"""The records of one data file: .parquet, .jsonl or .txt, plain or compressed.

In: a path, a column's name, a separator. Out: one `Record` for each row, line or piece: its text, or why it has none.
Row groups of a .parquet are numbered, and reading may begin at any of them; another file is one group.
InputError E303 where the column is not there, E304 where the file is damaged: both name the file, and the line where
there are lines. Memory stays at one row group, one line or one document.
"""

import io
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.errors import wrong_input
from nanochat_plugins.sources.files_config import COMPRESSIONS
from nanochat_plugins.sources.json_lines import Record, damaged, json_lines, no_column, record

BLOCK = 1 << 20  # bytes read at once
ROWS = 1_024  # rows of a parquet file decoded at once


def records(path: Path, *, column: str, separator: str, first_group: int = 0) -> Iterator[Record]:
    """The records of a file, in order, from those of a row group on."""
    compression = COMPRESSIONS.get(path.suffix)
    form = path.with_suffix("").suffix if compression else path.suffix
    try:
        if compression and not path.stat().st_size:  # of nothing, a decompressor makes nothing
            raise damaged(path, f"it is empty, and holds no {compression} frame")
        if form == ".parquet":
            yield from _parquet(path, compression, column, first_group)
            return
        if first_group:
            return
        with pa.input_stream(str(path), compression=compression, buffer_size=BLOCK) as opened:
            # pyarrow's stream has all that a BufferedReader asks of a raw file.
            stream = cast(BinaryIO, io.BufferedReader(opened, BLOCK))
            yield from json_lines(path, stream, column) if form == ".jsonl" else _pieces(stream, separator.encode())
    except (OSError, pa.ArrowException) as fault:
        raise damaged(path, str(fault)) from fault


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


def _pieces(stream: BinaryIO, separator: bytes) -> Iterator[Record]:
    """Documents of a text file. Blank lines about them are not theirs; where nothing else is, there is no record."""
    separator = separator.replace(b"\r\n", b"\n")
    rest = bytearray()
    for block in _blocks(stream):
        # What is read already is not searched again, but for what may be the beginning of a separator.
        start, looked = 0, max(0, len(rest) - len(separator) + 1)
        rest += block
        while separator and (end := rest.find(separator, looked)) >= 0:
            yield from _piece(rest[start:end])
            start = looked = end + len(separator)
        del rest[:start]
    yield from _piece(rest)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """A file with the line ends of Unix, and without the mark that Windows puts before UTF-8."""
    rest = stream.read(len(BOM_UTF8)).removeprefix(BOM_UTF8)
    while block := rest + stream.read(BLOCK):
        rest = b""
        while block.endswith(b"\r") and (more := stream.read(1)):  # do not part \r\n
            block += more
        yield block.replace(b"\r\n", b"\n")


def _piece(found: bytearray) -> Iterator[Record]:
    if piece := bytes(found.strip(b"\n")):
        yield record(piece)
