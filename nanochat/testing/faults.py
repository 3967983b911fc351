"""The faults of one component, collected: the first of each kind is told, with its contract and its remedy.

In: what a check finds. Out: one AssertionError that lists all of it. Not here: what is checked.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs


@attrs.define
class Fault:
    """One promise that is broken."""

    found: str
    contract: str
    mend: str
    more: int = 0
    """How often it is broken besides."""


class Faults:
    """What is wrong with one component. A promise broken a hundred times is one fault."""

    def __init__(self, subject: str, module: str) -> None:
        """subject: what is checked. module: where its contract stands."""
        self._subject, self._module = subject, module
        self._faults: dict[str, Fault] = {}
        self._raised: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, found: str, *, contract: str, mend: str) -> None:
        """A broken promise."""
        if contract in self._faults:
            self._faults[contract].more += 1
        else:
            self._faults[contract] = Fault(found, contract, mend)

    def expect(self, kept: bool, found: str, *, contract: str, mend: str) -> bool:
        """Add a fault unless the promise is kept. Returns whether it is."""
        if not kept:
            self.add(found, contract=contract, mend=mend)
        return kept

    @contextmanager
    def during(self, doing: str, *, contract: str, mend: str) -> Iterator[None]:
        """What raises in the block is a fault."""
        try:
            yield
        except Exception as fault:
            self._raised = self._raised or fault
            said = f": {fault}" if str(fault) else ""
            self.add(f"{doing} raised {type(fault).__name__}{said}", contract=contract, mend=mend)

    def raise_any(self) -> None:
        """AssertionError with every fault, if there is one; it follows from what was raised first."""
        if not self._faults:
            return
        count = "one promise" if len(self._faults) == 1 else f"{len(self._faults)} promises"
        lines = [f"{self._subject} breaks {count} of its contract ({self._module}):"]
        for number, fault in enumerate(self._faults.values(), 1):
            more = f" (and {fault.more} times more)" if fault.more else ""
            lines += ["", f"{number}. {fault.found}{more}"]
            lines += [f"   contract: {fault.contract}", f"   mend: {fault.mend}"]
        raise AssertionError("\n".join(lines)) from self._raised


TRACEBACK = "the traceback before this one shows where"
LONGEST = 80
"""Characters of a value that a message shows."""


def short(value: Any) -> str:
    """A value as a message shows it: its repr, cut."""
    text = repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def is_plain(value: Any) -> bool:
    """Whether JSON can say it: mappings by strings, sequences, texts, finite numbers, booleans, None."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def is_number(value: Any) -> bool:
    """Whether it is a finite number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
