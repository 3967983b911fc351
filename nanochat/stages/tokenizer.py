"""The tokenizer stage: a mixture of sources → a byte-pair encoding.

In: sources with weights (shares of the characters). Out: the artifact, a folder `tokenizer/` below the stage's own with

    tokenizer.json    the vocabulary (nanochat/text/vocabulary_file.py)
    words.txt         the training text's words, `word<TAB>count`, most frequent first (nanochat/stages/word_list.py)

It appears whole or not at all, before it is measured. Rank 0 does the work and has the figures; the others wait for
it. Not here: tokenising the data, which happens where it is read.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from nanochat.data.source import Source, digests
from nanochat.errors import Stopped
from nanochat.stages import evaluation
from nanochat.stages.context import Figure, Record, StageContext
from nanochat.stages.corpus import Corpus
from nanochat.stages.subject import Subject
from nanochat.stages.tokenizer_config import TokenizerConfig
from nanochat.stages.word_list import WordList
from nanochat.text.tokenizer import MINIMUM_VOCABULARY, Tokenizer

ARTIFACT = "tokenizer"
VALIDATION_CHARS = 2_000_000
"""How much of the validation split bytes per token are measured on."""
ASK_EVERY = 64
"""Documents read between two questions whether to stop: some hundredths of a second."""


def run(config: TokenizerConfig, context: StageContext) -> Record:
    """Train the tokenizer. InputError: E302 no text, E305 too little of it, E104 a bad pattern, E115 no weights."""
    sources: dict[str, Source] = {name: context.build(entry) for name, entry in config.data.items()}
    # Every rank asks: what a source pins on first contact it pins now, and nobody waits for that in a collective.
    read = digests(sources)
    if not context.runtime.is_main:
        while not _meet(context, finished=False):
            pass
        return Record(artifact=ARTIFACT, data=read)
    figures = _Training(config, context, sources).execute()
    _meet(context, finished=True)
    return Record(artifact=ARTIFACT, figures=figures, data=read)


def _meet(context: StageContext, *, finished: bool) -> bool:
    """Where all ranks ask together whether rank 0 has finished and, if not, whether to stop (Stopped)."""
    if context.runtime.any(finished):
        return True
    if context.should_stop():
        raise Stopped
    return False


@attrs.define(init=False)
class _Training:
    """The work of rank 0."""

    config: TokenizerConfig
    context: StageContext
    sources: dict[str, tuple[Source, float]]
    words: WordList

    def __init__(self, config: TokenizerConfig, context: StageContext, sources: Mapping[str, Source]) -> None:
        self.config, self.context = config, context
        self.sources = {name: (source, config.data[name].slot.weight) for name, source in sources.items()}
        self.words = WordList()

    def execute(self) -> dict[str, Figure]:
        """Train, save, measure."""
        report = self.context.reporter
        corpus = Corpus(
            self.sources,
            "train",
            max_chars=self.config.max_chars,
            max_document_chars=self.config.max_document_chars,
        )
        tokenizer = Tokenizer.train(
            self._read(corpus),
            vocab_size=self.config.vocab_size,
            pattern=self.config.pattern,
            implementation=self.config.implementation,
            more_specials=self.config.special_tokens,
            progress=self._on_merges,
        )
        skipped = "".join(f", {count} passed over ({reason})" for reason, count in sorted(corpus.skipped.items()))
        documents = "1 document" if corpus.documents == 1 else f"{corpus.documents:,} documents"
        report.note(f"trained on {corpus.characters:,} characters of {documents}{skipped}")
        # A fault in what only measures, a plugin's too, must not cost the hours that were trained.
        self._save(tokenizer)
        return {
            "vocab_size": Figure(value=float(tokenizer.vocab_size)),
            "characters": Figure(value=float(corpus.characters), n=corpus.documents),
            **self._measure(tokenizer),
            **evaluation.run_evals(self.config.evals, self._subject(tokenizer), self.context),
        }

    def _subject(self, tokenizer: Tokenizer) -> Subject:
        """What the evaluations measure. They run on rank 0 alone, so their runtime knows of no other."""

        def should_stop() -> bool:
            _meet(self.context, finished=False)  # raises Stopped on all ranks
            return False

        return Subject(
            model=None,
            tokenizer=tokenizer,
            runtime=attrs.evolve(self.context.runtime, world_size=1),
            build=self.context.build,
            sources={name: source for name, (source, _) in self.sources.items()},
            note=self.context.reporter.note,
            should_stop=should_stop,
        )

    def _read(self, corpus: Corpus) -> Iterator[str]:
        """The training text; on the way its words are counted and progress is reported."""
        expected = corpus.expected_characters()
        for number, text in enumerate(corpus):
            if number % ASK_EVERY == 0:
                _meet(self.context, finished=False)
                self.context.reporter.progress(corpus.characters, max(expected, corpus.characters), {}, "characters")
            self.words.add(text)
            yield text

    def _on_merges(self, made: int) -> None:
        _meet(self.context, finished=False)
        merges = self.config.vocab_size - MINIMUM_VOCABULARY - len(self.config.special_tokens)
        self.context.reporter.progress(made, merges, {}, "merges")

    def _measure(self, tokenizer: Tokenizer) -> dict[str, Figure]:
        """Bytes per token on the sources' validation splits, n in documents; nothing where they have none."""
        corpus = Corpus(
            self.sources,
            "validation",
            max_chars=VALIDATION_CHARS,
            max_document_chars=self.config.max_document_chars,
        )
        sizes, tokens, read = [], [], hashlib.sha256()
        for number, text in enumerate(corpus):
            if number % ASK_EVERY == 0:
                _meet(self.context, finished=False)
            encoded = text.encode()
            sizes.append(len(encoded))
            tokens.append(len(tokenizer.encode(text)))
            read.update(encoded)
        return {"bytes_per_token": Figure.of_sums(sizes, tokens, read.hexdigest())} if any(tokens) else {}

    def _save(self, tokenizer: Tokenizer) -> None:
        folder: Path = self.context.folder / ARTIFACT
        partial = folder.with_suffix(".partial")
        for left_over in (partial, folder):  # of an attempt that was cut off
            shutil.rmtree(left_over, ignore_errors=True)
        tokenizer.save(partial)
        self.words.write(partial)
        partial.rename(folder)
