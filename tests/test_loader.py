"""Both loaders: the same rows whatever the processes, and on from wherever they were cut."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from small_data import ByteTokenizer, Texts, chats, finetune, pretrain, words

from nanochat.data.loader import LoaderState, joined
from nanochat.data.task_mixture import TaskShare
from nanochat.errors import InputError


def web():
    return Texts(words(37), [], words(50, first=37))


def mixed_pretrain(**more):
    return pretrain({"web": (web(), 1.0), "small": (Texts(["one", "two", "three"]), 0.5)}, **more)


def stream_pretrain(**more):
    return mixed_pretrain(packing="stream", **more)


def mixed_finetune(**more):
    return finetune(
        {"a": chats(30, "a"), "b": TaskShare(task=chats(9, "b"), epochs=3, max_examples=5, phase=1)}, **more
    )


ALL = pytest.mark.parametrize("make", [mixed_pretrain, stream_pretrain, mixed_finetune])


def step(loaders, accumulation=1):
    """The rows, with targets, of a step that all ranks make together."""
    rows = Counter()
    for loader in loaders:
        for _ in range(accumulation):
            batch = loader.next_batch()
            rows.update(map(str, zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)))
    return rows


def through_a_file(state):
    """A state as a checkpoint keeps it."""
    return LoaderState(cursors=json.loads(json.dumps(state.cursors)), buffers=load(save(state.buffers)))


@ALL
@pytest.mark.parametrize(
    ("world_size", "rows", "accumulation"),
    [(2, 6, 1), (4, 3, 1), (4, 1, 3), (1, 4, 3), (2, 3, 1), (2, 1, 1), (1, 1, 5)],
)
def test_a_step_has_the_same_rows_at_every_world_size(make, world_size, rows, accumulation):
    alone = make(rows=rows * accumulation * world_size)
    together = [make(rows=rows, rank=rank, world_size=world_size) for rank in range(world_size)]

    for _ in range(8):
        assert step(together, accumulation) == step([alone])


@ALL
def test_a_state_may_be_saved_where_the_lanes_stand_unevenly(make):
    first = make(rows=6)
    step([first])
    state = first.snapshot().state()  # lanes 0 and 1 have made two rows, lanes 2 and 3 one
    second = [make(rows=3, rank=rank, world_size=4) for rank in range(4)]
    for loader in second:
        loader.load_state(state)

    assert step(second) == step([first], accumulation=2)


@ALL
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1), (2, 4), (4, 1)])
@pytest.mark.parametrize("steps", [0, 1, 13])
def test_a_restored_state_goes_on_with_the_same_rows_at_another_world_size(make, before, after, steps):
    first = [make(rows=12 // before, rank=rank, world_size=before) for rank in range(before)]
    for _ in range(steps):
        step(first)
    state = through_a_file(joined([loader.snapshot().state() for loader in first]))
    second = [make(rows=12 // after, rank=rank, world_size=after) for rank in range(after)]
    for loader in second:
        loader.load_state(state)

    for _ in range(6):
        assert step(second) == step(first)


@ALL
def test_a_restored_loader_gives_identical_batches_and_saving_changes_nothing(make):
    undisturbed, saved = make(), make()
    for _ in range(9):
        undisturbed.next_batch()
        saved.next_batch()
        saved.snapshot().state()
    restored = make()
    restored.next_batch()  # a loader that has moved already is set back too
    restored.load_state(through_a_file(saved.snapshot().state()))

    for _ in range(20):
        one, other, third = undisturbed.next_batch(), restored.next_batch(), saved.next_batch()
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.inputs, third.inputs)


@ALL
@pytest.mark.parametrize("world_size", [3, 8])
def test_processes_that_cannot_share_the_lanes_are_refused(make, world_size):
    with pytest.raises(InputError, match=r"E115.*4 lanes"):
        make(world_size=world_size)


@ALL
def test_the_state_of_other_lanes_is_refused(make):
    with pytest.raises(InputError, match=r"E406.*2 lanes.*4"):
        make().load_state(make(lanes=2).snapshot().state())
    with pytest.raises(InputError, match=r"E406.*lane 1"):
        make(rank=1, world_size=2).load_state(make(rank=0, world_size=2).snapshot().state())


def test_states_of_different_steps_do_not_make_one_state():
    one, other = (mixed_pretrain(rank=rank, world_size=2) for rank in (0, 1))
    one.next_batch()

    with pytest.raises(InputError, match="E406"):
        joined([one.snapshot().state(), other.snapshot().state()])


@ALL
def test_the_order_of_the_tables_in_a_recipe_is_no_matter(make):
    if make is mixed_finetune:
        tasks = {"a": chats(5, "a"), "b": chats(5, "b")}
        one, other = finetune(tasks), finetune(dict(reversed(tasks.items())))
    else:
        one, other = (pretrain({name: Texts(words(9, first=ord(name))) for name in names}) for names in ("ab", "ba"))

    assert step([one]) == step([other])


@ALL
def test_a_batch_numbers_the_documents_of_its_rows_where_it_is_asked_to(make):
    plain, told = make(), make(document_mask=True)
    for _ in range(12):
        batch, expected = told.next_batch(), plain.next_batch()
        assert expected.documents is None
        assert torch.equal(batch.inputs, expected.inputs)
        assert batch.documents.shape == batch.inputs.shape
        assert batch.documents.dtype == torch.int32
        for row, numbers in zip(batch.inputs, batch.documents, strict=True):
            begins = row == ByteTokenizer.bos_id
            begins[0] = True  # a stream's row may begin within a document
            count = int(numbers.max()) + 1
            # Each document begins with BOS; behind the last one only padding, which is BOS too, is one more.
            assert torch.equal(numbers[1:] > numbers[:-1], begins[1:] & (numbers[1:] != numbers[:-1]))
            assert torch.equal(numbers, begins.cumsum(0).int().clamp(max=count) - 1)


@ALL
def test_a_batch_is_split_into_rows_with_all_that_belongs_to_them(make):
    batch = make(rows=5, document_mask=True).next_batch()
    parts = batch.split(2)
    assert [len(part.inputs) for part in parts] == [2, 2, 1]
    for name in ("inputs", "targets", "documents"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_buffers_are_small_arrays_of_ids():
    state = mixed_pretrain(rank=1, world_size=2).snapshot().state()
    assert set(state.cursors["lanes"]) == {"1", "3"}

    loader = pretrain({"web": web()}, buffer=6)
    loader.next_batch()
    buffers = loader.snapshot().state().buffers
    assert buffers["1.ids"].dtype == np.uint32
    assert 6 <= len(buffers["3.offsets"]) <= 7  # as many documents as the buffer holds, less the last one taken
