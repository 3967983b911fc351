"""Where plugins are found: the entry points of installed distributions, and loose files in a folder.

In: what is installed; the folder that NANOCHAT_PLUGINS_DIR names. Out: plugins as they are found, each with a function
that imports it. Nothing is imported here: the registry decides what is, and bears what goes wrong.
"""

import functools
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import attrs

from nanochat.hooks import GROUP, PROJECT

LOOSE_FILES = "NANOCHAT_PLUGINS_DIR"
"""Environment variable: a folder whose .py files are plugins too."""
_API_GROUP = re.compile(r"nanochat\.v\d+$")


@attrs.frozen(kw_only=True)
class Found:
    """A plugin that could be imported."""

    name: str
    distribution: str
    version: str = ""
    group: str = GROUP
    load: Callable[[], object]


def installed() -> Iterator[Found]:
    """Every plugin: entry points first, then loose files."""
    yield from sorted(_entry_points(), key=lambda found: (found.group, found.name))
    folder = os.environ.get(LOOSE_FILES)
    if folder and not Path(folder).is_dir():
        yield Found(name=LOOSE_FILES, distribution=LOOSE_FILES, load=functools.partial(_no_folder, folder))
    for path in sorted(Path(folder).glob("*.py")) if folder else []:
        yield Found(name=path.stem, distribution=path.stem, load=functools.partial(_import_file, path))


def _entry_points() -> Iterator[Found]:
    """Ours, and those that name another version of the API in their group.

    Not `importlib.metadata.entry_points()`: one damaged distribution, of whatever program, makes that raise.
    """
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, ValueError):
            continue
        if f"[{PROJECT}.v" not in text:
            continue
        try:
            facts = distribution.metadata  # read once: `distribution.version` would read it again
            name, version = facts["Name"], facts["Version"]
            points = [point for point in distribution.entry_points if _API_GROUP.match(point.group)]
            if not name:
                raise ValueError("it has no METADATA that says its name")
        except Exception as fault:
            yield _damaged(distribution, fault)
            continue
        if name not in seen:  # the first on the path hides the others, as it does for imports
            seen.add(name)
            for point in points:
                yield Found(name=point.name, distribution=name, version=version, group=point.group, load=point.load)


def _damaged(distribution: importlib.metadata.Distribution, fault: Exception) -> Found:
    """A distribution that speaks of us and cannot be read: broken, by the name of the folder it lies in."""

    def load() -> object:
        raise fault

    place = Path(str(getattr(distribution, "_path", "unknown"))).name
    return Found(name=place, distribution=place, load=load)


def _no_folder(name: str) -> object:
    raise NotADirectoryError(f"there is no folder {name}")


def _import_file(path: Path) -> ModuleType:
    name = f"nanochat_loose_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
