"""`nanochat data`: what a recipe reads is listed, fetched, verified and described; what is wrong ends with 1."""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import Answer, FakeHub, in_this_process, parquet, serving

from nanochat.cli import data
from nanochat.cli.main import main
from nanochat.data.source import Shard, split_digest
from nanochat.errors import Stopped
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.datasets import data_files, datasets, fetch_all
from nanochat_plugins.sources import hub as hub_source
from nanochat_plugins.sources import hub_checkout, hub_fault
from nanochat_plugins.sources.hub import HubSource
from nanochat_plugins.sources.hub_config import HubConfig
from nanochat_plugins.sources.hub_manifest import pinned
from nanochat_plugins.sources.stories import Stories

REPO = "someone/texts"
RECIPE = f"""
format = 1
name = "little"
[hardware]
device = "cpu"
[stages.tok]
use = "tokenizer"
[stages.tok.data.web]
use = "hub"
repo = "{REPO}"
shards = 2
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 10
[stages.base.model]
use = "gpt"
depth = 2
[stages.base.data.web]
use = "hub"
repo = "{REPO}"
shards = 3
[stages.base.data.docs]
use = "stories"
size = 100
[stages.base.optim.all]
use = "adamw"
match = "*"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (0,))
    monkeypatch.setattr(hub_checkout, "POLL_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """Five files, `a` to `e`; the last has what is no text, too."""
    with serving() as found, in_this_process(found):
        files = {f"{name}.parquet": parquet([f"{name} text {n}" for n in range(20)]) for name in "abcd"}
        found.publish(REPO, files | {"e.parquet": parquet(["held", None, "", "out"])})
        yield found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `nanochat data …`: its output, or where it fails its errors."""

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as done:
            main(["data", *arguments])
        out, err = capsys.readouterr()
        assert done.value.code == code, err
        return str(err if code else out)

    return run


def test_list_tells_shards_sizes_digests_and_what_is_here(hub: FakeHub, said: Any) -> None:
    listed = {tuple(found["names"]): found for found in json.loads(said("list", "recipe.toml", "--json"))}
    assert set(listed) == {("tok.web",), ("base.web",), ("base.docs",)}
    web = listed["base.web",]
    assert web["pin"] == f"{REPO}@{next(iter(hub.commits[REPO]))}"
    train, held = web["splits"]["train"], web["splits"]["validation"]
    assert (train["shards"], train["here"], held["shards"], held["here"]) == (3, 0, 1, 0)
    assert train["bytes"] == sum(len(hub.commits[REPO][web["pin"].partition("@")[2]][f"{n}.parquet"]) for n in "abc")
    assert held["digest"] == split_digest(HubSource(HubConfig(repo=REPO)).shards("validation"))
    assert listed["base.docs",]["splits"]["train"]["here"] is None
    assert hub.fetched() == []
    said("get", "recipe.toml", "--source", "tok")
    again = json.loads(said("list", "recipe.toml", "--source", "base.web", "--json"))
    assert again[0]["splits"]["train"]["here"] == 2


def test_list_tells_how_many_shards_the_token_budget_wants(hub: FakeHub, said: Any) -> None:
    budget = ("--set", "stages.base.steps=1000", "--set", "stages.base.total_batch_size=262144")
    preset = ("--set", 'stages.base.data.web={use = "climbmix", repo = "someone/texts"}')
    hub.publish(REPO, {f"shard_{n:05d}.parquet": b"x" * 99 for n in (*range(170), 6_542)})
    (found,) = json.loads(said("list", "recipe.toml", "--source", "base.web", "--json", *budget, *preset))
    # Half of 262M tokens (docs have the other half), 4.8 characters each, of which packing keeps 65%, 250M a shard
    assert found["shards_needed"] == -(-262_144_000 // 2 * 4.8 / 0.65 // 250e6) == 4


def test_sources_that_are_the_same_are_listed_once(hub: FakeHub, said: Any) -> None:
    listed = json.loads(said("list", "recipe.toml", "--set", "stages.tok.data.web.shards=3", "--json"))
    assert sorted(found["names"] for found in listed) == [["base.docs"], ["tok.web", "base.web"]]


def test_get_fetches_each_file_once_and_does_nothing_the_second_time(hub: FakeHub, said: Any) -> None:
    assert "4 of 4 files" in said("get", "recipe.toml")
    assert sorted(hub.fetched()) == [f"{name}.parquet" for name in "abce"]
    assert "4 of 4 files" in said("get", "recipe.toml")
    assert len(hub.fetched()) == 4


def test_get_tells_all_that_failed_fetches_the_rest_and_exits_with_1(hub: FakeHub, said: Any) -> None:
    for name in "ac":
        hub.next(f"{name}.parquet", Answer(status=404))
    errors = said("get", "recipe.toml", code=1)
    assert "a.parquet of the data set" in errors and "c.parquet of the data set" in errors
    assert sorted(set(hub.fetched())) == [f"{name}.parquet" for name in "abce"]
    assert "4 of 4 files" in said("get", "recipe.toml")


def test_get_that_is_interrupted_stops_and_goes_on_later(hub: FakeHub, said: Any) -> None:
    recipe = load_recipe(Path("recipe.toml"))
    files = data_files(datasets(recipe, load_registry()))
    for file in files[1:]:
        hub.next(Path(file.shard.name).name, Answer(pause=1.5))

    def interrupt(_: Any) -> None:
        while not all(file.source.state(file.shard).bytes_here for file in files):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_all(files, workers=4, on_bytes=lambda _: None, on_done=interrupt)
    assert [file.is_here for file in files] == [True, False, False, False]
    assert "4 of 4 files" in said("get", "recipe.toml")
    first, *later = [request.range for request in hub.requests if request.name == "b.parquet"]
    assert first is None
    assert None not in later  # nothing is received twice


def test_verify_names_what_is_damaged_or_missing_and_get_brings_it(hub: FakeHub, said: Any, home: Path) -> None:
    said("get", "recipe.toml")
    assert "4 of 4 files" in said("verify", "recipe.toml")
    files = {path.name: path for path in (home / "home" / "data").rglob("*.parquet")}
    status = files["a.parquet"].stat()
    content = bytearray(files["a.parquet"].read_bytes())
    content[50] ^= 1
    files["a.parquet"].write_bytes(content)
    os.utime(files["a.parquet"], ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk does it
    files["b.parquet"].unlink()
    errors = said("verify", "recipe.toml", code=1)
    assert f"{files['a.parquet']} is damaged" in errors and f"{files['b.parquet']} is not here" in errors
    assert not files["a.parquet"].exists()
    said("get", "recipe.toml")
    assert len(json.loads(said("verify", "recipe.toml", "--json"))["sound"]) == 4


def test_verify_tells_of_a_file_that_is_cut_off_how_much_of_it_is_here(hub: FakeHub, said: Any, home: Path) -> None:
    said("get", "recipe.toml")
    files = {path.name: path for path in (home / "home" / "data").rglob("*.parquet")}
    whole = {name: path.stat().st_size for name, path in files.items()}
    os.truncate(files["a.parquet"], 100)
    with files["b.parquet"].open("ab") as file:
        file.write(b"more")
    errors = said("verify", "recipe.toml", code=1)
    manifest = f"the manifest of {REPO} says"
    cut = f"{files['a.parquet']} is damaged: it is cut off, 100 bytes are here, and {manifest} {whole['a.parquet']:,}"
    longer = f"is damaged: {whole['b.parquet'] + 4:,} bytes are here, and {manifest} {whole['b.parquet']:,}"
    assert errors.count("error[E304]") == 2 and cut in errors and longer in errors
    assert "4 of 4 files" in said("get", "recipe.toml")


@pytest.mark.parametrize("number, code", [(errno.EIO, "E304"), (errno.ENOSPC, "E401")])
def test_what_the_disk_refuses_of_one_file_is_told_of_it_and_the_others_come(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    files = data_files(datasets(load_recipe(Path("recipe.toml")), load_registry(), only="base.web"))
    fetch = HubSource.fetch

    def refusing(source: HubSource, shard: Shard, on_bytes: Any) -> None:
        if shard.name == "b.parquet":
            raise OSError(number, os.strerror(number), str(source.place(shard)))
        fetch(source, shard, on_bytes)

    monkeypatch.setattr(HubSource, "fetch", refusing)
    (fault,) = fetch_all(files, workers=1, on_bytes=lambda _: None, on_done=lambda _: None)
    assert fault.code == code and str(next(f.place for f in files if f.shard.name == "b.parquet")) in fault.message
    assert sorted(file.shard.name for file in files if file.is_here) == ["a.parquet", "c.parquet", "e.parquet"]


def test_a_file_where_a_folder_is_wanted_is_told_of_every_file_that_it_hinders(
    hub: FakeHub, said: Any, home: Path
) -> None:
    said("list", "recipe.toml")  # pins
    hinders = home / "home" / "data" / "someone--texts" / "incoming"
    hinders.write_text("")
    errors = said("get", "recipe.toml", code=1)
    for name in "abce":
        assert f"{name}.parquet cannot be read or written" in errors
    assert errors.count(f"({hinders}") == 4


def test_stats_describe_the_documents_that_were_read(hub: FakeHub, said: Any) -> None:
    train, held = json.loads(said("stats", "recipe.toml", "--source", "base.web", "--documents", "25", "--json"))
    lengths = [len(f"{name} text {n}") for name in "ab" for n in range(20)][:25]
    assert (train["documents"], train["characters"], train["whole"]) == (25, sum(lengths), False)
    assert (train["median"], train["longest"]) == (8, 9)  # 15 of 8, 10 of 9
    assert (held["documents"], held["whole"]) == (2, True)
    assert held["skipped"] == {"null": 1, "empty": 1}


def test_what_is_not_in_the_recipe_is_e405_with_what_is(hub: FakeHub, said: Any) -> None:
    errors = said("list", "recipe.toml", "--source", "base.wep", code=2)
    assert "E405" in errors and "did you mean `base.web`" in errors


@pytest.mark.parametrize("use", ["hub", "climbmix", "fineweb_edu"])
@pytest.mark.parametrize(
    "repo", ["..", ".", "", "../texts", "a/b/c", "/etc", "some one/texts", "a/-b", "a--b/c", "a/b."]
)
def test_a_name_that_is_no_data_sets_is_refused_before_anything_is_asked_or_written(
    hub: FakeHub, said: Any, home: Path, repo: str, use: str
) -> None:
    source = f'stages.base.data.web={{use = "{use}", repo = "{repo}"}}'
    errors = said("list", "recipe.toml", "--set", source, code=2)
    assert f"{repo!r} is no data set's name" in errors
    assert not hub.requests
    assert not (home / "home" / "data").exists()


@pytest.mark.parametrize("repo", ["squad", "some_one/a.b-c_d", "0/1"])
def test_the_names_that_data_sets_have_are_not_refused(repo: str) -> None:
    assert HubConfig(repo=repo).problems() == []


def test_a_listing_does_not_wait_for_a_hub_that_is_silent_and_shows_the_rest(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = threading.Event()

    def silent(repo: str, revision: str) -> Any:
        if repo == "silent/texts":
            answered.wait(20)
        return pinned(REPO, revision)

    monkeypatch.setattr(hub_source, "pinned", silent)
    monkeypatch.setattr(data, "LISTING_SECONDS", 1.0)
    pinned(REPO, "main")
    listing = ["data", "list", "recipe.toml", "--set", "stages.tok.data.web.repo=silent/texts"]
    said = []
    for arguments in (listing, [*listing, "--json"]):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code == 1
        said.append(capsys.readouterr())
    answered.set()
    text, as_json = said
    assert "base.web" in text.out and "base.docs" in text.out and "tok.web" not in text.out
    assert "E301" in text.err and "tok.web is not listed: its hub did not tell within 1 s" in text.err
    listed = {found["names"][0]: found for found in json.loads(as_json.out)}
    assert [fault["code"] for fault in listed["tok.web"]["faults"]] == ["E301"]
    assert set(listed["base.web"]["splits"]) == {"train", "validation"}
    assert not listed["base.web"]["faults"]


def test_a_listing_waits_for_a_source_that_asks_no_hub(
    hub: FakeHub, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = Stories.shards

    def slow(source: Stories, split: Any) -> Any:
        time.sleep(0.2)
        return shards(source, split)

    monkeypatch.setattr(Stories, "shards", slow)
    monkeypatch.setattr(data, "LISTING_SECONDS", 0.0)
    (found,) = json.loads(said("list", "recipe.toml", "--source", "base.docs", "--json"))
    assert found["splits"]["train"]["shards"] == 1


def test_a_listing_tells_at_once_what_the_hub_does_not_have(hub: FakeHub, said: Any) -> None:
    errors = said("list", "recipe.toml", "--set", "stages.base.data.web.revision=v9", "--source", "base.web", code=1)
    assert "the hub has no such repository, revision or file" in errors


def test_a_recipe_whose_sources_download_nothing_is_said_so(said: Any) -> None:
    recipe = str(Path(__file__).parent.parent / "recipes" / "quickstart.toml")
    assert said("get", recipe) == said("verify", recipe) == "no source of it downloads anything\n"


def test_downloads_of_one_file_by_two_commands_meet(hub: FakeHub) -> None:
    files = data_files(datasets(load_recipe(Path("recipe.toml")), load_registry(), only="tok"))
    hub.next("a.parquet", Answer(pause=0.3))
    faults: list[Any] = []

    def get() -> None:
        faults.extend(fetch_all(files, workers=2, on_bytes=lambda _: None, on_done=lambda _: None))

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(hub.fetched()) == ["a.parquet", "b.parquet", "e.parquet"]


def test_a_wait_for_another_process_can_be_ended(hub: FakeHub) -> None:
    source = HubSource(HubConfig(repo=REPO))
    (shard,) = source.shards("validation")
    hub.next("e.parquet", Answer(pause=2.0))
    first = threading.Thread(target=source.fetch, args=(shard, lambda _: None))
    first.start()
    while "e.parquet" not in hub.fetched():
        time.sleep(0.01)

    def stop(_: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        source.fetch(shard, stop)
    assert first.is_alive()
    first.join()
