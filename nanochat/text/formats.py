"""Vocabularies as other programs keep them: tiktoken's `.tiktoken` and Hugging Face's `tokenizer.json`.

In and out: files and Vocabularies, which encode the same on both sides. A `.tiktoken` file has only the tokens, so what
reads it must be told the pattern; `tokenizer.json` has the specials too. A file that means more than a Vocabulary can
hold (normalizers, gaps between the ids, another model) is refused, and so is one whose pattern leaves text out, or that
encodes otherwise there than here (probe.py). Not here: our own file (vocabulary_file.py).
"""

import base64
import binascii
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from nanochat.errors import InputError, wrong_input
from nanochat.text.byte_level import byte_level, merges_of, unspelled
from nanochat.text.encoders import needed
from nanochat.text.probe import difference, fault
from nanochat.text.special import SPECIAL_TOKENS
from nanochat.text.vocabulary_file import Vocabulary

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What Hugging Face's ByteLevel cuts by where it is not told otherwise."""
GPT4_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
"""cl100k_base's, in tiktoken's spelling, which our encoder knows without a regular expression."""


def write_tiktoken(vocabulary: Vocabulary, path: Path) -> None:
    """A line a token: base64 of its bytes, a space, its id."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(vocabulary.tokens))
    path.write_text("".join(lines), encoding="ascii")


def read_tiktoken(path: Path, *, pattern: str) -> Vocabulary:
    """The tokens of a `.tiktoken` file, and our specials. InputError E307 where it is none, or ids are missing."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read(path).split(b"\n"), start=1):
        token, _, rank = line.rstrip(b"\r").partition(b" ")
        if token:
            try:
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except (binascii.Error, ValueError) as error:
                raise unusable(path, f"has no token and id in line {number}") from error
    return usable(Vocabulary(pattern=pattern, tokens=in_order(ranks, path), specials=SPECIAL_TOKENS), path)


def write_huggingface(vocabulary: Vocabulary, path: Path) -> None:
    """`tokenizer.json` for the tokenizers package, and all that use it. InputError E308 without the package."""
    package = needed("tokenizers")
    tokenizer = byte_level(package, vocabulary)
    specials = [package.AddedToken(token, special=True, normalized=False) for token in vocabulary.specials]
    tokenizer.add_special_tokens(specials)
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def read_huggingface(path: Path) -> Vocabulary:
    """A byte-level BPE of theirs; those specials of ours that it lacks go last. InputError E307 if it is none.

    Where their package is installed, it and ours must encode a fixed lot of short texts alike.
    """
    try:
        text = _read(path).decode()
        content = json.loads(text)
        model, added = content["model"], content["added_tokens"] or []
        if model["type"] != "BPE" or content["normalizer"] is not None:
            raise unusable(path, "is no byte-level BPE without a normalizer")
        names = {token["content"]: int(token["id"]) for token in added}
        spellings = {spelling: rank for spelling, rank in model["vocab"].items() if spelling not in names}
        tokens = in_order({unspelled(spelling): rank for spelling, rank in spellings.items()}, path)
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        pattern = _pattern(content["pre_tokenizer"])
        changing = _changing(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unusable(path, f"is no tokenizer of that package ({type(error).__name__}: {error})") from error
    if changing:
        raise unusable(path, f"sets {changing}, which changes the ids and which a vocabulary of ours does not have")
    _check_merges(merges, tokens, spellings, path)
    if not model.get("ignore_merges"):
        _check_reached(tokens, path)
    theirs = sorted(names, key=names.__getitem__)
    if [names[name] for name in theirs] != list(range(len(tokens), len(tokens) + len(theirs))):
        raise unusable(path, "has added tokens whose ids do not follow the others'")
    ours = tuple(token for token in SPECIAL_TOKENS if token not in names)
    vocabulary = usable(Vocabulary(pattern=pattern, tokens=tokens, specials=(*theirs, *ours)), path)
    _compare(vocabulary, text, path)
    return vocabulary


def usable(vocabulary: Vocabulary, path: Path) -> Vocabulary:
    """A vocabulary that was read. InputError E307 where it cannot encode, or its pattern leaves text out."""
    if reason := fault(vocabulary):
        raise unusable(path, reason)
    return vocabulary


def in_order(ranks: dict[bytes, int], path: Path) -> tuple[bytes, ...]:
    """The tokens by their ids. InputError E307 where they are not all from 0 on, or lack one of the bytes."""
    tokens = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in tokens] != list(range(len(tokens))):
        raise unusable(path, "has ids that are missing or used twice")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise unusable(path, f"has no token for the byte {missing[0]}, so it cannot encode every text")
    return tuple(tokens)


def _check_merges(merges: list[Any], tokens: tuple[bytes, ...], ids: dict[str, int], path: Path) -> None:
    """That merging by the smallest id is merging by their list: in the order of the ids, each token as we make it.

    Or in every way in which it is two others, which is how transformers writes what tiktoken trained; of two that
    overlap and make the same token, its list may then take the second, where tiktoken and we take the first.
    """
    made = [ids.get("".join(merge), -1) for merge in merges]
    pairs = [(unspelled(left), unspelled(right)) for left, right in merges]
    in_order = all(before <= after for before, after in pairwise(made)) and -1 not in made
    if not in_order or (pairs != merges_of(tokens) and sorted(pairs) != _every_merge(tokens)):
        raise unusable(path, "has merges in another order than its ids, which is no vocabulary of ours")


def _check_reached(tokens: tuple[bytes, ...], path: Path) -> None:
    """That merges make every token: a piece that is a token is that token here, and there only if they do."""
    made = {left + right for left, right in merges_of(tokens)}
    if missing := [token for token in tokens if len(token) > 1 and token not in made]:
        raise unusable(path, f"has the token {missing[0]!r}, which no merges make, and does not set ignore_merges")


def _changing(content: dict[str, Any]) -> str | None:
    """What the file sets that changes ids and that no Vocabulary holds.

    What it says of unknown characters (unk_token, fuse_unk, byte_fallback) changes nothing: every byte is a token.
    """
    for name in ("truncation", "padding"):
        if content.get(name) is not None:
            return name
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if content["model"].get(name):
            return name
    return "a post_processor that adds tokens" if _adds_tokens(content.get("post_processor")) else None


def _adds_tokens(processor: dict[str, Any] | None) -> bool:
    if processor is None or processor["type"] == "ByteLevel":
        return False
    if processor["type"] == "Sequence":
        return any(map(_adds_tokens, processor["processors"]))
    return processor["type"] != "TemplateProcessing" or any("SpecialToken" in part for part in processor["single"])


def _compare(vocabulary: Vocabulary, text: str, path: Path) -> None:
    try:
        import tokenizers
    except ImportError:
        return
    try:
        peer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing more exact
        raise unusable(path, f"is no tokenizer of that package ({error})") from error
    if reason := difference(vocabulary, peer):
        raise unusable(path, reason)


def _every_merge(tokens: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """The pairs of tokens that are a token together, sorted."""
    known = set(tokens)
    cuts = ((token[:place], token[place:]) for token in tokens for place in range(1, len(token)))
    return sorted((left, right) for left, right in cuts if left in known and right in known)


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    """The split pattern. ValueError, KeyError for steps that a pattern cannot stand for."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = [step["type"] for step in steps]
    if steps[-1].get("add_prefix_space"):
        raise ValueError("it adds a space before a text")
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return GPT2_PATTERN
    split = steps[0]
    is_split = kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True)
    if is_split and split["behavior"] == "Isolated" and not split["invert"]:
        return str(split["pattern"]["Regex"])
    raise ValueError(f"it cuts text by {kinds}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error


def unusable(path: Path, reason: str) -> InputError:
    """The error E307 of a file that is no vocabulary."""
    return wrong_input(
        "E307",
        f"the tokenizer file {path} {reason}",
        help="give a `.tiktoken` file, or the `tokenizer.json` of a byte-level BPE such as GPT-2's",
    )
