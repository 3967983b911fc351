"""Batches made ahead on a thread: the same ones, and nobody can tell from a state that they were."""

import threading
import time

import pytest
import torch
from small_data import Texts, chats, finetune, pretrain, words

from nanochat.data import prefetch
from nanochat.data.loader import Batch, Loader
from nanochat.data.prefetch import Prefetch
from nanochat.data.task_mixture import TaskShare


def mixed_pretrain() -> Loader:
    return pretrain({"web": (Texts(words(37), words(50, first=37)), 1.0), "small": (Texts(["one", "two"]), 0.5)})


def mixed_finetune() -> Loader:
    return finetune({"a": chats(30, "a"), "b": TaskShare(task=chats(9, "b"), epochs=3, max_examples=5, phase=1)})


ALL = pytest.mark.parametrize("make", [mixed_pretrain, mixed_finetune])


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


def wait_until_ahead(loader: Prefetch) -> None:
    thread = loader._thread
    assert thread is not None
    deadline = time.monotonic() + 10
    while not thread._made.full():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@ALL
def test_the_batches_are_the_loaders_own_in_their_order(make):
    plain, ahead = make(), Prefetch(make())
    for _ in range(30):
        assert same(plain.next_batch(), ahead.next_batch())
    ahead.close()


@ALL
def test_a_state_is_that_of_the_last_batch_handed_out_however_far_the_thread_is(make):
    plain, ahead = make(), Prefetch(make(), ahead=5)
    for _ in range(9):
        plain.next_batch()
        ahead.next_batch()
    wait_until_ahead(ahead)
    ours, theirs = ahead.state(), plain.snapshot().state()
    assert ours.cursors == theirs.cursors
    assert ours.buffers.keys() == theirs.buffers.keys()
    assert all((ours.buffers[name] == theirs.buffers[name]).all() for name in ours.buffers)
    assert (ahead.progress, ahead.counts()) == (plain.progress, plain.counts())

    restored = Prefetch(make())
    restored.next_batch()  # one that has moved already is set back
    restored.load_state(ours)
    for _ in range(15):
        assert same(restored.next_batch(), plain.next_batch())
    ahead.close()
    restored.close()


@ALL
def test_a_loader_that_was_closed_goes_on_with_the_batch_that_is_due(make):
    plain, ahead = make(), Prefetch(make(), ahead=5)
    for _ in range(3):
        for _ in range(4):
            assert same(ahead.next_batch(), plain.next_batch())
        wait_until_ahead(ahead)
        ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_no_more_than_the_asked_number_is_made_ahead():
    loader, made = mixed_pretrain(), []
    make = loader.next_batch
    loader.next_batch = lambda: made.append(1) or make()
    ahead = Prefetch(loader, ahead=3)
    ahead.next_batch()
    wait_until_ahead(ahead)
    time.sleep(0.2)
    assert len(made) <= 1 + 3 + 1  # handed out, waiting, and one that finds no place yet
    ahead.close()


def test_nothing_is_made_before_the_first_batch_is_asked_for():
    ahead = Prefetch(mixed_pretrain())
    assert ahead.state().cursors["rows"] == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_whether_a_batch_is_ready_can_be_asked_without_waiting_for_it():
    loader, may_go_on = mixed_pretrain(), threading.Event()
    make = loader.next_batch
    loader.next_batch = lambda: may_go_on.wait(10) and make()
    ahead, plain = Prefetch(loader), mixed_pretrain()
    assert not ahead.ready(0.05)
    may_go_on.set()
    assert ahead.ready(10)
    assert ahead.ready(0)  # still
    assert ahead.state().cursors["rows"] == 0  # and none was handed out
    for _ in range(3):
        assert same(ahead.next_batch(), plain.next_batch())
    ahead.close()


def test_a_state_is_given_while_the_thread_waits_for_its_text():
    """A checkpoint, or an orderly stop, must not wait for a download: the thread is in the middle of a batch then."""
    arrived, waiting = threading.Event(), threading.Event()

    class Arriving(Texts):
        def documents(self, shard, start=0):
            for number, text in enumerate(super().documents(shard, start), start):
                if number == 200 and not arrived.is_set():
                    waiting.set()
                    arrived.wait(30)
                yield text

    ahead, plain = Prefetch(pretrain({"web": Arriving(words(400))})), pretrain({"web": Texts(words(400))})
    batches = 0
    while ahead.ready(0.1) or not waiting.is_set():
        if ahead.ready(0):
            assert same(ahead.next_batch(), plain.next_batch())
            batches += 1
    assert batches > 5
    ours, theirs = ahead.state(), plain.snapshot().state()
    assert not arrived.is_set()  # the thread still waits
    assert ours.cursors == theirs.cursors
    assert all((ours.buffers[name] == theirs.buffers[name]).all() for name in theirs.buffers)
    arrived.set()
    for _ in range(10):
        assert same(ahead.next_batch(), plain.next_batch())
    ahead.close()


def test_a_thread_that_does_not_end_in_time_has_no_part_in_later_batches(monkeypatch):
    """It waits for a download when the loader is closed, and that arrives when a later thread is at work."""
    monkeypatch.setattr(prefetch, "_END_SECONDS", 0.05)
    arrived, waiting = threading.Event(), threading.Event()

    class Arriving(Texts):
        def documents(self, shard, start=0):
            for number, text in enumerate(super().documents(shard, start), start):
                if number == 200 and not waiting.is_set():
                    waiting.set()
                    arrived.wait(30)
                yield text

    ahead, plain = Prefetch(pretrain({"web": Arriving(words(400))})), pretrain({"web": Texts(words(400))})
    while ahead.ready(0.1) or not waiting.is_set():
        if ahead.ready(0):
            assert same(ahead.next_batch(), plain.next_batch())
    (late,) = (thread for thread in threading.enumerate() if thread.name == "batches")
    ahead.close()
    threading.Timer(0.3, arrived.set).start()
    while late.is_alive():
        assert same(ahead.next_batch(), plain.next_batch())
    for _ in range(20):
        assert same(ahead.next_batch(), plain.next_batch())
    ahead.close()


def test_what_goes_wrong_on_the_thread_is_raised_where_the_batch_is_due_and_again_after_it():
    loader, left = mixed_pretrain(), iter([1, 1, 1])
    make = loader.next_batch

    def until_the_disk_breaks() -> Batch:
        if next(left, None) is None:
            raise OSError("the disk is broken")
        return make()

    loader.next_batch = until_the_disk_breaks
    ahead, plain = Prefetch(loader), mixed_pretrain()
    for _ in range(3):
        assert same(ahead.next_batch(), plain.next_batch())
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is broken"):
            ahead.next_batch()
    assert ahead.state().cursors == plain.snapshot().state().cursors  # what was trained on is known, and can be saved
    ahead.close()
