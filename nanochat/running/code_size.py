"""How large the code behind a run is: files, lines, and what it depends on directly.

In: the packages that are here. Out: a row for each. Counted are lines that are not blank, of Python and Rust; tests and
what is installed otherwise are not.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nanochat

_SUFFIXES = (".py", ".rs")


CORE = "nanochat-run"
"""The core's distribution."""


def code_size(plugins: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """`name`, `files`, `lines` and `dependencies` of the core, its Rust, and the plugins' packages.

    plugins: a module of each, and its distribution.
    """
    package = Path(nanochat.__file__).parent
    found = [_counted("nanochat", package, CORE), _counted("rustbpe", package.parent / "rustbpe" / "src", "")]
    for name, distribution in {module.partition(".")[0]: owner for module, owner in plugins}.items():
        spec = importlib.util.find_spec(name) if name != "nanochat" else None
        if spec is not None and spec.submodule_search_locations:
            found.append(_counted(name, Path(next(iter(spec.submodule_search_locations))), distribution))
    return [part for part in found if part["files"]]


def _counted(name: str, folder: Path, distribution: str) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    lines = sum(bool(line.strip()) for path in files for line in path.read_bytes().splitlines())
    return {"name": name, "files": len(files), "lines": lines, **_dependencies(distribution)}


def _dependencies(distribution: str) -> dict[str, int]:
    """How many distributions one asks for, without its extras; nothing where it is not installed as one."""
    try:
        wanted = importlib.metadata.requires(distribution) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return {"dependencies": sum("extra ==" not in requirement for requirement in wanted)}
