"""Configuration of `core`."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nanochat.config import Fingerprinted, Problem, config, option
from nanochat_plugins.evals.core_bundle import Bundle, bundle_digest, question

BUNDLE = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"


@config
class CoreConfig(Fingerprinted):
    """CORE of DataComp-LM (arXiv 2406.11794): 22 tasks that are answered by the likeliest continuation, centred so that
    guessing is 0. Take it to compare pretrained models with each other and with GPT-2; it needs no finetuning.
    """

    # The content decides the result, not the place: the fingerprint stands for both.
    bundle: Path | None = option(
        None, execution=True, doc="the tasks, a folder or a .zip on this disk; left out: they are downloaded"
    )
    url: str = option(BUNDLE, execution=True, doc="where the .zip of the tasks is downloaded from")
    sha256: str = option("", doc="of the .zip, and another is refused; left out: `url` means what it first gave")
    tasks: list[str] = option([], doc="only these, by their labels, and their mean; left out: all of the bundle")
    max_per_task: int | None = option(
        None, minimum=1, maximum=10**12, doc="so many of each task's examples, the same for every model"
    )
    context: int | None = option(
        None,
        minimum=2,
        maximum=10**9,
        doc="tokens of a prompt, of which a longer one keeps its end; left out: all that the model has positions for",
    )
    tokens: int | None = option(
        None,
        minimum=1,
        maximum=10**9,
        execution=True,
        doc="computed at once by a process; left out: as its device likes",
    )

    def problems(self) -> list[Problem]:
        """A digest or an address that is none."""
        found: list[Problem] = []
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            found.append(("sha256", "sha256 is 64 hexadecimal digits, in small letters"))
        if not re.match("https?://.", self.url):
            found.append(("url", "url begins with http:// or https://; a bundle on this disk is `bundle`"))
        return found

    def fingerprint(self) -> Mapping[str, Any]:
        """The bundle's digest; of one that has yet to be downloaded, what it is to have, or its address."""
        if self.bundle is not None:
            return {"sha256": bundle_digest(self.bundle, self.sha256)}
        return {"sha256": self.sha256} if self.sha256 else {"address": self.url}

    def texts(self, build: Callable[[Any], Any]) -> Iterator[tuple[str, list[str]]]:  # noqa: ARG002
        """The examples of each task, without those that are shown before them."""
        bundle = Bundle(self.place())
        for task in bundle.tasks(self.tasks):
            yield task.label, [question(example, task) for example in bundle.examples(task)]

    def fetch(self) -> None:
        """Download the bundle where it is not here."""
        self.place()

    def place(self) -> Path:
        """Where the bundle lies; it is downloaded where it is not here."""
        from nanochat_plugins.sources.web_file import fetched

        return self.bundle if self.bundle is not None else fetched(self.url, self.sha256).path

    def digest(self) -> str:
        """Of the bundle, once it is here."""
        from nanochat_plugins.sources.web_file import fetched

        return bundle_digest(self.bundle) if self.bundle is not None else fetched(self.url, self.sha256).sha256
