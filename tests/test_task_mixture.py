"""Mixtures of tasks: how often each example comes, by epochs, weights and limits, in one pass and through many."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import Chats

from nanochat.data.task import Task
from nanochat.data.task_mixture import TaskMixture, TaskShare
from nanochat.errors import InputError


class Numbered(Task):
    """`size` examples that are their numbers, and the slices of the base class."""

    def __init__(self, size: int, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        super().__init__(start, stop, step)
        self.size = size

    def num_examples(self) -> int:
        return self.size

    def get_example(self, index: int) -> dict[str, int]:
        return {"number": index}


SHARES = st.builds(
    TaskShare,
    task=st.builds(Numbered, st.integers(0, 9)),
    epochs=st.integers(1, 3),
    max_examples=st.none() | st.integers(1, 12),
    weight=st.none() | st.integers(0, 4).map(float),
    phase=st.integers(0, 2),
)
MIXTURES = st.dictionaries(st.sampled_from("abcde"), SHARES, min_size=1)


def passes(mixture: TaskMixture, count: int) -> list[list[tuple[str, int]]]:
    """The examples of the first passes, in order."""
    length = len(mixture)
    return [[mixture.place(number * length + place) for place in range(length)] for number in range(count)]


def made(tasks: dict[str, TaskShare], seed: int = 7) -> TaskMixture | None:
    """The mixture; None where it is refused, as it must be where there is nothing in it."""
    if all(share.size == 0 or share.weight == 0 for share in tasks.values()):
        with pytest.raises(InputError, match="E302"):
            TaskMixture(tasks, seed)
        return None
    return TaskMixture(tasks, seed)


@given(MIXTURES)
def test_without_a_weight_every_example_comes_as_often_in_each_pass_as_its_epochs_say(
    tasks: dict[str, TaskShare],
) -> None:
    if (mixture := made(tasks)) is None:
        return
    for one in passes(mixture, 2):
        seen = Counter(one)
        for name, share in tasks.items():
            if share.weight is None:
                limit = min(len(share.task), share.max_examples or len(share.task))
                assert {n: seen[name, n] for n in range(len(share.task))} == {
                    n: share.epochs if n < limit else 0 for n in range(len(share.task))
                }


@given(MIXTURES)
def test_weights_share_a_phase_as_they_say_until_the_scarcest_task_is_used_up(tasks: dict[str, TaskShare]) -> None:
    if (mixture := made(tasks)) is None:
        return
    for phase in {share.phase for share in tasks.values()}:
        weighted = {n: s for n, s in tasks.items() if s.phase == phase and s.weight and s.size}
        if not weighted:
            continue
        most = {name: share.size * share.epochs for name, share in weighted.items()}
        room = min(Fraction(most[name]) / Fraction(str(share.weight)) for name, share in weighted.items())
        for name, share in weighted.items():
            exact = Fraction(str(share.weight)) * room
            assert abs(mixture.counts[name] - exact) <= Fraction(1, 2) or mixture.counts[name] == 1
            assert 1 <= mixture.counts[name] <= most[name]
        assert any(mixture.counts[name] == most[name] for name in weighted)
    assert all(mixture.counts[name] == 0 for name, share in tasks.items() if share.weight == 0)


@given(MIXTURES)
def test_a_pass_is_phase_after_phase_and_the_order_of_the_tables_decides_nothing(tasks: dict[str, TaskShare]) -> None:
    if (mixture := made(tasks)) is None:
        return
    turned = TaskMixture(dict(reversed(tasks.items())), 7)
    for one, other in zip(passes(mixture, 2), passes(turned, 2), strict=True):
        assert one == other
        phases = [tasks[name].phase for name, _ in one]
        assert phases == sorted(phases)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5))
def test_what_a_weight_leaves_out_of_one_pass_comes_in_the_next_ones(many: int, few: int, weight: int) -> None:
    """After size passes at most, every example has been used, and none more than once more than another."""
    tasks = {
        "many": TaskShare(task=Numbered(many), weight=1.0),
        "few": TaskShare(task=Numbered(few), weight=float(weight)),
    }
    mixture = TaskMixture(tasks, 0)
    seen = Counter(place for one in passes(mixture, max(many, few)) for place in one)
    for name, size in (("many", many), ("few", few)):
        times = [seen[name, number] for number in range(size)]
        assert min(times) >= 1
        assert max(times) - min(times) <= 1


def test_tasks_of_a_phase_are_interleaved_and_not_one_after_the_other() -> None:
    tasks = {name: TaskShare(task=Numbered(500)) for name in "ab"}
    (one,) = passes(TaskMixture(tasks, 3), 1)
    halves = [sum(name == "a" for name, _ in part) for part in (one[:500], one[500:])]
    assert all(200 < half < 300 for half in halves)
    assert one != passes(TaskMixture(tasks, 4), 1)[0]


@given(st.integers(0, 30), st.integers(0, 30), st.none() | st.integers(0, 40), st.integers(1, 7))
def test_a_slice_of_a_task_is_that_of_a_list(size: int, start: int, stop: int | None, step: int) -> None:
    if stop is not None and stop < start:
        with pytest.raises(ValueError, match="slice"):
            Numbered(size, start, stop, step)
        return
    task = Numbered(size, start, stop, step)
    assert [example["number"] for example in task] == list(range(size))[start:stop:step]
    assert len(task) == len(list(task))
    with pytest.raises(IndexError):
        task[len(task)]


def test_an_empty_task_beside_others_is_no_fault_and_takes_no_room_from_them() -> None:
    tasks = {"none": TaskShare(task=Chats([]), weight=1.0), "some": TaskShare(task=Numbered(3), weight=1.0)}
    assert TaskMixture(tasks, 0).counts == {"none": 0, "some": 3}
