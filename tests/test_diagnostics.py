"""A diagnostic as it is drawn, and the list of codes."""

import pickle
import re
from pathlib import Path

from nanochat.cli.explanations import EXPLANATIONS
from nanochat.errors import CODES, Diagnostic, InputError, Location, StageError

README = Path(__file__).parents[1] / "recipes" / "README.md"


def test_carets_stand_under_wide_characters_and_tabs() -> None:
    where = Location(path="f", line=1, column=5, width=2, text="\t漢字 ab")
    shown = Diagnostic(code="E102", message="m", location=where).render().splitlines()
    assert shown[-1] == "  | \t" + " " * 5 + "^^"


def test_a_message_and_its_help_tell_a_terminal_nothing_to_do() -> None:
    """Names come into them from files that anybody may have written."""
    shown = Diagnostic(code="E409", message="asks for \x1b[2J\x07os", help="leave \u202eit\x9b out").render()
    assert shown == "error[E409]: asks for \ufffd[2J\ufffdos\n  = help: leave \ufffdit\ufffd out"


def test_a_long_line_is_shown_around_its_place_and_control_characters_are_not_obeyed() -> None:
    text = "x" * 5_000 + "\x1b[31mhere" + "y" * 5_000
    where = Location(path="f", line=1, column=5_006, width=4, text=text)
    *_, line, carets = Diagnostic(code="E102", message="m", location=where).render().splitlines()
    assert len(line) < 200
    assert "\x1b" not in line
    start = carets.index("^")
    assert line[start : start + 4] == "here"


def test_the_readme_lists_every_code_with_its_meaning_and_each_can_be_explained() -> None:
    listed = dict(re.findall(r"^\| (E\d{3}) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == CODES
    assert set(EXPLANATIONS) == set(CODES)


def test_an_error_that_comes_from_another_process_says_the_same() -> None:
    found = [Diagnostic(code="E407", message=f"wrong {word}", help="mend it") for word in ("a", "b")]
    for kind in (InputError, StageError):
        copy = pickle.loads(pickle.dumps(kind(found)))
        assert (type(copy), copy.diagnostics, str(copy)) == (kind, found, str(kind(found)))
