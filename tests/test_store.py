"""The store: keys, folders, records, leases, and the home folder they lie in."""

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import Artifact, Component, artifact, component, config, option
from nanochat.errors import InputError
from nanochat.hardware import Hardware
from nanochat.home import data_dir, home, runs_dir, store_dir
from nanochat.recipe.content import content_digest
from nanochat.recipe.resolved import Origin, Recipe, Stage, Value
from nanochat.running import home as running_home
from nanochat.running.json_file import append_line, canonical, read_json, read_lines, write_json
from nanochat.running.keys import input_keys, run_digest, stage_keys
from nanochat.running.lease import is_held, lease
from nanochat.running.store import Store, bytes_in, checkpoint_folder

HARDWARE = Hardware(launcher="local", nproc_per_node=1, device="cpu", dtype="float32")
PLACES = ("NANOCHAT_HOME", "NANOCHAT_BASE_DIR", "NANOCHAT_DATA_DIR", "NANOCHAT_RUN_DIR")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@config
class CopyConfig:
    steps: int = option(10)
    pace: int = option(1, execution=True)
    of: Artifact | None = artifact("checkpoint", optional=True)
    part: Component | None = component("task", optional=True)


def make_stage(
    name: str, *, steps: int = 10, pace: int = 1, of: str | None = None, use: str = "copy", revision: int = 1
) -> Stage:
    """A stage as the recipe room would resolve it, by hand."""
    reference = None if of is None else f"stage:{of}"
    origin = Origin(kind="default")
    values = {
        ("stages", name, "steps"): Value(value=steps, origin=origin, identity=True, default=steps == 10),
        ("stages", name, "pace"): Value(value=pace, origin=origin, identity=False),
    }
    return Stage(
        name=name,
        use=use,
        revision=revision,
        config=CopyConfig(
            steps=steps, pace=pace, of=None if reference is None else Artifact(reference=reference, kind="checkpoint")
        ),
        produces="checkpoint",
        hardware=HARDWARE,
        inputs={} if reference is None or of is None else {reference: of},
        values=values,
        components={},
        fingerprints={},
    )


def make_recipe(*stages: Stage, seed: int = 42, name: str = "demo") -> Recipe:
    return Recipe(
        name=name,
        path=Path("demo.toml"),
        seed=seed,
        stages={stage.name: stage for stage in stages},
        values={},
        plugins=[],
        files={},
    )


# Keys


def test_a_key_is_the_sha256_of_the_canonical_identity_and_the_input_keys() -> None:
    identity = '{"components":{},"data":{},"inputs":{},"revision":1,"seed":42,"use":"copy","values":{"steps":3}}'
    assert stage_keys(make_recipe(make_stage("one", steps=3))) == {"one": hashlib.sha256(identity.encode()).hexdigest()}


def test_a_key_depends_on_neither_the_stages_name_nor_execution_values_nor_a_value_equal_to_its_default() -> None:
    plain = stage_keys(make_recipe(make_stage("one")))["one"]
    assert stage_keys(make_recipe(make_stage("uno", pace=7), name="other"))["uno"] == plain


@pytest.mark.parametrize(
    "changed",
    [
        make_recipe(make_stage("one", steps=11)),
        make_recipe(make_stage("one", use="paste")),
        make_recipe(make_stage("one", revision=2)),
        make_recipe(make_stage("one"), seed=43),
        make_recipe(attrs.evolve(make_stage("one"), fingerprints={("stages", "one", "data"): {"sha256": "ab"}})),
        make_recipe(
            attrs.evolve(make_stage("one"), components={("stages", "one", "part"): ("task", "sums", 1)}),
        ),
    ],
)
def test_a_key_depends_on_values_use_revision_seed_data_and_components(changed: Recipe) -> None:
    assert stage_keys(changed)["one"] != stage_keys(make_recipe(make_stage("one")))["one"]


def test_a_changed_stage_changes_the_keys_of_what_follows_and_of_nothing_else() -> None:
    def keys(steps: int) -> dict[str, str]:
        one, two = make_stage("one", steps=steps), make_stage("two", of="one")
        return stage_keys(make_recipe(one, two, make_stage("aside", use="else")))

    before, after = keys(3), keys(4)
    assert before["one"] != after["one"]
    assert before["two"] != after["two"]
    assert before["aside"] == after["aside"]
    assert run_digest(before) != run_digest(after)


def test_an_artifact_inside_a_component_is_an_input_under_its_own_path() -> None:
    inner = CopyConfig(of=Artifact(reference="stage:tok", kind="tokenizer"))
    part = Component(kind="task", name="part", use="bee", revision=1, config=inner)
    stage = attrs.evolve(make_stage("one"), config=CopyConfig(part=part), inputs={"stage:tok": "tok"})
    assert input_keys(stage, {"tok": "abc"}) == {"part.of": "abc"}


def test_a_path_artifact_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "deep").mkdir(parents=True)
        (tmp_path / place / "deep" / "file").write_text("same")
    assert content_digest(tmp_path / "here") == content_digest(tmp_path / "there")
    (tmp_path / "there" / "deep" / "file").write_text("other")
    assert content_digest(tmp_path / "here") != content_digest(tmp_path / "there")
    with pytest.raises(InputError, match=r"E301.*nothing at"):
        content_digest(tmp_path / "nowhere")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_canonical_text_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical(turned) == canonical(value)
    assert json.loads(canonical(value)) == value


# Folders and records


def folder_with_record(store: Store, stage: str, key: str, record: Mapping[str, Any] | None) -> Path:
    folder = store.folder(stage, key)
    folder.open({"stage": stage})
    if record is not None:
        folder.write_record({"stage": stage, **record})
    return folder.path


def test_a_folder_is_named_after_its_stage_and_key_and_is_done_once_its_record_is_there() -> None:
    store, key = Store(), "91be77d0" + "0" * 56
    folder = store.folder("base", key)
    assert (folder.path.name, folder.state) == ("base-91be77d0", "absent")
    folder.open({"stage": "base"})
    assert folder.state == "absent"
    checkpoint_folder(folder.path, 400).mkdir(parents=True)
    (folder.path / "checkpoints" / ".writing_000500").mkdir()
    assert (folder.state, folder.last_checkpoint) == ("partial", 400)
    folder.write_record({"stage": "base", "artifact": "checkpoints/step_000400"})
    assert folder.state == "done"
    assert folder.artifact == folder.path / "checkpoints" / "step_000400"


@pytest.mark.parametrize("torn", [b"", b'{"key": "91be', b"[]", b'{"key": "another"}', b"\xff\xfe"])
def test_a_torn_or_foreign_record_is_no_record(torn: bytes) -> None:
    folder = Store().folder("base", "91be77d0" + "0" * 56)
    folder.open({"stage": "base"})
    (folder.path / "record.json").write_bytes(torn)
    assert folder.state == "absent"


def test_a_result_is_found_by_its_key_under_another_stages_name() -> None:
    store, key = Store(), "a" * 64
    made = folder_with_record(store, "tok", key, {})
    assert store.folder("tokenizer", key).path == made
    assert store.folder("tokenizer", key).state == "done"


def test_two_keys_that_begin_alike_have_two_folders() -> None:
    store, one, two = Store(), "a" * 8 + "b" * 56, "a" * 8 + "c" * 56
    first, second = (folder_with_record(store, "tok", key, {}) for key in (one, two))
    assert (first.name, second.name) == ("tok-aaaaaaaa", "tok-aaaaaaaacccccccc")
    assert store.folder("tok", one).record is not None
    assert store.folder("tok", two).record is not None


def test_a_result_that_was_set_aside_is_out_of_the_way_and_kept_until_it_is_dropped() -> None:
    store, key = Store(), "a" * 64
    path = folder_with_record(store, "tok", key, {})
    folder = store.folder("tok", key)
    store.set_aside(folder)
    assert not path.exists()
    assert list(store) == []
    assert len(list(store.root.glob(".old/tok-aaaaaaaa.*/record.json"))) == 1
    store.drop_set_aside(folder)
    assert list(store.root.glob(".old/*")) == []


def test_a_store_reference_needs_eight_characters_of_one_finished_key() -> None:
    store, key = Store(), "ab" * 32
    folder_with_record(store, "tok", key, {})
    assert store.by_key(key[:8]).key == store.by_key(key).key == key
    for wrong in ("ab", "cd" * 32):
        with pytest.raises(InputError, match="E405"):
            store.by_key(wrong)


def test_a_json_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"value": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            write_json(path, {"value": 2})
    assert read_json(path) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": \n')
    append_line(path, {"step": 2})
    assert [line["step"] for line in read_lines(path)] == [1, 2]


# The lease


HOLDER = """
import sys
from pathlib import Path
from nanochat.running.lease import lease
with lease(Path(sys.argv[1]), what="stage `base`"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lease_is_held_by_one_process_whose_death_frees_it(tmp_path: Path) -> None:
    folder = tmp_path / "base-12345678"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(folder)
        with pytest.raises(InputError, match=rf"E402.*stage `base` is being run by process {holder.pid} on ") as busy:
            lease(folder, what="stage `base`").__enter__()
        assert busy.value.exit_code == 2
        holder.kill()
    assert not is_held(folder)
    with lease(folder, what="stage `base`"):
        assert is_held(folder)
    assert not is_held(folder)


def test_who_comes_before_the_holder_has_written_its_name_waits_for_it(tmp_path: Path) -> None:
    with (tmp_path / "lease").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        name = threading.Timer(0.1, lambda: (tmp_path / "lease").write_text('{"pid": 7, "host": "h", "since": "now"}'))
        name.start()
        with pytest.raises(InputError, match="stage `base` is being run by process 7 on h, since now"):
            lease(tmp_path, what="stage `base`").__enter__()
        name.join()


def test_a_lease_that_was_given_back_names_nobody(tmp_path: Path) -> None:
    with lease(tmp_path, what="stage `base`"):
        assert json.loads((tmp_path / "lease").read_text())["pid"] == os.getpid()
    assert (tmp_path / "lease").read_text() == ""


def test_asking_whether_a_lease_is_held_keeps_no_runner_out(tmp_path: Path) -> None:
    with lease(tmp_path, what="the run"):
        pass
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            is_held(tmp_path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(100):
            with lease(tmp_path, what="the run"):
                assert is_held(tmp_path)
    finally:
        done.set()
        for asker in askers:
            asker.join()


def test_those_who_ask_do_not_take_one_another_for_a_holder(tmp_path: Path) -> None:
    with lease(tmp_path, what="the run"):
        pass
    with (tmp_path / "lease").open() as asked:
        fcntl.flock(asked, fcntl.LOCK_SH)
        assert not is_held(tmp_path)


ORPHANING = """
import os, subprocess, sys
from pathlib import Path
from nanochat.running.lease import lease
with lease(Path(sys.argv[1]), what="stage `base`") as held:
    child = subprocess.Popen(["sleep", "60"], pass_fds=[held.descriptor], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    os._exit(1)
"""


def test_a_worker_that_outlives_its_runner_keeps_the_lease(tmp_path: Path) -> None:
    folder = tmp_path / "base-12345678"
    done = subprocess.run(
        [sys.executable, "-c", ORPHANING, str(folder)], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        assert is_held(folder)
    finally:
        os.kill(int(done.stdout), 9)


# Places on disk


def test_home_is_one_place_that_variables_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "nanochat"
    monkeypatch.setenv("NANOCHAT_BASE_DIR", "/older")
    assert home() == Path("/older")
    monkeypatch.setenv("NANOCHAT_HOME", "/newer")
    assert (data_dir(), runs_dir(), store_dir()) == (Path("/newer/data"), Path("/newer/runs"), Path("/newer/store"))
    monkeypatch.setenv("NANOCHAT_DATA_DIR", "/big")
    monkeypatch.setenv("NANOCHAT_RUN_DIR", "/fast")
    assert (data_dir(), runs_dir(), store_dir()) == (Path("/big"), Path("/fast/runs"), Path("/fast/store"))


def test_a_home_that_cannot_be_used_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_file = tmp_path / "file"
    a_file.write_text("")
    for place in (str(a_file), "/proc/nanochat"):
        monkeypatch.setenv("NANOCHAT_HOME", place)
        with pytest.raises(InputError, match=r"E401.*cannot write in .*(?s:.)*set NANOCHAT_HOME") as refused:
            running_home.check_home()
        assert refused.value.exit_code == 2


def test_the_size_of_a_folder_leaves_out_a_file_that_goes_while_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "stays"):
        (tmp_path / name).write_bytes(b"\0" * 10)
    lstat = Path.lstat

    def late(path: Path) -> os.stat_result:
        if path.name == "gone":
            path.unlink(missing_ok=True)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", late)
    assert bytes_in(tmp_path) == 10
