"""Configuration of `files`: which files, found and named without opening them as data.

In: a recipe's [stages.X.data.NAME]. Out: the files in reading order, and the fingerprint that stands for their
content. Imports no reader: those are in `nanochat_plugins.sources.files`.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanochat.config import Fingerprinted, config, option
from nanochat.errors import wrong_input
from nanochat_plugins.sources.digest_cache import file_digest

FORMATS = (".parquet", ".jsonl", ".txt")
COMPRESSIONS = {"": None, ".zst": "zstd", ".gz": "gzip"}
COMPACTNESS = 2.5
"""Characters a byte of a .parquet or compressed file, about; a plain one has one at most."""
LONGEST_DOCUMENT = 10_000_000
"""Characters. Such a one takes seconds to tokenise, and in books, articles and pages there is none."""
ENDINGS = tuple(form + compression for form in FORMATS for compression in COMPRESSIONS)


@config
class FilesConfig(Fingerprinted):
    """A user's own text."""

    # The content decides the result, not the place: the fingerprint stands for both paths.
    path: Path = option(execution=True, doc="a file, a folder or a glob, relative to the recipe's file")
    validation: Path | None = option(
        None, execution=True, doc="files of their own for validation: path is then all train"
    )
    validation_share: float = option(
        0.02, minimum=0.0, maximum=0.5, doc="without `validation`: share of the documents held out, by their text"
    )
    column: str = option("text", doc="the column of a .parquet, the field of a .jsonl line")
    separator: str = option(
        "\n\n",
        doc="what stands between the documents of a .txt; empty: a file is one document, tokenised as a whole, "
        "of which best-fit packing keeps no more than the beginning that fills a row",
    )
    longest_document: int = option(
        LONGEST_DOCUMENT, minimum=1, doc="characters; a longer document is passed over, and counted"
    )

    def fingerprint(self) -> Mapping[str, Any]:
        """Names, sizes and digests of the files."""
        found = {"files": [list(facts) for facts in described(find_files(self.path))]}
        if self.validation is not None:
            found["validation"] = [list(facts) for facts in described(find_files(self.validation))]
        return found

    def characters(self) -> int:
        """By the files' sizes, which are bytes and hold some markup."""
        plain = (".txt", ".jsonl")
        sizes = [(file.stat().st_size, file.name.endswith(plain)) for file in find_files(self.path)]
        return round(sum(size if is_plain else COMPACTNESS * size for size, is_plain in sizes))


def find_files(path: Path) -> list[Path]:
    """The files that a path, a folder or a glob means, sorted; InputError E301 where there are none."""
    pattern = str(path.expanduser())
    if os.path.isdir(pattern):  # noqa: PTH112 (a glob is no path)
        found = [p for p in Path(pattern).rglob("*") if p.name.endswith(ENDINGS)]
        missing = f"the folder {path} holds no file that ends in {', '.join(FORMATS)} (each also .zst or .gz)"
    elif os.path.exists(pattern):  # noqa: PTH110 (a name with a bracket in it comes before the glob)
        found = [Path(pattern)]
        missing = ""
    else:
        found = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        missing = f"no file matches {path}" if glob.has_magic(pattern) else f"there is no file {path}"
    files = sorted(p for p in found if p.is_file())
    if not files:
        raise wrong_input("E301", missing, help="`path` is a file, a folder or a glob, relative to the recipe's file")
    for file in files:
        if not file.name.endswith(ENDINGS):
            raise wrong_input(
                "E301",
                f"{file} is of no kind that can be read",
                help=f"a file ends in {', '.join(FORMATS)}, each also .zst or .gz",
            )
    return files


def described(files: Sequence[Path]) -> list[tuple[str, int, str]]:
    """Name (below the files' common folder), size and sha256 of each file; InputError E304 where one cannot be read."""
    common = os.path.commonpath([file.parent for file in files])
    facts = []
    for file in files:
        try:
            facts.append((file.relative_to(common).as_posix(), file.stat().st_size, file_digest(file)))
        except OSError as fault:
            raise wrong_input(
                "E304", f"{file} cannot be read: {fault.strerror}", help="check its permissions"
            ) from fault
    return facts
