"""Tokens kept on disk: the same documents as the source and the tokenizer give, read without either."""

import json
import logging
import os
import shutil
from multiprocessing import get_context
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import ByteTokenizer, Texts, pretrain, words

from nanochat.data.encoding import encode_documents
from nanochat.data.source import Shard
from nanochat.data.token_cache import TokenCache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    return tmp_path


class Counted(Texts):
    """A source that passes over what is None, as a parquet file's nulls are."""

    def __init__(self, *shards):
        super().__init__(*shards)
        self.nulls = 0

    def documents(self, shard, start=0):
        for text in self.texts[int(shard.name)]:
            if text is None:
                self.nulls += 1
            else:
                self.read += 1
                yield text

    def skipped(self):
        return {"null": self.nulls}


def untokenised(source):
    """A source under digests of its own, which no cache knows: its documents are read as text."""
    known = source.shards
    source.shards = lambda split: [attrs.evolve(shard, digest=f"untokenised {shard.digest}") for shard in known(split)]
    return source


def cache(encoder=None) -> TokenCache:
    return TokenCache(encoder or ByteTokenizer())


def write_all(source) -> None:
    for shard in source.shards("train"):
        cache().write(source, shard)


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=150), start=st.integers(0, 160))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_from_any_place_the_cache_gives_what_the_tokenizer_makes_of_the_texts(texts, start):
    source = Texts(texts)
    shard = Shard(name="0", size_bytes=0, digest=repr(texts))
    cached = cache().write(source, shard)
    expected = ["empty" if not text else [ByteTokenizer.bos_id, *text.encode()] for text in texts]
    assert [found if isinstance(found, str) else found.tolist() for found in cached.documents(start)] == expected[
        start:
    ]
    assert cached.tokens == sum(len(ids) for ids in expected if isinstance(ids, list))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_two_bytes_where_the_vocabulary_allows_it(vocab_size, dtype):
    class Large(ByteTokenizer):
        digest = f"bytes of {vocab_size}"

        def encode_batch(self, texts, *, threads=None):
            return [[vocab_size - 1] for _ in texts]

    Large.vocab_size = vocab_size
    source = Texts(["a"])
    cached = cache(Large()).write(source, source.shards("train")[0])
    (ids,) = cached.documents(0)
    assert (ids.dtype, ids.tolist()) == (np.dtype(dtype), [ByteTokenizer.bos_id, vocab_size - 1])
    assert cached.path.stat().st_size == cached.size == 2 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
@pytest.mark.parametrize("tokenised", [[0], [1], [0, 1]])
def test_batches_and_states_are_the_same_with_and_without_the_cache(packing, tokenised):
    shards = words(37), [*words(50, first=37), "", "\ud800"]
    plain = pretrain({"web": untokenised(Texts(*shards))}, packing=packing)
    source = Texts(*shards)
    for number in tokenised:
        cache().write(source, source.shards("train")[number])
    source.read = 0
    partly = pretrain({"web": source}, packing=packing)
    resumed = pretrain({"web": Texts(*shards)}, packing=packing)
    for step in range(60):  # several epochs
        if step == 25:
            resumed.load_state(plain.snapshot().state())
        one, other = plain.next_batch(), partly.next_batch()
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        if step >= 25:
            assert torch.equal(resumed.next_batch().inputs, one.inputs)
    ours, theirs = partly.snapshot(), plain.snapshot()
    assert ours.state().cursors == theirs.state().cursors
    assert ours.counts == theirs.counts
    assert (source.read == 0) == (tokenised == [0, 1])


def test_what_a_source_passes_over_is_counted_though_it_is_not_read():
    texts = ["one", None, "two", None, "three"]
    write_all(Counted(texts))
    source = Counted(texts)
    loader = pretrain({"web": source}, lanes=1, rows=1, buffer=1)
    plain = pretrain({"web": untokenised(Counted(texts))}, lanes=1, rows=1, buffer=1)
    for _ in range(20):
        loader.next_batch()
        plain.next_batch()
    assert source.read == 0
    assert loader.counts() == plain.counts()


def test_another_tokenizer_or_another_content_of_the_same_name_is_not_found():
    class Other(ByteTokenizer):
        digest = "others"

    source = Texts(["a"])
    shard = source.shards("train")[0]
    cache().write(source, shard)
    assert cache().find(shard) is not None
    assert cache(Other()).find(shard) is None
    assert cache().find(Shard(name=shard.name, size_bytes=0, digest="changed")) is None
    assert cache().find(Shard(name=shard.name, size_bytes=0, digest=shard.digest, reading="another column")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"ids": 0},
        {"documents": 3},
        {"faults": {}},
        {"faults": {"0": "empty"}},
        {"sha256": {}},
        {"tokenizer": "x"},
        {"format": 0},
        {"ids": None},
        {"skipped": None, "faults": []},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_its_files_is_not_believed(change, caplog):
    source = Texts([*words(9), "", *words(9, first=20)])
    shard = source.shards("train")[0]
    cache().write(source, shard)
    path = cache().place(shard) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with caplog.at_level(logging.WARNING):
        assert cache().find(shard) is None
    assert str(path.parent) in caplog.text
    assert cache().write(source, shard).tokens == 19 * 1 - 1 + sum(map(len, source.texts[0]))
    assert cache().find(shard) is not None


def test_a_file_that_changes_after_its_first_use_is_looked_at_again():
    source = Texts(words(30))
    shard = source.shards("train")[0]
    kept = cache()
    kept.write(source, shard)
    assert kept.find(shard) is not None
    path = kept.place(shard) / "ids.bin"
    path.write_bytes(path.read_bytes()[::-1])
    assert kept.find(shard) is None


@pytest.mark.parametrize("name", ["ids.bin", "offsets.npy"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_cache_is_named_and_not_used_and_is_made_anew(name, damage, caplog):
    source = Texts(words(30))
    shard = source.shards("train")[0]
    cache().write(source, shard)
    path = cache().place(shard) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "flip": lambda: path.write_bytes(content),
        "cut": lambda: path.write_bytes(content[:-1]),
        "gone": path.unlink,
    }[damage]()
    with caplog.at_level(logging.WARNING):
        assert cache().find(shard) is None
    assert str(path.parent) in caplog.text
    assert name in caplog.text
    loader, plain = pretrain({"web": source}), pretrain({"web": untokenised(Texts(words(30)))})
    assert torch.equal(loader.next_batch().inputs, plain.next_batch().inputs)
    expected = encode_documents(ByteTokenizer(), source.texts[0])
    made = cache().write(source, shard)
    assert [ids.tolist() for ids in made.documents(0)] == [ids.tolist() for ids in expected]


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(bytes(path.stat().st_size))
    path.with_suffix(".new").replace(path)


CHANGES = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 3),
    "removed": lambda path: shutil.rmtree(path.parent),
    "replaced": replace,
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_a_file_that_changes_while_it_is_read_changes_no_batch(change, caplog):
    source = Texts(words(400))
    write_all(source)
    loader, plain = pretrain({"web": source}, buffer=5), pretrain({"web": untokenised(Texts(words(400)))}, buffer=5)
    assert torch.equal(loader.next_batch().inputs, plain.next_batch().inputs)
    assert source.read == 400  # in writing
    CHANGES[change](cache().place(source.shards("train")[0]) / "ids.bin")
    for _ in range(120):  # two epochs
        assert torch.equal(loader.next_batch().inputs, plain.next_batch().inputs)
    assert loader.counts()["web.epochs"] >= 1
    assert ("it was cut off while it was read; the text is read" in caplog.text) == (change == "cut off")


def test_a_write_that_is_cut_off_leaves_nothing_that_is_read():
    class Broken(Texts):
        def documents(self, shard, start=0):
            yield from words(100)
            raise OSError("the disk is broken")

    source = Broken([])
    shard = source.shards("train")[0]
    with pytest.raises(OSError, match="broken"):
        cache().write(source, shard)
    assert cache().find(shard) is None
    assert [path.name for path in cache().place(shard).parent.iterdir() if path.is_dir()] == []


def _write_and_count(_: int) -> int:
    source = Texts(words(2_000))
    cache().write(source, source.shards("train")[0])
    return source.read


def test_of_several_processes_one_tokenises_and_the_others_wait_for_it():
    with get_context("spawn").Pool(3) as pool:
        read = pool.map(_write_and_count, range(3))
    assert sorted(read) == [0, 0, 2_000]


def test_the_manifest_says_what_the_folder_holds():
    source = Texts(["one", "", "two"])
    shard = source.shards("train")[0]
    cache().write(source, shard)
    manifest = json.loads((cache().place(shard) / "manifest.json").read_text())
    assert (manifest["documents"], manifest["ids"], manifest["faults"]) == (3, 8, {"1": "empty"})
    assert manifest["shard"] == {"name": "0", "size_bytes": 0, "digest": "0", "reading": ""}
    assert manifest["tokenizer"] == "bytes"
