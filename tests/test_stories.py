"""The source `stories`: made up, from a seed."""

from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import read

from nanochat_plugins.sources.stories import Stories, StoriesConfig


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
