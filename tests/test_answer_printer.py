"""What an answer looks like on a terminal: tool calls in brackets, and no character that a terminal would obey."""

import re
import sys
import unicodedata

import pytest

from nanochat.cli.answer_printer import AnswerPrinter
from nanochat.printable import printable


def test_tool_calls_are_shown_in_brackets_with_their_results(capsys: pytest.CaptureFixture[str]) -> None:
    printer = AnswerPrinter()
    for kind, text in (
        ("text", "so "), ("python", ""), ("python", "1+"), ("python", "1"), ("python_output", ""),
        ("python_output", "2"), ("text", " is "), ("python", ""), ("python", "no"), ("python", ""), ("python", "3"),
    ):  # fmt: skip
        printer.add({"type": kind, "text": text})
    printer.end()
    assert re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out) == "so [1+1 = 2] is [no][3]\n"


def test_a_call_of_a_tool_with_tokens_of_its_own_is_shown_by_the_tools_name(capsys: pytest.CaptureFixture[str]) -> None:
    printer = AnswerPrinter()
    printer.add({"type": "python", "text": "", "tool": "search"})
    for kind, text in (
        ("python", "x"),
        ("python_output", ""),
        ("python_output", "42"),
        ("python", ""),
        ("python", "1"),
    ):
        printer.add({"type": kind, "text": text})
    printer.end()
    assert re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out) == "[search: x = 42][1]\n"


def test_control_characters_of_a_model_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\tc\nd\x07é") == "a\ufffd[31mb\tc\nd\ufffdé"
    assert printable("ab\r\x00\x7f\x85\x9b") == "ab" + 5 * "\ufffd"
    for override in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        assert printable(f"a{override}b") == "a\ufffdb"
    assert printable("half \ud83d of a pair") == "half \ufffd of a pair"


@pytest.mark.parametrize(
    "text",
    [
        "10\u00a0km, 12\u202f%",  # spaces that do not break
        "全角\u3000空白",
        "می\u200cخواهم",  # Persian, with a non-joiner
        "👩\u200d👩\u200d👧 👍🏽 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "Donau\u00addampf",
        "שלום\u200f (1)",
        "e\u0301 \ufeff \u2028 \ue000",
    ],
)
def test_ordinary_text_of_any_language_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_replaced_is_told_by_unicodes_own_tables() -> None:
    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    wrong = []
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)
        obeyed = category == "Cc" and character not in "\n\t"
        gone = obeyed or category == "Cs" or unicodedata.bidirectional(character) in directions
        if printable(character) != ("\ufffd" if gone else character):
            wrong.append(hex(ord(character)))  # its number: a report cannot carry half a surrogate pair
    assert wrong == []
