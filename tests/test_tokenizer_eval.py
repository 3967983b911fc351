"""The evaluation of a tokenizer: bytes a token counted anew, beside rivals that are here or are trained."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
import tiktoken
from tiktoken_ext import openai_public

import nanochat_plugins.evals
from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.testing.tiny import SENTENCES, TinySource, tiny_subject, tiny_tokenizer
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals.tokenizer import FILES, KINDS, PATTERNS, evaluate
from nanochat_plugins.evals.tokenizer_config import TokenizerEvalConfig

TEXTS = {
    kind: (Path(nanochat_plugins.evals.__path__[0]) / "texts" / f"{kind}.txt").read_text(encoding="utf-8")
    for kind in KINDS
}


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiktoken's folder of downloaded files, empty; asking for what is not in it would be a download."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refused(name: str) -> None:
        raise AssertionError(f"{name} would be downloaded")

    monkeypatch.setattr(tiktoken, "get_encoding", refused)
    return tmp_path


def subject(**changes: Any) -> Subject:
    return tiny_subject(**{"model": None, "sources": {"all": TinySource()}, **changes})


def lines(kind: str) -> list[str]:
    """A text's lines; blank ones belong to the line before."""
    return [line + "\n" * (1 + after) for line, after in _with_blanks(TEXTS[kind].split("\n")[:-1])]


def _with_blanks(found: list[str]) -> list[tuple[str, int]]:
    grouped: list[tuple[str, int]] = []
    for line in found:
        grouped = [*grouped, (line, 0)] if line else [*grouped[:-1], (grouped[-1][0], grouped[-1][1] + 1)]
    return grouped


def ratio(texts: list[str], count: Any) -> float:
    return sum(len(text.encode()) for text in texts) / sum(count(text) for text in texts)


def values(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.items()}


def test_each_text_has_its_bytes_over_its_tokens() -> None:
    found = evaluate(TokenizerEvalConfig(rivals=[]), subject())
    tokenizer = tiny_tokenizer()
    count = lambda text: len(tokenizer.encode(text))  # noqa: E731
    validation = TinySource().texts["validation"]
    assert values(found) == pytest.approx(
        {kind: ratio(lines(kind), count) for kind in KINDS}
        | {
            "all": ratio([line for kind in KINDS for line in lines(kind)], count),
            "train": ratio(list(SENTENCES), count),
            "validation": ratio(list(validation), count),
        }
    )
    assert found["news"].n == len(lines("news"))
    assert "".join(lines("code")) == TEXTS["code"]


def test_the_standard_error_is_that_of_drawing_the_lines_again() -> None:
    """Against the bootstrap: lines drawn with replacement, the ratio of the sums each time."""
    found = evaluate(TokenizerEvalConfig(rivals=[]), subject())["multilingual"]
    drawn = np.random.default_rng(0).integers(0, found.n or 0, (4_000, found.n or 0))
    sizes = np.array([len(line.encode()) for line in lines("multilingual")])
    tokens = np.array([len(tiny_tokenizer().encode(line)) for line in lines("multilingual")])
    ratios = sizes[drawn].sum(1) / tokens[drawn].sum(1)
    assert found.standard_error == pytest.approx(ratios.std(), rel=0.15)


def test_of_the_stages_text_only_the_beginning_is_measured_equally_much_of_each_source() -> None:
    long, short = TinySource(["abcdefgh" * 100, "never read"]), TinySource(["xyz", "uvw"])
    found = evaluate(TokenizerEvalConfig(rivals=[], sample_chars=20), subject(sources={"a": long, "b": short}))
    texts = ["abcdefghab", "xyz", "uvw"]
    assert found["train"].value == pytest.approx(ratio(texts, lambda text: len(tiny_tokenizer().encode(text))))


def test_without_sources_the_fixed_texts_are_measured_and_a_note_says_why_there_is_no_rival() -> None:
    notes: list[str] = []
    found = evaluate(TokenizerEvalConfig(), subject(sources={}, note=notes.append))
    assert set(found) == {*KINDS, "all"}
    assert "no text to train one on" in notes[0]


def test_a_vocabulary_that_tiktoken_has_here_is_the_rival(nothing_known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(nothing_known, FILES["gpt2"], monkeypatch)
    ours = tiny_tokenizer()
    ranks = {ours.decode_bytes([i]): i for i in range(ours.vocab_size - 9)}
    known = tiktoken.Encoding("known", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": known}.__getitem__)
    found = evaluate(TokenizerEvalConfig(), subject())
    assert {name for name in found if "." in name} == {
        f"{name}.gpt2" for name in (*KINDS, "all", "train", "validation")
    }
    for kind in KINDS:
        expected = ratio(lines(kind), lambda text: len(known.encode_ordinary(text)))
        assert found[f"{kind}.gpt2"].value == pytest.approx(expected)


def keep(folder: Path, addresses: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as tiktoken keeps them, of other content, which is made the expected one."""
    kept = {address: address.encode() for address in addresses}
    for address, content in kept.items():
        (folder / hashlib.sha1(address.encode()).hexdigest()).write_bytes(content)
    monkeypatch.setitem(FILES, "gpt2", FILES["gpt2"] | {a: hashlib.sha256(c).hexdigest() for a, c in kept.items()})


def test_half_of_a_vocabularys_files_is_not_the_vocabulary(
    nothing_known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(nothing_known, list(FILES["gpt2"])[:1], monkeypatch)
    assert "news.gpt2" not in evaluate(TokenizerEvalConfig(), subject())


def test_a_damaged_file_of_tiktokens_is_not_the_vocabulary_and_a_note_says_so(nothing_known: Path) -> None:
    for address in FILES["gpt2"]:
        (nothing_known / hashlib.sha1(address.encode()).hexdigest()).write_bytes(b"cut off")
    notes: list[str] = []
    assert "news.gpt2" not in evaluate(TokenizerEvalConfig(), subject(note=notes.append))
    assert notes[0].startswith("tokenizer: gpt2 is left out") and "damaged" in notes[0]


def test_what_tiktoken_cannot_read_is_left_out_and_a_note_says_so(
    nothing_known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(nothing_known, FILES["gpt2"], monkeypatch)
    notes: list[str] = []
    found = evaluate(TokenizerEvalConfig(), subject(note=notes.append))
    assert "news.gpt2" not in found and "news.gpt2_pattern" in found
    assert notes[0] == "tokenizer: tiktoken could not read its gpt2 (AssertionError: gpt2 would be downloaded)"


@pytest.mark.parametrize("other", [False, True])
def test_without_a_cache_tiktoken_has_nothing_here(
    nothing_known: Path, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    """A variable that is set to nothing turns tiktoken's cache off, whatever lies in the usual places."""
    keep(nothing_known, FILES["gpt2"], monkeypatch)
    (nothing_known / "data-gym-cache").symlink_to(nothing_known)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(nothing_known))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    if other:
        monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(nothing_known))
    notes: list[str] = []
    evaluate(TokenizerEvalConfig(), subject(note=notes.append))
    assert not [note for note in notes if "could not read" in note], "tiktoken was not asked"


@pytest.mark.parametrize("name", PATTERNS)
def test_the_rivals_patterns_are_ones_that_the_encoder_cuts_by_hand(name: str) -> None:
    """It knows them to the letter, and by a regular expression takes many times as long."""
    known = Path(__file__).parent.parent / "rustbpe/src/gpt.rs"
    assert f'r"{PATTERNS[name]}"' in known.read_text()


def test_else_rivals_are_trained_on_the_stages_text_with_the_others_patterns() -> None:
    notes: list[str] = []
    found = evaluate(TokenizerEvalConfig(), subject(note=notes.append))
    for name, pattern in PATTERNS.items():
        rival = Tokenizer.train(SENTENCES, vocab_size=300, pattern=pattern)
        expected = ratio(lines("code"), lambda text, rival=rival: len(rival.encode(text)))
        assert found[f"code.{name}_pattern"].value == pytest.approx(expected)
    assert "rivals are trained on the stage's text" in notes[0]


def test_a_rival_that_the_text_is_too_little_for_is_left_out_in_words() -> None:
    notes: list[str] = []
    found = evaluate(TokenizerEvalConfig(peer_chars=5), subject(note=notes.append))
    assert not [name for name in found if "_pattern" in name]
    assert "no rival with the split pattern of gpt2: vocab_size is 300" in notes[1]


@pytest.mark.parametrize("name", PATTERNS)
def test_the_rivals_patterns_cut_as_tiktokens_own_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loads in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(openai_public, loads, lambda *_, **__: {})
    published = getattr(openai_public, name)()["pat_str"]
    texts = [*TEXTS.values(), "a  b\n\n c \t\r\n 1234567 'S it's\n   ", "  \n x", "\u00a0\u3000 y", " \n", "x \n \n"]
    for text in texts:
        assert _pieces(PATTERNS[name], text) == _pieces(published, text)


def _pieces(pattern: str, text: str) -> list[bytes]:
    """The pieces that a pattern cuts a text into, in the syntax that tiktoken's are written for."""
    return [match.encode() for match in regex.findall(pattern, text)]


MISPLACED = """
format = 1
name = "misplaced"
[stages.tok]
use = "tokenizer"
[stages.tok.data.web]
use = "stories"
[stages.tok.evals.quality]
use = "tokenizer"
[stages.tok.evals.bits]
use = "bpb"
[stages.eval]
use = "evaluate"
checkpoint = "path:."
[stages.eval.evals.again]
use = "tokenizer"
[stages.eval.evals.bits]
use = "bpb"
"""


def test_an_evaluation_of_what_its_stage_does_not_have_is_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(MISPLACED)
    with pytest.raises(InputError) as refused:
        load_recipe(recipe)
    assert [(d.code, d.location.line, d.message) for d in refused.value.diagnostics if d.code == "E115"] == [
        ("E115", 11, "the evaluation `bits` (bpb) measures a model, and the tokenizer stage `tok` has none"),
        ("E115", 18, "the evaluation `bits` (bpb) measures on sources, and the evaluate stage `eval` has none"),
    ]
