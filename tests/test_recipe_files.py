"""Files that are no recipe: what is wrong with a file before its keys are looked at, and where."""

import os
from pathlib import Path

import pytest
from tiny_plugin import TINY, load, places, refused, write


@pytest.mark.parametrize(
    "content, code, said",
    [
        (b"x" * (2**20 + 1), "E101", "larger than 1 MiB"),
        (b'name = "\xff"', "E101", "not UTF-8: line 1 holds the byte 0xff"),
        (b"a = 1\nb\0 = 2", "E101", "line 2 holds a NUL byte"),
        (b"x = [" + b"[" * 50_000, "E106", "nested too deep"),
        (b"a" + b".a" * 5_000 + b" = 1", "E106", "nested too deep"),
        (b"x = " + b"9" * 5_000, "E106", "beyond 64 bits"),
        (b"a = 1\na = 2\n", "E106", "`a` is set twice"),
        (b"", "E105", "format = 1"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_at_once(tmp_path: Path, content: bytes, code: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    found = refused(path)[0]
    assert found.code == code
    assert said in found.render()


@pytest.mark.parametrize(
    "content, line, column, marked",
    [
        (b'format = 1\nname = "caf\xe9"\n', 2, 12, "\ufffd"),
        ("\ufeff# é😀 ".encode() + b"\xff\n", 1, 6, "\ufffd"),  # a byte order mark has no column
        (b"format = 1\r\nna\0me = 1\r\n", 2, 3, "\0"),
        ("format = 1\n".encode("utf-16"), 1, 1, "\ufffd"),
        (b"format = 1\nseed = " + b"9" * 5_000, 2, 8, "9" * 5_000),
        (b"# [[[\nx = '[[' # [[\ny = " + b"[" * 33 + b"]" * 33, 3, 37, "["),
        (b"x = " + b"{a=" * 33 + b"1" + b"}" * 33, 1, 101, "{"),
        (b"x = " + b"[" * 50_000, 1, 37, "["),
        (b"a" + b".a" * 40 + b" = 1", 1, 65, "a"),
        (b"# a recipe\nformat = 1\n", 1, 1, "#"),  # it has no stages
        (b"format = 1\n[stages]\n", 2, 2, "stages"),
    ],
)
def test_what_is_wrong_with_a_file_stands_at_its_first_wrong_sign(
    tmp_path: Path, content: bytes, line: int, column: int, marked: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    (found,) = refused(path)
    place = found.location
    assert place is not None
    assert (place.line, place.column) == (line, column), found.render()[:500]
    assert place.text[column - 1 :][: place.width] == marked


@pytest.mark.parametrize(
    "before, after",
    [
        ("steps = 5", "steps = GIANT"),
        ("weight = 2", "weight = 0xffffffffffffffffff"),
        ('match = "*"', 'match = ["*", GIANT]'),
        ('use = "gpt"', "use = GIANT"),
        ('use = "sgd"', 'use = "sgd"\ndecay = -GIANT'),
        ('init = "stage:base"', "init = GIANT"),
        ('from = "stages.base.optim"', "from = GIANT"),
        ("format = 1", "format = GIANT"),
        ("format = 1", "format = 1\nextends = [GIANT]"),
        ("format = 1", "format = 1\nunset = [GIANT]"),
        ("format = 1", "format = 1\nseed = GIANT"),
        ("format = 1", "format = 1\nplugins = {block = [GIANT]}"),
        ("format = 1", 'format = 1\nlock = {data = {"stages.base.data.web" = {size = GIANT}}}'),
        ('from = "stages.base.optim"', "all = GIANT"),
        ('device = "cpu"', 'device = "cpu"\nnproc_per_node = GIANT'),
        ('[stages.base.data.web]\nuse = "words"', '[stages.base.data.x]\nuse = "everything"\ntable = {a = GIANT}'),
    ],
)
def test_an_integer_beyond_64_bits_is_one_error(tmp_path: Path, before: str, after: str) -> None:
    assert before in TINY
    text = TINY.replace(before, after.replace("GIANT", str(2**63)).replace("-" + str(2**63), str(-(2**63) - 1)), 1)
    (found,) = refused(write(tmp_path, text))
    assert found.code == "E106"
    assert found.location is not None
    marked = found.location.text[found.location.column - 1 :][: found.location.width]
    assert int(marked, 0) in (2**63, -(2**63) - 1, 0xFFFFFFFFFFFFFFFFFF)


def test_integers_beyond_64_bits_hide_no_other_error(tmp_path: Path) -> None:
    text = f"format = 1\na = {2**63}\nb = {-(2**63)}\nname = '../evil'\n[stages.tok]\nuse = [{-(2**63) - 1}]\n"
    assert places(refused(write(tmp_path, text))) == [
        ("E102", "recipe.toml:2:1"),
        ("E106", "recipe.toml:2:5"),
        ("E102", "recipe.toml:3:1"),
        ("E104", "recipe.toml:4:8"),
        ("E106", "recipe.toml:6:8"),
    ]


def test_a_file_of_another_encoding_is_told_what_it_looks_like(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-le"):
        (tmp_path / "recipe.toml").write_bytes(TINY.encode(encoding))
        assert refused(tmp_path / "recipe.toml")[0].help == "save it as UTF-8: it looks like UTF-16"


@pytest.mark.parametrize("asked", ["recipes/quikstart.toml", "recipe/quickstart.toml", "quickstart", "quikstart.toml"])
def test_a_misspelt_file_suggests_the_recipe_that_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "recipes", TINY, "quickstart.toml")
    (found,) = refused(Path(asked))
    assert (found.code, found.help) == ("E101", "did you mean `recipes/quickstart.toml`?")


def test_a_file_that_is_near_no_recipe_but_by_its_ending_gets_no_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("b9.toml", "zope.toml", "recipes/b9.toml"):
        write(tmp_path, TINY, name)
    assert refused(Path("nope.toml"))[0].help == "did you mean `zope.toml`?"
    assert "did you mean" not in refused(Path("recipes/x.toml"))[0].help


def test_a_missing_file_names_the_recipes_beside_it(tmp_path: Path) -> None:
    write(tmp_path, TINY, "there.toml")
    (found,) = refused(tmp_path / "gone.toml")
    assert found.code == "E101"
    assert "there.toml" in found.help


def test_a_folder_that_is_gone_and_a_name_that_is_no_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, TINY)
    (tmp_path / "\udcff.toml").write_bytes(path.read_bytes())
    for name in ("\udcff.toml", "gone\udcff.toml", "a\0b.toml"):
        (found,) = refused(tmp_path / name)
        assert found.code == "E101"
        assert found.render().encode()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load(path).name == "tiny"
    assert "current folder is gone" in refused(Path("recipe.toml"))[0].message
    assert "current folder is gone" in refused(path, "seed=1")[0].message


def test_a_folder_and_a_pipe_are_no_recipes(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)[0].message
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")[0].message


def test_a_byte_order_mark_and_crlf_shift_no_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").replace("steps = 5", "steps = 5.5").encode())
    (found,) = refused(path)
    assert found.location is not None
    assert (found.location.line, found.location.column, found.location.text) == (16, 9, "steps = 5.5")


def test_bad_toml_is_shown_at_its_line_and_column(tmp_path: Path) -> None:
    assert places(refused(write(tmp_path, "format = 1\nname = \n"))) == [("E106", "recipe.toml:2:8")]


def test_every_line_that_is_wrong_by_itself_is_shown_and_what_follows_from_it_is_not(tmp_path: Path) -> None:
    text = "format = 1\nname = 'tiny\nseed = \n[stages.base]\nsteps = many\nlist = [\n  1,\n"
    found = refused(write(tmp_path, text))
    assert places(found) == [("E106", f"recipe.toml:{line}") for line in ("2:13", "3:8", "5:9", "7:5")]


def test_a_wrong_sign_in_a_key_has_its_own_column(tmp_path: Path) -> None:
    assert places(refused(write(tmp_path, "format = 1\nwe$ght = 2\n"))) == [("E106", "recipe.toml:2:3")]


@pytest.mark.parametrize(
    "text, message, column, first",
    [
        ("[stages.base]\nx = 1\n\n[stages.base]", "[stages.base] is declared twice", 1, 1),
        ("seed = 1\n# again\n\nseed = 2\n", "`seed` is set twice", 1, 1),
        ("[a]\nb = 1\nc = 2\nb . d = 3\n", "`a.b` is set twice", 1, 2),
        ("[t]\nx = {y = 1}\n\n[t.x]\nz = 2\n", "[t.x] is declared twice", 1, 2),
    ],
)
def test_what_is_said_twice_names_the_place_of_the_first(
    tmp_path: Path, text: str, message: str, column: int, first: int
) -> None:
    (found,) = refused(write(tmp_path, text))
    assert places([found]) == [("E106", f"recipe.toml:4:{column}")]
    assert (found.message, found.label) == (message, f"the first is in line {first}")
