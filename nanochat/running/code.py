"""The code behind a stage, as digests by module: how a plan knows that it has changed though no revision was raised.

In: the components of a stage, by the registry's names. Out: module → digest of its source, for the modules that build
them and all that these import from one another's packages. The files are read, nothing is imported. A key never depends
on it: an edited comment is no new result; that a result may be stale is said as a warning. Not seen: compiled
extensions, other packages, and imports whose names are made while running.
"""

import functools
import hashlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nanochat.recipe.resolved import Recipe, Stage
from nanochat.registry import Registry

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>\.*[\w.]*)[ \t]+import[ \t]+(?P<names>\([^)]*\)|[^\n#;]*)"
    r"|import[ \t]+(?P<plain>[\w., \t]+))",
    re.MULTILINE,
)
_WIRING = (
    *("nanochat.builtin", "nanochat.config", "nanochat.errors", "nanochat.hardware", "nanochat.home"),
    *("nanochat.hooks", "nanochat.installed", "nanochat.model.sizes", "nanochat.registry"),
)
"""Modules of the core that connect, report and estimate; no result depends on what they do."""
_DIGITS = 16


def code_digests(stage: Stage, recipe: Recipe, registry: Registry) -> dict[str, str]:
    """The modules behind a stage, its components and the model that it goes on from, sorted by name."""
    components = {("stage", stage.use), *((kind, use) for kind, use, _, _ in stage.components.values())}
    entries = [registry.entry(kind, use) for kind, use in sorted(components | set(_models(stage, recipe)))]
    started = {text.partition(":")[0] for entry in entries for text in (entry.build, entry.config) if text}
    roots = {top: _root(top) for top in {module.partition(".")[0] for module in started}}
    found: dict[str, str] = {}
    waiting = sorted(started)
    while waiting:
        module = waiting.pop()
        if module in found or module in _WIRING:
            continue
        place = _source(module, roots[module.partition(".")[0]])
        if place is None:
            continue
        found[module], imported = _read(module, place, place.stat().st_mtime_ns)
        waiting.extend(name for name in imported if name.partition(".")[0] in roots)
    return dict(sorted(found.items()))


def _models(stage: Stage, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The models of the checkpoints that it takes from other stages of the recipe."""
    for name in set(stage.inputs.values()):
        source = recipe.stages[name]
        yield from ((kind, use) for kind, use, _, _ in source.components.values() if kind == "model")
        yield from _models(source, recipe)


def changed_modules(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Modules whose source is another, or which only one side has."""
    return tuple(sorted(module for module in {*before, *now} if before.get(module) != now.get(module)))


def _root(top: str) -> Path | None:
    """The folder of a top-level package, or the file of a top-level module."""
    loaded = sys.modules.get(top)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if isinstance(spec, importlib.machinery.ModuleSpec) and spec.origin else None


def _source(module: str, root: Path | None) -> Path | None:
    """The file that holds a module's source; None where there is none to read. `root`: its top-level package."""
    rest = module.split(".")[1:]
    if root is None or root.is_file():
        return root if not rest else None
    stem = root.joinpath(*rest)
    candidates = (stem.with_suffix(".py") if rest else stem / "__init__.py", stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _read(module: str, place: Path, modified: int) -> tuple[str, Sequence[str]]:  # noqa: ARG001 (part of the cache's key)
    """A source's digest, and every name in its imports."""
    content = place.read_bytes()
    package = module if place.name == "__init__.py" else module.rpartition(".")[0]
    names = _imports(content.decode("utf-8", "replace"), package)
    return hashlib.sha256(content).hexdigest()[:_DIGITS], list(dict.fromkeys(names))


def _imports(text: str, package: str) -> Iterator[str]:
    """Every name that may be a module: of `from a import b` both a and a.b."""
    for found in _IMPORT.finditer(text):
        if found["plain"] is not None:
            yield from _words(found["plain"])
            continue
        base = _absolute(found["base"], package)
        yield base
        yield base.rpartition(".")[0]  # its package, whose __init__ is run too
        for name in _words(found["names"].strip("()")):
            yield f"{base}.{name}"


def _absolute(base: str, package: str) -> str:
    """`..a` in the package x.y is x.a."""
    name = base.lstrip(".")
    levels = len(base) - len(name)
    if not levels:
        return name
    parents = package.split(".")
    above = ".".join(parents[: len(parents) - levels + 1])
    return f"{above}.{name}" if name else above


def _words(names: str) -> Iterable[str]:
    uncommented = (line.partition("#")[0] for line in names.splitlines())
    return (name.split()[0] for name in " ".join(uncommented).split(",") if name.strip())
