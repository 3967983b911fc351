"""Finetuning batches: passes over a mixture of tasks, loss where it belongs, and no conversation that stops the run."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import SPECIALS, ByteTokenizer, Chats, chats, finetune

from nanochat.data.packing import cut_length
from nanochat.data.task_mixture import TaskShare
from nanochat.errors import InputError
from nanochat.text.conversation import render_conversation
from nanochat.text.special import BOS


def test_loss_is_on_what_the_assistant_writes_and_nowhere_else():
    batch = finetune({"a": Chats([("why", "so")])}, lanes=1, rows=1, sequence_len=14).next_batch()

    user = [SPECIALS["<|user_start|>"], *b"why", SPECIALS["<|user_end|>"]]
    answer = [*b"so", SPECIALS["<|assistant_end|>"]]
    conversation = [SPECIALS[BOS], *user, SPECIALS["<|assistant_start|>"], *answer]
    assert batch.inputs[0].tolist() == conversation + [SPECIALS[BOS]] * 4
    assert batch.targets[0].tolist() == [-1] * 6 + answer + [-1] * 5


def test_loss_on_all_learns_every_token_but_the_padding():
    batch = finetune({"a": Chats([("why", "so")])}, lanes=1, rows=1, sequence_len=14, loss_on="all").next_batch()

    assert batch.targets[0, :9].tolist() == batch.inputs[0, 1:10].tolist()
    assert batch.targets[0, 9:].tolist() == [-1] * 5


def questions_of(row):
    """What the user says in a row's conversations."""
    start, end = SPECIALS["<|user_start|>"], SPECIALS["<|user_end|>"]
    starts = [n for n, i in enumerate(row) if i == start]
    return [ByteTokenizer().decode(row[n + 1 : row.index(end, n)]) for n in starts]


def answers(loader, batches):
    """The questions seen in order of rows."""
    for _ in range(batches):
        for row in loader.next_batch().inputs.tolist():
            yield from questions_of(row)


def test_a_pass_holds_each_example_as_often_as_its_epochs_and_the_next_pass_differs():
    tasks = {
        "a": TaskShare(task=chats(8, "a"), epochs=2),
        "b": TaskShare(task=chats(9, "b"), max_examples=3),
    }
    make = lambda: finetune(tasks, lanes=1, rows=1)  # noqa: E731
    seen = list(answers(make(), 60))

    first, second = seen[:19], seen[19:38]
    expected = Counter({f"a{n}?": 2 for n in range(8)}) + Counter({f"b{n}?": 1 for n in range(3)})
    assert Counter(first) == Counter(second) == expected
    assert first != second
    assert list(answers(make(), 60)) == seen
    assert list(answers(finetune({"a": chats(8)}, seed=1), 5)) != list(answers(finetune({"a": chats(8)}, seed=2), 5))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 2), st.integers(0, 2)), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 7),
)
def test_a_lane_uses_up_a_phase_before_the_next_begins_in_every_pass(shares, lanes, buffer):
    tasks = {
        f"{'abcd'[n]}": TaskShare(task=chats(size, "abcd"[n]), epochs=epochs, phase=phase)
        for n, (size, epochs, phase) in enumerate(shares)
    }
    phases = [tasks[name].phase for name in sorted(tasks, key=lambda name: tasks[name].phase)]
    sizes = Counter()
    for share in tasks.values():
        sizes[share.phase] += share.size * share.epochs
    one_pass = [phase for phase in sorted(set(phases)) for _ in range(sizes[phase])]
    loader = finetune(tasks, lanes=lanes, rows=lanes, buffer=buffer)
    seen = {lane: [] for lane in range(lanes)}
    for _ in range(40):
        batch = loader.next_batch()
        for lane in range(lanes):
            seen[lane] += [tasks[question[0]].phase for question in questions_of(batch.inputs[lane].tolist())]
    for lane, found in seen.items():
        expected = [one_pass[place % len(one_pass)] for place in range(lane, lane + lanes * len(found), lanes)]
        assert found == expected


def test_tasks_in_phases_of_their_own_are_a_curriculum_in_their_order():
    tasks = {
        "z": TaskShare(task=chats(6, "z"), phase=0),
        "a": TaskShare(task=chats(6, "a"), phase=1),
        "m": TaskShare(task=chats(6, "m"), phase=1),
    }
    seen = list(answers(finetune(tasks, lanes=1, rows=1), 30))
    first, second = [question[0] for question in seen[:6]], [question[0] for question in seen[6:18]]
    assert set(first) == {"z"}
    assert Counter(second) == {"a": 6, "m": 6}
    assert second not in ([*"a" * 6, *"m" * 6], [*"m" * 6, *"a" * 6])  # shuffled together


def test_progress_is_the_share_of_the_first_pass_that_went_into_batches():
    loader = finetune({"a": chats(40)}, lanes=1, rows=1, buffer=5)
    seen = 0
    while seen < 100:
        assert loader.progress == seen / 40
        seen += len(list(answers(loader, 1)))


def test_conversations_longer_than_a_row_are_cut_and_counted():
    loader = finetune({"a": Chats([("q", "a" * 500), ("q", "ok")])}, lanes=1, rows=4, sequence_len=20)
    batches = [loader.next_batch() for _ in range(10)]

    assert all(batch.targets.ge(0).any(dim=1).all() for batch in batches)
    assert loader.counts()["a.cut"] > 0


def test_conversations_without_anything_to_learn_are_passed_over_and_counted():
    loader = finetune({"a": Chats([("q" * 500, "never seen"), ("q", "ok")])}, lanes=4, rows=8, sequence_len=20)
    batches = [loader.next_batch() for _ in range(10)]

    assert all(batch.targets.ge(0).any(dim=1).all() for batch in batches)
    assert loader.counts()["a.skipped.nothing to learn"] == 1


@pytest.mark.parametrize("tasks", [{}, {"a": Chats([])}])
def test_an_empty_mixture_is_an_error(tasks):
    with pytest.raises(InputError, match="E302"):
        finetune(tasks)


@pytest.mark.parametrize("world_size", [1, 4])
def test_a_mixture_in_which_nothing_can_be_learnt_is_an_error_and_no_endless_loop(world_size):
    tasks = {"a": Chats([("q" * 500, "x")] * 7), "b": Chats([("q" * 500, "y")])}
    with pytest.raises(InputError, match=r"E302.*anything to learn"):
        finetune(tasks, world_size=world_size, rank=world_size - 1).next_batch()


def test_a_malformed_conversation_is_named_by_task_and_index():
    class Broken(Chats):
        def get_example(self, index):
            return {"messages": [{"role": "nobody", "content": "?"}]} if index == 2 else super().get_example(index)

    loader = finetune({"a": chats(5), "b": Broken([("q", "a")] * 4)}, buffer=10)
    with pytest.raises(InputError, match=r"E306.*example 2 of the task `b`"):
        loader.next_batch()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=12),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_whatever_the_conversations_every_row_has_something_to_learn_or_the_mixture_is_refused(
    lengths, sequence_len, buffer, lanes
):
    task = Chats([("q" * question, "a" * answer) for question, answer in lengths])
    loader = finetune({"a": task}, sequence_len=sequence_len, buffer=buffer, lanes=lanes, rows=lanes)
    shortest = min(question for question, _ in lengths) + 5  # the first id that is learnt
    if shortest > sequence_len + 1:
        with pytest.raises(InputError, match="E302"):
            loader.next_batch()
        return
    for _ in range(6):
        batch = loader.next_batch()
        assert batch.inputs[:, 0].eq(ByteTokenizer.bos_id).all()
        assert batch.targets.ge(0).any(dim=1).all()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=12), st.text(max_size=12)), min_size=1, max_size=4),
    st.integers(5, 60),
)
def test_a_conversation_that_is_too_long_ends_with_a_turn_or_fills_the_row(turns, room):
    """At a turn wherever something is learnt before it; what is kept is what was there, and the first part of it."""
    messages = [
        {"role": role, "content": text}
        for question, answer in turns
        for role, text in (("user", question), ("assistant", answer))
    ]
    rendered = render_conversation({"messages": messages}, ByteTokenizer())
    ends = [SPECIALS["<|user_end|>"], SPECIALS["<|assistant_end|>"]]
    length = cut_length(np.array(rendered.ids), np.array(rendered.mask, bool), room, ends)
    if len(rendered.ids) <= room:
        assert length == len(rendered.ids)
        return
    whole = [n + 1 for n, i in enumerate(rendered.ids[:room]) if i in ends and any(rendered.mask[1 : n + 1])]
    assert length == (whole[-1] if whole else room)
