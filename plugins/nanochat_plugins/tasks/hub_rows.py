"""The rows of a data set on the hub, for the tasks that are made of them: by number, as dictionaries.

In: a repository, a revision, a pattern of its parquet files, needed columns. Out: `HubRows`, and
`HubTask`, the base of tasks that are made of them. The files
come through the same door as those of the source `hub`: pinned by the revision's manifest, fetched on first use,
compared with their digests. InputError E301 where the revision has no such file, E303 where a column is missing, E304
where a file is no parquet; StageError where it cannot be had. Not here: what a row means.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nanochat.config import config, option
from nanochat.data.task import Task
from nanochat.errors import wrong_input
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_manifest import HubFile, Manifest, pinned
from nanochat_plugins.tasks.slice_config import SliceConfig


@config
class HubRowsConfig(SliceConfig):
    """Options of a task that is a data set on the hub."""

    revision: str = option(
        "main", doc="a commit, which pins the data; a branch or tag means what it meant on first contact"
    )


class HubRows(Sequence[dict[str, Any]]):
    """All rows of the matching files, by the files' names."""

    def __init__(self, repo: str, revision: str, pattern: str, columns: Sequence[str]) -> None:
        manifest = pinned(repo, revision)
        tables = [_table(path, columns) for path in _fetched(manifest, _matching(manifest, pattern))]
        self._table = pa.concat_tables(tables, promote_options="permissive")

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        row = range(len(self))[index]  # IndexError; a negative index counts from the end
        if isinstance(index, slice):
            return [self[number] for number in row]
        return self._table.slice(row, 1).to_pylist()[0]


class HubTask(Task):
    """A task whose examples are rows, one each; generative, unless it says otherwise."""

    def __init__(self, config: HubRowsConfig, repo: str, pattern: str, columns: Sequence[str]) -> None:
        super().__init__(config.start, config.stop, config.step)
        self.rows = HubRows(repo, config.revision, pattern, columns)

    @property
    def eval_type(self) -> Literal["generative", "categorical"]:
        return "generative"

    def num_examples(self) -> int:
        return len(self.rows)


def _matching(manifest: Manifest, pattern: str) -> list[HubFile]:
    found = [file for file in manifest.files if fnmatchcase(file.name, pattern)]
    if not found:
        named = ", ".join(f"`{file.name}`" for file in manifest.files[:3]) or "no file at all"
        raise wrong_input(
            "E301",
            f"the data set {manifest.repo} ({manifest.commit[:12]}) has no file `{pattern}`; it begins with {named}",
            help="give a `revision` that has it; the hub's older ones may be laid out in another way",
        )
    return found


def _fetched(manifest: Manifest, files: Sequence[HubFile]) -> list[Path]:
    """Where the files lie, whole and sound."""
    checkout = Checkout(manifest)
    for file in files:
        checkout.fetch(file, lambda _: None)
        checkout.check(file)
    return [checkout.place(file) for file in files]


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(str(path), page_checksum_verification=True) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                has = ", ".join(f"`{name}`" for name in file.schema_arrow.names)
                raise wrong_input("E303", f"{path} has no column `{missing[0]}`; it has {has}")
            return file.read(columns=list(columns))
    except (OSError, pa.ArrowException) as fault:
        raise wrong_input("E304", f"{path} cannot be read: {fault}", help="is it a .parquet file?") from fault
