"""What is wrong with a plugin, as one line for its author: what was found, what is valid, and where it stands.

In: a plugin's object before its hooks are called, or what its code raised. Out: text. Nothing is called here: pluggy
would find some of these faults too, but tells them in three lines and at a place of its own.
"""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nanochat import hooks
from nanochat.errors import did_you_mean
from nanochat.hooks import PROJECT

_SPECIFIED, _MARKED = f"{PROJECT}_spec", f"{PROJECT}_impl"
"""The attributes that pluggy's markers leave on a function."""

HOOKS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(spec).parameters) for name, spec in vars(hooks).items() if hasattr(spec, _SPECIFIED)
}
"""Every hook, and the arguments that it gives."""


class WrongHook(Exception):
    """A plugin's function that can be no hook; says why and where."""


def check_hooks(plugin: object) -> None:
    """WrongHook for the first function that is marked and no hook, asks for what its hook has not, or lacks its mark.

    pluggy passes over a function without `hookimpl`, so an observer that lacks it would never be called.
    """
    for name, function in _functions(plugin):
        fault = _fault(name, function, plugin)
        if fault:
            code = inspect.unwrap(function).__code__
            raise WrongHook(f"{fault} ({code.co_filename}:{code.co_firstlineno})")


def is_silent(plugin: object) -> bool:
    """Whether nothing in it is marked as a hook."""
    return not any(hasattr(function, _MARKED) for _, function in _functions(plugin))


def _functions(plugin: object) -> Iterator[tuple[str, Any]]:
    for name in dir(plugin):
        found = inspect.getattr_static(plugin, name, None)
        found = getattr(plugin, name) if inspect.isroutine(found) else found
        if inspect.isroutine(found) and hasattr(inspect.unwrap(found), "__code__"):
            yield name, found


def _fault(name: str, function: Any, plugin: object) -> str:
    mark = getattr(function, _MARKED, None)
    if mark is None:
        borrowed = isinstance(plugin, ModuleType) and function.__module__ != plugin.__name__
        return f"`{name}` is named as a hook is, but lacks `@hookimpl`" if name in HOOKS and not borrowed else ""
    hook = mark["specname"] or name
    if hook not in HOOKS:
        near = did_you_mean(hook, HOOKS) or f"there are {', '.join(HOOKS)}"
        return "" if mark["optionalhook"] else f"there is no hook `{hook}`; {near}"
    extra = next((argument for argument in _needed(function) if argument not in HOOKS[hook]), "")
    if not extra:
        return ""
    given = f"it gives {', '.join(f'`{argument}`' for argument in HOOKS[hook])}" if HOOKS[hook] else "it gives nothing"
    return f"the hook `{hook}` gives no `{extra}`; {did_you_mean(extra, HOOKS[hook]) or given}"


def _needed(function: Any) -> Iterator[str]:
    """The arguments that pluggy would look for: those without a default."""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            yield name


def fault_text(fault: BaseException) -> str:
    """What a plugin's code raised, on one line, with the place in its file."""
    if isinstance(fault, WrongHook):
        return str(fault)
    said = fault.msg if isinstance(fault, SyntaxError) else str(fault)
    return f"{type(fault).__name__}: {' '.join(said.split())}{_place(fault)}"


def _place(fault: BaseException) -> str:
    """Where it was raised; nothing where that is in this room, which looked at what the plugin gave."""
    if isinstance(fault, SyntaxError):
        return f" ({fault.filename}:{fault.lineno})" if fault.filename else ""
    frames = traceback.extract_tb(fault.__traceback__)
    if not frames or Path(frames[-1].filename).parent == Path(__file__).parent:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"
