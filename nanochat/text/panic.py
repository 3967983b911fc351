"""Panics of other packages' Rust code, which pass every `except Exception`, as the error that ours raises.

In: a call of tiktoken or tokenizers that cuts text. Out: `Unusable` (a ValueError) where that panics, as both do of a
pattern that tries the same text in ever new ways until its engine gives up. What they say of it themselves goes to the
standard error. Not here: what is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nanochat._rustbpe import Unusable


@contextmanager
def panics_told() -> Iterator[None]:
    """Unusable instead of a panic."""
    try:
        yield
    except BaseException as fault:
        if type(fault).__name__ != "PanicException":  # each package that is written with PyO3 has a class of its own
            raise
        raise Unusable(f"the split pattern cannot cut this text: {fault}") from fault
