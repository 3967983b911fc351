"""What a component says of its cost, asked so that a plugin's fault is its own.

In: a component, an optional method of `nanochat.hooks`. Out: its answer, or None where there is no such method.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from nanochat.config import Component
from nanochat.errors import NanochatError, wrong_input

T = TypeVar("T")


def answer(component: Component, method: str, read: Callable[[Any], T], *arguments: Any, **keywords: Any) -> T | None:
    """What the config's method gives, through `read`; None where there is no such method, or it does not know.

    InputError E202, which names both, where either one raises.
    """
    try:
        asked = getattr(component.config, method, None)
        said = asked(*arguments, **keywords) if callable(asked) else None
        return None if said is None else read(said)
    except NanochatError:
        raise
    except Exception as fault:  # a plugin's method
        who = f"the {component.kind} `{component.use}`"
        raise wrong_input("E202", f"{method}() of {who} failed: {type(fault).__name__}: {fault}") from fault


def whole(value: Any) -> int:
    """A number of things."""
    if value < 0:
        raise ValueError(f"{value} is below 0")
    return int(value)


def size_of(component: Component, name: str) -> int | None:
    """A config's plain option that counts something, from 1; None where it has none."""
    found = getattr(component.config, name, None)
    return found if type(found) is int and found >= 1 else None
