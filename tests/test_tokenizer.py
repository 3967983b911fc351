"""The tokenizer, its file, and incremental decoding."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import InputError
from nanochat.text.decoder import TextStream
from nanochat.text.encoders import Ids
from nanochat.text.special import SPECIAL_TOKENS, SPLIT_PATTERN
from nanochat.text.tokenizer import Tokenizer
from nanochat.text.vocabulary_file import Vocabulary

SENTENCES = ["the cat sat on the mat, and the dog sat on the log", "größer, 你好 🙂, thé", "<|bos|> is how it begins"]
# Everything, and text made of specials' names and of characters of one to four bytes.
TEXTS = st.text() | st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "bos", "the cat", "ö", "你", "🙂", "\0"])).map(
    "".join
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES, vocab_size=320)


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the tokenizer, in a folder of its own."""
    folder = tmp_path_factory.mktemp("saved")
    tokenizer.save(folder)
    return folder / "tokenizer.json"


def test_a_vocabulary_is_bytes_then_merges_then_the_nine_specials(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 320
    assert tokenizer.decode_bytes(range(256)) == bytes(range(256))
    assert [tokenizer.special_id(token) for token in SPECIAL_TOKENS] == list(range(311, 320))
    assert tokenizer.bos_id == 311
    assert tokenizer.decode([311, 97]) == "<|bos|>a"


def test_the_smallest_vocabulary_has_no_merges() -> None:
    assert Tokenizer.train(["a"], vocab_size=265).encode("ab") == [97, 98]


@given(TEXTS)
@settings(deadline=None)
def test_decoding_gives_any_text_back_and_no_text_gives_a_special(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(number < 311 for number in ids)
    lengths = tokenizer.token_bytes()
    assert sum(lengths[number] for number in ids) == len(text.encode())


def test_specials_have_no_bytes_of_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes()[:256] == [1] * 256
    assert tokenizer.token_bytes()[-9:] == [0] * 9


@given(st.lists(st.integers(0, 319)))
@settings(deadline=None)
def test_a_stream_of_ids_gives_the_text_of_the_whole(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = TextStream(tokenizer)
    assert "".join([*(stream.push(number) for number in ids), stream.flush()]) == tokenizer.decode(ids)


@given(TEXTS)
@settings(deadline=None)
def test_a_stream_never_splits_a_character(tokenizer: Tokenizer, text: str) -> None:
    stream = TextStream(tokenizer)
    shown = ""
    for byte in text.encode():  # as coarse as tokens can be, at their worst
        shown += stream.push(byte)
        assert text.startswith(shown)
    assert stream.flush() == ""


def test_a_stream_that_ends_within_a_character_says_so_and_begins_anew(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    assert [stream.push(byte) for byte in "é".encode()[:1]] == [""]
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"
    assert stream.push(ord("a")) == "a"


@pytest.mark.parametrize("ids", [[-1], [320], [97, 1 << 40]])
def test_an_id_that_the_vocabulary_does_not_have_is_a_value_error(tokenizer: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="0 to 319"):
        tokenizer.decode(ids)


def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new")
    loaded = Tokenizer.load(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tokenizer.json"]
    assert loaded.digest == tokenizer.digest
    assert [loaded.encode(text) for text in SENTENCES] == [ids.tolist() for ids in tokenizer.encode_batch(SENTENCES)]
    assert loaded.vocab_size == 320


def test_the_digest_tells_vocabularies_apart(tokenizer: Tokenizer) -> None:
    assert Tokenizer.train(SENTENCES, vocab_size=320).digest == tokenizer.digest
    assert Tokenizer.train(SENTENCES, vocab_size=319).digest != tokenizer.digest


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_one_flipped_bit_anywhere_is_refused(saved: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InputError, match=r"^error\[E307\]: the tokenizer file"):
        load_content(saved, bytes(content))


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_a_truncated_file_is_refused(saved: Path, data: st.DataObject) -> None:
    content = saved.read_bytes()
    with pytest.raises(InputError, match=r"E307.* cut off or damaged"):
        load_content(saved, content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"\0" * 4096, json.dumps({"version": "1.0", "model": {}}).encode()],
)
def test_a_file_of_something_else_is_refused_with_what_to_do(saved: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"(?s)E307.*= help: copy it again"):
        load_content(saved, content)


def test_a_file_of_a_later_format_is_named_as_such(saved: Path) -> None:
    content = json.loads(saved.read_bytes()) | {"format": 2}
    with pytest.raises(InputError, match=r"E307.*has format 2, and this version reads format 1"):
        load_content(saved, json.dumps(content).encode())


def test_a_file_without_a_vocabulary_that_can_be_used_is_refused_though_its_digest_fits(tmp_path: Path) -> None:
    for change in ({"tokens": (b"a",)}, {"specials": ("<|bos|>",)}, {"pattern": "("}):
        whole = {"pattern": ".", "tokens": tuple(bytes([b]) for b in range(256)), "specials": SPECIAL_TOKENS}
        Vocabulary(**(whole | change)).write(tmp_path)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"E307.*no usable vocabulary"):
            Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "added, reason",
    [
        (7, "the special 7 is no string"),
        (None, "the special None is no string"),
        (["<|a|>"], r"the special \['<\|a\|>'\] is no string"),
        ("<|bos|>", r"the special '<\|bos\|>' is there twice"),
    ],
)
def test_a_special_is_a_string_and_there_once(tmp_path: Path, added: Any, reason: str) -> None:
    """Else an id would have no name of its own, and a file whose digest fits would fail somewhere later."""
    tokens = tuple(bytes([byte]) for byte in range(256))
    Vocabulary(pattern=SPLIT_PATTERN, tokens=tokens, specials=(*SPECIAL_TOKENS, added)).write(tmp_path)
    with pytest.raises(InputError, match=f"E307.*{reason}"):
        Tokenizer.load(tmp_path)


def test_a_folder_without_a_tokenizer_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E307.*cannot be read .No such file"):
        Tokenizer.load(tmp_path / "nowhere")


def load_content(saved: Path, content: bytes) -> Tokenizer:
    damaged = saved.parent / "damaged" / saved.name
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(content)
    return Tokenizer.load(damaged.parent)


def test_a_vocabulary_below_265_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)E305.*vocab_size is 264.*use at least 265"):
        Tokenizer.train(SENTENCES, vocab_size=264)


def test_text_too_small_for_the_vocabulary_says_which_size_it_can_fill() -> None:
    with pytest.raises(
        InputError, match=r"(?s)E305.*vocab_size is 400, which takes 135 merges.*allows only 4"
    ) as caught:
        Tokenizer.train(["abc abc", "xy"], vocab_size=400)
    assert "lower vocab_size to at most 269" in caught.value.diagnostics[0].help
    tokenizer = Tokenizer.train(["abc abc", "xy"], vocab_size=269)
    assert [tokenizer.encode(text) for text in ("abc", " abc", "xy")] == [[257], [258], [259]]


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_at_all_is_an_empty_corpus(texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"(?s)E302.*no text to train.*= help: check the sources"):
        Tokenizer.train(texts, vocab_size=300)


def test_a_pattern_that_is_none_or_that_loses_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"E104.*cannot be compiled"):
        Tokenizer.train(SENTENCES, vocab_size=300, pattern="(")
    with pytest.raises(InputError, match=r"(?s)E104.*does not match 6 bytes.*\|\[\\s\\S\]"):
        Tokenizer.train(["three spaces and ..."], vocab_size=265, pattern=r"\w+|:")
    lossless = Tokenizer.train(["three spaces and ..."], vocab_size=270, pattern=r"\w+|:|[\s\S]")
    assert lossless.decode(lossless.encode("a b\n…")) == "a b\n…"


@pytest.mark.parametrize("ranks, threads", [(1, 6), (2, 3), (4, 1), (8, 1)])
def test_the_ranks_of_a_machine_share_its_processors(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, ranks: int, threads: int
) -> None:
    asked = []

    class Encoder:
        def encode_batch(self, texts: list[str], threads: int) -> list[Ids]:
            asked.append(threads)
            return []

    monkeypatch.setattr(tokenizer, "_encoder", Encoder())
    monkeypatch.setattr("nanochat.text.tokenizer.sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(6)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    tokenizer.encode_batch(["a"])
    tokenizer.encode_batch(["a"], threads=5)
    assert asked == [threads, 5]
