"""The records of files of every format: what each is, and what is damaged, by its name and line."""

import codecs
import io
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import TEXTS, compressed, read, refusal, write

from nanochat_plugins.sources import pieces
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def test_a_text_file_is_cut_at_the_separator(home: Path) -> None:
    path = home / "a.txt"
    path.write_bytes(b"\n\none\ntwo\r\n\r\nthree\n\n\n\nfour\n")
    everything = FilesConfig(path=path, validation_share=0.0)
    assert read(Files(everything)) == ["one\ntwo", "three", "four"]
    assert read(Files(attrs.evolve(everything, separator=""))) == ["one\ntwo\n\nthree\n\n\n\nfour"]
    path.write_text("a<end>b<end>")
    assert read(Files(attrs.evolve(everything, separator="<end>"))) == ["a", "b"]


def test_a_separator_is_found_across_the_blocks_that_are_read(home: Path) -> None:
    texts = ["x" * (2**20 - 1), "y", "z" * 2**20, "end"]
    (home / "a.txt").write_bytes("\r\n\r\n".join(texts).encode())
    assert read(Files(FilesConfig(path=home / "a.txt", validation_share=0.0))) == texts


@given(st.text("ab\r\n"), st.sampled_from(["", "a", "\n\n", "aba", "\r\n\r\n", "\n \n"]), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_pieces_are_those_of_the_whole_text_in_whatever_blocks_it_is_read(text: str, separator: str, size: int) -> None:
    whole = text.replace("\r\n", "\n")
    separator = separator.replace("\r\n", "\n")
    expected = [piece.strip("\n") for piece in (whole.split(separator) if separator else [whole])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BLOCK", size)
        found = list(pieces.pieces(io.BytesIO(text.encode()), separator.encode()))
    assert [record.text for record in found] == [piece if piece.strip() else None for piece in expected if piece]


def test_a_text_without_a_separator_is_looked_through_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    class Counting(bytearray):
        def find(self, *where: Any) -> int:
            looked.append(len(self) - where[1])
            return super().find(*where)

    monkeypatch.setattr(pieces, "bytearray", Counting, raising=False)
    monkeypatch.setattr(pieces, "BLOCK", 1_000)
    list(pieces.pieces(io.BytesIO(b"x" * 1_000_000), b"\n\n"))
    assert sum(looked) < 1_100_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=20))
def test_any_text_comes_back_as_it_was_written(home: Path, texts: list[str]) -> None:
    usable = [text for text in texts if text.strip()]
    for form in (".jsonl", ".parquet"):
        write(home / f"any{form}", [*texts, "last"])
        assert read(Files(FilesConfig(path=home / f"any{form}", validation_share=0.0))) == [*usable, "last"]


def test_null_empty_and_undecodable_records_are_counted_and_passed_over(home: Path) -> None:
    lines = [b'{"text": "good"}', b'{"text": null}', b'{"text": " \\n"}', b'{"text": "\xff"}', b'{"text": "\\ud800"}']
    (home / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n\n")
    source = Files(FilesConfig(path=home / "a.jsonl"))
    assert read(source) + read(source, "validation") == ["good"]
    assert source.skipped() == {"null": 1, "empty": 1, "not UTF-8": 2}

    strings = pa.array([b"good", None, b"", b"\xff\xfe"], pa.binary())
    lying = pa.Array.from_buffers(pa.string(), 4, strings.buffers())
    pq.write_table(pa.table({"text": lying}), home / "b.parquet")
    source = Files(FilesConfig(path=home / "b.parquet"))
    assert read(source) + read(source, "validation") == ["good"]
    assert source.skipped() == {"null": 1, "empty": 1, "not UTF-8": 1}


def test_dictionary_encoded_and_binary_columns_are_text_too(home: Path) -> None:
    for number, column in enumerate([pa.array(["a", "b", "a"]).dictionary_encode(), pa.array([b"a", b"b", b"a"])]):
        path = home / f"{number}.parquet"
        pq.write_table(pa.table({"body": column}), path)
        assert read(Files(FilesConfig(path=path, column="body", validation_share=0.0))) == ["a", "b", "a"]


def test_a_missing_column_is_e303_and_names_those_there_are(home: Path) -> None:
    write(home / "a.parquet", TEXTS)
    write(home / "a.jsonl", TEXTS)
    for name in ("a.parquet", "a.jsonl"):
        code, message = refusal(FilesConfig(path=home / name, column="body"))
        assert code == "E303"
        assert "`body`" in message
        assert "`text`" in message
    code, message = refusal(FilesConfig(path=home / "a.parquet", column="id"))
    assert code == "E303"
    assert "int64" in message


@pytest.mark.parametrize("line", ["{", "[" * 100_000])
def test_a_line_that_is_no_json_is_named_by_file_and_number(home: Path, line: str) -> None:
    (home / "a.jsonl").write_text('{"text": "good"}\n\n' + line + "\n")
    code, message = refusal(FilesConfig(path=home / "a.jsonl", validation_share=0.0))
    assert code == "E304"
    assert f"{home / 'a.jsonl'}:3" in message


OTHERS = ["[1]", "4", "null", '{"other": 1}', '{"text": 4}', '{"text": ["good"]}', '{"text": true}']


@pytest.mark.parametrize("line", OTHERS)
def test_a_file_whose_first_record_is_of_another_shape_is_refused_by_its_line(home: Path, line: str) -> None:
    (home / "a.jsonl").write_text("\n" + line + '\n{"text": "good"}\n')
    code, message = refusal(FilesConfig(path=home / "a.jsonl", validation_share=0.0))
    assert code == ("E303" if line.startswith("{") else "E304")
    assert f"{home / 'a.jsonl'}:2" in message


def test_a_later_record_of_another_shape_is_counted_and_passed_over(home: Path) -> None:
    (home / "a.jsonl").write_text("\n".join(['{"text": "good"}', *OTHERS, '{"text": "too"}']))
    source = Files(FilesConfig(path=home / "a.jsonl", validation_share=0.0))
    assert read(source) == ["good", "too"]
    assert source.skipped() == {"no text": len(OTHERS)}


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz", "a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst"])
def test_a_truncated_or_foreign_file_is_e304_and_named(home: Path, name: str) -> None:
    write(home / name, TEXTS * 20)
    content = (home / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"this is something else entirely, and long enough"):
        (home / name).write_bytes(damaged)
        code, message = refusal(FilesConfig(path=home / name))
        assert code == "E304"
        assert name in message


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst"])
def test_a_compressed_file_of_no_bytes_is_e304_and_named(home: Path, name: str) -> None:
    write(home / "0.jsonl", TEXTS)
    (home / name).touch()
    code, message = refusal(FilesConfig(path=home))
    assert code == "E304"
    assert f"{home / name} cannot be read: it is empty" in message


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", [".jsonl", ".txt"])
def test_a_byte_order_mark_is_no_text(home: Path, form: str, compression: str) -> None:
    write(home / f"plain{form}", TEXTS)
    path = home / f"marked{form}{compression}"
    compressed(path, codecs.BOM_UTF8 + (home / f"plain{form}").read_bytes())
    config = FilesConfig(path=path, validation_share=0.0)
    config.fingerprint()  # a plan looks at it too
    assert read(Files(config)) == TEXTS
    compressed(path, codecs.BOM_UTF8 + b"\n")
    assert refusal(config)[0] == "E302"
