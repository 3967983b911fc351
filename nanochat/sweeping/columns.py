"""Names of columns: keys of recipes and figures of stages, written out or with parts left out where that is clear.

In: what was typed, and the names there are. Out: the name that is meant, `stages.base.model.depth` of `base.depth`, or
an InputError E407 that lists what may be; and of a name the shortest end that tells it apart.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from nanochat.errors import did_you_mean, wrong_input


def resolved(asked: str, known: Iterable[str], option: str) -> str:
    """The column that is meant. InputError E407 where there is none, or where it may be several."""
    listed = list(dict.fromkeys(known))
    near = matching(asked, listed)
    if len(near) == 1:
        return near[0]
    if near:
        raise wrong_input("E407", f"{option} {asked}: that may be several columns", help=f"name one: {_some(near)}")
    suggestion = did_you_mean(asked, [*listed, *_shortened(listed, asked.count(".") + 1)])
    help_ = suggestion or (f"there are {_some(listed)}" if listed else "there is nothing to choose from yet")
    raise wrong_input("E407", f"{option} {asked}: there is no such column", help=help_)


def matching(asked: str, known: Iterable[str]) -> list[str]:
    """The columns that may be meant: the one that is so called, else those that end so, else those that skip parts."""
    listed = list(dict.fromkeys(known))
    if asked in listed:
        return [asked]
    return [name for name in listed if name.endswith(f".{asked}")] or [name for name in listed if _skips(asked, name)]


def shortest(column: str, among: Sequence[str]) -> str:
    """The fewest last parts that no other column ends with: `depth` of `stages.base.model.depth`."""
    parts = column.split(".")
    ends = (".".join(parts[-count:]) for count in range(1, len(parts)))
    return next((end for end in ends if sum(f".{name}".endswith(f".{end}") for name in among) == 1), column)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _shortened(known: Sequence[str], parts: int) -> list[str]:
    """The names of so many parts that say one column and no other: `base.depth` of `stages.base.model.depth`."""
    found = Counter[str]()
    for name in known:
        *before, last = name.split(".")
        found.update({".".join([*kept, last]) for kept in itertools.combinations(before, parts - 1)})
    return [short for short, number in found.items() if number == 1 and short not in known]


def _skips(asked: str, name: str) -> bool:
    """Whether `name` is `asked` with parts before and in between: `base.depth` of `stages.base.model.depth`.

    The last part is the last of both, whatever comes before: `base.bpb` of `base.bpb.bpb`.
    """
    *asked_before, last = asked.split(".")
    *before, end = name.split(".")
    parts = iter(before)
    return last == end and all(part in parts for part in asked_before)
