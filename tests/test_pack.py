"""`nanochat data pack`: every document once, in an order that a seed decides, in shards that are the same bytes."""

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import Texts

from nanochat.cli.main import main
from nanochat.data import shuffle
from nanochat.data.pack import pack
from nanochat.data.shuffle import Shuffle
from nanochat.errors import NanochatError
from nanochat.testing import TinySource
from nanochat_plugins.sources.files import Files
from nanochat_plugins.sources.files_config import FilesConfig

TEXTS = [f"Document number {n} of those that are packed." for n in range(1_000)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


def packed(
    folder: Path, *, seed: int = 0, source: Any = None, progress: Callable[[str], object] = lambda _: None
) -> Path:
    source = source or Texts(TEXTS[:700], TEXTS[700:])
    pack(
        source,
        folder,
        description={"use": "texts"},
        seed=seed,
        shard_characters=10_000,
        group_rows=50,
        progress=progress,
    )
    return folder


def texts_in(folder: Path) -> list[str]:
    source = Files(FilesConfig(path=folder / "train", validation_share=0.0))
    return [text for shard in source.shards("train") for text in source.documents(shard)]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_document_is_there_once_in_another_order(home: Path) -> None:
    found = texts_in(packed(home / "out"))
    assert Counter(found) == Counter(TEXTS)
    followed = sum(TEXTS.index(b) == TEXTS.index(a) + 1 for a, b in itertools.pairwise(found))
    assert followed < 10  # one is expected by chance; all but one before


def test_the_same_source_and_seed_give_the_same_bytes_and_another_seed_others(home: Path) -> None:
    assert digests(packed(home / "a")) == digests(packed(home / "b"))
    assert texts_in(packed(home / "c", seed=1)) != texts_in(home / "a")


def test_shards_are_of_one_size_with_small_row_groups_zstd_and_page_checksums(home: Path) -> None:
    shards = sorted((packed(home / "out") / "train").iterdir())
    lengths = [sum(map(len, pq.read_table(shard)["text"].to_pylist())) for shard in shards]
    assert all(10_000 <= length < 10_100 for length in lengths[:-1])
    for shard in shards:
        found = pq.ParquetFile(shard).metadata
        assert {found.row_group(n).num_rows for n in range(found.num_row_groups - 1)} <= {50}
        assert found.row_group(0).column(0).compression == "ZSTD"
    column = pq.ParquetFile(shards[0]).metadata.row_group(0).column(0)
    content = bytearray(shards[0].read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 9] ^= 1
    shards[0].write_bytes(content)
    with pytest.raises(OSError, match="CRC checksum"):
        pq.read_table(shards[0], page_checksum_verification=True)


def test_the_manifest_says_what_was_packed_and_has_each_files_digest(home: Path) -> None:
    folder = packed(home / "out", seed=5)
    facts = json.loads((folder / "manifest.json").read_text())
    assert (facts["source"], facts["seed"]) == ({"use": "texts"}, 5)
    assert sum(file["documents"] for file in facts["files"]["train"]) == len(TEXTS)
    assert sum(file["characters"] for file in facts["files"]["train"]) == sum(map(len, TEXTS))
    found = digests(folder)
    for file in facts["files"]["train"]:
        assert file["sha256"] == found[f"train/{file['name']}"]
        assert file["size"] == (folder / "train" / file["name"]).stat().st_size


def test_what_has_no_bytes_is_left_out_and_counted(home: Path) -> None:
    folder = packed(home / "out", source=Texts(["one", "", "\ud800", "two"]))
    assert sorted(texts_in(folder)) == ["one", "two"]
    assert json.loads((folder / "manifest.json").read_text())["passed_over"] == {"empty": 1, "not UTF-8": 1}


def test_each_split_stays_on_its_side(home: Path) -> None:
    source = TinySource()
    folder = packed(home / "out", source=source)
    files = Files(FilesConfig(path=folder / "train", validation=folder / "validation"))
    for split in ("train", "validation"):
        before = [text for shard in source.shards(split) for text in source.documents(shard)]
        after = [text for shard in files.shards(split) for text in files.documents(shard)]
        assert Counter(after) == Counter(before)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_cut_off_leaves_nothing(home: Path, fault: BaseException) -> None:
    class Breaking(Texts):
        def documents(self, shard: Any, start: int = 0) -> Any:
            yield from TEXTS
            raise fault

    with pytest.raises(type(fault)):
        packed(home / "out", source=Breaking([]))
    assert list(home.iterdir()) == []


def test_what_a_killed_pack_left_is_removed_by_the_next_and_named(home: Path) -> None:
    script = (
        "import os; from pathlib import Path; from small_data import Texts; from test_pack import packed\n"
        "class Killed(Texts):\n"
        "    def documents(self, shard, start=0):\n"
        "        yield 'one'\n"
        "        os.kill(os.getpid(), 9)\n"
        f"packed(Path({str(home / 'out')!r}), source=Killed([]))"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent)
    assert killed.returncode == -9
    (left,) = home.glob("out.*.partial")
    assert (left / "out" / "shuffle").exists()
    said: list[str] = []
    packed(home / "out", progress=said.append)
    assert said[0] == f"{left}, which a pack that was cut off had left, is removed"
    assert [path.name for path in home.iterdir()] == ["out"]


def test_a_pack_that_is_under_way_is_left_alone_by_another_to_the_same_place(home: Path) -> None:
    class Meanwhile(Texts):
        def documents(self, shard: Any, start: int = 0) -> Any:
            yield from super().documents(shard, start)
            if not (home / "out").exists():
                packed(home / "out")

    with pytest.raises(NanochatError, match="E407"):
        packed(home / "out", source=Meanwhile(TEXTS))
    (whole,) = home.glob("out.*.partial/out")
    shutil.rmtree(home / "out")
    said: list[str] = []
    packed(home / "out", progress=said.append)
    assert not [line for line in said if "is removed" in line]
    assert set(texts_in(whole)) == set(TEXTS)  # finished work is nobody's leftover


def test_every_shard_is_announced_and_what_was_passed_over(home: Path) -> None:
    said: list[str] = []
    folder = packed(home / "out", source=Texts([*TEXTS, "", "", "\ud800"]), progress=said.append)
    shards = sorted(path.name for path in (folder / "train").iterdir())
    assert [line for line in said if line.endswith("written")] == [f"train: {name} written" for name in shards]
    assert said[-1] == "passed over: 2 empty, 1 not UTF-8"


def test_the_manifest_holds_no_path_of_this_machine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "texts.txt").write_text("\n\n".join(TEXTS))
    recipe = home / "recipe.toml"
    recipe.write_text(
        'format = 1\nname = "little"\n[stages.tok]\nuse = "tokenizer"\n'
        '[stages.tok.data.own]\nuse = "files"\npath = "texts.txt"\nlongest_document = 500\n'
    )
    with pytest.raises(SystemExit) as done:
        main(["data", "pack", str(recipe), str(home / "out")])
    assert done.value.code == 0, capsys.readouterr().err
    manifest = (home / "out" / "manifest.json").read_text()
    assert str(home) not in manifest
    source = {"use": "files", "validation_share": 0.02, "column": "text", "separator": "\n\n", "longest_document": 500}
    assert json.loads(manifest)["source"] == source


def test_a_neighbour_whatever_its_name_is_left_alone(home: Path) -> None:
    mine = home / "out.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    packed(home / "out")
    assert sorted(path.name for path in home.iterdir() if path.name != "home") == ["out", "out.partial"]
    assert mine.read_text() == "years of work"


@pytest.mark.parametrize("content", [[], ["mine.txt"]])
def test_a_folder_that_appears_meanwhile_stays_and_the_finished_work_is_kept_and_named(
    home: Path, content: list[str]
) -> None:
    class Slow(Texts):
        def documents(self, shard: Any, start: int = 0) -> Any:
            yield from TEXTS
            (home / "out").mkdir(exist_ok=True)
            for name in content:
                (home / "out" / name).touch()

    with pytest.raises(NanochatError) as raised:
        packed(home / "out", source=Slow(TEXTS))
    (found,) = raised.value.diagnostics
    assert found.code == "E407" and f"{home / 'out'} cannot be made" in found.message
    assert [path.name for path in (home / "out").iterdir()] == content
    (kept,) = home.glob("out.*.partial/out")
    assert str(kept) in found.help
    assert set(texts_in(kept)) == set(TEXTS)


def test_a_folder_that_is_there_is_refused_and_a_source_without_text_too(home: Path) -> None:
    packed(home / "out")
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: packed(home / "out"), "E407"),
        (lambda: packed(home / "other", source=Texts([])), "E302"),
    ]
    for act, code in refused:
        with pytest.raises(NanochatError) as raised:
            act()
        assert raised.value.diagnostics[0].code == code
    assert texts_in(home / "out")
    assert not (home / "other").exists()


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=60), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_a_shuffle_gives_any_texts_back_once(texts: list[str], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "BUCKETS", 4)
        with tempfile.TemporaryDirectory() as folder:
            made = Shuffle(Path(folder) / "scratch", seed=seed)
            for text in texts:
                made.add(text)
            assert Counter(made) == Counter(texts)


def test_every_place_is_as_likely_for_every_document(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "BUCKETS", 3)
    counts: Counter[tuple[str, int]] = Counter()
    for seed in range(600):
        made = Shuffle(home / f"scratch-{seed}", seed=seed)
        for text in "abcd":
            made.add(text)
        counts.update((text, place) for place, text in enumerate(made))
    chi_squared = sum((counts[text, place] - 150) ** 2 / 150 for text in "abcd" for place in range(4))
    assert chi_squared < 27.9  # 9 degrees of freedom: exceeded once in a thousand


def test_the_command_packs_a_source_of_a_recipe_and_prints_how_to_use_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
    arguments = ["data", "pack", str(recipe), str(home / "out"), "--set", "stages.base.data.stories.size=300"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--source", "base.stories", "--shard-characters", "20000"])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert f'[stages.base.data.stories]\nuse = "files"\npath = "{home}/out/train"' in said
    files = json.loads((home / "out" / "manifest.json").read_text())["files"]
    assert sum(file["documents"] for split in files.values() for file in split) == 300
    assert all(20_000 <= file["characters"] < 21_000 for file in files["train"][:-1])
    with pytest.raises(SystemExit) as done:
        main([*arguments[:-2], "--source", "base"])
    assert done.value.code == 2
    assert "base.docs, base.stories" in capsys.readouterr().err


def test_the_lines_to_paste_are_toml_and_mean_the_same_folder_from_anywhere(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    recipe = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
    arguments = ["data", "pack", str(recipe), 'a "quoted" folder', "--source", "base.stories"]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--set", "stages.base.data.stories.size=300"])
    assert done.value.code == 0
    pasted = tomllib.loads(capsys.readouterr().out.partition("\n\n")[2])
    folder = home / 'a "quoted" folder'
    assert pasted["stages"]["base"]["data"]["stories"] == {
        "use": "files",
        "path": str(folder / "train"),
        "validation": str(folder / "validation"),
    }
