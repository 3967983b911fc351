"""`nanochat tokenizer`: to other programs' files and back."""

import tomllib
from pathlib import Path

import pytest
import tiktoken.load
from tokenizers import Tokenizer as Peer

from nanochat.cli.main import main
from nanochat.text.special import SPLIT_PATTERN
from nanochat.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat, and the dog sat on the log in 1984"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a tokenizer stage leaves: a record that names the artifact."""
    Tokenizer.train([TEXT], vocab_size=285).save(tmp_path / "stage" / "tokenizer")
    (tmp_path / "stage" / "record.json").write_text('{"artifact": "tokenizer"}')
    return tmp_path / "stage"


def tokenizer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as done:
        main(["tokenizer", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return err if code else out


def test_a_tokenizer_goes_to_hugging_face_and_comes_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ours.json"
    assert tokenizer(capsys, "export", folder, file) == f"wrote {file}\n"
    ours = Tokenizer.load(folder / "tokenizer")
    assert Peer.from_file(str(file)).encode(TEXT).ids == ours.encode(TEXT)
    said = tokenizer(capsys, "import", file, tmp_path / "back")
    assert f'285 ids; in a recipe: tokenizer = "path:{tmp_path / "back"}"' in said
    assert Tokenizer.load(tmp_path / "back").digest == ours.digest


def test_a_tokenizer_goes_to_tiktoken_and_comes_back_with_its_pattern(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ours.tiktoken"
    assert SPLIT_PATTERN in tokenizer(capsys, "export", folder, file)
    ours = Tokenizer.load(folder / "tokenizer")
    assert list(tiktoken.load.load_tiktoken_bpe(str(file))) == list(ours.vocabulary.tokens)
    tokenizer(capsys, "import", file, tmp_path / "back", "--pattern", SPLIT_PATTERN)
    assert Tokenizer.load(tmp_path / "back").digest == ours.digest


def test_the_line_to_paste_is_toml_and_means_the_same_folder_from_anywhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer(capsys, "export", folder, tmp_path / "ours.json")
    monkeypatch.chdir(tmp_path)
    said = tokenizer(capsys, "import", "ours.json", 'my "own"')
    pasted = tomllib.loads(said.partition("in a recipe: ")[2])
    assert pasted == {"tokenizer": "path:" + str(tmp_path / 'my "own"')}


def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    table = tmp_path / "a.tiktoken"
    table.write_text("YQ== 0\n")
    before = sorted(tmp_path.rglob("*"))
    refused = [
        (("export", folder, tmp_path / "x.txt"), "E407", "name it NAME.tiktoken"),
        (("export", folder, kept), "E407", "is there already"),
        (("export", folder, tmp_path / "nowhere" / "x.tiktoken"), "E407", "cannot be written"),
        (("export", folder, tmp_path / "nowhere" / "x.json"), "E407", "cannot be written"),
        (("export", tmp_path / "nothing", tmp_path / "x.json"), "E307", "cannot be read"),
        (("import", table, tmp_path / "new"), "E407", "--pattern is missing"),
        (("import", kept, tmp_path / "new", "--pattern", "."), "E407", "--pattern goes with"),
        (("import", table, tmp_path / "new", "--pattern", "."), "E307", "no token for the byte 0"),
        (("import", kept, tmp_path / "new"), "E307", "no tokenizer of that package"),
        (("import", kept, folder / "tokenizer"), "E407", "is there already"),
    ]
    for arguments, code, reason in refused:
        said = tokenizer(capsys, *arguments, code=2)
        assert f"error[{code}]" in said and reason in said
    assert sorted(tmp_path.rglob("*")) == before
    assert kept.read_text() == "mine"


def test_a_pattern_that_is_none_makes_no_tokenizer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ours.tiktoken"
    tokenizer(capsys, "export", folder, file)
    said = tokenizer(capsys, "import", file, tmp_path / "back", "--pattern", "(", code=2)
    assert "E307" in said and "cannot be compiled" in said
    assert not (tmp_path / "back").exists()
