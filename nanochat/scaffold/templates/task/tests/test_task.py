"""The task `newcomer` keeps nanochat's contract, and what it promises itself."""

from nanochat.testing import check_task

from nanochat_newcomer.task import Newcomer


def test_it_keeps_the_contract() -> None:
    check_task(Newcomer())
    check_task(Newcomer(split="test"))


def test_nothing_that_is_tested_is_taught() -> None:
    taught, tested = ([example["messages"][0] for example in Newcomer(split=split)] for split in ("train", "test"))
    assert len(tested) > 0
    assert not [question for question in tested if question in taught]


def test_an_answer_counts_in_any_case_but_not_with_more_words() -> None:
    task = Newcomer()
    assert task.evaluate(task[0], " Cold\n")
    assert not task.evaluate(task[0], "not cold")
