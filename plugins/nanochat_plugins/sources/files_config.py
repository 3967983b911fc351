"""Configuration of `files`: which files, found and named without opening them as data.

In: a recipe's [stages.X.data.NAME]. Out: the files in reading order, and the fingerprint that stands for their
content. Of what is found, the first file is looked at, so that a plan says what is wrong with it; pyarrow is imported
for a .parquet alone. The readers are in `nanochat_plugins.sources.records`.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nanochat.config import Fingerprinted, config, option
from nanochat.errors import wrong_input
from nanochat_plugins.sources.digest_cache import file_digest
from nanochat_plugins.sources.json_lines import damaged, json_lines

FORMATS = (".parquet", ".jsonl", ".txt")
COMPRESSIONS = {"": None, ".zst": "zstd", ".gz": "gzip"}
LOOKED_AT = 3
"""Lines of a .jsonl file that a plan reads."""
COMPACTNESS = 2.5
"""Characters a byte of a .parquet or compressed file, about; a plain one has one at most."""
LONGEST_DOCUMENT = 10_000_000
"""Characters. Such a one takes seconds to tokenise, and in books, articles and pages there is none."""
ENDINGS = tuple(form + compression for form in FORMATS for compression in COMPRESSIONS)


@config
class FilesConfig(Fingerprinted):
    """Your own text: .parquet, .jsonl and .txt files, each also compressed as .zst or .gz. Take it to train on what
    you have on this disk; it is split for validation by the text, or by files of their own.
    """

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
        LONGEST_DOCUMENT, minimum=1, maximum=10**12, doc="characters; a longer document is passed over, and counted"
    )

    def fingerprint(self) -> Mapping[str, Any]:
        """Names, sizes and digests of the files. InputError E303, E304 where the first is not what it should be."""
        places = {"files": self.path, "validation": self.validation}
        return {name: self._seen(find_files(path)) for name, path in places.items() if path is not None}

    def _seen(self, files: Sequence[Path]) -> list[list[Any]]:
        check_first(files[0], self.column)
        return [list(facts) for facts in described(files)]

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


def check_first(file: Path, column: str) -> None:
    """What can be told of a file at once: a .parquet by its schema, a plain .jsonl by its first lines.

    InputError E303 where the column is not there, E304 where the file is of another kind. Compressed ones are unpacked
    when they are read, and not before.
    """
    if file.suffix == ".parquet":
        from nanochat_plugins.sources.records import check_parquet  # pyarrow: 0.2 s

        check_parquet(file, column)
    elif file.suffix == ".jsonl":
        try:
            with file.open("rb") as stream:
                for _ in json_lines(file, islice(stream, LOOKED_AT), column):
                    pass
        except OSError as fault:
            raise damaged(file, str(fault.strerror)) from fault
