"""The source `files`: which files there are, in which order, and what a plan says of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_files import TEXTS, read, refusal, write

from nanochat.errors import NanochatError
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig
from nanochat_plugins.sources.held_out import split_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


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
