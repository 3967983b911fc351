"""The Rust crate against outside oracles: rustbpe for training, tiktoken and tokenizers for encoding."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Peer

import rustbpe
from nanochat._rustbpe import Encoder, Trainer
from nanochat.text.special import SPLIT_PATTERN

BYTES = [bytes([byte]) for byte in range(256)]
PATTERNS = [SPLIT_PATTERN, r"\S+|\s+", r"[ab]+|.", r"\w{1,3}|\W"]
# Letters, digits, marks, spaces of several kinds, line ends, contractions, and characters of one to four bytes.
TANGLED = st.text(st.sampled_from("abst're ILD09½é\u0301ß汉字🙂👩\u200d\n\r\t\u00a0\u2003\0.,!_-'’"), max_size=80)
TEXTS = st.text(max_size=80) | TANGLED | st.text(st.sampled_from("ab "), max_size=200)


def trained(texts: list[str], merges: int, pattern: str = SPLIT_PATTERN) -> list[bytes]:
    trainer = Trainer(pattern)
    trainer.feed(texts)
    return trainer.train(merges)


def trained_by_rustbpe(texts: list[str], merges: int, pattern: str = SPLIT_PATTERN) -> list[bytes]:
    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(texts), 256 + merges, pattern=pattern)
    ranks = {rank: bytes(token) for token, rank in peer.get_mergeable_ranks()}
    return [ranks[rank] for rank in range(len(ranks))]


def as_tiktoken(tokens: list[bytes], pattern: str = SPLIT_PATTERN) -> tiktoken.Encoding:
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return tiktoken.Encoding("test", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@pytest.fixture(scope="module")
def prose() -> list[str]:
    library = Path(os.__file__).parent
    return [(library / f"{name}.py").read_text() for name in ("argparse", "doctest", "os", "pdb", "turtle", "typing")]


@pytest.fixture(scope="module")
def tokens(prose: list[str]) -> list[bytes]:
    return trained(prose, 1500)


def test_training_on_real_text_gives_the_tokens_of_rustbpe(prose: list[str], tokens: list[bytes]) -> None:
    assert tokens == trained_by_rustbpe(prose, 1500)


@given(st.lists(TEXTS, max_size=8), st.sampled_from(PATTERNS), st.integers(0, 40))
@settings(deadline=None)
def test_training_on_any_text_with_any_pattern_gives_the_tokens_of_rustbpe(
    texts: list[str], pattern: str, merges: int
) -> None:
    assert trained(texts, merges, pattern) == trained_by_rustbpe(texts, merges, pattern)


def test_neither_the_order_nor_the_batches_of_the_texts_matter(prose: list[str], tokens: list[bytes]) -> None:
    trainer = Trainer(SPLIT_PATTERN)
    for text in reversed(prose):
        trainer.feed([text])
    assert trainer.train(1500) == tokens


def test_memory_grows_with_the_distinct_pieces_and_not_with_the_text() -> None:
    program = """
import resource
from nanochat._rustbpe import Trainer
from nanochat.text.special import SPLIT_PATTERN
words = " ".join(f"{n:x}".translate(str.maketrans("0123456789", "ghijklmnop")) for n in range(100_000))
trainer = Trainer(SPLIT_PATTERN)
peaks = []
for texts in (64, 640):  # 35 and 350 MB
    trainer.feed(f"{n} {words}" for n in range(texts))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(trainer.distinct_pieces, *peaks)
"""
    environment = os.environ | {"RAYON_NUM_THREADS": "2"}  # a batch of text is read for each thread
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    distinct, first, second = map(int, found.stdout.split())
    assert distinct > 100_000
    unit = 1 if sys.platform == "darwin" else 1024
    assert (second - first) * unit < 64_000_000


def test_what_the_pattern_leaves_out_is_counted_in_bytes() -> None:
    trainer = Trainer(r"\w+")
    trainer.feed(["one, two", "… three"])
    assert (trainer.distinct_pieces, trainer.bytes_left_out) == (3, 2 + 4)


@given(TEXTS)
@settings(max_examples=500, deadline=None)
def test_ids_are_those_of_tiktoken(tokens: list[bytes], text: str) -> None:
    assert Encoder(SPLIT_PATTERN, tokens).encode(text) == as_tiktoken(tokens).encode_ordinary(text)


@given(
    st.lists(st.binary(min_size=2, max_size=6) | st.text("ab", min_size=2, max_size=6).map(str.encode), unique=True),
    st.sampled_from(PATTERNS),
    TEXTS,
)
@settings(deadline=None)
def test_ids_are_those_of_tiktoken_for_a_vocabulary_that_no_training_would_give(
    made: list[bytes], pattern: str, text: str
) -> None:
    tokens = BYTES + made
    assert Encoder(pattern, tokens).encode(text) == as_tiktoken(tokens, pattern).encode_ordinary(text)


@given(st.text(st.sampled_from("abcd"), min_size=60, max_size=600))
@settings(deadline=None)
def test_ids_of_long_words_are_those_of_tiktoken(word: str) -> None:
    tokens = trained(["abcd abab cdcd dcba aabb abcabc", word[:50]], 60)
    assert Encoder(SPLIT_PATTERN, tokens).encode(word) == as_tiktoken(tokens).encode_ordinary(word)


def test_a_word_of_a_million_letters_is_encoded_as_tiktoken_does(tokens: list[bytes]) -> None:
    word = "".join(chr(97 + number * number % 23) for number in range(1_000_000))
    assert Encoder(SPLIT_PATTERN, tokens).encode(word) == as_tiktoken(tokens).encode_ordinary(word)


@pytest.fixture(scope="module")
def peer(tokens: list[bytes]) -> Peer:
    """The vocabulary as Hugging Face's byte-level BPE, which applies merges instead of looking up bytes."""
    letters = byte_letters()
    ranks = {token: rank for rank, token in enumerate(tokens)}
    spelled = {token: "".join(letters[byte] for byte in token) for token in tokens}
    merges = [tuple(spelled[part] for part in parts(ranks, token)) for token in tokens[256:]]
    peer = Peer(models.BPE(vocab={spelled[token]: rank for token, rank in ranks.items()}, merges=merges))
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return peer


def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-ins for bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def parts(ranks: dict[bytes, int], token: bytes) -> list[bytes]:
    """The two tokens that a token was merged from: its bytes, merged by rank until two are left."""
    pieces = [bytes([byte]) for byte in token]
    while len(pieces) > 2:
        made = [ranks.get(left + right, len(ranks)) for left, right in pairwise(pieces)]
        at = made.index(min(made))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def test_ids_of_real_text_are_those_of_tokenizers(prose: list[str], tokens: list[bytes], peer: Peer) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens)
    for text in prose:
        assert encoder.encode(text) == peer.encode(text, add_special_tokens=False).ids


@given(st.lists(TEXTS, max_size=20), st.none() | st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_a_batch_is_its_texts_one_by_one(tokens: list[bytes], texts: list[str], threads: int | None) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens)
    assert batch(encoder, texts, threads) == [encoder.encode(text) for text in texts]


def batch(encoder: Encoder, texts: list[str], threads: int | None = None) -> list[list[int]]:
    """A batch's ids as lists; its numbers are as wide as the vocabulary needs."""
    content, lengths = encoder.encode_batch(texts, threads)
    ids = np.frombuffer(content, dtype={2: np.uint16, 4: np.uint32}[encoder.id_bytes]).tolist()
    ends = np.cumsum(lengths, dtype=int)
    return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def test_ids_of_a_large_vocabulary_take_four_bytes_and_of_a_smaller_one_two() -> None:
    made = [bytes([first, second, 0]) for first in range(256) for second in range(256)]
    for size, width in ((65_536, 2), (65_537, 4)):
        encoder = Encoder(r"[\s\S]{3}", (BYTES + made)[:size])
        assert encoder.id_bytes == width
        last = (BYTES + made)[size - 1]
        text = last.decode("latin-1") if max(last) < 128 else "ab\0"
        assert batch(encoder, [text, ""]) == [
            as_tiktoken((BYTES + made)[:size], r"[\s\S]{3}").encode_ordinary(text),
            [],
        ]


def test_nothing_nul_and_runs_of_spaces_are_text(tokens: list[bytes]) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens)
    assert encoder.encode("") == []
    for text in ("\0", "a\0b", " " * 100_000 + "x", "\n" * 100_000):
        assert encoder.encode(text) == as_tiktoken(tokens).encode_ordinary(text)


@pytest.mark.parametrize("pattern", [SPLIT_PATTERN, r"\p{L}+|\s*[\r\n]|\s+(?!\S)|\s+"])
def test_two_million_spaces_which_tiktoken_refuses_lose_nothing(tokens: list[bytes], pattern: str) -> None:
    text = "x" + " " * 2_000_000 + "y"
    assert b"".join(tokens[number] for number in Encoder(pattern, tokens).encode(text)) == text.encode()


# GPT-4's as tiktoken and as Hugging Face write it, and GPT-2's in both: cut by hand, and so checked against tiktoken.
GPT4 = SPLIT_PATTERN.replace("{1,2}", "{1,3}")
GPT4_TIKTOKEN = GPT4.replace(r"\p{L}+|\p{N}{1,3}", r"\p{L}++|\p{N}{1,3}+").replace(
    r"[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+", r"[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT2_SHORT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize("pattern", [GPT4, GPT4_TIKTOKEN, GPT2, GPT2_SHORT])
@given(TEXTS)
@settings(deadline=None)
def test_ids_by_the_patterns_of_gpt_2_and_gpt_4_are_those_of_tiktoken(
    tokens: list[bytes], pattern: str, text: str
) -> None:
    assert Encoder(pattern, tokens).encode(text) == as_tiktoken(tokens, pattern).encode_ordinary(text)


@pytest.fixture(scope="module")
def library() -> list[str]:
    """The standard library: 30 MB of code, prose and tables, and texts with characters of all of Unicode."""
    folder = Path(os.__file__).parent
    paths = sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.parts)
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    return [*(path.read_text(errors="replace") for path in paths), everything, everything[::-1]]


@pytest.mark.slow
def test_a_vocabulary_of_the_whole_standard_library_is_that_of_rustbpe(library: list[str]) -> None:
    assert trained(library, 8000) == trained_by_rustbpe(library, 8000)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [SPLIT_PATTERN, GPT4, GPT4_TIKTOKEN, GPT2])
def test_ids_of_the_whole_standard_library_are_those_of_tiktoken(
    library: list[str], tokens: list[bytes], pattern: str
) -> None:
    encoder, peer = Encoder(pattern, tokens), as_tiktoken(tokens, pattern)
    for text, ids in zip(library, batch(encoder, library), strict=True):
        assert ids == peer.encode_ordinary(text)


def test_a_piece_seen_before_has_the_same_ids_again(prose: list[str], tokens: list[bytes]) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens[:400])  # so few that most pieces are no token
    peer = as_tiktoken(tokens[:400])
    for text in prose + prose:
        assert encoder.encode(text) == peer.encode_ordinary(text)


def test_half_of_a_surrogate_pair_is_a_value_error(tokens: list[bytes]) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encoder.encode("a\ud800")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encoder.encode_batch(["fine", "\udfff"])
    with pytest.raises(ValueError, match="surrogates not allowed"):
        Trainer(SPLIT_PATTERN).feed(["\ud800"])


def test_a_vocabulary_or_pattern_that_cannot_be_used_is_named() -> None:
    with pytest.raises(ValueError, match="no token for the byte 7"):
        Encoder(".", BYTES[:7] + BYTES[8:])
    with pytest.raises(ValueError, match="tokens 65 and 256 of the vocabulary are equal"):
        Encoder(".", [*BYTES, b"A"])
    with pytest.raises(ValueError, match="cannot be compiled"):
        Trainer("(")
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        Encoder(".", BYTES).encode_batch([], 0)


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="an iterable of texts"):
        Trainer(".").feed("one text")
    with pytest.raises(TypeError):
        Trainer(".").feed([b"bytes"])  # type: ignore[list-item]


def test_what_the_texts_or_the_progress_raise_comes_through(prose: list[str]) -> None:
    def texts() -> Iterator[str]:
        yield "one"
        raise KeyError("torn")

    with pytest.raises(KeyError, match="torn"):
        Trainer(SPLIT_PATTERN).feed(texts())

    seen: list[int] = []

    def progress(made: int) -> None:
        seen.append(made)
        if made >= 500:
            raise InterruptedError

    trainer = Trainer(SPLIT_PATTERN)
    trainer.feed(prose)
    with pytest.raises(InterruptedError):
        trainer.train(10_000, progress)
    assert seen == [0, 256, 512]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_can_encode_batches_after_its_parent_did(tokens: list[bytes]) -> None:
    encoder = Encoder(SPLIT_PATTERN, tokens)
    here = encoder.encode_batch(["one", "two", "three"], 2)
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    child = context.Process(target=lambda: found.put(encoder.encode_batch(["one", "two", "three"], 2)))
    child.start()
    child.join(timeout=30)
    assert child.exitcode == 0
    assert found.get() == here


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of threads here")
def test_an_encoder_starts_its_threads_once(tokens: list[bytes]) -> None:
    def threads() -> set[Path]:
        return set(Path("/proc/self/task").iterdir())

    encoder = Encoder(SPLIT_PATTERN, tokens)
    before = threads()
    encoder.encode_batch(["one", "two"], 3)
    started = threads() - before
    assert len(started) == 3
    for _ in range(20):
        encoder.encode_batch(["one", "two"], 3)
        assert threads() - before == started
