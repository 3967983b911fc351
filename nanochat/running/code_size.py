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


def code_size(modules: Iterable[str]) -> list[dict[str, Any]]:
    """`name`, `files`, `lines` and `dependencies` of the core, its Rust, and the packages of plugins' modules."""
    package = Path(nanochat.__file__).parent
    found = [_counted("nanochat", package), _counted("rustbpe", package.parent / "rustbpe" / "src")]
    for name in dict.fromkeys(module.partition(".")[0] for module in modules):
        spec = importlib.util.find_spec(name) if name != "nanochat" else None
        if spec is not None and spec.submodule_search_locations:
            found.append(_counted(name, Path(next(iter(spec.submodule_search_locations)))))
    return [part for part in found if part["files"]]


def _counted(name: str, folder: Path) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    lines = sum(bool(line.strip()) for path in files for line in path.read_bytes().splitlines())
    return {"name": name, "files": len(files), "lines": lines, **_dependencies(name)}


def _dependencies(package: str) -> dict[str, int]:
    """How many distributions the package's own asks for, without its extras."""
    distributions = importlib.metadata.packages_distributions().get(package, [])
    if len(distributions) != 1:
        return {}
    wanted = importlib.metadata.requires(distributions[0]) or []
    return {"dependencies": sum("extra ==" not in requirement for requirement in wanted)}
