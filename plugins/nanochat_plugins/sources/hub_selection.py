"""Which files of a data set are read, and how: what `hub` and its presets make of their options.

In: a manifest's files. Out: those of each split, in order; InputError E301 where there are too few. And which names a
repository may have. No network.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import attrs

from nanochat.config import Problem
from nanochat.data.source import Split
from nanochat.errors import InputError, wrong_input
from nanochat_plugins.sources.files_config import ENDINGS, FORMATS
from nanochat_plugins.sources.hub_manifest import HubFile, Manifest

_NAME = re.compile(r"\w([\w.-]*\w)?", re.ASCII)


def repo_problems(repo: str) -> list[Problem]:
    """What is wrong with a repository's name, which becomes a folder's too: the hub's own rules."""
    names = repo.split("/")
    if len(names) <= 2 and all(map(_NAME.fullmatch, names)) and not any(two in repo for two in ("..", "--")):
        return []
    return [
        ("repo", f"{repo!r} is no data set's name: OWNER/NAME, of letters, digits, _ and, in between, single - and .")
    ]


@attrs.frozen(kw_only=True)
class HubSelection:
    """Files and the documents in them."""

    repo: str
    revision: str
    pattern: str
    """Of all files, those of validation included."""
    shards: int | None = None
    """Training files, from the first on; None: all."""
    validation: str = ""
    """Pattern of the files for validation; "": the last file of `pattern`."""
    validation_share: float = 0.0
    """Above 0, no file is for validation, but so large a share of the documents, by their text."""
    validation_digest: str = ""
    """What `split_digest` must give for validation; "": anything."""
    column: str = "text"
    separator: str = "\n\n"
    longest_document: int
    """Characters."""
    workers: int
    """Files that are downloaded ahead at a time."""

    def files(self, manifest: Manifest, split: Split) -> Sequence[HubFile]:
        """The files of a split, by name."""
        found = self._matching(manifest, self.pattern)
        held = [] if self.validation_share else self._held(manifest, found)
        if split == "validation" and not self.validation_share:
            return held
        rest = [file for file in found if file not in held]
        if len(rest) < (self.shards or 1):
            raise self._too_few(manifest, len(rest))
        return rest[: self.shards]

    def _matching(self, manifest: Manifest, pattern: str) -> list[HubFile]:
        found = [file for file in manifest.files if fnmatchcase(file.name, pattern)]
        for file in found:
            if not file.name.endswith(ENDINGS):
                raise wrong_input(
                    "E301",
                    f"{file.name} of {self.repo} is of no kind that can be read",
                    help=f"choose files that end in {', '.join(FORMATS)}, each also .zst or .gz",
                )
        return found

    def _held(self, manifest: Manifest, found: Sequence[HubFile]) -> list[HubFile]:
        if not self.validation:
            return [*found[-1:]]
        held = self._matching(manifest, self.validation)
        if not held:
            raise wrong_input(
                "E301",
                f"the data set {self.repo} ({manifest.commit[:12]}) has no file `{self.validation}` for validation",
                help="`validation` is a pattern of file names; without it, the last file is for validation",
            )
        return held

    def _too_few(self, manifest: Manifest, count: int) -> InputError:
        named = ", ".join(f"`{file.name}`" for file in manifest.files[:3]) or "no file at all"
        return wrong_input(
            "E301",
            f"the data set {self.repo} ({manifest.commit[:12]}) has {count} files `{self.pattern}` for training, and "
            f"{self.shards or 1} are wanted; it begins with {named}",
            help="lower `shards`, change `pattern`, or hold out a `validation_share` of a single file",
        )
