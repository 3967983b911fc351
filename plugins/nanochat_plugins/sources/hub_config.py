"""Configuration of `hub`: any data set of the hub. Imports neither the hub's client nor a reader."""

from nanochat.config import Problem, config, option
from nanochat_plugins.sources.files_config import COMPACTNESS, LONGEST_DOCUMENT
from nanochat_plugins.sources.hub_manifest import HubFile, known
from nanochat_plugins.sources.hub_selection import HubSelection, repo_problems


@config
class HubConfig:
    """Documents of any data set on the hub, downloaded when a stage needs them. Take it where `climbmix` and
    `fineweb_edu` are not the text you want; HF_ENDPOINT and HF_TOKEN are the hub client's own.
    """

    repo: str = option(doc="the data set: OWNER/NAME")
    revision: str = option(
        "main", doc="a commit, which pins the data; a branch or tag means what it meant on first contact"
    )
    pattern: str = option(
        "*.parquet", doc="files, read by name: * and ? and [a-c], * also across folders; .parquet, .jsonl, .txt"
    )
    shards: int | None = option(
        None, minimum=1, maximum=1_000_000, doc="training files, from the first on; left out: all"
    )
    validation: str = option("", doc="a pattern of the files for validation; left out: the last file of `pattern`")
    validation_share: float = option(
        0.0, minimum=0.0, maximum=0.5, doc="instead of files: share of the documents held out, by their text"
    )
    validation_digest: str = option(
        "", doc="refuse another validation split than this: the digest that `nanochat data list` shows"
    )
    column: str = option("text", doc="the column of a .parquet, the field of a .jsonl line")
    separator: str = option("\n\n", doc="what stands between the documents of a .txt; empty: a file is one document")
    longest_document: int = option(
        LONGEST_DOCUMENT, minimum=1, maximum=10**12, doc="characters; a longer document is passed over, and counted"
    )
    workers: int = option(4, minimum=1, maximum=64, execution=True, doc="files downloaded ahead of their use at a time")

    def problems(self) -> list[Problem]:
        """A name that is none; and two ways of holding out are one too many."""
        both = bool(self.validation) and self.validation_share > 0
        held = [("validation_share", "`validation` and `validation_share` exclude each other")] if both else []
        return [*repo_problems(self.repo), *held]

    def selection(self) -> HubSelection:
        """What is read."""
        return HubSelection(
            repo=self.repo,
            revision=self.revision,
            pattern=self.pattern,
            shards=self.shards,
            validation=self.validation,
            validation_share=self.validation_share,
            validation_digest=self.validation_digest,
            column=self.column,
            separator=self.separator,
            longest_document=self.longest_document,
            workers=self.workers,
        )

    def characters(self) -> int | None:
        """Of the training files, by their sizes; None before the hub was asked once."""
        files = self._files("train")
        return None if files is None else round(COMPACTNESS * sum(file.size for file in files))

    def disk_bytes(self) -> int | None:
        """Of all files; None before the hub was asked once."""
        train, held = self._files("train"), self._files("validation")
        return None if train is None or held is None else sum(file.size for file in {*train, *held})

    def _files(self, split: str) -> list[HubFile] | None:
        manifest = known(self.repo, self.revision)
        if manifest is None:
            return None
        return [*self.selection().files(manifest, "train" if split == "train" else "validation")]
