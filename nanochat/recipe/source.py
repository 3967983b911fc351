"""A recipe file with its parents: `extends` followed, `unset` taken away, all merged into one tree.

In: a path. Out: the merged tree, the files as read, and problems E101, E103, E104, E106, E107 and E108. Of a
recipe that cannot be read whole, the tree is the part that no missing file could change (see `certain`).
"""

import tomllib
from pathlib import Path

import attrs

from nanochat.errors import InputError, Location
from nanochat.recipe.integers import check_integers
from nanochat.recipe.locator import locate
from nanochat.recipe.notation import described, is_bare, key_text, shown
from nanochat.recipe.problems import Problems
from nanochat.recipe.text import Text, display, read_text
from nanochat.recipe.tree import Later, Leaf, Table, build_tree, find, merge, without

FORMAT = 1
MOST_PARENTS = 16
"""A longer chain of `extends` is refused."""
EXTENDED = "nothing that this recipe extends sets"


@attrs.frozen(kw_only=True)
class Source:
    """A recipe as written, with its parents merged in."""

    tree: Table
    files: dict[Path, Text]
    """Every file read, the recipe itself first."""
    whole: bool
    """False: a file is missing or no TOML. Then the tree has what no such file is merged over, and nothing else."""


def read_source(path: Path, problems: Problems) -> Source:
    """Read a recipe and all that it extends; what is wrong with any of the files goes to `problems`."""
    reader = _Reader(problems)
    tree = reader.file(path.absolute(), chain=[], asked=None)
    problems.file_order(reader.names)
    return Source(tree=tree, files=reader.texts, whole=not reader.losses)


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

    def __init__(self, problems: Problems) -> None:
        self.texts: dict[Path, Text] = {}
        self.names: list[str] = []
        """What diagnostics call the files, the recipe itself first."""
        self.losses = 0
        """How often something was found that leaves a recipe in pieces."""
        self._problems = problems
        self._trees: dict[Path, Table] = {}
        self._torn: set[Path] = set()

    def file(self, path: Path, chain: list[Path], asked: Location | None) -> Table:
        """The merged tree of one file."""
        path = _resolved(path)
        if path in chain:
            circle = " → ".join(display(p) for p in [*chain[chain.index(path) :], path])
            return self._lost(path, f"recipes extend each other in a circle: {circle}", asked)
        if len(chain) >= MOST_PARENTS:
            return self._lost(path, f"more than {MOST_PARENTS} recipes extend one another", asked)
        if path not in self._trees:
            self.names.append(display(path))
            try:
                text = self.texts[path] = read_text(path, asked=asked)
            except InputError as fault:
                self._problems.add_all(_incomplete(fault, path) if asked is not None else fault, at=None)
                self.losses += 1
                return _empty(path)
            before = self.losses
            self._trees[path] = self._merged(text, path, chain)
            if self.losses > before:
                self._torn.add(path)
        elif path in self._torn:
            self.losses += 1
        return self._trees[path]

    def _merged(self, text: Text, path: Path, chain: list[Path]) -> Table:
        own = check_integers(build_tree(text.values, text.text, text.place(), base=path.parent), self._problems)
        if not self._is_of_format(own):
            return _empty(path)  # another format's keys mean other things
        unset = self._strings(own, "unset")
        before = self.losses
        parents = self._strings(own, "extends")
        inherited, certain = _empty(path), self.losses == before
        for parent, place in parents:
            before = self.losses
            found = self._parent(parent, path, chain, place)
            # What a torn parent has may replace anything of those before it.
            inherited = merge(inherited, found) if self.losses == before else found
        if not certain:
            inherited = _empty(path)
        for key, place in unset:
            inherited = self._unset(inherited, key, place)
        kept = {name: node for name, node in own.items.items() if name not in ("extends", "unset")}
        return merge(inherited, attrs.evolve(own, items=kept))

    def _parent(self, name: str, path: Path, chain: list[Path], place: Location) -> Table:
        if not name or "\0" in name:
            return self._lost(path, f"{shown(name)} names no file", place)
        return self.file(path.parent / name, [*chain, path], place)

    def _is_of_format(self, own: Table) -> bool:
        written = own.items.get("format")
        if not isinstance(written, Leaf) or (type(written.value) is int and written.value == FORMAT):
            return True
        if isinstance(written.value, Later):
            self.losses += 1
            return False
        message = f"this nanochat reads format {FORMAT}, not {shown(written.value)}"
        self._problems.add("E104", message, at=written.location, label=f"format = {FORMAT}")
        self.losses += 1
        return False

    def _lost(self, path: Path, message: str, at: Location | None) -> Table:
        self._problems.add("E107", message, at=at, help="more may follow once this is mended")
        self.losses += 1
        return _empty(path)

    def _strings(self, own: Table, name: str) -> list[tuple[str, Location]]:
        """The strings of a key that holds one or a list of them, each with its place."""
        node = own.items.get(name)
        if node is None:
            return []
        if isinstance(node, Leaf) and isinstance(node.value, Later):
            self.losses += name == "extends"
            return []
        if not isinstance(node, Leaf):
            self._mistyped(name, "is a string or an array of strings, not a table", node.location)
            return []
        if name == "unset" and not isinstance(node.value, list):
            self._mistyped(name, f"is an array of keys, not {described(node.value)}", node.location)
        found = []
        for index, value in enumerate(node.value if isinstance(node.value, list) else [node.value]):
            place = node.place_of((index,))
            if isinstance(value, str):
                found.append((value, place))
            else:
                self._mistyped(name, f"holds strings, not {described(value)}", place)
        return found

    def _mistyped(self, name: str, what: str, at: Location | None) -> None:
        self._problems.add("E103", f"{name} {what}", at=at)
        # A parent that is not named leaves the recipe in pieces; what one does not take away is there to be looked at.
        self.losses += name == "extends"

    def _unset(self, tree: Table, key: str, place: Location) -> Table:
        path = parse_key(key)
        if path is None:
            self._problems.add("E108", f"{shown(key)} is no key", at=place)
            return tree
        # A file that is missing may set it.
        return take_away(tree, path, place, self._problems if not self.losses else None)


def take_away(
    tree: Table, path: tuple[str, ...], place: Location, problems: Problems | None, *, said: str = EXTENDED
) -> Table:
    """The tree less what is at a path; where nothing is, E108 at `place`, which begins as `said`; None: in silence."""
    for depth in range(1, len(path) + 1):
        if find(tree, path[:depth]) is None:
            if problems is not None:
                above = find(tree, path[: depth - 1])
                names = above.items if isinstance(above, Table) else {}
                label = problems.suggestion(path[depth - 1], [name for name in names if is_bare(name)])
                problems.add("E108", f"{said} {key_text(path)}", at=place, label=label)
            return tree
    return without(tree, path)


def _incomplete(fault: InputError, parent: Path) -> InputError:
    """The fault of a parent, with what it means for the recipes that extend it: not all of theirs can be told."""
    *others, last = fault.diagnostics
    note = f"more may follow once {display(parent)} can be read"
    return InputError([*others, attrs.evolve(last, help=f"{last.help}; {note}" if last.help else note)])


def _empty(path: Path) -> Table:
    return Table(items={}, location=None, base=path.parent)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a circle of symbolic links; reading it gives the message
        return path
