"""How well a tokenizer compresses: bytes a token on fixed texts of five kinds, and on the sources it is used for.

In: a tokenizer, and where the stage has them its sources. Out: a figure for each text, and the same of rivals: GPT-2's
and GPT-4's vocabularies where tiktoken has them on this machine (nothing is downloaded), else vocabularies of this
one's size, trained on the stage's text with their split patterns. More is better; a vocabulary twice as large is worth
about a tenth. A figure's n and standard error are over lines, of the stage's own text over documents. Not here: what
compression is worth to a model, which bits per byte tells.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path

from nanochat.data.encoding import unusable
from nanochat.data.source import Split
from nanochat.errors import InputError, Stopped
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.formats import GPT2_PATTERN, GPT4_PATTERN
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals.tokenizer_config import TokenizerEvalConfig

KINDS = ("news", "code", "maths", "multilingual", "science")
AT_ONCE = 64

FILES = {
    "gpt2": {
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe": (
            "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
        ),
        "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json": (
            "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
        ),
    },
    "cl100k_base": {
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken": (
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
        ),
    },
}
"""What tiktoken would download, and its sha256; it keeps each file under the sha1 of its address."""

PATTERNS = {"gpt2": GPT2_PATTERN, "cl100k_base": GPT4_PATTERN}

Counter = Callable[[Sequence[str]], list[int]]
"""Texts → the number of each one's tokens."""


def evaluate(config: TokenizerEvalConfig, subject: Subject) -> Mapping[str, Figure]:
    """Bytes a token by text, "news", and by text and rival, "news.gpt2"; "all": the five fixed texts together."""
    texts = {kind: _lines(kind) for kind in KINDS}
    texts |= {"all": [text for kind in KINDS for text in texts[kind]]}
    splits: tuple[Split, ...] = ("train", "validation")
    texts |= {split: list(_read(subject, split, config.sample_chars)) for split in splits}
    counters = {"": _count_with(subject.tokenizer)} | _rivals(config, subject)
    figures = {}
    for kind, found in texts.items():
        sizes = [len(text.encode()) for text in found]
        data = hashlib.sha256("".join(found).encode()).hexdigest()
        for rival, count in counters.items():
            if subject.should_stop():
                raise Stopped
            if found:
                figures[f"{kind}.{rival}" if rival else kind] = Figure.of_sums(sizes, count(found), data)
    return figures


def _lines(kind: str) -> list[str]:
    """The lines of a fixed text, each with the blank ones behind it."""
    text = (resources.files("nanochat_plugins.evals") / "texts" / f"{kind}.txt").read_text(encoding="utf-8")
    return re.findall(r"[^\n]+\n+", text)


def _read(subject: Subject, split: Split, chars: int) -> Iterator[str]:
    """The first documents of a split, equally many characters of each source."""
    for source in subject.sources.values():
        left = chars // len(subject.sources)
        documents = (text for shard in source.shards(split) for text in source.documents(shard))
        for text in documents:
            if unusable(text):
                continue
            yield text[:left]
            left -= len(text)
            if left <= 0:
                break


def _count_with(tokenizer: Tokenizer) -> Counter:
    def count(texts: Sequence[str]) -> list[int]:
        waiting, counts = iter(texts), []
        while batch := list(islice(waiting, AT_ONCE)):
            counts += [len(ids) for ids in tokenizer.encode_batch(batch)]
        return counts

    return count


def _rivals(config: TokenizerEvalConfig, subject: Subject) -> dict[str, Counter]:
    """The vocabularies that tiktoken has here; where it has none of them, trained ones."""
    found = {name: _known(name, subject) for name in config.rivals if _is_here(name, subject)}
    here = {name: counter for name, counter in found.items() if counter is not None}
    if here or not config.rivals:
        return here
    text = list(_read(subject, "train", config.peer_chars))
    if not text:
        subject.note("tokenizer: no rival vocabulary is on this machine, and the stage has no text to train one on")
        return {}
    size = subject.tokenizer.vocab_size
    subject.note(f"tokenizer: rivals are trained on the stage's text: split patterns of others, {size:,} ids")
    trained = {}
    for name in config.rivals:
        try:
            trained[f"{name}_pattern"] = _count_with(
                Tokenizer.train(text, vocab_size=size, pattern=PATTERNS[name], progress=_asks(subject))
            )
        except InputError as fault:  # so little text allows fewer merges under another pattern
            subject.note(f"tokenizer: no rival with the split pattern of {name}: {fault.diagnostics[0].message}")
    return trained


def _asks(subject: Subject) -> Callable[[int], None]:
    def on_merges(_: int) -> None:
        if subject.should_stop():
            raise Stopped

    return on_merges


def _known(name: str, subject: Subject) -> Counter | None:
    """tiktoken's encoding; None, and a note, where it fails: a rival is no reason for the stage to fail."""
    try:
        import tiktoken  # not before it is needed: its import takes a tenth of a second

        encoding = tiktoken.get_encoding(name)
    except Exception as fault:  # another's code, which names no exceptions
        subject.note(f"tokenizer: tiktoken could not read its {name} ({type(fault).__name__}: {fault})")
        return None
    return lambda texts: [len(ids) for ids in encoding.encode_ordinary_batch(list(texts))]


def _is_here(name: str, subject: Subject) -> bool:
    """Whether tiktoken has a vocabulary's files, undamaged, so that it asks no network for them."""
    place = _cache()
    if place is None:
        return False
    for address, digest in FILES[name].items():
        path = place / hashlib.sha1(address.encode()).hexdigest()
        try:
            content = path.read_bytes()
        except OSError:
            return False
        if hashlib.sha256(content).hexdigest() != digest:
            subject.note(f"tokenizer: {name} is left out: tiktoken's file {path} is damaged, and it would load it anew")
            return False
    return True


def _cache() -> Path | None:
    """Where tiktoken keeps its files: by the first of its two variables that is set; set to nothing, nowhere."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if (folder := os.environ.get(variable)) is not None:
            return Path(folder) if folder else None
    return Path(tempfile.gettempdir()) / "data-gym-cache"
