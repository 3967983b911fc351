"""Rows of a data set on the hub, for tasks: pinned, checked, and named when they are not what they should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, in_this_process, serving, table

from nanochat.errors import NanochatError
from nanochat.home import DATA_DIR
from nanochat_plugins.tasks.hub_rows import HubRows

REPO = "someone/questions"
ROWS = [{"question": f"q{n}", "choices": [str(n), "x"], "other": n} for n in range(5)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    with serving() as hub, in_this_process(hub):
        hub.publish(REPO, {"main/test-00000.parquet": table(ROWS[:3]), "main/test-00001.parquet": table(ROWS[3:])})
        yield hub


def rows(pattern: str = "main/test-*.parquet", columns: tuple[str, ...] = ("question", "choices")) -> HubRows:
    return HubRows(REPO, "main", pattern, columns)


def test_rows_of_several_files_follow_one_another(hub: FakeHub) -> None:
    found = rows()
    assert len(found) == 5
    assert list(found) == [{"question": row["question"], "choices": row["choices"]} for row in ROWS]
    assert found[-1]["question"] == "q4"
    assert [row["question"] for row in found[1:4:2]] == ["q1", "q3"]
    with pytest.raises(IndexError):
        found[5]


def test_files_are_fetched_once_and_a_branch_means_what_it_meant_at_first(hub: FakeHub) -> None:
    rows()
    hub.publish(REPO, {"main/test-00000.parquet": table(ROWS[:1])})
    count = len(hub.requests)
    assert len(rows()) == 5
    assert len(hub.requests) == count


def test_a_damaged_file_is_named(hub: FakeHub, tmp_path: Path) -> None:
    rows()
    place = next(tmp_path.rglob("test-00001.parquet"))
    content = bytearray(place.read_bytes())
    content[10] ^= 1
    place.write_bytes(content)
    with pytest.raises(NanochatError, match=r"test-00001.parquet is damaged"):
        rows()


def test_a_pattern_without_files_and_a_missing_column_are_named(hub: FakeHub) -> None:
    with pytest.raises(NanochatError, match=r"has no file `x\*`; it begins with `main/test-00000.parquet`"):
        rows("x*")
    with pytest.raises(NanochatError, match="has no column `answer`; it has `question`, `choices`, `other`"):
        rows(columns=("answer",))


def test_a_file_that_is_no_parquet_is_named(hub: FakeHub) -> None:
    hub.publish("someone/broken", {"a.parquet": b"nonsense" * 99})
    with pytest.raises(NanochatError, match=r"a.parquet cannot be read"):
        HubRows("someone/broken", "main", "*.parquet", ["question"])
