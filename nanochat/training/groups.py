"""Parameter groups: which named parameter is updated by which group of the recipe. Plain strings, no torch."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import attrs


@attrs.frozen(kw_only=True)
class Assignment:
    """How patterns share out parameters. Sound when the last three are empty."""

    groups: Mapping[str, Sequence[str]]
    """Group name → parameter names, in the model's order."""
    unmatched: Sequence[str]
    """Parameters that no group matches."""
    doubled: Mapping[str, Sequence[str]]
    """Parameters that several groups match → those groups."""
    empty: Sequence[str]
    """Groups that match nothing."""


def assign(names: Iterable[str], patterns: Mapping[str, str | Sequence[str]]) -> Assignment:
    """Share out parameter names by each group's glob patterns (case counts)."""
    globs = {group: [match] if isinstance(match, str) else list(match) for group, match in patterns.items()}
    groups: dict[str, list[str]] = {group: [] for group in globs}
    unmatched, doubled = [], {}
    for name in names:
        owners = [group for group, globs_ in globs.items() if any(fnmatchcase(name, glob) for glob in globs_)]
        if not owners:
            unmatched.append(name)
        if len(owners) > 1:
            doubled[name] = owners
        for owner in owners[:1]:
            groups[owner].append(name)
    empty = [group for group, members in groups.items() if not members]
    return Assignment(groups=groups, unmatched=unmatched, doubled=doubled, empty=empty)
