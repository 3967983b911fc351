"""The documents of a file: which are passed over and counted, and that any place in it is found again, and soon."""

import itertools
import json
import os
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import ByteTokenizer

from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.errors import NanochatError
from nanochat_plugins.sources.data_file import DataFile, Reading
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig
from nanochat_plugins.sources.held_out import split_of

LONGEST = 12
FRESH = itertools.count()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def write(path: Path, values: list[bytes | None], *, group: int = 3) -> Path:
    """A .parquet file whose column claims to hold strings, whatever the bytes are."""
    binary = pa.array(values, pa.binary())
    lying = pa.Array.from_buffers(pa.string(), len(values), binary.buffers())
    pq.write_table(pa.table({"text": lying}), path, row_group_size=group)
    return path


def data_file(path: Path, *, split: str = "", share: float = 0.0, digest: str = "") -> DataFile:
    reading = Reading(column="text", separator="\n\n", longest=LONGEST, split=split, validation_share=share)
    return DataFile(path=path, digest=digest or path.name, reading=reading)


def sorted_out(value: bytes | None) -> tuple[str | None, str]:
    """What the policy says of a record: its text, or why it is passed over."""
    if value is None:
        return None, "null"
    try:
        text = value.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return None, "not UTF-8"
    if not text.strip():
        return None, "empty"
    return (None, "too long") if len(text) > LONGEST else (text, "")


records = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from([b"", b" \n", b"\xff", b"x" * (LONGEST + 1), "é".encode() * LONGEST]),
        st.text(st.characters(codec="utf-8"), max_size=LONGEST).map(str.encode),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(records, st.integers(1, 7), st.sampled_from(["", "train", "validation"]), st.data())
def test_any_place_of_any_file_is_found_with_and_without_an_index(
    home: Path, values: list[bytes | None], group: int, split: str, data: st.DataObject
) -> None:
    path = write(home / f"{next(FRESH)}.parquet", values, group=group)
    file = data_file(path, split=split, share=0.4)
    found = [sorted_out(value) for value in values]
    wanted = [text for text, _ in found if text is not None and (not split or split_of(text, 0.4) == split)]
    faults = Counter(fault for _, fault in found if fault and split != "validation")
    start = data.draw(st.integers(0, len(wanted) + 1))
    assert list(file.documents(start, Counter())) == wanted[start:]  # no index yet
    skipped: Counter[str] = Counter()
    assert list(file.documents(0, skipped)) == wanted
    assert skipped == faults
    assert list(file.documents(start, Counter())) == wanted[start:]


def test_a_reader_that_stopped_in_the_middle_left_an_index_as_far_as_it_came(home: Path) -> None:
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    reading = data_file(path).documents(0, Counter())
    assert list(islice(reading, 17)) == [str(n) for n in range(17)]
    reading.close()
    (index,) = (home / "data" / "row-indexes").iterdir()
    assert json.loads(index.read_text()) == {"documents": [3] * 5}
    assert list(data_file(path).documents(20, Counter())) == [str(n) for n in range(20, 30)]


@pytest.mark.parametrize("content", ["", "{", '{"documents": [-4]}', '{"documents": "x"}', "[" * 10_000])
def test_a_damaged_index_is_as_good_as_none(home: Path, content: str) -> None:
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    assert len(list(data_file(path).documents(0, Counter()))) == 30
    (index,) = (home / "data" / "row-indexes").iterdir()
    index.write_text(content)
    assert list(data_file(path).documents(25, Counter())) == [str(n) for n in range(25, 30)]


def test_other_content_under_the_same_name_has_another_index(home: Path) -> None:
    path = write(home / "a.parquet", [None] * 9 + [b"one", b"two"])
    assert list(data_file(path, digest="old").documents(0, Counter())) == ["one", "two"]
    write(path, [b"%d" % n for n in range(11)])
    assert list(data_file(path, digest="new").documents(1, Counter())) == [str(n) for n in range(1, 11)]


def test_where_no_index_can_be_kept_reading_is_the_same(home: Path) -> None:
    (home / "data").write_text("a file where the folder should be")
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    assert list(data_file(path).documents(25, Counter())) == [str(n) for n in range(25, 30)]


# Documents and files that are not as they should be


def test_a_document_of_100_megabytes_is_passed_over_and_counted(home: Path) -> None:
    giant = "a lot of text " * (100_000_000 // 14)
    pq.write_table(pa.table({"text": ["before", giant, "after"]}), home / "a.parquet", compression="zstd")
    (home / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ("before", giant, "after")))
    (home / "a.txt").write_text("\n\n".join(("before", giant, "after")))
    for name in ("a.parquet", "a.jsonl", "a.txt"):
        source = Files(FilesConfig(path=home / name, validation_share=0.0))
        assert list(source.documents(source.shards("train")[0])) == ["before", "after"]
        assert source.skipped() == {"too long": 1}


def test_a_longer_limit_lets_a_long_document_through(home: Path) -> None:
    (home / "a.txt").write_text("x" * 300)
    config = FilesConfig(path=home / "a.txt", validation_share=0.0, longest_document=299)
    with pytest.raises(NanochatError) as raised:
        Files(config)
    assert raised.value.diagnostics[0].code == "E302"
    assert "1 too long" in raised.value.diagnostics[0].message
    assert "longest_document" in raised.value.diagnostics[0].help
    assert Files(FilesConfig(path=home / "a.txt", validation_share=0.0, longest_document=300)).shards("train")


def test_empty_shards_and_row_groups_without_text_are_read_as_nothing(home: Path) -> None:
    write(home / "a.parquet", [])
    write(home / "b.parquet", [None, None, None, b"", b" ", b"\n", b"text", None, b"more"])
    (home / "c.jsonl").write_text("")
    (home / "d.txt").write_text("\n\n")
    source = Files(FilesConfig(path=home, validation_share=0.0))
    shards = source.shards("train")
    assert [list(source.documents(shard)) for shard in shards] == [[], ["text", "more"], [], []]
    assert source.skipped() == {"null": 4, "empty": 3}
    assert list(source.documents(shards[1], 1)) == ["more"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_corpus_smaller_than_one_batch_is_read_again_and_again_and_its_faults_are_counted(
    home: Path, count: int
) -> None:
    write(home / "a.parquet", [None, *[b"document %d" % n for n in range(count)], b"\xff"])
    loader = PretrainLoader(
        {"tiny": (Files(FilesConfig(path=home / "a.parquet", validation_share=0.0)), 1.0)},
        ByteTokenizer(),
        rows=8,
        sequence_len=64,
        packing="best_fit",
        buffer=10,
        lanes=4,
    )
    batch = loader.next_batch()
    assert batch.inputs.shape == (8, 64)
    found = bytes(i for i in batch.inputs.flatten().tolist() if i < 256)
    assert all(b"document %d" % n in found for n in range(count))
    counts = loader.counts()
    assert counts["tiny.epochs"] >= 8 * 65 // (count * 12)
    assert counts["tiny.skipped.not UTF-8"] > 0
    assert counts["tiny.skipped.null"] - counts["tiny.skipped.not UTF-8"] in (0, 1)  # it stands before the texts


def test_a_flipped_byte_in_a_page_with_a_checksum_is_e304(home: Path) -> None:
    table = pa.table({"text": [os.urandom(500).hex() for _ in range(40)]})
    pq.write_table(table, home / "a.parquet", compression="zstd", use_dictionary=False, write_page_checksum=True)
    sound = (home / "a.parquet").read_bytes()
    column = pq.ParquetFile(home / "a.parquet").metadata.row_group(0).column(0)
    end = column.data_page_offset + column.total_compressed_size
    for place in range(end - column.total_compressed_size // 2, end, 997):
        (home / "a.parquet").write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.raises(NanochatError) as raised:
            Files(FilesConfig(path=home / "a.parquet", validation_share=0.0))
        assert raised.value.diagnostics[0].code == "E304"
        assert "a.parquet" in raised.value.diagnostics[0].message
