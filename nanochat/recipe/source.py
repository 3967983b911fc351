"""A recipe file with its parents: `extends` followed, `unset` taken away, all merged into one tree.

In: a path. Out: the merged tree and the files as read. E101, E104, E106, E107 and E108 are raised here: what follows
would only guess at a recipe that cannot be read whole.
"""

import tomllib
from pathlib import Path

import attrs

from nanochat.errors import Diagnostic, InputError, Location, did_you_mean
from nanochat.recipe.locator import locate
from nanochat.recipe.notation import described, is_bare, shown
from nanochat.recipe.text import Text, display, read_text
from nanochat.recipe.tree import Leaf, Table, build_tree, find, merge, without

FORMAT = 1
MOST_PARENTS = 16
"""A longer chain of `extends` is refused."""


@attrs.frozen(kw_only=True)
class Source:
    """A recipe as written, with its parents merged in."""

    tree: Table
    files: dict[Path, Text]
    """Every file read, the recipe itself first."""


def read_source(path: Path) -> Source:
    """Read a recipe and all that it extends."""
    reader = _Reader()
    tree = reader.file(path.absolute(), chain=[], asked=None)
    return Source(tree=tree, files=reader.texts)


def parse_key(text: str) -> tuple[str, ...] | None:
    """The parts of a dotted TOML key, or None where it is none."""
    line = f"{text} = 0"
    try:
        tomllib.loads(line)
    except (ValueError, RecursionError):
        return None
    # What is more than a key ("a = 1 #", two lines) is valid TOML too, but then no value stands where this one must.
    for path, span in locate(line).items():
        if span.value is not None:
            return tuple(map(str, path)) if span.value.start == len(text) + 3 and "\n" not in text else None
    return None


class _Reader:
    """Reads each file once, however many recipes extend it."""

    def __init__(self) -> None:
        self.texts: dict[Path, Text] = {}
        self._trees: dict[Path, Table] = {}

    def file(self, path: Path, chain: list[Path], asked: Location | None) -> Table:
        """The merged tree of one file."""
        path = _resolved(path)
        if path in chain:
            circle = " → ".join(display(p) for p in [*chain[chain.index(path) :], path])
            raise _error("E107", f"recipes extend each other in a circle: {circle}", asked)
        if len(chain) >= MOST_PARENTS:
            raise _error("E107", f"more than {MOST_PARENTS} recipes extend one another", asked)
        if path not in self._trees:
            text = self.texts[path] = read_text(path, asked=asked)
            own = build_tree(text.values, text.text, text.place(), base=path.parent)
            self._check_format(own)
            inherited = Table(items={}, location=None, base=path.parent)
            for parent, place in self._parents(own, text):
                inherited = merge(inherited, self.file(path.parent / parent, [*chain, path], place))
            for key, place in _strings(own, "unset", text):
                inherited = _unset(inherited, key, place)
            kept = {name: node for name, node in own.items.items() if name not in ("extends", "unset")}
            self._trees[path] = merge(inherited, attrs.evolve(own, items=kept))
        return self._trees[path]

    def _check_format(self, own: Table) -> None:
        written = own.items.get("format")
        if isinstance(written, Leaf) and (isinstance(written.value, bool) or written.value != FORMAT):
            message = f"this nanochat reads format {FORMAT}, not {shown(written.value)}"
            raise _error("E104", message, written.location, label=f"format = {FORMAT}")

    def _parents(self, own: Table, text: Text) -> list[tuple[str, Location]]:
        found = _strings(own, "extends", text)
        for parent, place in found:
            if not parent or "\0" in parent:
                raise _error("E107", f"{shown(parent)} names no file", place)
        return found


def _strings(own: Table, name: str, text: Text) -> list[tuple[str, Location]]:
    """The strings of a key that holds one or a list of them, each with its place."""
    node = own.items.get(name)
    if node is None:
        return []
    if not isinstance(node, Leaf):
        raise _error("E103", f"{name} is a string or an array of strings, not a table", node.location)
    values = node.value if isinstance(node.value, list) else [node.value]
    if name == "unset" and not isinstance(node.value, list):
        raise _error("E103", f"unset is an array of keys, not {described(node.value)}", node.location)
    for value in values:
        if not isinstance(value, str):
            raise _error("E103", f"{name} holds strings, not {described(value)}", node.location)
    return [(value, _item_place(text, name, index, node)) for index, value in enumerate(values)]


def _item_place(text: Text, name: str, index: int, node: Leaf) -> Location:
    span = locate(text.text).get((name, index))
    return text.place()(span.value) if span is not None and span.value is not None else node.location


def _unset(tree: Table, key: str, place: Location) -> Table:
    path = parse_key(key)
    if path is None:
        raise _error("E108", f"{shown(key)} is no key", place)
    for depth in range(1, len(path) + 1):
        if find(tree, path[:depth]) is None:
            above = find(tree, path[: depth - 1])
            names = above.items if isinstance(above, Table) else {}
            label = did_you_mean(path[depth - 1], [n for n in names if is_bare(n)])
            raise _error("E108", f"nothing that this recipe extends sets {key}", place, label=label)
    return without(tree, path)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of symbolic links; reading it gives the message
        return path


def _error(code: str, message: str, at: Location | None, *, label: str = "") -> InputError:
    return InputError(Diagnostic(code=code, message=message, location=at, label=label))
