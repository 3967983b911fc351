"""Pretraining batches: documents in lanes, mixtures by their share of the tokens, nothing invented or skipped."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import ByteTokenizer, Texts, documents_of, pretrain, rows_of, words

from nanochat.data import stream
from nanochat.data.mixture import Mixture
from nanochat.data.pretrain_loader import PretrainLoader
from nanochat.errors import InputError
from nanochat.text.tokenizer import Tokenizer


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 60), max_size=8), min_size=1, max_size=4).filter(any),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from(["best_fit", "stream"]),
)
def test_a_lane_uses_each_document_of_an_epoch_once_before_the_next_epoch(
    lengths, sequence_len, buffer, lanes, packing
):
    total = sum(map(len, lengths))
    letters = iter(range(1, total + 1))
    shards = [[chr(next(letters)) * (1 + length) for length in shard] for shard in lengths]
    loader = pretrain({"web": Texts(*shards)}, sequence_len=sequence_len, buffer=buffer, lanes=lanes, packing=packing)

    for number, lane in loader._lanes.items():
        pieces = [piece for _ in range(25) for piece in lane.row()]
        used = [piece.ids[1:2].tolist() for piece in pieces if piece.ids[0] == ByteTokenizer.bos_id]
        place = number
        while used:  # epoch by epoch; of a document cropped to its BOS alone it cannot be seen which it is
            epoch, stop = [], (place // total + 1) * total
            while place < stop:
                epoch.append(place % total + 1)
                place += lanes
            seen, used = used[: len(epoch)], used[len(epoch) :]
            assert not Counter(letter for letters in seen for letter in letters) - Counter(epoch)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 40), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_best_fit_rows_are_full_of_documents_and_begin_with_bos(count, lanes, sequence_len, buffer):
    texts = words(count)
    loader = pretrain({"web": Texts(texts)}, rows=5, sequence_len=sequence_len, lanes=lanes, buffer=buffer)

    for _ in range(4):
        batch = loader.next_batch()
        assert batch.inputs.shape == batch.targets.shape == (5, sequence_len)
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert batch.inputs[:, 0].eq(ByteTokenizer.bos_id).all()
        assert batch.targets.ge(0).all()
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        for text in documents_of(rows_of(batch)):
            assert any(whole.startswith(text) for whole in texts)


def test_a_stream_of_one_lane_is_the_documents_one_after_another():
    texts = words(20)
    loader = pretrain({"web": Texts(texts)}, rows=2, lanes=1, packing="stream")

    rows = [row for _ in range(5) for row in rows_of(loader.next_batch())]

    whole = [i for text in texts for i in (ByteTokenizer.bos_id, *text.encode())]
    assert [i for row in rows for i in row] == (whole * 2)[: 10 * 33]


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_sources_give_their_shares_of_the_tokens(packing):
    loader = pretrain(
        {
            "long": (Texts(["L" * 300] * 50), 3.0),
            "middle": (Texts(["M" * n for n in range(10, 40)]), 2.0),
            "short": (Texts(["S"] * 3), 1.0),
        },
        packing=packing,
        buffer=20,
        rows=8,
    )

    counts = Counter(chr(i) for _ in range(200) for row in rows_of(loader.next_batch()) for i in row if i < 256)

    tokens = {"L": counts["L"], "M": counts["M"], "S": counts["S"] * 2}  # half of its tokens are BOS
    assert tokens["L"] / sum(tokens.values()) == pytest.approx(3 / 6, abs=0.02)
    assert tokens["S"] / sum(tokens.values()) == pytest.approx(1 / 6, abs=0.02)


def test_the_source_that_lags_most_is_due_and_the_first_among_equals():
    mixture = Mixture([1.0, 2.0])
    due = []
    for _ in range(6):
        due.append(mixture.due())
        mixture.add(due[-1], 10)

    assert due == [0, 1, 1, 0, 1, 1]


def test_a_source_that_has_ended_is_never_due_again():
    mixture = Mixture([1.0, 2.0])
    mixture.end(0)
    assert (mixture.due(), mixture.ended) == (1, False)
    mixture.end(1)
    assert mixture.ended


def test_a_source_of_weight_zero_is_not_read_and_one_must_be_above_it():
    unread = Texts(words(3))
    pretrain({"a": (Texts(words(3)), 1.0), "b": (unread, 0.0)}).next_batch()

    assert unread.read == 0
    with pytest.raises(InputError, match="E115"):
        pretrain({"b": (unread, 0.0)})


@pytest.mark.parametrize("source", [Texts(), Texts([], []), Texts(["", ""], [""]), Texts(["\ud800"])])
@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_a_source_with_nothing_to_train_on_is_an_error_and_no_endless_loop(source, packing):
    with pytest.raises(InputError, match=r"E302.*`web`"):
        pretrain({"web": source}, packing=packing).next_batch()


def test_documents_that_cannot_be_used_are_passed_over_and_counted_once():
    texts = ["a", "", "b", "\ud800", "", "c"]
    loaders = [pretrain({"web": Texts(texts)}, rank=rank, world_size=2, buffer=1, lanes=2) for rank in (0, 1)]
    rows = [row for loader in loaders for row in rows_of(loader.next_batch())]

    assert set(documents_of(rows)) - {""} == {"a", "b", "c"}
    assert all(loader.counts()["web.epochs"] > 0 for loader in loaders)

    source = Texts(texts)
    alone = pretrain({"web": source}, buffer=1, lanes=2)
    alone.next_batch()
    read = [texts[number % len(texts)] for number in range(source.read)]
    counts = alone.counts()
    assert (counts["web.skipped.empty"], counts["web.skipped.not UTF-8"]) == (read.count(""), read.count("\ud800"))


def test_one_document_fills_any_number_of_lanes():
    rows = rows_of(pretrain({"web": Texts(["abc"])}, lanes=8, rows=8, sequence_len=7).next_batch())

    assert set(documents_of(rows)) == {"abc"}


def test_restoring_reads_from_the_saved_place_and_not_from_the_start():
    texts = words(20_000)
    make = lambda source: pretrain({"web": source}, rows=8, sequence_len=256)  # noqa: E731
    loader = make(Texts(texts))
    for _ in range(150):
        loader.next_batch()
    source = Texts(texts)
    restored = make(source)
    restored.load_state(loader.snapshot().state())
    restored.next_batch()

    assert min(lane["sources"]["web"]["row"] for lane in loader.snapshot().state().cursors["lanes"].values()) > 10_000
    assert source.read < 2_000


def test_a_rank_reads_its_source_once_and_not_once_a_lane():
    source = Texts(words(20_000))
    loader = pretrain({"web": source}, rows=8, sequence_len=256, lanes=8)
    for _ in range(100):
        loader.next_batch()

    furthest = max(lane["sources"]["web"]["ordinal"] for lane in loader.snapshot().state().cursors["lanes"].values())
    assert source.read <= furthest + 2 * stream.BATCH_DOCUMENTS


def test_lanes_that_drift_apart_keep_small_queues_and_the_same_rows(monkeypatch):
    texts = ["y" * (30 if n % 2 else 3) + str(n) for n in range(4_000)]  # odd documents are long: lane 1 lags
    make = lambda: pretrain({"web": Texts(texts)}, rows=2, lanes=2)  # noqa: E731
    undisturbed = make()
    expected = [rows_of(undisturbed.next_batch()) for _ in range(300)]
    monkeypatch.setattr(stream, "QUEUE_IDS", 500)
    monkeypatch.setattr(stream, "NEAR_DOCUMENTS", 10)
    loader = make()

    for number, rows in enumerate(expected):
        assert rows_of(loader.next_batch()) == rows
        if number == 200:
            state = loader.snapshot().state()
    assert len(set(map(id, loader._streams[0]._readers.values()))) == 2
    restored = make()
    restored.load_state(state)
    assert [rows_of(restored.next_batch()) for _ in range(99)] == expected[201:]


def test_rows_decode_to_the_documents_with_a_trained_tokenizer():
    texts = words(50)
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    loader = PretrainLoader(
        {"web": (Texts(texts), 1.0)}, tokenizer, rows=8, sequence_len=16, packing="best_fit", buffer=8, lanes=4
    )

    for row in rows_of(loader.next_batch()):
        for text in tokenizer.decode(row).split("<|bos|>")[1:]:
            assert any(whole.startswith(text) for whole in texts)
