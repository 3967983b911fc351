"""Training and encoding by other packages than ours, and vocabularies in other programs' files."""

import base64
import builtins
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tiktoken.load
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Peer

from nanochat.data.encoding import encode_documents
from nanochat.errors import InputError
from nanochat.text.formats import read_huggingface, read_tiktoken, write_huggingface, write_tiktoken
from nanochat.text.special import IMPLEMENTATIONS, SPECIAL_TOKENS, SPLIT_PATTERN
from nanochat.text.tokenizer import Tokenizer
from nanochat.text.vocabulary_file import Vocabulary

OTHERS = [name for name in IMPLEMENTATIONS if name != "rust"]
TANGLED = st.text(st.sampled_from("abst're ILD09½é\u0301ß汉字🙂👩\u200d\n\r\t\u00a0\u2003\0.,!_-'’"), max_size=80)
TEXTS = st.text(max_size=80) | TANGLED


@pytest.fixture(scope="module")
def prose() -> list[str]:
    library = Path(os.__file__).parent
    return [(library / f"{name}.py").read_text() for name in ("argparse", "doctest", "os", "pdb", "turtle", "typing")]


@pytest.fixture(scope="module")
def tokenizer(prose: list[str]) -> Tokenizer:
    return Tokenizer.train(prose, vocab_size=1800)


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest, prose: list[str]) -> Tokenizer:
    """A tokenizer of another implementation."""
    return Tokenizer.train(prose, vocab_size=1800, implementation=request.param)


def as_ours(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(attrs.evolve(tokenizer.vocabulary, implementation="rust"))


@given(st.lists(TEXTS, max_size=5), st.integers(1, 3))
@settings(deadline=None)
def test_each_implementation_gives_the_ids_that_ours_gives_for_its_vocabulary(
    other: Tokenizer, texts: list[str], threads: int
) -> None:
    ours = as_ours(other)
    assert [other.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    for found, expected in zip(
        other.encode_batch(texts, threads=threads), ours.encode_batch(texts, threads=threads), strict=True
    ):
        assert found.dtype == expected.dtype == np.uint16
        assert found.tolist() == expected.tolist()


def test_each_implementation_has_the_same_specials_and_gives_text_back(other: Tokenizer, prose: list[str]) -> None:
    assert other.vocab_size == 1800
    assert [other.special_id(token) for token in SPECIAL_TOKENS] == list(range(1791, 1800))
    assert other.decode_bytes(range(256)) == bytes(range(256))
    for text in [*prose, "<|bos|> is ordinary"]:
        ids = other.encode(text)
        assert other.decode(ids) == text
        assert max(ids) < 1791


def test_tokenizers_own_training_gives_nearly_the_tokens_of_ours(tokenizer: Tokenizer, prose: list[str]) -> None:
    theirs = Tokenizer.train(prose, vocab_size=1800, implementation="huggingface")
    shared = set(tokenizer.vocabulary.tokens) & set(theirs.vocabulary.tokens)
    assert len(shared) >= 0.98 * len(tokenizer.vocabulary.tokens)  # equal counts are decided otherwise there


def test_a_loaded_tokenizer_encodes_by_what_it_was_trained_with(other: Tokenizer, tmp_path: Path) -> None:
    other.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocabulary == other.vocabulary
    assert loaded.digest == other.digest != as_ours(other).digest


def test_our_own_implementation_leaves_no_mark_in_the_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    keys = json.loads((tmp_path / "tokenizer.json").read_bytes())
    assert list(keys) == ["format", "pattern", "specials", "tokens", "sha256"]


def test_an_implementation_that_is_not_known_is_a_broken_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    attrs.evolve(tokenizer.vocabulary, implementation="abacus").write(tmp_path)
    with pytest.raises(InputError, match=r"E307.*'abacus', and there are rust, tiktoken, huggingface"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name, package", [("tiktoken", "tiktoken"), ("huggingface", "tokenizers")])
def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    name: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(InputError, match=rf"(?s)E308.*package {package}.*pip install 'nanochat-run\[tokenizers\]'"):
        Tokenizer.train(["the cat sat"], vocab_size=266, implementation=name)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_pattern_that_tries_without_end_is_e104_whoever_runs_it(name: Any) -> None:
    endless, text = r"(?:a|a)*(?=b)b(?<=b)|[\s\S]", "a" * 60
    with pytest.raises(InputError, match=r"E104.*the split pattern cannot cut this text"):
        Tokenizer.train([text], vocab_size=265, pattern=endless, implementation=name)
    made = Tokenizer.train(["b"], vocab_size=265, pattern=endless, implementation=name)
    for encode in (lambda: made.encode(text), lambda: made.encode_batch([text, text], threads=2)):
        with pytest.raises(ValueError, match="the split pattern cannot cut this text"):
            encode()
    with pytest.raises(InputError, match=r"E104.*cannot encode a document"):
        encode_documents(made, [text])
    assert made.encode("ab") == [97, 98]  # it is still of use


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_what_the_texts_themselves_raise_is_not_put_down_to_the_pattern(name: Any) -> None:
    def broken() -> Iterator[str]:
        yield "a b"
        raise ValueError("of the source's own")

    with pytest.raises(ValueError, match="of the source's own"):
        Tokenizer.train(broken(), vocab_size=265, implementation=name)


@pytest.mark.parametrize("name", OTHERS)
def test_faults_are_told_alike_by_all_implementations(name: Any) -> None:
    with pytest.raises(InputError, match=r"E104.*cannot be compiled"):
        Tokenizer.train(["a b"], vocab_size=265, pattern="(", implementation=name)
    with pytest.raises(InputError, match=r"E302.*no text to train"):
        Tokenizer.train([], vocab_size=265, implementation=name)
    with pytest.raises(InputError, match=r"E305.*allows only"):
        Tokenizer.train(["abc"], vocab_size=400, implementation=name)
    with pytest.raises(UnicodeEncodeError):
        Tokenizer.train(["abc"], vocab_size=265, implementation=name).encode("half \ud800")


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_what_the_texts_or_the_progress_raise_comes_through_every_implementation(name: Any) -> None:
    def stop(made: int) -> None:
        raise builtins.InterruptedError

    with pytest.raises(InterruptedError):
        Tokenizer.train(["the cat sat"], vocab_size=266, implementation=name, progress=stop)
    with pytest.raises(ZeroDivisionError):
        Tokenizer.train((str(1 // n) for n in (1, 0)), vocab_size=266, implementation=name)


@pytest.fixture(scope="module")
def exported(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tokenizer.json"
    write_huggingface(tokenizer.vocabulary, path)
    return path


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_the_file_for_hugging_face_encodes_and_decodes_there_as_here(
    exported: Path, tokenizer: Tokenizer, text: str
) -> None:
    assume(not any(token in text for token in SPECIAL_TOKENS))  # which is the special there
    peer = Peer.from_file(str(exported))
    ids = peer.encode(text, add_special_tokens=False).ids
    assert ids == tokenizer.encode(text)
    assert peer.decode(ids) == text


def test_specials_have_the_same_ids_there_as_here(exported: Path, tokenizer: Tokenizer) -> None:
    peer = Peer.from_file(str(exported))
    for token in SPECIAL_TOKENS:
        assert peer.token_to_id(token) == tokenizer.special_id(token)
        assert peer.encode(token).ids == [tokenizer.special_id(token)]
    assert peer.get_vocab_size() == tokenizer.vocab_size


def test_a_vocabulary_comes_back_from_hugging_faces_file_as_it_went(exported: Path, tokenizer: Tokenizer) -> None:
    assert read_huggingface(exported) == tokenizer.vocabulary


def test_a_vocabulary_comes_back_from_tiktokens_file_and_tiktoken_can_read_it(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "ours.tiktoken"
    write_tiktoken(tokenizer.vocabulary, path)
    assert read_tiktoken(path, pattern=SPLIT_PATTERN) == tokenizer.vocabulary
    ranks = tiktoken.load.load_tiktoken_bpe(str(path))
    assert ranks == {token: rank for rank, token in enumerate(tokenizer.vocabulary.tokens)}


def test_a_tokenizer_like_gpt_2s_is_read_with_its_special_and_encodes_as_there(
    prose: list[str], tmp_path: Path
) -> None:
    from tokenizers import decoders, models, pre_tokenizers, trainers

    peer = Peer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    peer.train_from_iterator(prose, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False))
    peer.add_special_tokens(["<|endoftext|>"])
    peer.save(str(tmp_path / "tokenizer.json"))
    read = Tokenizer(read_huggingface(tmp_path / "tokenizer.json"))
    assert read.special_id("<|endoftext|>") == 900
    assert (read.bos_id, read.vocab_size) == (901, 910)
    for text in [*prose, "größer  than\n\n  you've 1234"]:
        assert read.encode(text) == peer.encode(text).ids


Change = Callable[[dict[str, Any]], object]
REFUSED: list[tuple[str, Change]] = [
    ("without a normalizer", lambda content: content.update(normalizer={"type": "NFC"})),
    ("without a normalizer", lambda content: content["model"].update(type="WordPiece")),
    ("cuts text by", lambda content: content.update(pre_tokenizer={"type": "Whitespace"})),
    ("ids that are missing", lambda content: content["model"]["vocab"].pop("Ġself")),
    ("another order", lambda content: content["model"]["merges"].reverse()),
    ("another order", lambda content: content["model"]["merges"].pop()),
    ("do not follow", lambda content: content["added_tokens"].pop(0)),
    ("no letter of a byte", lambda content: content["model"]["vocab"].update({"▁": 1})),
    ("KeyError", lambda content: content.pop("model")),
    ("leaves text out, of '\\\\x00'", lambda content: cut_by(content, r"\p{L}+|\p{N}+|\s+")),
    ("leaves text out, of '\\\\n'", lambda content: cut_by(content, r".")),
    ("leaves text out, of 'aa '", lambda content: cut_by(content, r"[^ ]+| +(?=[^ ])")),
    ("cannot be used: the split pattern", lambda content: cut_by(content, "(")),
    ("sets truncation", lambda content: content.update(truncation=TRUNCATION)),
    ("sets padding", lambda content: content.update(padding={"strategy": {"Fixed": 8}})),
    ("sets dropout", lambda content: content["model"].update(dropout=0.1)),
    ("sets continuing_subword_prefix", lambda content: content["model"].update(continuing_subword_prefix="##")),
    ("sets end_of_word_suffix", lambda content: content["model"].update(end_of_word_suffix="</w>")),
    ("sets a post_processor that adds", lambda content: content.update(post_processor=BEGINS_WITH_BOS)),
    ("encodes .* with their package", lambda content: content["added_tokens"].append(BLANKS | {"id": 1800})),
]
TRUNCATION = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
BEGINS_WITH_BOS = {
    "type": "Sequence",
    "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [0], "tokens": ["<|bos|>"]}},
        },
    ],
}
BLANKS = {
    "content": "  ",
    "special": False,
    "normalized": False,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
}
"""An added token that ordinary text becomes there, and never here."""


def cut_by(content: dict[str, Any], pattern: str) -> None:
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern


@pytest.mark.parametrize("reason, change", REFUSED)
def test_a_file_of_theirs_that_means_something_else_is_refused(
    exported: Path, tmp_path: Path, reason: str, change: Change
) -> None:
    content = json.loads(exported.read_bytes())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"(?s)E307.*{reason}.*= help: give a"):
        read_huggingface(path)


@pytest.mark.parametrize("harmless", [{"unk_token": "<|bos|>"}, {"fuse_unk": True}, {"byte_fallback": True}])
def test_what_a_file_says_of_unknown_characters_is_nothing_where_every_byte_is_known(
    exported: Path, tokenizer: Tokenizer, tmp_path: Path, harmless: dict[str, Any]
) -> None:
    content = json.loads(exported.read_bytes())
    content["model"].update(harmless)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    assert Peer.from_file(str(path)).encode("größer 汉\x00").ids == tokenizer.encode("größer 汉\x00")
    assert read_huggingface(path) == tokenizer.vocabulary


@pytest.mark.parametrize("whole", [True, False])
def test_a_token_that_no_merges_make_comes_in_only_where_a_whole_piece_is_it_there(tmp_path: Path, whole: bool) -> None:
    tokens = (*(bytes([byte]) for byte in range(256)), b"xyz")
    vocabulary = Vocabulary(pattern=SPLIT_PATTERN, tokens=tokens, specials=SPECIAL_TOKENS)
    path = tmp_path / "tokenizer.json"
    write_huggingface(vocabulary, path)
    content = json.loads(path.read_bytes())
    content["model"]["ignore_merges"] = whole
    path.write_text(json.dumps(content))
    assert Peer.from_file(str(path)).encode("xyz").ids == ([256] if whole else list(b"xyz"))
    if whole:
        assert read_huggingface(path) == vocabulary
    else:
        with pytest.raises(InputError, match=r"E307.*the token b'xyz', which no merges make"):
            read_huggingface(path)


def test_a_pattern_for_a_tiktoken_file_must_leave_no_text_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "it.tiktoken"
    write_tiktoken(tokenizer.vocabulary, path)
    with pytest.raises(InputError, match=r"E307.*leaves text out, of '\\x00'"):
        read_tiktoken(path, pattern=r"\w+|\s+")


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "no token for the byte 0"),
        (b"YQ== x\n", "no token and id in line 1"),
        (b"YQ== 0\nY? 1\n", "no token and id in line 2"),
        (b"YQ== 1\n", "ids that are missing"),
        (b"YQ== 0\nYg== 0\n", "used twice"),
        (base64.b64encode(b"a"), "no token and id in line 1"),
    ],
)
def test_a_file_that_is_no_tiktoken_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.tiktoken"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"(?s)E307.*{reason}"):
        read_tiktoken(path, pattern=".")


@given(st.lists(st.text("ab", min_size=2, max_size=6), unique=True, max_size=12), st.text("ab ", max_size=40))
@settings(deadline=None)
def test_a_token_that_no_merges_reach_is_still_a_whole_piece_there(
    tmp_path_factory: pytest.TempPathFactory, made: list[str], text: str
) -> None:
    # Bytes merged by rank and merges by list differ only within a piece; a piece that is a token is one in both.
    tokens = (*(bytes([byte]) for byte in range(256)), *(token.encode() for token in made))
    vocabulary = Vocabulary(pattern=r"\S+|\s", tokens=tokens, specials=SPECIAL_TOKENS)
    path = tmp_path_factory.mktemp("made") / "tokenizer.json"
    write_huggingface(vocabulary, path)
    peer, ours = Peer.from_file(str(path)), Tokenizer(vocabulary)
    for word in made:
        assert peer.encode(word).ids == ours.encode(word) == [256 + made.index(word)]
    assert peer.decode(peer.encode(text).ids) == text
