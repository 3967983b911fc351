"""`check_tool`: does a tool keep the contract of `nanochat.inference.tool`?

In: a tool, and calls with the results they must have. Out: an AssertionError that lists what it breaks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.testing.faults import Faults, short
from nanochat.text.special import PYTHON_END, PYTHON_START, SPECIAL_TOKENS, call_tokens, called_by

CALLS = ("", " ", "\n", "1+", "(" * 500, "9**9**9**9", "\N{SNOWMAN}\0\ud800", "import os", "x" * 10_000)
"""What a model may write: nothing, nonsense, and worse."""


def check_tool(tool: Any, calls: Mapping[str, str | None] | None = None) -> None:
    """AssertionError where the tool breaks its contract. `calls`: what is written → the result, None for none."""
    faults = Faults(f"the tool `{type(tool).__name__}`", "nanochat.inference.tool")
    name, marks = getattr(tool, "name", None), [getattr(tool, mark, None) for mark in ("start", "end")]
    faults.expect(
        isinstance(name, str) and bool(name),
        f"name is {short(name)}",
        contract="a tool has a name, which the log and the chat show",
        mend='name = "calculator"',
    )
    faults.expect(
        marks == [PYTHON_START, PYTHON_END] or _own(marks),
        f"start and end are {short(marks)}",
        contract="start and end are <|python_start|> and <|python_end|>, or your own <|X_start|> and <|X_end|>",
        mend="start, end = PYTHON_START, PYTHON_END",
    )
    for code in (*CALLS, *(calls or {})):
        contract = "run gives a text or None, the same for the same code, and never raises"
        with faults.during(f"run({short(code)})", contract=contract, mend="return None for what it cannot run"):
            result = tool.run(code)
            faults.expect(
                (result is None or isinstance(result, str)) and tool.run(code) == result,
                f"run({short(code)}) is {short(result)}",
                contract=contract,
                mend="str(…) of the result; no chance, no clock, no memory of earlier calls",
            )
            wanted = calls[code] if calls and code in calls else result
            faults.expect(
                result == wanted,
                f"run({short(code)}) is {short(result)}, not {short(wanted)}",
                contract="the calls of this check have the results that stand beside them",
                mend="mend run, or the check's `calls`",
            )
    faults.raise_any()


def _own(marks: Sequence[Any]) -> bool:
    """Whether these are a pair of tokens that a vocabulary may have beside the nine."""
    named = all(isinstance(mark, str) and mark not in SPECIAL_TOKENS for mark in marks)
    return named and tuple(marks) == call_tokens(called_by(marks[0]))
