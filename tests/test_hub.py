"""The sources that read the hub: what each split is, that shards cost no download, and files that arrive meanwhile."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import pyarrow.parquet as pq
import pytest
from fake_hub import Answer, FakeHub, in_this_process, parquet, serving

from nanochat.config import Component
from nanochat.data.remote import RemoteSource
from nanochat.data.source import Source, split_digest
from nanochat.errors import NanochatError, Stopped
from nanochat.estimating.answer import answer, whole
from nanochat.estimating.data_need import available_characters
from nanochat.registry import load_registry
from nanochat.testing import check_source
from nanochat_plugins.sources import arrivals, hub_checkout, hub_fault
from nanochat_plugins.sources.hub import HubSource
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_config import HubConfig
from nanochat_plugins.sources.hub_manifest import HubFile, Manifest, pinned
from nanochat_plugins.sources.shuffled_config import (
    CLIMBMIX_LAST,
    FINEWEB_EDU_LAST,
    ClimbMixConfig,
    FineWebEduConfig,
)

REPO = "someone/texts"


def texts(name: str, count: int = 20) -> list[str]:
    return [f"{name} document {n}" for n in range(count)]


def numbered(*numbers: int) -> dict[str, bytes]:
    return {f"shard_{n:05d}.parquet": parquet(texts(f"shard {n}")) for n in numbers}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (0, 0))
    monkeypatch.setattr(hub_checkout, "POLL_SECONDS", 0.01)
    return tmp_path / "data"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """Five files of someone's texts, `a` to `e`."""
    with serving() as found, in_this_process(found):
        found.publish(REPO, {f"{name}.parquet": parquet(texts(name)) for name in "abcde"} | {"README.md": b"Texts."})
        yield found


def read(source: Source, split: Any = "train") -> list[str]:
    return [text for shard in source.shards(split) for text in source.documents(shard)]


def names(source: Source, split: Any = "train") -> list[str]:
    return [shard.name for shard in source.shards(split)]


def refusal(act: Callable[[], Any]) -> tuple[int, str, str]:
    """Exit code, code and message."""
    with pytest.raises(NanochatError) as raised:
        act()
    return raised.value.exit_code, raised.value.diagnostics[0].code, raised.value.diagnostics[0].message


def until(true: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


# What is read


def test_the_last_file_is_the_validation_split_however_many_are_trained_on(hub: FakeHub) -> None:
    source = HubSource(HubConfig(repo=REPO))
    assert read(source) == [text for name in "abcd" for text in texts(name)]
    assert read(source, "validation") == texts("e")
    few = HubSource(HubConfig(repo=REPO, shards=2))
    assert names(few) == ["a.parquet", "b.parquet"]
    assert split_digest(few.shards("validation")) == split_digest(source.shards("validation"))


def test_a_pattern_names_the_files_for_validation(hub: FakeHub) -> None:
    source = HubSource(HubConfig(repo=REPO, pattern="[a-d].parquet", validation="[be].parquet"))
    assert names(source) == ["a.parquet", "c.parquet", "d.parquet"]
    assert names(source, "validation") == ["b.parquet", "e.parquet"]


def test_of_a_single_file_a_share_can_be_held_out(hub: FakeHub) -> None:
    source = HubSource(HubConfig(repo=REPO, pattern="a.parquet", validation_share=0.4))
    train, held = read(source), read(source, "validation")
    assert sorted(train + held) == sorted(texts("a"))
    assert train and held


def test_files_in_folders_and_of_other_formats_are_read(hub: FakeHub) -> None:
    lines = b'{"body": "one"}\n{"body": "two"}\n'
    hub.publish(REPO, {"data/x.jsonl": lines, "data/y.jsonl": lines.replace(b"o", b"0").replace(b"b0dy", b"body")})
    source = HubSource(HubConfig(repo=REPO, pattern="data/*.jsonl", column="body"))
    assert (read(source), read(source, "validation")) == (["one", "two"], ["0ne", "tw0"])


@pytest.mark.parametrize(
    "make, last", [(ClimbMixConfig, CLIMBMIX_LAST), (FineWebEduConfig, FINEWEB_EDU_LAST)], ids=["climbmix", "fineweb"]
)
def test_the_presets_read_the_first_shards_and_hold_out_the_last(hub: FakeHub, make: Any, last: int) -> None:
    hub.publish(make().repo, numbered(0, 1, 2, last) | {"README.md": b"."})
    source = HubSource(make(shards=2))
    assert read(source) == texts("shard 0") + texts("shard 1")
    assert read(source, "validation") == texts(f"shard {last}")
    assert make(shards=2).fingerprint() == {"repo": make().repo, "revision": "main", "shards": [0, 1, last]}


@pytest.mark.parametrize("options", [{"shards": 3}, {"validation_share": 0.3}, {"validation": "[de].parquet"}])
def test_the_source_keeps_its_contract(hub: FakeHub, options: dict[str, Any]) -> None:
    check_source(HubSource, HubConfig(repo=REPO, **options))
    assert isinstance(HubSource(HubConfig(repo=REPO)), RemoteSource)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"shards": 5}, "has 4 files `*.parquet` for training, and 5 are wanted"),
        ({"pattern": "*.csv"}, "begins with `README.md`, `a.parquet`"),
        ({"pattern": "*.md"}, "README.md of someone/texts is of no kind that can be read"),
        ({"pattern": "a.parquet"}, "has 0 files `a.parquet` for training"),
        ({"validation": "held/*"}, "no file `held/*` for validation"),
        ({"repo": "someone/nothing"}, "does not tell what the data set someone/nothing (main) holds"),
    ],
)
def test_too_few_files_are_e301_before_anything_is_downloaded(hub: FakeHub, options: dict[str, Any], said: str) -> None:
    _, code, message = refusal(lambda: HubSource(HubConfig(**{"repo": REPO, **options})).shards("train"))
    assert code == "E301"
    assert said in message
    assert hub.fetched() == []


def test_another_validation_split_than_the_recipe_pins_is_refused(hub: FakeHub) -> None:
    pinning = HubConfig(repo=REPO, validation_digest=split_digest(HubSource(HubConfig(repo=REPO)).shards("validation")))
    assert read(HubSource(pinning), "validation") == texts("e")
    later = hub.publish(REPO, {"a.parquet": parquet(texts("a")), "e.parquet": parquet(texts("else"))})
    assert refusal(lambda: HubSource(attrs.evolve(pinning, revision=later)).shards("train"))[1] == "E304"


def test_a_key_does_not_depend_on_what_was_asked_of_the_hub(hub: FakeHub) -> None:
    config = ClimbMixConfig(shards=1)
    before = config.fingerprint()
    hub.publish(config.repo, numbered(0, CLIMBMIX_LAST))
    read(HubSource(config))
    assert config.fingerprint() == before


@pytest.mark.parametrize("name", ["climbmix", "fineweb_edu", "hub"])
def test_planning_needs_neither_client_nor_reader_nor_network(name: str) -> None:
    module, _, attribute = (load_registry().entry("source", name).config or "").partition(":")
    code = (
        f"import sys; from {module} import {attribute} as C; C(repo='a/b').selection();"
        "assert not {'torch', 'pyarrow', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_known_yet_is_not_estimated(hub: FakeHub) -> None:
    part = Component(kind="source", name="web", use="hub", revision=1, config=HubConfig(repo=REPO))
    assert (answer(part, "characters", whole), available_characters(part)) == (None, None)
    pinned(REPO, "main")
    assert answer(part, "characters", whole) == available_characters(part) == part.config.characters()


def test_how_much_there_is_is_known_after_first_contact(hub: FakeHub) -> None:
    config = HubConfig(repo=REPO, shards=2)
    assert (config.characters(), config.disk_bytes()) == (None, None)
    sizes = {file.name: file.size for file in pinned(REPO, "main").files}
    assert config.disk_bytes() == sizes["a.parquet"] + sizes["b.parquet"] + sizes["e.parquet"]
    assert config.characters() == round(2.5 * (sizes["a.parquet"] + sizes["b.parquet"]))


# Arrival


def test_shards_are_told_by_the_manifest_and_nothing_is_downloaded_for_it(hub: FakeHub) -> None:
    shards = HubSource(HubConfig(repo=REPO)).shards("train")
    files = {file.name: file for file in pinned(REPO, "main").files}
    assert [(s.size_bytes, f"sha256:{s.digest}") for s in shards] == [
        (files[s.name].size, files[s.name].digest) for s in shards
    ]
    assert hub.fetched() == []


def test_the_validation_split_alone_downloads_no_training_file(hub: FakeHub) -> None:
    read(HubSource(HubConfig(repo=REPO)), "validation")
    assert hub.fetched() == ["e.parquet"]


def test_reading_begins_while_later_files_are_on_their_way(hub: FakeHub, data: Path) -> None:
    for name in "bcde":
        hub.next(f"{name}.parquet", Answer(pause=1.0))
    source = HubSource(HubConfig(repo=REPO))
    first, *rest = source.shards("train")
    assert list(source.documents(first)) == texts("a")
    assert not any(source.state(shard).here for shard in rest)
    assert read(source) == [text for name in "abcd" for text in texts(name)]
    assert sorted(hub.fetched()) == [f"{name}.parquet" for name in "abcde"]


def test_what_comes_later_arrives_without_being_asked_for(hub: FakeHub) -> None:
    source = HubSource(HubConfig(repo=REPO))
    next(iter(source.documents(source.shards("train")[1])))
    late = [*source.shards("train")[1:], *source.shards("validation")]
    until(lambda: all(source.state(shard).here for shard in late))
    assert "a.parquet" not in hub.fetched()  # the run had read it before


def test_a_reader_that_runs_ahead_says_so(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrivals, "SAY_SECONDS", 0.05)
    hub.next("a.parquet", Answer(pause=0.4))
    source = HubSource(HubConfig(repo=REPO))
    other = HubSource(HubConfig(repo=REPO))
    with caplog.at_level(logging.INFO):
        reading = source.documents(source.shards("train")[0])
        waiting = other.documents(other.shards("train")[0])
        assert (next(reading), next(waiting)) == ("a document 0", "a document 0")
    assert any(line.startswith("waiting for a.parquet") for line in caplog.messages)


def test_in_the_middle_of_training_a_wait_ends_with_an_error_of_its_own(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "LONGEST_WAIT_SECONDS", 0.2)
    hub.next("a.parquet", Answer(pause=0.4))  # the first file may take its time
    hub.next("b.parquet", Answer(pause=5.0))
    source = HubSource(HubConfig(repo=REPO))
    exit_code, code, message = refusal(lambda: read(source))
    assert (exit_code, code) == (1, "E301")
    assert "b.parquet did not arrive within 0.2 s" in message


def test_the_limit_of_a_wait_holds_while_the_network_says_nothing_and_the_transfer_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "LONGEST_WAIT_SECONDS", 0.2)
    silence, told = threading.Event(), threading.Event()

    class Silent(Checkout):
        def fetch(self, file: HubFile, on_bytes: Any) -> None:
            if file.name == "late":
                silence.wait(20)  # in the system's calls, which look at no limit
                try:
                    on_bytes(0)
                except Stopped:
                    told.set()

    files = [HubFile(name, 10, "sha256:0") for name in ("first", "late")]
    manifest = Manifest(repo=REPO, revision="main", commit="0" * 40, files=files)
    waits = arrivals.Arrivals(Silent(manifest), train=[], validation=[], workers=1)
    waits.wait(files[0])
    assert refusal(lambda: waits.wait(files[1]))[:2] == (1, "E301")
    assert not told.is_set()
    silence.set()
    assert told.wait(20)


def test_a_file_that_cannot_be_had_ends_the_reading_with_its_error(hub: FakeHub) -> None:
    hub.next("c.parquet", *[Answer(status=404)] * 9)
    source = HubSource(HubConfig(repo=REPO))
    documents: list[str] = []
    exit_code, _, message = refusal(
        lambda: documents.extend(text for shard in source.shards("train") for text in source.documents(shard))
    )
    assert exit_code == 1
    assert "c.parquet" in message
    assert documents == texts("a") + texts("b")


def test_a_download_ahead_that_failed_is_tried_again_when_the_file_is_wanted(hub: FakeHub) -> None:
    hub.next("b.parquet", *[Answer(status=404)])
    source = HubSource(HubConfig(repo=REPO))
    list(source.documents(source.shards("train")[0]))
    until(lambda: "b.parquet" in hub.fetched())
    assert list(source.documents(source.shards("train")[1])) == texts("b")


def test_a_damaged_file_stops_the_reader_and_comes_anew(hub: FakeHub) -> None:
    read(HubSource(HubConfig(repo=REPO)))
    source = HubSource(HubConfig(repo=REPO))
    place = source.place(source.shards("train")[1])
    content = bytearray(place.read_bytes())
    content[40] ^= 1
    place.write_bytes(content)
    exit_code, code, message = refusal(lambda: read(source))
    assert (exit_code, code) == (1, "E304")
    assert str(place) in message
    assert read(HubSource(HubConfig(repo=REPO)))[20:40] == texts("b")


def test_two_processes_share_the_downloads_and_one_that_is_killed_leaves_its_part(
    hub: FakeHub, data: Path, tmp_path: Path
) -> None:
    code = (
        "from nanochat_plugins.sources.hub import HubSource\n"
        "from nanochat_plugins.sources.hub_config import HubConfig\n"
        f"source = HubSource(HubConfig(repo={REPO!r})); shards = source.shards('train')\n"
        "print(sum(len(list(source.documents(shard))) for shard in shards))"
    )
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
    environment.pop("HF_HUB_OFFLINE", None)
    start: Any = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    hub.publish(REPO, {f"{name}.parquet": parquet(texts(name, 5_000)) for name in "abcde"})
    hub.next("a.parquet", Answer(pause=60.0))
    victim = subprocess.Popen([sys.executable, "-c", code], **start)
    partial = data / "someone--texts" / "incoming"
    until(lambda: any(path.stat().st_size for path in partial.rglob("a.parquet.part")))
    victim.kill()
    victim.wait()
    before = len(hub.requests)
    ranks = [subprocess.Popen([sys.executable, "-c", code], **start) for _ in range(2)]
    assert [int(rank.communicate(timeout=60)[0]) for rank in ranks] == [20_000, 20_000]
    asked = [request.name for request in hub.requests[before:]]
    assert sorted(asked) == sorted(set(asked))  # none twice, by whichever rank
    assert next(request for request in hub.requests[before:] if request.name == "a.parquet").range is not None


# Places


def test_a_reader_that_goes_on_begins_at_the_row_group_of_its_place(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(REPO, {"a.parquet": parquet(texts("a", 1_000), row_group_size=50), "b.parquet": parquet(["held"])})
    source = HubSource(HubConfig(repo=REPO))
    assert len(read(source)) == 1_000
    opened: list[int] = []
    whole = pq.ParquetFile.iter_batches

    def counted(file: Any, *arguments: Any, **keywords: Any) -> Any:
        opened.extend(keywords["row_groups"])
        return whole(file, *arguments, **keywords)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    later = HubSource(HubConfig(repo=REPO))
    found = list(islice(later.documents(later.shards("train")[0], 920), 2))
    assert found == ["a document 920", "a document 921"]
    assert opened == [18]
