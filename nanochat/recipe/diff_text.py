"""A difference as text: the values of its sides, in as few digits as tell them apart, and how far they lie apart.

In: differences. Out: text, for the screen and for a report.
"""

from typing import Any

from nanochat.recipe.diff import Difference
from nanochat.recipe.notation import shown, value_text

DIGITS = 6
"""Of a float, as long as the sides then still differ."""
TABLE_CHARACTERS = 120
"""What a table whose `use` changed is cut to."""


def value_texts(difference: Difference) -> list[str]:
    """All sides' values, floats in few digits where these tell them apart: 0.3, not 0.30000000000000004."""
    values = difference.values
    if _counts(difference):
        return ["—" if value is None else f"{value:,.0f}" for value in values]
    short, whole = [_value(value, DIGITS) for value in values], [_value(value) for value in values]
    return short if len(set(short)) == len(set(whole)) else whole


def ratio_text(difference: Difference) -> str:
    """The second side over the first in three digits; nothing where these say that the sides are the same."""
    text = f"{difference.ratio:.3g}" if difference.ratio is not None else ""
    return "" if text == "1" else text


def _counts(difference: Difference) -> bool:
    """Whether they are figures that count: tokens, parameters, bytes."""
    measured = difference.group == "metrics" and not any(difference.errors)
    return measured and all(value is None or float(value).is_integer() for value in difference.values)


def _value(value: Any, digits: int | None = None) -> str:
    if value is None:
        return "—"
    if isinstance(value, float) and digits is not None:
        return shown(float(f"{value:.{digits}g}"))
    if isinstance(value, dict) and "use" in value:
        own = {name: inner for name, inner in value.items() if name != "use"}
        text = f"{value['use']} {value_text(own)}" if own else str(value["use"])
        return text if len(text) <= TABLE_CHARACTERS else text[: TABLE_CHARACTERS - 1] + "…"
    return shown(value)
