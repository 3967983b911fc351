"""The documents of a file: which are passed over and counted, and that any place in it is found again, and soon."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import ByteTokenizer
from small_files import compressed

from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.errors import NanochatError
from nanochat_plugins.sources import json_lines, pieces, place_index
from nanochat_plugins.sources import records as reading
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


def write_lines(path: Path, values: list[bytes | None], *, end: bytes) -> Path:
    """A .jsonl file, plain or compressed."""
    return compressed(path, b"".join(line(value) + end for value in values))


def line(value: bytes | None) -> bytes:
    """A record as JSON, or as what would be JSON if it were UTF-8."""
    if value is None:
        return b'{"text": null}'
    return b'{"text": "\xff"}' if value == b"\xff" else json.dumps({"text": value.decode()}).encode()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes are read at once, which is how far places are apart."""

    def set_to(size: int) -> None:
        for module in (json_lines, pieces, reading):
            monkeypatch.setattr(module, "BLOCK", size)

    return set_to


def check_any_place(path: Path, values: list[bytes | None], split: str, data: st.DataObject) -> None:
    """Documents and counts are those of the policy, from any place on, with and without an index."""
    file = data_file(path, split=split, share=0.4)
    found = [sorted_out(value) for value in values]
    wanted = [text for text, _ in found if text is not None and (not split or split_of(text, 0.4) == split)]
    faults = Counter(fault for _, fault in found if fault and split != "validation")
    start = data.draw(st.integers(0, len(wanted) + 1))
    assert list(file.documents(start, Counter())) == wanted[start:]  # no index yet
    skipped: Counter[str] = Counter()
    assert list(file.documents(0, skipped)) == wanted
    assert skipped == faults
    for again in (start, data.draw(st.integers(0, len(wanted) + 1))):
        behind: Counter[str] = Counter()
        assert list(file.documents(again, behind)) == wanted[again:]
        assert behind == faults_behind(found, again, split)


def faults_behind(found: list[tuple[str | None, str]], start: int, split: str) -> Counter[str]:
    """What is passed over behind so many documents of a split."""
    faults: Counter[str] = Counter()
    number = 0
    for text, fault in found:
        if text is None and number >= start and split != "validation":
            faults[fault] += 1
        number += text is not None and (not split or split_of(text, 0.4) == split)
    return faults


anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
splits = st.sampled_from(["", "train", "validation"])


@anywhere
@given(records, st.integers(1, 7), splits, st.data())
def test_any_place_of_any_parquet_file_is_found(
    home: Path, values: list[bytes | None], group: int, split: str, data: st.DataObject
) -> None:
    check_any_place(write(home / f"{next(FRESH)}.parquet", values, group=group), values, split, data)


@anywhere
@given(records, st.sampled_from(["", ".gz", ".zst"]), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), splits, st.data())
def test_any_place_of_any_file_of_json_lines_is_found(
    home: Path,
    small_blocks: Callable[[int], None],
    values: list[bytes | None],
    compression: str,
    end: bytes,
    split: str,
    data: st.DataObject,
) -> None:
    small_blocks(data.draw(st.integers(1, 99)))
    check_any_place(write_lines(home / f"{next(FRESH)}.jsonl{compression}", values, end=end), values, split, data)


@anywhere
@given(
    st.lists(st.text("ab\r\n \ufeff", max_size=LONGEST), max_size=12),
    st.sampled_from(["\n\n", "aba", "a", "\r\n\r\n", "\n \n", "\r"]),
    st.sampled_from(["", ".gz"]),
    splits,
    st.data(),
)
def test_any_place_of_any_text_file_is_found(
    home: Path,
    small_blocks: Callable[[int], None],
    texts: list[str],
    separator: str,
    compression: str,
    split: str,
    data: st.DataObject,
) -> None:
    """The pieces themselves are those of tests/test_records.py; here, that a place gives the same ones."""
    small_blocks(data.draw(st.integers(1, 20)))
    path = compressed(home / f"{next(FRESH)}.txt{compression}", separator.join(texts).encode())
    how = attrs.evolve(data_file(path, split=split, share=0.4).reading, separator=separator)
    file = DataFile(path=path, digest=path.name, reading=how)
    wanted = list(file.documents(0, Counter()))
    for start in range(len(wanted) + 2):
        assert list(file.documents(start, Counter())) == wanted[start:]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_what_lies_before_the_place_is_not_read(home: Path, small_blocks: Callable[[int], None], name: str) -> None:
    texts = [f"text {n:04}" for n in range(1_000)]
    lines = [json.dumps({"text": text}) + "\n" for text in texts] if name == "a.jsonl" else [t + "\n\n" for t in texts]
    path = compressed(home / name, "".join(lines).encode())
    small_blocks(100)
    assert list(data_file(path).documents(0, Counter())) == texts
    content = path.read_bytes()
    path.write_bytes(b"?" * (len(content) - 500) + content[-500:])  # its digest is told to be the same
    assert list(data_file(path).documents(990, Counter())) == texts[990:]


def test_a_line_is_named_by_its_number_also_where_reading_began_in_the_middle(
    home: Path, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(50)
    for compression in ("", ".gz"):
        good = b"".join(b'{"text": "%d"}\n\n' % n for n in range(100))
        path = compressed(home / f"a.jsonl{compression}", good + b'{"text": "cut o')
        reader = data_file(path).documents(0, Counter())
        assert list(islice(reader, 100))[-1] == "99"
        reader.close()
        with pytest.raises(NanochatError) as raised:
            list(data_file(path).documents(99, Counter()))
        assert f"{path}:201 cannot be read: no JSON" in raised.value.diagnostics[0].message


def test_a_reader_that_stopped_in_the_middle_left_an_index_as_far_as_it_came(home: Path) -> None:
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    reading = data_file(path).documents(0, Counter())
    assert list(islice(reading, 17)) == [str(n) for n in range(17)]
    reading.close()
    (index,) = (home / "data" / "places").iterdir()
    assert json.loads(index.read_text())["places"] == [[group, 3 * group] for group in range(1, 6)]
    assert list(data_file(path).documents(20, Counter())) == [str(n) for n in range(20, 30)]


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"places": "x"}', '{"places": [[2, 3], [1, 6]]}', '{"sha256": "x"}', "[" * 10_000],
)
def test_a_damaged_index_is_as_good_as_none(home: Path, content: str) -> None:
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    assert len(list(data_file(path).documents(0, Counter()))) == 30
    (index,) = (home / "data" / "places").iterdir()
    index.write_text(content)
    assert list(data_file(path).documents(25, Counter())) == [str(n) for n in range(25, 30)]


def test_whatever_digit_of_an_index_is_another_no_other_document_comes_of_it(home: Path) -> None:
    path = write(home / "a.parquet", [b"%d" % n for n in range(30)])
    list(data_file(path).documents(0, Counter()))
    (index,) = (home / "data" / "places").iterdir()
    sound = index.read_bytes()
    for place in (n for n, byte in enumerate(sound) if chr(byte).isdigit()):
        index.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        for start in (10, 29):
            assert list(data_file(path).documents(start, Counter())) == [str(n) for n in range(start, 30)]


def test_the_same_bytes_with_another_ending_have_another_index(home: Path, small_blocks: Callable[[int], None]) -> None:
    small_blocks(100)
    content = b"".join(b'{"text": "%d"}\n' % n + b"\n" * (n % 2) for n in range(99))
    for name in ("a.jsonl", "a.txt"):
        (home / name).write_bytes(content)
    how = attrs.evolve(data_file(home / "a.txt").reading, longest=99)
    lines, text = (DataFile(path=home / name, digest="same", reading=how) for name in ("a.jsonl", "a.txt"))
    assert len(list(lines.documents(0, Counter()))) == 99
    found = list(text.documents(40, Counter()))
    assert found == [piece.strip("\n") for piece in content.decode().split("\n\n")][40:]


@pytest.mark.parametrize("change", ["before", "in the middle"])
def test_of_a_file_that_is_changed_no_place_is_kept(
    home: Path, small_blocks: Callable[[int], None], change: str
) -> None:
    """What is in it now is not what its digest stands for; and the file may become what it was."""
    small_blocks(100)
    old, new = (b"".join(b'{"text": "%s%d"}\n' % (word, n) for n in range(99)) for word in (b"old ", b"newest "))
    path = compressed(home / "a.jsonl", old)
    source = Files(FilesConfig(path=path, validation_share=0.0))
    (shard,) = source.shards("train")
    reader = source.documents(shard)
    if change == "in the middle":
        next(reader)
    path.write_bytes(old + new)
    with pytest.raises(NanochatError, match=r"E304.*a\.jsonl cannot be read: it was changed"):
        list(reader)
    assert not (home / "data" / "places").exists()
    path.write_bytes(old)
    assert list(source.documents(shard, 97)) == ["old 97", "old 98"]


def test_other_content_under_the_same_name_has_another_index(home: Path) -> None:
    path = write(home / "a.parquet", [None] * 9 + [b"one", b"two"])
    assert list(data_file(path, digest="old").documents(0, Counter())) == ["one", "two"]
    write(path, [b"%d" % n for n in range(11)])
    assert list(data_file(path, digest="new").documents(1, Counter())) == [str(n) for n in range(1, 11)]


def test_of_the_time_of_reading_a_twentieth_goes_into_keeping_places(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and so however long it takes: here 1 s, while a place is reached each second."""
    now, kept = [0.0], []

    def keep(path: Path, content: bytes) -> None:
        kept.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(place_index, "replace_content", keep)
    monkeypatch.setattr(place_index, "time", SimpleNamespace(monotonic=lambda: now[0]))
    index = place_index.PlaceIndex(["digest"])
    for number in range(1, 100):
        now[0] += 1.0
        index.learn(number, number)
    assert kept == [3.0, 25.0, 47.0, 69.0, 91.0]


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


def test_a_bad_file_in_the_middle_ends_the_reading_by_its_name_and_mended_the_same_rows_follow(home: Path) -> None:
    for name, first in (("a", 0), ("b", 200), ("c", 400)):
        lines = "".join(json.dumps({"text": f"document {first + n} {os.urandom(20).hex()}"}) + "\n" for n in range(200))
        compressed(home / f"{name}.jsonl.gz", lines.encode())

    def loader() -> PretrainLoader:
        source = Files(FilesConfig(path=home / "*.jsonl.gz", validation_share=0.0))
        return PretrainLoader(
            {"web": (source, 1.0)}, ByteTokenizer(), rows=4, sequence_len=64, packing="best_fit", buffer=8, lanes=2
        )

    undisturbed, broken = loader(), loader()
    expected = [undisturbed.next_batch().inputs for _ in range(110)]  # beyond the last file
    sound = (home / "b.jsonl.gz").read_bytes()
    (home / "b.jsonl.gz").write_bytes(sound[: len(sound) // 2])
    found, state = [], broken.snapshot().state()

    def read_on() -> None:
        nonlocal state
        while True:
            found.append(broken.next_batch().inputs)
            state = broken.snapshot().state()

    with pytest.raises(NanochatError) as raised:
        read_on()
    assert (raised.value.diagnostics[0].code, "b.jsonl.gz" in raised.value.diagnostics[0].message) == ("E304", True)
    assert 10 < len(found) < 100
    (home / "b.jsonl.gz").write_bytes(sound)
    mended = loader()
    mended.load_state(state)
    found += [mended.next_batch().inputs for _ in range(len(expected) - len(found))]
    assert all(map(torch.equal, found, expected))
