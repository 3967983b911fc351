"""What a crash may leave of recorded file operations, in the manner of ALICE (Pillai et al., OSDI 2014).

In: strace's log of a process. Out: folders as they may lie on the disk when the machine stops after any prefix of
it. What was synced is there. Of the rest, each file's data may be there, half there or not, and of the changes to a
folder's names any may be missing, whatever their order was. Known: open for writing, write, fsync, mkdir, rename within
a folder, unlink, rmdir.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

CALLS = "openat,mkdir,write,fsync,rename,unlink,unlinkat,rmdir"
_CALL = re.compile(r"(\w+)\((.*)\) = \d+(?:<.*>)?$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})+)>")
_RANDOM_CHOICES = 3


@attrs.define(eq=False)
class File:
    """A file's data: as it was last synced, and as its processes see it."""

    synced: bytes = b""
    data: bytes = b""


@attrs.define(eq=False)
class Folder:
    """A folder's names: as they were last synced, and the changes since. A change moves, adds or removes a name."""

    synced: dict[str, "File | Folder"] = attrs.field(factory=dict)
    names: dict[str, "File | Folder"] = attrs.field(factory=dict)
    pending: list[tuple[str, str, "File | Folder | None"]] = attrs.field(factory=list)

    def change(self, old: str, new: str, added: "File | Folder | None" = None) -> None:
        """Add `added` as `new`; or move `old` to `new`; or, where `new` is empty, remove it."""
        self.pending.append((old, new, added))
        _apply(self.names, old, new, added)

    def sync(self) -> None:
        self.synced, self.pending = dict(self.names), []

    def left(self, kept: Sequence[bool]) -> dict[str, "File | Folder"]:
        """The names after a crash that keeps these of the changes."""
        names = dict(self.synced)
        for (old, new, added), keep in zip(self.pending, kept, strict=True):
            if keep:
                _apply(names, old, new, added)
        return names


def _apply(names: dict[str, File | Folder], old: str, new: str, added: File | Folder | None) -> None:
    found = added if added is not None else names.pop(old, None)
    if found is not None and new:
        names[new] = found


class Disk:
    """The operations below one folder, replayed."""

    def __init__(self, root: Path) -> None:
        self._root, self.top = root, Folder()

    def replay(self, log: str) -> Iterator[str]:
        """Do one operation after another; after each, what the process wrote to its standard output then, if that."""
        for line in log.splitlines():
            found = _CALL.search(line)
            if found and (said := self._do(found[1], found[2])) is not None:
                yield said

    def _do(self, call: str, arguments: str) -> str | None:
        strings, descriptor = [_decoded(s) for s in _STRING.findall(arguments)], _FILE.match(arguments)
        if call == "write" and arguments.startswith("1<"):
            return strings[0].decode()
        path = _decoded(descriptor[1]).decode() if descriptor else strings[0].decode()
        if call == "unlinkat" and descriptor:
            path = f"{path}/{strings[0].decode()}"
        if not Path(path).is_relative_to(self._root) or (call == "openat" and "O_WRONLY" not in arguments):
            return None
        assert "AT_REMOVEDIR" not in arguments
        self._change(call, Path(path), strings)
        return ""

    def _change(self, call: str, path: Path, strings: Sequence[bytes]) -> None:
        if path == self._root:
            if call == "fsync":
                self.top.sync()
            return  # the root itself is there
        parent, name = self._folder(path.parent), path.name
        there = parent.names.get(name)
        if call == "mkdir":
            parent.change("", name, Folder())
        elif call == "openat" and there is None:
            parent.change("", name, File())
        elif call == "openat":
            assert isinstance(there, File)
            there.data = b""
        elif call == "write":
            assert isinstance(there, File)
            there.data += strings[-1]
        elif call == "fsync":
            _synced(there)
        elif call == "rename":
            target = Path(strings[1].decode())
            assert target.parent == path.parent
            parent.change(name, target.name)
        else:
            parent.change(name, "")

    def _folder(self, path: Path) -> Folder:
        found: File | Folder = self.top
        for name in path.relative_to(self._root).parts:
            assert isinstance(found, Folder)
            found = found.names[name]
        assert isinstance(found, Folder)
        return found

    def crashes(self, chance: random.Random) -> Iterator[dict[Path, bytes | None]]:
        """What may be left now, relative path → content, None for a folder. Of all there are: each change alone lost,
        alone kept, all, none, and some at random; each with the unsynced data there, half there and not.
        """
        folders = [*_folders(self.top)]
        count = sum(len(folder.pending) for folder in folders)
        kept = [[True] * count, [False] * count]
        kept += [[(i == one) != flip for i in range(count)] for one in range(count) for flip in (True, False)]
        kept += [[chance.random() < 0.5 for _ in range(count)] for _ in range(_RANDOM_CHOICES)]
        for choice, share in itertools.product(kept, (0.0, 0.5, 1.0)):
            rest = iter(choice)
            by_folder = {id(folder): [next(rest) for _ in folder.pending] for folder in folders}
            yield dict(_left(self.top, Path(), by_folder, share))


def _synced(found: File | Folder | None) -> None:
    if isinstance(found, Folder):
        found.sync()
    elif found is not None:
        found.synced = found.data


def _folders(folder: Folder) -> Iterator[Folder]:
    """A folder and all that were ever below it and may still be there."""
    yield folder
    members = {id(m): m for m in (*folder.synced.values(), *folder.names.values(), *(c[2] for c in folder.pending))}
    for member in members.values():
        if isinstance(member, Folder):
            yield from _folders(member)


def _left(folder: Folder, at: Path, kept: dict[int, list[bool]], share: float) -> Iterator[tuple[Path, bytes | None]]:
    for name, member in folder.left(kept[id(folder)]).items():
        if isinstance(member, Folder):
            yield at / name, None
            yield from _left(member, at / name, kept, share)
        else:
            more = member.data[len(member.synced) :] if member.data.startswith(member.synced) else b""
            yield at / name, member.synced + more[: round(len(more) * share)]


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
