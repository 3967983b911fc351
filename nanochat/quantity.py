"""Quantities as a person reads them: 1.38 G, 24.6 GB, 3 h 06 min, $74. In: plain numbers. Out: short text."""

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_YEAR = 365.25 * 86_400
_TIMES = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def count(value: float, unit: str = "") -> str:
    """Three digits and a power of a thousand: 561 M, 4.78 GFLOP."""
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{_digits(value)} {_PREFIXES[power]}{unit}".rstrip()


def size(n_bytes: float) -> str:
    """Bytes: 24.6 GB."""
    return count(n_bytes, "B")


def duration(seconds: float) -> str:
    """3 s · 1 min 05 s · 2 h 03 min · 4 d 02 h · 7.5 years."""
    if seconds >= _YEAR:
        return f"{_digits(seconds / _YEAR, 2)} years"
    for length, unit, small, smaller in _TIMES:
        if round(seconds) >= length:
            whole, rest = divmod(round(seconds / small), length // small)
            return f"{whole} {unit}" + (f" {rest:02d} {smaller}" if rest else "")
    return f"{round(seconds)} s"


def money(dollars: float) -> str:
    """$0.52, $74, $1,200."""
    return f"${dollars:.2f}" if dollars < 10 else f"${dollars:,.0f}"


def counted(number: int, noun: str) -> str:
    """1 line, 2 lines: of nouns whose plural ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _digits(value: float, wanted: int = 3) -> str:
    """At least `wanted` digits, whole where the number has more, without zeros behind the point."""
    places = max(0, wanted - len(str(int(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
