"""Files of the hub's data sets: pinned once, continued only where it is the same thing, checked before they appear."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import Answer, FakeHub, in_this_process, serving
from huggingface_hub import HfApi, hf_hub_download
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.errors import NanochatError, StageError, Stopped
from nanochat_plugins.sources import hub_checkout, hub_fault, hub_file
from nanochat_plugins.sources.hub_checkout import Checkout
from nanochat_plugins.sources.hub_manifest import HubFile, pinned

REPO, NAME = "someone/texts", "data/part-0.parquet"
CONTENT = bytes(range(256)) * 400  # 102,400 bytes
FILES = {NAME: CONTENT, "data/part-1.parquet": CONTENT[::-1], "README.md": b"# Texts\n", "a.txt": b"", "b.txt": b"b"}
LAST = NAME.rpartition("/")[2]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (0, 0, 0))
    monkeypatch.setattr(hub_checkout, "POLL_SECONDS", 0.01)
    return tmp_path / "data"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving() as found, in_this_process(found):
        found.publish(REPO, FILES)
        yield found


def checkout() -> tuple[Checkout, HubFile]:
    """The data set's files, and the one that the tests fetch."""
    manifest = pinned(REPO, "main")
    return Checkout(manifest), next(file for file in manifest.files if file.name == NAME)


def fetch() -> tuple[Path, int]:
    """Where the file lies now, and how many bytes were reported on the way."""
    copy, file = checkout()
    told: list[int] = []
    copy.fetch(file, told.append)
    return copy.place(file), sum(told)


def refusal() -> tuple[int, str, str]:
    """Exit code, code and message that fetching the file ends with."""
    with pytest.raises(NanochatError) as raised:
        fetch()
    return raised.value.exit_code, raised.value.diagnostics[0].code, raised.value.diagnostics[0].message


def ranges(hub: FakeHub) -> list[str | None]:
    """The parts of the file that were asked for."""
    return [request.range for request in hub.requests if request.name == LAST]


def test_the_hub_of_these_tests_is_one_for_the_hubs_own_client(hub: FakeHub, tmp_path: Path) -> None:
    for name in (NAME, "README.md"):
        place = hf_hub_download(REPO, name, repo_type="dataset", local_dir=tmp_path / "theirs")
        assert Path(place).read_bytes() == FILES[name]
    assert HfApi().list_repo_files(REPO, repo_type="dataset") == sorted(FILES)


def test_a_file_appears_whole_and_nothing_is_left_beside_it(hub: FakeHub, data: Path) -> None:
    place, told = fetch()
    assert place == data / "someone--texts" / pinned(REPO, "main").commit / NAME
    assert (place.read_bytes(), told) == (CONTENT, len(CONTENT))
    assert not [path for path in (data / "someone--texts" / "incoming").rglob("*") if path.is_file()]
    fetch()
    assert ranges(hub) == [None]


def test_a_broken_connection_is_continued_where_it_broke(hub: FakeHub) -> None:
    hub.next(LAST, Answer(drop_after=30_000), Answer(drop_after=50_000))
    place, told = fetch()
    assert ranges(hub) == [None, "bytes=30000-", "bytes=80000-"]
    assert (place.read_bytes(), told) == (CONTENT, len(CONTENT))


def test_another_process_continues_what_one_left(hub: FakeHub) -> None:
    hub.next(LAST, *[Answer(drop_after=10_000)] * 4)
    assert refusal()[1] == "E301"
    place, told = fetch()
    assert ranges(hub)[-1] == "bytes=40000-"
    assert (place.read_bytes(), told) == (CONTENT, len(CONTENT) - 40_000)


@pytest.mark.parametrize(
    "second, wanted",
    [
        (Answer(ignore_range=True), [None, "bytes=30000-"]),  # 200 after 206 was asked for: all of it comes again
        (Answer(etag='"another"'), [None, "bytes=30000-", None]),
        (Answer(shift_range=5), [None, "bytes=30000-", None]),
        (Answer(status=416), [None, "bytes=30000-", None]),
        (Answer(status=500), [None, "bytes=30000-", "bytes=30000-"]),
        (Answer(damage=True), [None, "bytes=30000-", None]),
    ],
    ids=lambda value: str(value) if isinstance(value, Answer) else "",
)
def test_what_came_is_kept_only_where_the_rest_of_it_comes(
    hub: FakeHub, second: Answer, wanted: list[str | None]
) -> None:
    hub.next(LAST, Answer(drop_after=30_000), second)
    place, told = fetch()
    assert ranges(hub) == wanted
    assert (place.read_bytes(), told) == (CONTENT, len(CONTENT))


SIZES = st.integers(0, len(CONTENT))
MISBEHAVIOUR = st.one_of(
    SIZES.map(lambda n: Answer(drop_after=n)),
    SIZES.map(lambda n: Answer(drop_after=n, ignore_range=True)),
    SIZES.map(lambda n: Answer(drop_after=n, damage=True)),
    SIZES.map(lambda n: Answer(drop_after=n, etag='"another"', damage=True)),
    SIZES.map(lambda n: Answer(drop_after=n, etag='W/"weak"')),
    st.integers(1, 5_000).map(lambda n: Answer(shift_range=n)),
    st.sampled_from([404, 416, 429, 500, 503]).map(lambda status: Answer(status=status)),
    st.sampled_from([Answer(damage=True), Answer(surplus=b"x" * 50), Answer(ignore_range=True)]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(MISBEHAVIOUR, max_size=7))
def test_whatever_the_hub_does_a_file_is_right_or_not_there_and_comes_once_it_behaves(
    hub: FakeHub, data: Path, answers: list[Answer]
) -> None:
    shutil.rmtree(data, ignore_errors=True)
    hub.behave()
    copy, file = checkout()
    hub.next(LAST, *answers)
    told: list[int] = []
    try:
        copy.fetch(file, told.append)
    except StageError:
        assert not copy.place(file).exists()
        assert sum(told) == copy.bytes_here(file)
        hub.behave()
        copy.fetch(file, told.append)
    assert copy.place(file).read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_tag_that_promises_equal_bytes_all_is_received_again(hub: FakeHub, tag: str) -> None:
    hub.next(LAST, Answer(drop_after=30_000, etag=tag or " "))
    place, told = fetch()
    assert ranges(hub) == [None, None]
    assert (place.read_bytes(), told) == (CONTENT, len(CONTENT))


def test_content_with_another_digest_is_set_aside_and_never_appears(hub: FakeHub, data: Path) -> None:
    hub.next(LAST, *[Answer(damage=True)] * 4)
    exit_code, code, message = refusal()
    assert (exit_code, code) == (1, "E304")
    assert "digest sha256:" in message
    copy, file = checkout()
    assert not copy.place(file).exists()
    (aside,) = (data / "someone--texts").rglob("*.damaged")
    assert aside.read_bytes() == bytes(byte ^ 1 for byte in CONTENT)
    assert fetch()[0].read_bytes() == CONTENT
    assert not aside.exists()  # there is nothing to look at any more


def test_a_server_that_never_ends_is_cut_off(hub: FakeHub) -> None:
    hub.next(LAST, *[Answer(surplus=b"x" * 9_000_000)] * 4)
    assert refusal()[1] == "E304"
    copy, file = checkout()
    assert copy.bytes_here(file) <= file.size


@pytest.mark.parametrize(("status", "advice"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "no such repository")])
def test_a_refusal_that_stays_is_met_once_and_no_matter_of_the_network(hub: FakeHub, status: int, advice: str) -> None:
    hub.next(LAST, *[Answer(status=status)] * 4)
    with pytest.raises(StageError, match="E301") as raised:
        fetch()
    assert advice in raised.value.diagnostics[0].help
    assert "network" not in raised.value.diagnostics[0].help
    assert len(ranges(hub)) == 1


def test_a_hub_that_is_away_is_e301_after_some_attempts(hub: FakeHub) -> None:
    hub.next(LAST, *[Answer(status=503)] * 4)
    exit_code, code, message = refusal()
    assert (exit_code, code) == (1, "E301")
    assert NAME in message and "503" in message
    assert len(ranges(hub)) == 4


def test_attempts_that_bring_something_are_no_failures(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_fault, "ENOUGH_BYTES", 5_000)
    hub.next(LAST, *[Answer(drop_after=5_000)] * 15)
    assert fetch()[0].read_bytes() == CONTENT


def test_a_connection_that_says_nothing_more_is_given_up(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_file, "STALLED_SECONDS", 0.2)
    hub.next(LAST, Answer(pause=2.0))
    assert fetch()[0].read_bytes() == CONTENT
    assert ranges(hub)[1] is not None


def test_a_file_of_another_size_is_replaced(hub: FakeHub) -> None:
    place, _ = fetch()
    place.write_bytes(CONTENT[:100])
    assert fetch()[0].read_bytes() == CONTENT


def test_a_damaged_file_is_refused_by_name_set_aside_and_fetched_anew(hub: FakeHub) -> None:
    copy, file = checkout()
    place, _ = fetch()
    copy.check(file)
    place.write_bytes(CONTENT[:500] + b"\xff" + CONTENT[501:])
    with pytest.raises(NanochatError) as raised:
        copy.check(file)
    (found,) = raised.value.diagnostics
    assert found.code == "E304" and str(place) in found.message
    assert "nanochat data get" in found.help
    assert fetch()[0].read_bytes() == CONTENT


def test_many_that_want_one_file_fetch_it_once(hub: FakeHub) -> None:
    hub.next(LAST, Answer(pause=0.3))
    copy, file = checkout()
    threads = [threading.Thread(target=copy.fetch, args=(file, lambda _: None)) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert not copy.try_fetch(file, lambda _: None)
    for thread in threads:
        thread.join()
    assert ranges(hub) == [None]


def test_too_little_room_is_said_before_anything_is_sent(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000)
    monkeypatch.setattr(hub_file.shutil, "disk_usage", lambda _: usage)
    exit_code, code, message = refusal()
    assert (exit_code, code) == (1, "E401")
    assert "the disk is full" in message
    assert ranges(hub) == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
def test_a_disk_that_fills_up_ends_it_with_a_message_and_goes_on_when_there_is_room(
    hub: FakeHub, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=72k", "none", str(data)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        monkeypatch.setattr(hub_file, "_check_room", lambda folder, n_bytes: None)  # others fill it meanwhile
        exit_code, code, message = refusal()
        assert (exit_code, code) == (1, "E401")
        assert "the disk is full" in message and str(data) in message
        subprocess.run(["mount", "-o", "remount,size=1m", str(data)], check=True)
        assert fetch()[0].read_bytes() == CONTENT
        assert ranges(hub)[0] is None and ranges(hub)[1] is not None
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_what_the_receiver_of_bytes_raises_ends_the_transfer(hub: FakeHub) -> None:
    copy, file = checkout()

    def stop(n_bytes: int) -> None:
        if n_bytes:
            raise Stopped

    with pytest.raises(Stopped):
        copy.fetch(file, stop)
    assert len(ranges(hub)) == 1


def test_a_pause_between_attempts_ends_when_nobody_waits_any_more(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, file = checkout()
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (5,))
    hub.next(LAST, Answer(status=503))
    looks: list[int] = []

    def stop(n_bytes: int) -> None:
        looks.append(n_bytes)
        if len(looks) == 4:  # the first is before the attempt
            raise Stopped

    with pytest.raises(Stopped):
        copy.fetch(file, stop)
    assert looks == [0, 0, 0, 0]
    assert len(ranges(hub)) == 1


@pytest.mark.parametrize("pause, level", [(1, logging.INFO), (16, logging.WARNING)])
def test_the_log_says_what_failed_and_a_long_pause_is_a_warning(
    hub: FakeHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, pause: int, level: int
) -> None:
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (pause,))
    monkeypatch.setattr(hub_fault.time, "sleep", lambda seconds: None)
    hub.next(LAST, Answer(status=502))
    with caplog.at_level(logging.INFO):
        fetch()
    (line,) = [record for record in caplog.records if record.name == hub_fault.__name__]
    assert line.levelno == level
    assert line.message.startswith(NAME) and "502" in line.message and f"again in {pause} s" in line.message


def test_two_processes_that_find_the_same_damage_say_the_same(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, file = checkout()
    place, _ = fetch()
    place.write_bytes(CONTENT[::-1])
    sound = copy.is_sound

    def slower(file: HubFile) -> bool:
        found = sound(file)
        place.unlink()  # the other was faster
        return found

    monkeypatch.setattr(copy, "is_sound", slower)
    for _ in range(2):
        with pytest.raises(StageError) as raised:
            copy.check(file)
        assert raised.value.diagnostics[0].code == "E304"


def test_a_file_that_cannot_be_written_is_no_matter_of_the_network(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(LAST))

    checkout()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert refusal()[:2] == (1, "E401")
    assert len(ranges(hub)) == 1
