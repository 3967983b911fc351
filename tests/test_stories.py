"""The source `stories`: made up, from a seed."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import read

from nanochat_plugins.sources import stories
from nanochat_plugins.sources.stories import Stories, StoriesConfig
from nanochat_plugins.sources.story_writer import write


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


def test_stories_depend_on_the_seed_alone() -> None:
    assert read(Stories(StoriesConfig(size=50))) == read(Stories(StoriesConfig(size=50)))
    assert read(Stories(StoriesConfig(size=50))) != read(Stories(StoriesConfig(size=50, seed=1)))
    longer = read(Stories(StoriesConfig(size=90)))
    assert longer[: len(read(Stories(StoriesConfig(size=50))))] == read(Stories(StoriesConfig(size=50)))


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_stories_of_any_seed_have_splits_that_share_nothing(seed: int) -> None:
    source = Stories(StoriesConfig(size=300, seed=seed, validation_share=0.3))
    train, validation = read(source), read(source, "validation")
    assert len(train) + len(validation) == 300
    assert not set(train) & set(validation)
    (shard,) = source.shards("train")
    assert list(source.documents(shard, 17)) == train[17:]


def test_going_on_makes_up_no_story_that_was_made_up_before_but_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Stories(StoriesConfig(size=1_800, validation_share=0.3))
    (shard,) = source.shards("train")
    whole = list(source.documents(shard))
    made: list[str] = []

    def counting(chance: random.Random) -> str:
        made.append(write(chance))
        return made[-1]

    monkeypatch.setattr(stories, "write", counting)
    for start in (0, 1, 349, 350, 351, 700, len(whole) - 1, len(whole)):
        made.clear()
        assert list(source.documents(shard, start)) == whole[start:]
        assert len(made) <= (len(whole) - start) / 0.6 + stories.PLACE_STORIES


def test_stories_are_tidy_sentences_with_many_words_and_without_numerals() -> None:
    texts = read(Stories(StoriesConfig(size=3_000)))
    assert len(set(texts)) == len(texts)
    words = {word.strip('.,?!:;"').lower() for text in texts for word in text.split()}
    assert len(words) > 1_400
    for text in texts:
        assert not any(char.isdigit() for char in text)
        assert "  " not in text
        assert text[0].isupper() or text[0] == '"'
        assert all(f" {article} {vowel}" not in text for article in ("a",) for vowel in "aeio")
