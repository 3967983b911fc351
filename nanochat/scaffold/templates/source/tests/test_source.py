"""The source `newcomer` keeps nanochat's contract, and what it promises itself."""

from nanochat.testing import check_source

from nanochat_newcomer.source import Newcomer, NewcomerConfig


def test_it_keeps_the_contract() -> None:
    check_source(Newcomer, NewcomerConfig())


def test_a_tenth_of_the_days_is_held_out() -> None:
    source = Newcomer(NewcomerConfig(size=200))
    (shard,) = source.shards("validation")
    assert [text.split(".")[0] for text in source.documents(shard)][:2] == ["Day 9", "Day 19"]
    assert len(list(source.documents(shard))) == 20
