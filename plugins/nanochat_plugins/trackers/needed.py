"""The package behind a tracker, which not everybody has: whether it is installed, known without importing it."""

from importlib.util import find_spec


def lacking(package: str) -> list[str]:
    """A config's problem where the package is not installed. The tracker, its package and its extra have one name."""
    if find_spec(package) is not None:
        return []
    return [f"the package {package} is not installed: pip install 'nanochat-plugins[{package}]'"]
