"""The tokenizer stage: what it reads, in which shares, and what it leaves."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import Component
from nanochat.data.source import Shard
from nanochat.errors import InputError, Stopped
from nanochat.runtime import local_runtime
from nanochat.stages.context import StageContext
from nanochat.stages.corpus import Corpus
from nanochat.stages.slots import EvalSlot, SourceSlot
from nanochat.stages.tokenizer import run
from nanochat.stages.tokenizer_config import TokenizerConfig
from nanochat.stages.word_list import WordList
from nanochat.text.special import IMPLEMENTATIONS, Implementation
from nanochat.text.tokenizer import Tokenizer

PROSE = ["the cat sat on the mat", "a dog and a cat sat in the log cabin", "they all sat in the cabin, the dog's cabin"]


class Texts:
    """A source whose shards are lists."""

    def __init__(self, *shards: list[str], validation: Sequence[str] = ("the cat in the cabin",)) -> None:
        self.texts = {"train": shards, "validation": (list(validation),)}

    def shards(self, split: str) -> list[Shard]:
        sizes = [sum(map(len, shard)) for shard in self.texts[split]]
        return [Shard(name=f"{split}/{n}", size_bytes=size, digest="") for n, size in enumerate(sizes)]

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        split, _, number = shard.name.partition("/")
        yield from self.texts[split][int(number)][start:]

    def skipped(self) -> dict[str, int]:
        return {}


class Shelf:
    """A registry whose sources are their own configs, and with one evaluation."""

    def __init__(self, evaluate: Callable[..., Any] | None = None) -> None:
        self.evaluate = evaluate

    def builder(self, kind: str, name: str) -> Callable[..., Any]:
        if kind == "eval" and self.evaluate:
            return self.evaluate
        assert kind == "source"
        return lambda config: config


class Listener:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []
        self.notes: list[str] = []

    def metrics(self, step: int, figures: Mapping[str, float]) -> None: ...

    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "steps") -> None:
        self.seen.append((done, total, unit))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def truncate_metrics(self, step: int) -> None: ...


class SecondRank:
    """The runtime of a rank that waits, and hears from rank 0 at each meeting whether it has finished."""

    is_main = False

    def __init__(self, answers: list[bool]) -> None:
        self.answers = iter(answers)

    def any(self, flag: bool) -> bool:
        assert not flag
        return next(self.answers)


def context(folder: Path, *, stop: Callable[[], bool] = lambda: False, runtime: Any = None) -> StageContext:
    return StageContext(
        stage="tok",
        folder=folder,
        runtime=runtime or local_runtime(),
        registry=Shelf(),  # type: ignore[arg-type]
        reporter=Listener(),
        should_stop=stop,
    )


def config(*sources: Texts, weights: Sequence[float] = (), **keys: Any) -> TokenizerConfig:
    data = {
        f"source{n}": Component(
            kind="source", name=f"source{n}", use="texts", revision=1, config=source, slot=SourceSlot(weight=weight)
        )
        for n, (source, weight) in enumerate(zip(sources, weights or [1.0] * len(sources), strict=True))
    }
    return TokenizerConfig(**({"vocab_size": 290, "data": data} | keys))


def corpus(
    sources: Mapping[str, tuple[Texts, float]], *, max_chars: int = 1000, max_document_chars: int = 100
) -> Corpus:
    return Corpus(sources, "train", max_chars=max_chars, max_document_chars=max_document_chars)


def test_the_stage_leaves_a_tokenizer_trained_on_the_text_and_its_words(tmp_path: Path) -> None:
    record = run(config(Texts(PROSE)), context(tmp_path))
    folder = tmp_path / record.artifact
    assert sorted(path.name for path in tmp_path.iterdir()) == [record.artifact]
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer.json", "words.txt"]
    made = Tokenizer.load(folder)
    assert made.digest == Tokenizer.train(PROSE, vocab_size=290).digest
    assert (folder / "words.txt").read_text() == "the\t5\ncabin\t3\nsat\t3\ncat\t2\n"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_the_recipe_names_trains_and_encodes(tmp_path: Path, implementation: Implementation) -> None:
    record = run(config(Texts(PROSE), implementation=implementation), context(tmp_path))
    made = Tokenizer.load(tmp_path / record.artifact)
    assert made.vocabulary == Tokenizer.train(PROSE, vocab_size=290, implementation=implementation).vocabulary
    assert made.vocabulary.implementation == implementation
    assert record.figures["bytes_per_token"].value == 20 / len(made.encode("the cat in the cabin"))


def test_its_figures_are_measured_on_text_it_was_not_trained_on(tmp_path: Path) -> None:
    record = run(config(Texts(PROSE, validation=["the cat", "é"])), context(tmp_path))
    made = Tokenizer.load(tmp_path / record.artifact)
    tokens = len(made.encode("the cat")) + len(made.encode("é"))
    assert record.figures["bytes_per_token"].value == (7 + 2) / tokens
    assert record.figures["bytes_per_token"].n == 2
    assert record.figures["bytes_per_token"].standard_error > 0
    assert record.figures["vocab_size"].value == 290
    assert record.figures["characters"].value == sum(map(len, PROSE))


def test_a_source_without_validation_text_gives_no_bytes_per_token(tmp_path: Path) -> None:
    assert "bytes_per_token" not in run(config(Texts(PROSE, validation=[])), context(tmp_path)).figures


def test_what_an_attempt_before_left_is_replaced(tmp_path: Path) -> None:
    for name in ("tokenizer", "tokenizer.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "torn").write_text("half of it")
    run(config(Texts(PROSE)), context(tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["tokenizer", "tokenizer.json", "words.txt"]


def test_texts_are_taken_from_the_source_that_lags_its_share_most() -> None:
    sources = {"a": (Texts(["a" * 10] * 9), 1.0), "b": (Texts(["b" * 10] * 2, ["b" * 10] * 20), 2.0)}
    taken = list(corpus(sources, max_chars=150))
    assert [text[0] for text in taken] == list("abbabbabbabbabb")


def test_a_source_that_is_used_up_no_longer_counts() -> None:
    sources = {"a": (Texts(["a" * 10]), 1.0), "b": (Texts(["b" * 10] * 4), 1.0)}
    assert [text[0] for text in corpus(sources)] == list("abbbb")


@given(
    st.lists(st.text("xy", max_size=30), max_size=12),
    st.lists(st.text("z", max_size=30), max_size=12),
    st.integers(1, 200),
    st.integers(1, 20),
    st.floats(0.01, 100),
)
def test_no_text_and_no_total_is_longer_than_asked(
    first: list[str], second: list[str], most: int, most_of_one: int, weight: float
) -> None:
    sources = {"a": (Texts(first), 1.0), "b": (Texts(second), weight)}
    reading = corpus(sources, max_chars=most, max_document_chars=most_of_one)
    taken = list(reading)
    available = sum(min(len(text), most_of_one) for text in first + second)
    assert sum(map(len, taken)) == min(most, available) == reading.characters
    assert all(0 < len(text) <= most_of_one for text in taken)


def test_documents_that_cannot_be_used_are_passed_over_and_counted(tmp_path: Path) -> None:
    around = context(tmp_path)
    run(config(Texts([*PROSE, "", "half \ud800", ""])), around)
    assert around.reporter.notes == [  # type: ignore[attr-defined]
        "trained on 100 characters of 3 documents, 2 passed over (empty), 1 passed over (not UTF-8)"
    ]


def test_one_document_is_no_documents(tmp_path: Path) -> None:
    around = context(tmp_path)
    run(config(Texts([" ".join(PROSE)])), around)
    said = f"trained on {len(' '.join(PROSE))} characters of 1 document"
    assert around.reporter.notes == [said]  # type: ignore[attr-defined]


def test_a_source_of_no_weight_is_left_out_and_one_must_have_some() -> None:
    sources = {"a": (Texts(["aa"]), 0.0), "b": (Texts(["bb"]), 1.0)}
    assert list(corpus(sources)) == ["bb"]
    with pytest.raises(InputError, match=r"(?s)E115.*weight above 0.*= help: give a source"):
        corpus({"a": (Texts(["aa"]), 0.0)})


@pytest.mark.parametrize(
    "source, keys, code",
    [
        (Texts([]), {}, "E302"),
        (Texts(["", ""]), {}, "E302"),
        (Texts(["abc"]), {}, "E305"),
        (Texts(PROSE), {"pattern": "["}, "E104"),
        (Texts(PROSE), {"pattern": "[a-z]+"}, "E104"),
    ],
)
def test_what_cannot_be_trained_is_one_error_and_leaves_nothing(
    tmp_path: Path, source: Texts, keys: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        run(config(source, **keys), context(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("questions", range(5))
def test_a_stage_that_is_asked_to_stop_stops_and_leaves_nothing(tmp_path: Path, questions: int) -> None:
    answers = iter([False] * questions + [True])
    # 192 documents are read (3 questions), then merged (2).
    with pytest.raises(Stopped):
        run(config(Texts(PROSE * 64)), context(tmp_path, stop=lambda: next(answers)))
    assert list(tmp_path.iterdir()) == []


def test_a_fault_in_measuring_does_not_cost_the_tokenizer(tmp_path: Path) -> None:
    def fails(*_: Any) -> None:
        raise OSError("the evaluation's own file is gone")

    bad = Component(kind="eval", name="bad", use="bad", revision=1, config=None, slot=EvalSlot())
    around = attrs.evolve(context(tmp_path), registry=Shelf(fails))
    with pytest.raises(OSError, match="is gone"):
        run(config(Texts(PROSE), evals={"bad": bad}), around)
    assert Tokenizer.load(tmp_path / "tokenizer").digest == Tokenizer.train(PROSE, vocab_size=290).digest


def test_progress_is_told_in_characters_read_and_then_in_merges_made(tmp_path: Path) -> None:
    around = context(tmp_path)
    run(config(Texts(PROSE * 64)), around)
    seen = around.reporter.seen  # type: ignore[attr-defined]
    characters = [(done, total) for done, total, unit in seen if unit == "characters"]
    merges = [(done, total) for done, total, unit in seen if unit == "merges"]
    assert [unit for *_, unit in seen] == ["characters"] * len(characters) + ["merges"] * len(merges)
    assert (characters, merges) == (sorted(characters), sorted(merges))
    assert characters[0] == (len(PROSE[0]), 64 * 100)
    assert merges[-1] == (290 - 265, 290 - 265)


def test_other_ranks_wait_until_the_first_has_finished(tmp_path: Path) -> None:
    runtime = SecondRank([False, False, True])
    record = run(config(Texts(PROSE)), context(tmp_path, runtime=runtime))
    assert record.artifact == "tokenizer"
    assert list(runtime.answers) == []
    assert list(tmp_path.iterdir()) == []


def test_other_ranks_stop_when_all_are_asked_to(tmp_path: Path) -> None:
    answers = iter([False, True])
    with pytest.raises(Stopped):
        run(config(Texts(PROSE)), context(tmp_path, runtime=SecondRank([False] * 9), stop=lambda: next(answers)))


def test_words_are_lower_case_ascii_of_3_to_12_letters_that_stand_alone_and_occur_twice() -> None:
    words = WordList()
    words.add("cat, cat. Dog dog the_cat cat2 don't don’t naïve aaaaaaaaaaaaa aaaaaaaaaaaa")
    words.add("aaaaaaaaaaaa (bee) bee-hive 'cat' os.path of of os.path")
    assert words.words() == [("aaaaaaaaaaaa", 2), ("bee", 2), ("cat", 2), ("path", 2)]


NEAR = st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab'’_ .é汉７²\u0301")


@given(st.lists(st.tuples(NEAR, st.text("abc", min_size=1, max_size=14), NEAR), max_size=30))
def test_words_are_what_a_regular_expression_finds(parts: list[tuple[str, str, str]]) -> None:
    texts = ["".join(before + word + after for before, word, after in parts), *(part[0] + part[1] for part in parts)]
    words, expected = WordList(), Counter[str]()
    for text in texts + texts:
        words.add(text)
        expected.update(re.findall(r"(?<![\w'’])[a-z]{3,12}(?![\w'’])", text))
    assert dict(words.words()) == expected


def test_every_character_joins_a_word_as_in_a_regular_expression() -> None:
    words, expected = WordList(), set()
    letters = [f"{a}{b}{c}{d}{e}" for a, b, c, d, e in product("abcdefghijklmnopq", repeat=5)]
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    text = "".join(f"{word}{character} " for word, character in zip(letters, characters, strict=False))
    for word in re.findall(r"(?<![\w'’])[a-z]{3,12}(?![\w'’])", text):
        expected.add(word)
    words.add(text)
    assert {word for word, _ in words._counter.words()} == expected
    assert 100_000 < len(expected) < len(characters)
