"""Little files of every format, and what a source reads of them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.data.source import Source
from nanochat.errors import NanochatError
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig

TEXTS = [f"This is document number {n} of a little corpus." for n in range(200)]


def read(source: Source, split: Any = "train") -> list[str]:
    return [text for shard in source.shards(split) for text in source.documents(shard)]


def refusal(config: FilesConfig) -> tuple[str, str]:
    """Code and message of the error that reading a config's files ends with."""
    with pytest.raises(NanochatError) as raised:
        read(Files(config))
    return raised.value.diagnostics[0].code, raised.value.diagnostics[0].message


def compressed(path: Path, content: bytes) -> Path:
    """A file of this content, as its name's ending says."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(content)
    return path


def write(path: Path, texts: list[str]) -> None:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), buffer, row_group_size=7)
        compressed(path, buffer.getvalue().to_pybytes())
    elif name.endswith(".jsonl"):
        compressed(path, "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    else:
        compressed(path, "\n\n".join(texts).encode())
