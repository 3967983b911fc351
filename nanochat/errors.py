"""Diagnostics: what a user did that cannot work, where, and how to mend it.

In: a code, a message, optionally the place in a file and a help line. Out: exceptions that the command line
prints without a traceback and turns into an exit code. Not here: assertions of our own invariants.
"""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from nanochat.printable import printable

EXIT_DONE = 0
EXIT_STAGE_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_STOPPED = 75  # BSD's EX_TEMPFAIL: stopped in order, the same command goes on

CODES: dict[str, str] = {
    # The recipe language
    "E101": "the recipe cannot be read",
    "E102": "unknown key",
    "E103": "wrong type",
    "E104": "value out of range",
    "E105": "missing key",
    "E106": "not TOML",
    "E107": "extends cannot be followed",
    "E108": "unset of what is not there",
    "E109": "a bad --set argument",
    "E110": "a reference that leads nowhere",
    "E111": "an input of the wrong kind",
    "E112": "stages that need each other in a circle",
    "E113": "a value that cannot be derived",
    "E114": "parameters in no optimizer group, or in two",
    "E115": "settings that do not fit together",
    # The registry
    "E201": "unknown plugin name",
    "E202": "a broken plugin",
    "E203": "two plugins claim one name",
    "E204": "a required plugin is missing",
    # Data and text
    "E301": "no such data",
    "E302": "an empty corpus",
    "E303": "a missing column or field",
    "E304": "unreadable data",
    "E305": "a bad vocabulary size",
    "E306": "a bad conversation",
    "E307": "a broken tokenizer file",
    "E308": "the tokenizer's package is missing",
    # Runs and the store
    "E401": "the home folder cannot be used",
    "E402": "the stage is being run by someone else",
    "E403": "a stage failed",
    "E404": "the hardware is not here",
    "E405": "no such run, stage or checkpoint",
    "E406": "a broken checkpoint",
    "E407": "a wrong command line",
    "E408": "what the format cannot express",
    "E409": "no model that can be imported",
    "E410": "a process was lost",
    # Training
    "E501": "the loss is not finite",
    "E502": "out of memory",
    # Inference and serving
    "E601": "the context is full",
    "E602": "a bad request",
    "E603": "the address cannot be used",
    "E604": "the sandbox cannot be had",
}


@frozen(kw_only=True)
class Location:
    """A span in a text a user wrote. Lines and columns count from 1, columns and width in characters.

    Line 0: the text is no file but one argument of the command line, which `path` names.
    """

    path: str
    line: int
    column: int
    width: int = 1
    text: str = ""
    """The whole line, without its end, shown under the message."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else f"{self.path}:{self.column}"


@frozen(kw_only=True)
class Diagnostic:
    """One thing that is wrong: a code of `CODES`, what was found, where, what to do."""

    code: str
    message: str
    location: Location | None = None
    label: str = ""
    """Said beside the carets: what the value could be."""
    help: str = ""
    severity: str = field(default="error")

    def __attrs_post_init__(self) -> None:
        assert self.code in CODES, f"undeclared diagnostic code {self.code}"

    def render(self) -> str:
        """The diagnostic as a person reads it: message, arrow to the place, the line with carets, help."""
        lines = [f"{self.severity}[{self.code}]: {printable(self.message)}"]
        where = self.location
        if where is not None:
            number = str(where.line) if where.line else ""
            gutter = " " * len(number)
            lines.append(f"{gutter}--> {where}")
            if where.text:
                shown, indent, carets = _excerpt(where)
                lines.append(f"{gutter} |")
                lines.append(f"{number} | {shown}")
                lines.append(f"{gutter} | {indent}{carets}{' ' + self.label if self.label else ''}")
        if self.label and (where is None or not where.text):
            lines.append(f"  = note: {self.label}")
        if self.help:
            lines.append(f"  = help: {printable(self.help)}")
        return "\n".join(lines)


EXCERPT_CHARACTERS = 160
"""A longer line is shown only around its place."""


def _excerpt(where: Location) -> tuple[str, str, str]:
    """The line as shown, the indent under it, and the carets, as wide as the terminal draws what they mean."""
    text, start = where.text, min(where.column - 1, len(where.text))
    end = min(len(text), start + max(1, where.width))
    cut = max(0, start - EXCERPT_CHARACTERS // 2) if len(text) > EXCERPT_CHARACTERS else 0
    end = min(end, cut + EXCERPT_CHARACTERS)
    shown = text[cut : cut + EXCERPT_CHARACTERS]
    before, after = "…" if cut else "", "…" if cut + EXCERPT_CHARACTERS < len(text) else ""
    # Tabs are kept in the indent so that the carets stand under what they mean.
    indent = "".join("\t" if c == "\t" else " " * _cells(c) for c in before + text[cut:start])
    carets = "^" * max(1, sum(_cells(c) for c in text[start:end]))
    return before + _visible(shown) + after, indent, carets


def _cells(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _visible(text: str) -> str:
    """A line in which each character can be seen: one that cannot, such as an odd space, may be the fault."""
    return "".join(c if c == "\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class NanochatError(Exception):
    """Something the user can mend. Carries one or more diagnostics and the exit code it ends with."""

    exit_code = EXIT_WRONG_INPUT

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics: Sequence[Diagnostic] = (
            [diagnostics] if isinstance(diagnostics, Diagnostic) else list(diagnostics)
        )
        super().__init__("\n".join(d.render() for d in self.diagnostics))

    def __reduce__(self) -> tuple[type["NanochatError"], tuple[list[Diagnostic]]]:
        """As it is made, not by its text: so a worker process's error reaches the one that waits for it."""
        return type(self), (list(self.diagnostics),)


class InputError(NanochatError):
    """The recipe, the command line or what they point to is wrong: exit 2."""


class StageError(NanochatError):
    """Something failed while a stage ran: exit 1."""

    exit_code = EXIT_STAGE_FAILED


class Stopped(Exception):
    """The work was asked to stop, finished its step and saved: exit 75."""


LONGEST_NAME = 80
"""Longer names are not compared with what is valid."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """«did you mean `a` or `b`?» for the at most three closest names, or nothing."""
    return suggestion_of(close_names(name, valid))


def close_names(name: str, valid: Iterable[str]) -> list[str]:
    """The at most three closest names, the nearest first."""
    return difflib.get_close_matches(name, list(valid), n=3) if len(name) <= LONGEST_NAME else []


def suggestion_of(names: Sequence[str]) -> str:
    """«did you mean `a` or `b`?», or nothing where there are no names."""
    return f"did you mean {' or '.join(f'`{name}`' for name in names)}?" if names else ""


def wrong_input(code: str, message: str, *, help: str = "") -> InputError:
    """The usual way to raise an error about input that has no place in a file."""
    return InputError(Diagnostic(code=code, message=message, help=help))


def stage_failure(code: str, message: str, *, help: str = "") -> StageError:
    """The usual way to raise an error while a stage runs."""
    return StageError(Diagnostic(code=code, message=message, help=help))
