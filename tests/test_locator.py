"""The locator against tomllib: every place it names, read again by tomllib, gives tomllib's value."""

import datetime
import math
import string
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.recipe.locator import locate

names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=4) | st.text(max_size=4)
scalars = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.text(max_size=12)
    | st.datetimes(min_value=datetime.datetime(1, 1, 2))
    | st.dates()
    | st.times()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(names, values, max_size=4)


def every_path(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name), item
        yield from every_path(item, (*path, name))


def alike(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def check(text: str) -> None:
    """The contract: the same paths as tomllib, and each value's text re-parses to tomllib's value."""
    parsed = tomllib.loads(text)
    spans = locate(text)
    expected = dict(every_path(parsed))
    assert set(spans) == set(expected)
    lines = text.split("\n")
    for path, value in expected.items():
        mark = spans[path].value
        if mark is not None:
            assert alike(tomllib.loads(f"x = {text[mark.start : mark.end]}")["x"], value), path
            assert lines[mark.line - 1][mark.column - 1 :][: mark.width] == text[mark.start : mark.end].split("\n")[0]
        key = spans[path].key
        if key is not None and isinstance(path[-1], str):
            (name,) = tomllib.loads(f"{text[key.start : key.end]} = 0")
            assert name == path[-1]


@given(documents)
@settings(max_examples=150, deadline=None)
def test_every_place_in_a_document_of_tomli_w_reparses_to_the_value(document: dict[str, Any]) -> None:
    check(tomli_w.dumps(document))
    check(tomli_w.dumps(document, multiline_strings=True))


blanks = st.sampled_from(["", " ", "\t", "  "])
gaps = st.sampled_from(["\n", "\n\n", "\r\n", " # a comment = [\n", '\t# ünïcödé { "\n'])
layouts = st.sampled_from(
    [
        '"text"',
        "'C:\\literal'",
        '"""a\n""quoted"" \\" "" line"""""',
        "'''it''s\nraw'''",
        '"\\u00e9 \\\\ \\" #"',
        "+1_000",
        "0xdead_beef",
        "-0.5e-3",
        "inf",
        "nan",
        "true",
        "1979-05-27 07:32:00.5Z",
        "1979-05-27",
        "07:32:00",
        "[ ]",
        "[1, 2,\n 3, # three ]\n]",
        "[[1], ['a', \"]\"], {x = 1}]",
        "{}",
        "{ a = 1, b.c = 'x', \"d e\" = [ { f = 2 } ] }",
    ]
)


@st.composite
def handwritten(draw: st.DrawFn) -> str:
    """TOML as hands write it: dotted and quoted keys, arrays of tables, comments, tabs, CRLF."""
    parts: list[str] = []

    def assignments(prefix: str) -> None:
        for number in range(draw(st.integers(0, 3))):
            form = draw(st.sampled_from(["{}k{}", '"{}k {}"', "'{}ké{}'", "{}k{}.sub . 'deep'", '{}k{} ."x.y"']))
            key = form.format(prefix, number)
            parts.append(f"{draw(blanks)}{key}{draw(blanks)}={draw(blanks)}{draw(layouts)}{draw(blanks)}{draw(gaps)}")

    assignments("")
    for number in range(draw(st.integers(0, 3))):
        header = draw(st.sampled_from(["[t{}]", "[ t{} . 'in ner' ]", "[[a]]", "[[t{}.list]]", '["ü{}".x]']))
        parts.append(draw(blanks) + header.format(number) + draw(gaps))
        assignments("h")
        if header == "[[a]]":
            parts.append(f"[a.below{number}]{draw(gaps)}")
            assignments("h")
    return "".join(parts)


@given(handwritten())
@settings(max_examples=300, deadline=None)
def test_every_place_in_a_handwritten_document_reparses_to_the_value(text: str) -> None:
    check(text)


def toml_files() -> list[Path]:
    """All of them that this environment, its interpreter and Rust's registry hold, and the project's own."""
    roots = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    roots += [Path(__file__).parents[1], Path.home() / ".cargo" / "registry"]
    return sorted({file for root in roots if root.is_dir() for file in root.rglob("*.toml") if file.is_file()})


def test_every_place_in_the_toml_files_of_this_machine_reparses_to_the_value() -> None:
    checked = 0
    for file in toml_files():
        text = file.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
        try:
            tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue  # some packages ship what is meant to be refused
        check(text)
        checked += 1
    assert checked >= 10


@pytest.mark.parametrize(
    "text, path, line, column, width",
    [
        ("a = 1", ("a",), 1, 5, 1),
        ("a.b = 'x'\n", ("a", "b"), 1, 7, 3),
        ("[t]\r\n\tkey = [1, 22]\r\n", ("t", "key", 1), 2, 12, 2),
        ("\"ключ\" = 'да' # x", ("ключ",), 1, 10, 4),
        ('[[a]]\n[[a]]\nx = {y = "z"}', ("a", 1, "x", "y"), 3, 10, 3),
        ('m = """one\ntwo"""', ("m",), 1, 5, 6),
    ],
)
def test_a_place_is_counted_in_characters_from_one(
    text: str, path: tuple[Any, ...], line: int, column: int, width: int
) -> None:
    mark = locate(text)[path].value
    assert mark is not None
    assert (mark.line, mark.column, mark.width) == (line, column, width)


def test_a_table_stands_at_its_own_header_and_not_where_it_is_first_mentioned() -> None:
    spans = locate("[a.b]\nx = 1\n[a]\ny = 2\n")
    key = spans[("a",)].key
    assert key is not None
    assert (key.line, key.column) == (3, 2)


def test_a_mebibyte_in_one_string_and_in_one_line_is_walked_without_recursion() -> None:
    check('x = """' + '\\"' * 500_000 + '"""')
    check("x = [" + "1," * 100_000 + "]")
