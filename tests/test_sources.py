"""The first-party sources: the same documents in one order, exact places, splits that share nothing, named faults."""

import codecs
import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.data.source import Source
from nanochat.errors import NanochatError
from nanochat_plugins.sources import pieces, pydocs
from nanochat_plugins.sources.digest_cache import file_digest
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig
from nanochat_plugins.sources.held_out import split_of
from nanochat_plugins.sources.pydocs import PyDocs, PyDocsConfig
from nanochat_plugins.sources.stories import Stories, StoriesConfig

TEXTS = [f"This is document number {n} of a little corpus." for n in range(200)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def read(source: Source, split: Any = "train") -> list[str]:
    return [text for shard in source.shards(split) for text in source.documents(shard)]


def refusal(config: FilesConfig) -> tuple[str, str]:
    """Code and message of the error that reading a config's files ends with."""
    with pytest.raises(NanochatError) as raised:
        read(Files(config))
    return raised.value.diagnostics[0].code, raised.value.diagnostics[0].message


def compressed(path: Path, content: bytes) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(content)


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


# files


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", [".parquet", ".jsonl", ".txt"])
def test_every_format_and_compression_gives_the_same_documents(home: Path, form: str, compression: str) -> None:
    path = home / f"corpus{form}{compression}"
    write(path, TEXTS)
    source = Files(FilesConfig(path=path))
    assert read(source) == [text for text in TEXTS if split_of(text, 0.02) == "train"]
    assert sorted(read(source) + read(source, "validation")) == sorted(TEXTS)
    assert source.skipped() == {}


@pytest.mark.parametrize("form", [".parquet", ".jsonl", ".txt"])
def test_reading_from_any_place_gives_the_rest_of_the_shard(home: Path, form: str) -> None:
    write(home / f"corpus{form}", TEXTS[:50])
    source = Files(FilesConfig(path=home / f"corpus{form}", validation_share=0.3))
    for split in ("train", "validation"):
        (shard,) = source.shards(split)
        whole = list(source.documents(shard))
        for start in range(len(whole) + 2):
            assert list(source.documents(shard, start)) == whole[start:]


def test_a_folder_and_a_glob_mean_their_files_in_the_order_of_their_names(home: Path) -> None:
    (home / "corpus" / "deep").mkdir(parents=True)
    write(home / "corpus" / "b.jsonl", ["second"])
    write(home / "corpus" / "a.txt", ["first"])
    write(home / "corpus" / "deep" / "c.parquet", ["third"])
    (home / "corpus" / "notes.md").write_text("no data")
    source = Files(FilesConfig(path=home / "corpus", validation_share=0.0))
    assert read(source) == ["first", "second", "third"]
    assert [shard.name for shard in source.shards("train")] == ["train/a.txt", "train/b.jsonl", "train/deep/c.parquet"]
    assert read(Files(FilesConfig(path=home / "corpus" / "[ab].*", validation_share=0.0))) == ["first", "second"]
    assert read(Files(FilesConfig(path=home / "corpus" / "**" / "*.parquet", validation_share=0.0))) == ["third"]


def test_files_of_their_own_are_the_validation_split(home: Path) -> None:
    write(home / "train.txt", TEXTS)
    write(home / "held.txt", ["One more.", "And another."])
    source = Files(FilesConfig(path=home / "train.txt", validation=home / "held.txt"))
    assert read(source) == TEXTS
    assert read(source, "validation") == ["One more.", "And another."]


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


def test_what_is_not_there_is_e301(home: Path) -> None:
    (home / "empty").mkdir()
    (home / "a.csv").write_text("text\n")
    for path, said in [
        ("none.txt", "no file"),
        ("*.txt", "no file matches"),
        ("empty", "holds no"),
        ("a.csv", "a.csv"),
    ]:
        code, message = refusal(FilesConfig(path=home / path))
        assert code == "E301"
        assert said in message
    with pytest.raises(NanochatError) as raised:
        FilesConfig(path=home / "none.txt").fingerprint()
    assert raised.value.diagnostics[0].code == "E301"


def test_files_without_a_document_are_e302_and_say_what_was_passed_over(home: Path) -> None:
    (home / "a.txt").write_text("\n\n\n")
    assert refusal(FilesConfig(path=home / "a.txt"))[0] == "E302"
    (home / "a.jsonl").write_text('{"text": null}\n{"text": ""}\n')
    code, message = refusal(FilesConfig(path=home / "a.jsonl"))
    assert code == "E302"
    assert "1 empty, 1 null" in message


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


@pytest.mark.parametrize(
    "name, text, code, said",
    [
        ("a.jsonl", '{"body": "Once."}\n', "E303", "a.jsonl:1 has no `text`; its fields: `body`"),
        ("a.jsonl", '{"text": "Once."}\nOnce upon a time\n', "E304", "a.jsonl:2 cannot be read: no JSON"),
        ("a.parquet", "Once upon a time, long enough", "E304", "a.parquet cannot be read"),
    ],
)
def test_a_plan_looks_at_the_first_file_and_says_what_is_wrong_with_it(
    home: Path, name: str, text: str, code: str, said: str
) -> None:
    (home / name).write_text(text)
    write(home / "b.txt", TEXTS)
    for config in (FilesConfig(path=home / "[ab].*"), FilesConfig(path=home / "b.txt", validation=home / name)):
        with pytest.raises(NanochatError) as raised:
            config.fingerprint()
        assert raised.value.diagnostics[0].code == code
        assert said in raised.value.diagnostics[0].message


def test_a_plan_names_the_columns_of_the_first_parquet_file(home: Path) -> None:
    write(home / "a.parquet", TEXTS)
    assert FilesConfig(path=home / "a.parquet").fingerprint()["files"]
    with pytest.raises(NanochatError, match=r"E303.*has no `body`; its columns: .*`text`"):
        FilesConfig(path=home / "a.parquet", column="body").fingerprint()


def test_planning_files_of_text_loads_no_reader_of_parquet(home: Path) -> None:
    (home / "a.jsonl").write_text('{"text": "good"}\n')
    script = (
        "import sys; from pathlib import Path; from nanochat_plugins.sources.files_config import FilesConfig\n"
        f"FilesConfig(path=Path({str(home)!r})).fingerprint(); print('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_the_fingerprint_follows_the_content_and_not_the_place(home: Path) -> None:
    write(home / "a.txt", TEXTS)
    before = FilesConfig(path=home / "a.txt").fingerprint()
    (home / "moved").mkdir()
    shutil.move(home / "a.txt", home / "moved" / "a.txt")
    assert FilesConfig(path=home / "moved" / "a.txt").fingerprint() == before
    write(home / "moved" / "a.txt", TEXTS[::-1])
    assert FilesConfig(path=home / "moved" / "a.txt").fingerprint() != before


def test_a_digest_is_remembered_until_the_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "a.txt"
    path.write_text("one")
    known = file_digest(path)
    assert known == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)  # to read it would fail
        assert file_digest(path) == known
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) != known


@pytest.mark.parametrize("replaced", [False, True], ids=["written over", "replaced"])
def test_a_change_of_the_same_length_whose_time_was_put_back_is_seen(home: Path, replaced: bool) -> None:
    path = home / "a.txt"
    path.write_text("one")
    file_digest(path)
    status = path.stat()
    new = home / "b.txt" if replaced else path
    new.write_text("two")
    new.replace(path)
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # a system's clock may be coarse
        os.utime(path, ns=(1, 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as cp -p and rsync -t do
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()


# pydocs


@functools.cache
def library() -> list[str]:
    return pydocs.extract(Path(sysconfig.get_path("stdlib")))


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real extraction, done once for all tests."""
    texts = library()
    monkeypatch.setattr(pydocs, "extract", lambda folder: list(texts))
    return texts


def test_pydocs_are_megabytes_of_prose_without_duplicates(extracted: list[str]) -> None:
    assert sum(map(len, extracted)) > 1_500_000
    assert len(set(extracted)) == len(extracted)
    assert min(map(len, extracted)) >= 40
    assert any("Return a shallow copy" in text for text in extracted)
    letters = sum(char.isalpha() or char.isspace() for text in extracted for char in text)
    assert letters / sum(map(len, extracted)) > 0.85


def test_pydocs_come_from_docstrings_alone_and_never_from_tests(home: Path) -> None:
    module = home / "library" / "pack" / "module.py"
    module.parent.mkdir(parents=True)
    (home / "library" / "test").mkdir()
    doc = "The documentation of a {} is long enough to be kept here."
    module.write_text(
        f'"""{doc.format("module")}"""\n# {doc.format("comment")}\nraise SystemExit\n'
        f'class A:\n    """{doc.format("class")}\n\n        Indented.   \n    """\n'
        f'    async def f(self):\n        """{doc.format("method")}"""\n        return "{doc.format("string")}"\n'
        f'def g():\n    """Short."""\ndef h():\n    """{doc.format("module")}"""\n'
    )
    (home / "library" / "test" / "case.py").write_text(f'"""{doc.format("test")}"""\n')
    (home / "library" / "broken.py").write_text("def (:\n")
    ours = [text for text in pydocs.extract(home / "library") if text.startswith("The documentation of a")]
    assert sorted(ours) == [
        doc.format("class") + "\n\nIndented.",
        doc.format("method"),
        doc.format("module"),
    ]


def test_pydocs_splits_share_nothing_and_places_are_exact(extracted: list[str]) -> None:
    source = PyDocs(PyDocsConfig())
    train, validation = read(source), read(source, "validation")
    assert sorted(train + validation) == sorted(extracted)
    assert not set(train) & set(validation)
    assert 0.02 < len(validation) / len(extracted) < 0.04
    (shard,) = source.shards("train")
    assert list(source.documents(shard, 4_000)) == train[4_000:]
    assert read(PyDocs(PyDocsConfig())) == train


def test_pydocs_are_kept_and_a_damaged_file_is_made_anew(
    home: Path, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pydocs.library_documents()
    (kept,) = (home / "data" / "pydocs").iterdir()
    content = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pydocs, "extract", None)  # to extract would fail
        assert pydocs.library_documents() == first
    kept.write_bytes(content.replace(b"Return", b"Reform", 1))
    assert pydocs.library_documents() == first
    assert kept.read_bytes() == content


# stories


def test_stories_depend_on_the_seed_alone() -> None:
    assert read(Stories(StoriesConfig(size=50))) == read(Stories(StoriesConfig(size=50)))
    assert read(Stories(StoriesConfig(size=50))) != read(Stories(StoriesConfig(size=50, seed=1)))
    longer = read(Stories(StoriesConfig(size=90)))
    assert longer[: len(read(Stories(StoriesConfig(size=50))))] == read(Stories(StoriesConfig(size=50)))


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_stories_of_any_seed_have_splits_that_share_nothing(seed: int) -> None:
    source = Stories(StoriesConfig(size=300, seed=seed, validation_share=0.3))
    train, validation = read(source), read(source, "validation")
    assert len(train) + len(validation) == 300
    assert not set(train) & set(validation)
    (shard,) = source.shards("train")
    assert list(source.documents(shard, 17)) == train[17:]


def test_stories_are_tidy_sentences_with_many_words_and_without_numerals() -> None:
    texts = read(Stories(StoriesConfig(size=3_000)))
    assert len(set(texts)) == len(texts)
    words = {word.strip('.,?!:;"').lower() for text in texts for word in text.split()}
    assert len(words) > 1_400
    for text in texts:
        assert not any(char.isdigit() for char in text)
        assert "  " not in text
        assert text[0].isupper() or text[0] == '"'
        assert all(f" {article} {vowel}" not in text for article in ("a",) for vowel in "aeio")
