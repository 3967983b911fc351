"""What was meant where a line is not TOML: the slips of hands that know JSON, YAML, Python or a word processor.

In: a line, a place in it and what tomllib said. Out: a sentence on what to write instead, or nothing; and the word that
is a key elsewhere but not in TOML.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

LONGEST_LINE = 10_000
"""A longer line was written by no hand."""
_CURLED = "“”„‟«»‘’‚‛"
_WORD = re.compile(r"[A-Za-z_][\w./:*@+-]*")
_CONSTANTS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_TIME = re.compile(r"((\d+-)?\d+(:\d{2}){1,2})\s*(#.*)?")
"""A scheduler's, such as 48:00:00 or 1-12:00:00; TOML knows those of a day, with their seconds."""
_PREFIXED = re.compile(r"[A-Za-z]{1,2}[\"']")
_KEY_ENDS = ("Invalid statement", "Invalid initial character for a key", "Expected '='", "Expected ']'")
"""What tomllib says where a key has a sign that it does not take for one of a key."""
_DECLARING = ("let", "var", "const", "export", "set")
_NOTHING = ("none", "null", "nil", "undefined")


def hint(line: str, column: int, said: str) -> str:
    """How to mend a line; `column`: where tomllib stopped, counted from 1."""
    if len(line) > LONGEST_LINE:
        return ""
    at = column - 1
    return next((found for look in _LOOKS if (found := look(line, at, said))), "")


def foreign_key(line: str, column: int, said: str) -> tuple[int, str] | None:
    """A key with letters that a bare key cannot have, and the column where it begins; None where that is not it."""
    at = column - 1
    if len(line) > LONGEST_LINE or not said.startswith(_KEY_ENDS) or line[at : at + 1].isascii():
        return None
    start, end = at, at
    while start > 0 and _is_letter(line[start - 1]):
        start -= 1
    while end < len(line) and _is_letter(line[end]):
        end += 1
    return (start + 1, line[start:end]) if end > at else None


def _is_letter(character: str) -> bool:
    return character in "_-" or character.isalnum() or unicodedata.category(character).startswith("M")


def _invisible(line: str, at: int, said: str) -> str:  # noqa: ARG001 (each look is asked alike)
    if "\r" in line:
        return "the lines end with a lone carriage return; save the file with line ends that are \\n"
    near = line[max(0, at - 1) : at + 2]
    odd = next((c for c in near if c != " " and unicodedata.category(c) in ("Zs", "Cf", "Cc") and c != "\t"), None)
    return f"there is an invisible character here, U+{ord(odd):04X}; delete it" if odd else ""


def _curled(line: str, at: int, said: str) -> str:  # noqa: ARG001
    return "quotes are straight: \"…\" or '…'" if line[at : at + 1] in tuple(_CURLED) else ""


def _comment(line: str, at: int, said: str) -> str:  # noqa: ARG001
    rest = line[at:].lstrip()
    return "a comment begins with #" if rest.startswith(("//", "--", ";", "/*")) else ""


def _document(line: str, at: int, said: str) -> str:
    if said != "Invalid statement" or line[:at].strip():
        return ""
    return "this looks like JSON; a recipe is TOML: key = value, under [tables]" if line[at : at + 1] == "{" else ""


def _equals(line: str, at: int, said: str) -> str:
    if not said.startswith("Expected '='"):
        return ""
    rest = line[at:].lstrip()
    if rest.startswith((":", "＝")):
        return "a key and its value are joined by `=`: key = value"
    if rest.startswith("]"):
        return "a table's name stands between two brackets: [stages.base]"
    words = [word for word in line.split("=")[0].split() if word not in _DECLARING]
    if "=" in line and words and all(word.isidentifier() for word in words):
        return f"a key is one word: {'_'.join(words)}"
    return "a line is key = value, or [a table's name]"


def _header(line: str, at: int, said: str) -> str:
    if line.lstrip().startswith("[") and "]" not in line and "=" not in line:
        return f"close the bracket: {line.strip()}]"
    if "at the end of a table declaration" not in said and "at the end of an array declaration" not in said:
        return ""
    if line[at : at + 1] == "]":
        return f"one pair of brackets: {line.strip()[1:]}"
    return "the words of a table's name are joined by points: [stages.base]"


def _backslash(line: str, at: int, said: str) -> str:
    escape = said.startswith(("Unescaped '\\'", "Invalid hex value")) or "escape" in said
    return (
        "a backslash begins an escape in double quotes; single quotes take it as it is: 'C:\\data'"
        if escape and "\\" in line[: at + 1]
        else ""
    )


def _unclosed(line: str, at: int, said: str) -> str:
    if said == "Illegal character '\\n'" or said in ('Expected "\'"', "Expected '\"'"):
        return "the string is not closed in its line: it ends with the quote that it begins with"
    if "initial character for a key" not in said and "inline table" not in said:
        return ""
    if line[at : at + 1] == "}":
        return "an inline table ends without a comma"
    open_ended = at >= len(line.rstrip())
    return "an inline table ends in its line; a longer one is a [table] of its own" if open_ended else ""


def _value(line: str, at: int, said: str) -> str:
    if said != "Invalid value":
        return ""
    rest = line[at:].strip()
    word = _WORD.match(rest)
    if not rest or rest.startswith("#"):
        return "the value is missing; to have the default, leave the whole line out"
    if rest.startswith("="):
        return "one `=` joins a key and its value"
    if rest.startswith(("(", ",", "]")):
        return "an array is [a, b]: round brackets mean nothing, and each comma follows a value"
    if _PREFIXED.match(rest):
        return "a string has no letter before its quotes; single quotes take every sign as it is"
    if re.match(r"\.\d", rest):
        return f"a number has a digit before its point: 0{rest.split()[0]}"
    if rest.startswith("*"):
        return 'a pattern is a string, in quotes: "*"'
    if word is None:
        return f'a string stands in quotes: "{rest.split()[0]}"' if rest[0] in "./~@$%" else ""
    if word[0].lower() in _NOTHING:
        return "TOML has no null: leave the line out, or take away what a parent sets with `unset`"
    known = _CONSTANTS.get(word[0]) or _WORDS.get(word[0].lower())
    return f"write {known}" if known else f'a string stands in quotes: "{word[0]}"'


def _rest(line: str, at: int, said: str) -> str:
    if not said.startswith("Expected newline or end of document"):
        return ""
    before, rest = line[:at].rpartition("=")[2].strip(), line[at:].strip()
    joined = before + rest
    if rest == ",":
        return "no comma stands between lines"
    if re.fullmatch(r"\d{1,3}(,\d{3})+", joined):
        return f"digits are grouped by `_`: {joined.replace(',', '_')}"
    if re.fullmatch(r"\d+,\d+", joined):
        return f"a fraction has a point: {joined.replace(',', '.')}"
    if re.fullmatch(r"0\d+", joined):
        return f"a number has no zero in front: {joined.lstrip('0') or '0'}"
    if re.fullmatch(r"\d+\.", joined):
        return f"a number has a digit behind its point: {joined}0"
    if time := _TIME.fullmatch(joined):
        return f'a time stands in quotes: "{time[1]}"'
    quote = before[-1:]
    if quote in ("'", '"') and rest.endswith(quote) and not rest.startswith((",", "+", "#")):
        other = "single" if quote == '"' else "double"
        return f"the string ended before; write it in {other} quotes"
    if rest.startswith("+"):
        return "a value stands alone: nothing is computed or joined"
    if rest.startswith(","):
        return "several values are an array, in brackets: [a, b]"
    if re.fullmatch(r"\d[\d._]*[A-Za-z*^/+%-].*", joined) and not re.match(r"\d{4}-", joined):
        return "a number is written out: nothing is computed, no unit is known"
    return ""


_LOOKS: Sequence[Callable[[str, int, str], str]] = (
    _invisible,
    _curled,
    _comment,
    _document,
    _equals,
    _header,
    _backslash,
    _unclosed,
    _value,
    _rest,
)
