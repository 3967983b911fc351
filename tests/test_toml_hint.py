"""Lines that are no TOML, as a new user writes them: the place that is marked, and what is said to write instead."""

import tomllib
from pathlib import Path

import pytest
from tiny_plugin import TINY, refused, write

LINES = [
    # Another language's hand
    ("steps: 5", 6, "joined by `=`"),
    ("steps 5", 7, "key = value"),
    ("steps == 5", 8, "one `=`"),
    ("steps = 5,", 10, "no comma stands between lines"),
    ("steps = 5;", 10, "a comment begins with #"),
    ("steps = 5 // five", 11, "a comment begins with #"),
    ("-- five", 4, "key = value"),
    ("// five", 1, "a comment begins with #"),
    ('{"steps": 5}', 1, "looks like JSON"),
    ("import os", 8, "key = value"),
    ("my steps = 5", 4, "a key is one word: my_steps"),
    # Values
    ("steps = five", 9, 'in quotes: "five"'),
    ("steps = True", 9, "write true"),
    ("steps = FALSE", 9, "write false"),
    ("steps = yes", 9, "write true"),
    ("steps = None", 9, "TOML has no null"),
    ("steps = null", 9, "TOML has no null"),
    ("steps = ", 9, "leave the whole line out"),
    ("steps =", 8, "leave the whole line out"),
    ("steps = # five", 9, "leave the whole line out"),
    ("steps = [*]", 10, 'in quotes: "*"'),
    ("steps = stage:tok", 9, 'in quotes: "stage:tok"'),
    # Numbers
    ("steps = 1,000", 10, "grouped by `_`: 1_000"),
    ("steps = 0,1", 10, "a fraction has a point: 0.1"),
    ("steps = 007", 10, "no zero in front: 7"),
    ("steps = 5.", 10, "a digit behind its point: 5.0"),
    ("steps = .5", 9, "a digit before its point: 0.5"),
    ("steps = 64k", 11, "nothing is computed, no unit is known"),
    ("steps = 2^16", 10, "nothing is computed"),
    ("steps = 8*8", 10, "nothing is computed"),
    ("steps = 48:00:00", 11, 'a time stands in quotes: "48:00:00"'),
    ("steps = 1-12:00:00 # with a spare", 10, 'a time stands in quotes: "1-12:00:00"'),
    # Quotes and signs
    ("steps = “5”", 9, "quotes are straight"),
    ("steps = ‘5’", 9, "quotes are straight"),
    ('steps = "5', 11, "ends with the quote that it begins with"),
    ("steps = '5\"", 12, "ends with the quote that it begins with"),
    ('steps = "C:\\Users\\me"', 12, "single quotes take it as it is"),
    ('steps = "a\\-b"', 11, "single quotes take it as it is"),
    ("steps =\u00a05", 8, "invisible character here, U+00A0"),
    ("st\u200beps = 5", 3, "invisible character here, U+200B"),
    ("\ufefftag = 'x'", 1, "invisible character here, U+FEFF"),
    ("steps ＝ 5", 7, "joined by `=`"),
    ("steps = '😀' x", 13, "more stands behind the value"),
    ("steps = './data' '", 18, "more stands behind the value"),
    ("steps = ./data", 9, 'in quotes: "./data"'),
    ("steps = ~/data", 9, 'in quotes: "~/data"'),
    ('steps = f"{x}"', 9, "no letter before its quotes"),
    ("steps = 'it's'", 13, "write it in double quotes"),
    ('steps = "say "hi""', 15, "write it in single quotes"),
    ('steps = "a" + "b"', 13, "nothing is computed or joined"),
    ('steps = ("a")', 9, "round brackets mean nothing"),
    ('steps = ["a" "b"]', 14, "no comma stands between two items"),
    ('steps = ["a",, "b"]', 14, "each comma follows a value"),
    ("steps = {a = 1, }", 17, "ends without a comma"),
    ("steps = 1979-13-01", 13, "more stands behind the value"),
    ("let steps = 5", 5, "a key is one word: steps"),
    ("steps += 5", 7, "key = value"),
    ("= 5", 1, "neither a key nor a [table]"),
    # Tables
    ("[[stages.more]", 14, "one pair of brackets: [stages.more]"),
    ("[stages.]", 9, "a key, or a word of it, is missing here"),
    ("[]", 2, "a key, or a word of it, is missing here"),
    ("[stages.base", 13, "close the bracket: [stages.base]"),
    ("stages.base]", 12, "between two brackets"),
    ("[stages base]", 9, "joined by points"),
    ("[stages:base]", 8, "joined by points"),
    ("steps = {", 10, "an inline table ends in its line"),
    ("steps = 5 6", 11, "more stands behind the value"),
    ("steps = 'a', 'b'", 12, "an array, in brackets"),
]


@pytest.mark.parametrize("line, column, said", LINES)
def test_a_line_that_is_no_toml_is_marked_where_it_goes_wrong_and_says_what_to_write(
    tmp_path: Path, line: str, column: int, said: str
) -> None:
    for ends in ("\n", "\r\n"):
        text = TINY.replace("steps = 5", line).replace("\n", ends)
        (found,) = refused(write(tmp_path, text))
        assert found.code == "E106"
        assert found.location is not None
        number = TINY.split("\n").index("steps = 5") + 1
        assert (found.location.line, found.location.column) == (number, column), found.render()
        assert said in found.render()


@pytest.mark.parametrize(
    "before, after, marked",
    [
        ('match = "*"', 'match = ["*"', 'match = ["*"'),
        ('match = "*"', 'match = ["*",\n  "wte.*"', 'match = ["*",'),
        ('match = "*"', "match = '''*", "match = '''*"),
        ('match = "*"', 'match = """*', 'match = """*'),
        ('[stages.sft.optim]\nfrom = "stages.base.optim"', "tag = [[1, 2], [3", "tag = [[1, 2], [3"),
    ],
)
def test_what_is_left_open_is_marked_where_it_opens(tmp_path: Path, before: str, after: str, marked: str) -> None:
    (found,) = refused(write(tmp_path, TINY.replace(before, after)))
    assert (found.code, "what opens here is not closed" in found.message) == ("E106", True)
    assert found.location is not None
    assert found.location.text == marked
    assert marked[found.location.column - 1] in "['\""


def test_a_file_of_yaml_is_told_so_line_by_line(tmp_path: Path) -> None:
    found = refused(write(tmp_path, "format: 1\nstages:\n  base:\n    use: pretrain\n"))
    assert [d.location.line for d in found if d.location] == [1, 2, 3, 4]
    assert {d.help for d in found} == {"a key and its value are joined by `=`: key = value"}


def test_lone_carriage_returns_are_named(tmp_path: Path) -> None:
    (found,) = refused(write(tmp_path, TINY.replace("\n", "\r")))
    assert "lone carriage return" in found.help


@pytest.mark.parametrize(
    "line, column, word",
    [
        ("dött = 3", 1, "dött"),
        ("日本 = 3", 1, "日本"),
        ("größe.zahl = 3", 1, "größe"),
        ("[stages.base.data.日本]", 19, "日本"),
        ("[stages.base.data.a-ñ.b]", 19, "a-ñ"),
        ("[[ö]]", 3, "ö"),
        ("x = {a = 1, dött = 3}", 13, "dött"),
        ("o\u0308x = 3", 1, "o\u0308x"),  # the two dots apart from their letter, as some file systems give them
    ],
)
def test_a_bare_key_of_other_letters_is_told_to_be_quoted(tmp_path: Path, line: str, column: int, word: str) -> None:
    (found,) = refused(write(tmp_path, TINY + line + "\n"))
    assert found.message.endswith("is not TOML: a bare key is made of A–Z a–z 0–9 _ and -")
    assert found.label == f'quote it: "{word}"'
    assert found.location is not None
    assert (found.location.column, found.location.width) == (column, len(word))
    tomllib.loads(line.replace(word, f'"{word}"'))
