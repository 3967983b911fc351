"""Damaged files and full disks, for real: the fault is named with its path, and the checkpoint before it goes on."""

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import save_file
from test_training import Recorder, stage

from nanochat.errors import InputError, StageError, Stopped
from nanochat.running.home import check_home
from nanochat.runtime import local_runtime
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import newest_valid
from nanochat.training.manifest import checkpoints
from nanochat.training.tensor_file import TYPES, write_tensors

FILES = (
    "model.safetensors", "random.safetensors", "optim-0.safetensors", "optim-0.json", "loader-0.safetensors",
    "loader-0.json", "state.json", "meta.json", "tokenizer.json", "MANIFEST.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)


@attrs.frozen
class Undisturbed:
    """A run that nothing happened to, with checkpoints of its steps 6 and 12."""

    losses: dict[int, str]
    folder: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Undisturbed:
    folder, recorder = tmp_path_factory.mktemp("undisturbed"), Recorder()
    stage(folder, tokenizer, recorder, checkpoint_every=6).execute()
    assert sorted(path.name for path in (folder / "checkpoints/step_000012").iterdir()) == sorted(FILES)
    return Undisturbed(recorder.losses, folder)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_whichever_file_is_damaged_it_is_named_and_the_checkpoint_before_it_is_chosen(
    damage: Callable[[Path], None], file: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    folder, notes = tmp_path / "checkpoints", list[str]()
    shutil.copytree(undisturbed.folder / "checkpoints", folder)
    damage(folder / "step_000012" / file)
    assert newest_valid(folder, local_runtime(), notes.append) == folder / "step_000006"
    (note,) = notes
    assert f"the checkpoint {folder / 'step_000012'} is broken: " in note
    assert file in note or damage is flip  # a bit of the manifest may be one of any file's digest
    assert (folder / "broken_step_000012").is_dir()


def test_a_checkpoint_of_a_later_version_is_refused_and_left_as_it_is(undisturbed: Undisturbed, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(undisturbed.folder / "checkpoints", folder)
    manifest = folder / "step_000012/MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StageError, match=r"E406.*step_000012 has format 2, and this nanochat reads 1"):
        newest_valid(folder, local_runtime(), print)
    assert [path.name for path in checkpoints(folder)] == ["step_000006", "step_000012"]


def test_what_is_linked_from_another_disk_is_read_and_of_what_leaves_the_link_alone(
    tokenizer: Tokenizer, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """A checkpoint, a file of it, what a killed process left, and a checkpoint whose disk is gone."""
    folder, other, recorder = tmp_path / "run/checkpoints", tmp_path / "other", Recorder()
    shutil.copytree(undisturbed.folder / "checkpoints/step_000006", other / "old")
    folder.mkdir(parents=True)
    (folder / "step_000006").symlink_to(other / "old")
    model = (other / "old/model.safetensors").rename(other / "model")
    (other / "old/model.safetensors").symlink_to(model)
    (folder / ".writing_000015").symlink_to(other)
    (folder / "step_000099").symlink_to(tmp_path / "nowhere")
    stage(tmp_path / "run", tokenizer, recorder, checkpoint_every=3).execute()
    assert "goes on from step 6" in recorder.notes
    assert {path.name for path in folder.iterdir()} == {"broken_step_000099", "step_000009", "step_000012"}
    assert len(list((other / "old").iterdir())) == len(FILES) and model.exists()


# Full disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a real, small disk of memory, or changes it: `size=1m`, `nr_inodes=20`."""
    place, mounted = tmp_path / "disk", list[str]()
    place.mkdir()

    def mount(options: str) -> Path:
        how = ["-o", f"remount,{options}"] if mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        ran = subprocess.run(["mount", *how, str(place)], capture_output=True, text=True, check=False)
        if ran.returncode:
            pytest.skip(f"no disk can be mounted here: {ran.stderr.strip()}")
        mounted.append(options)
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # what was read of it may be mapped still


def test_where_there_is_no_room_for_a_checkpoint_it_says_how_much_is_needed_and_goes_on_after(
    disk: Callable[[str], Path], tokenizer: Tokenizer, undisturbed: Undisturbed
) -> None:
    taken = sum(path.stat().st_size for path in (undisturbed.folder / "checkpoints/step_000012").iterdir())
    folder, recorder = disk(f"size={round(2.5 * taken)}"), Recorder()
    with pytest.raises(StageError, match=r"E401.*the disk is full: the checkpoint of step 9 takes \d+ kB, and") as said:
        stage(folder, tokenizer, recorder, checkpoint_every=3).execute()
    assert f"{folder / 'checkpoints'} has room for" in str(said.value)
    assert [path.name for path in checkpoints(folder / "checkpoints")] == ["step_000003", "step_000006"]
    disk(f"size={5 * taken}")
    stage(folder, tokenizer, recorder, checkpoint_every=3).execute()
    assert "goes on from step 6" in recorder.notes
    assert recorder.losses == undisturbed.losses


@pytest.mark.parametrize("checkpoint_async", [True, False])
def test_a_disk_that_is_full_in_the_middle_of_a_save_is_an_error_with_its_path_and_costs_no_checkpoint(
    checkpoint_async: bool, disk: Callable[[str], Path], tokenizer: Tokenizer, undisturbed: Undisturbed
) -> None:
    """There is room when it is asked for, but for 20 files alone: two checkpoints of ten each are too many."""
    folder, recorder = disk("size=100m,nr_inodes=20"), Recorder()
    with pytest.raises(OSError, match=r"\.writing_000006") as said:
        stage(folder, tokenizer, recorder, checkpoint_every=3, checkpoint_async=checkpoint_async).execute()
    assert said.value.errno == errno.ENOSPC
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_000003"]
    disk("nr_inodes=100")
    stage(folder, tokenizer, recorder, checkpoint_every=3).execute()
    assert "goes on from step 3" in recorder.notes
    assert recorder.losses == undisturbed.losses


# What is written


def test_what_is_written_beside_the_training_is_what_is_written_in_its_way(
    tokenizer: Tokenizer, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Every file of the checkpoint at the sixth step, when six more had begun to change what it is a copy of."""
    stage(tmp_path, tokenizer, Recorder(), checkpoint_every=6, checkpoint_async=False).execute()
    for file in FILES:
        if file not in ("state.json", "MANIFEST.json"):  # the meter's speed is in there
            beside, within = (at / "checkpoints/step_000006" / file for at in (undisturbed.folder, tmp_path))
            assert beside.read_bytes() == within.read_bytes(), file


def test_a_checkpoint_can_be_read_by_others_and_says_what_it_was_made_of(undisturbed: Undisturbed) -> None:
    checkpoint = undisturbed.folder / "checkpoints/step_000012"
    assert {path.stat().st_mode & 0o777 for path in checkpoint.iterdir()} == {0o644}
    assert checkpoint.stat().st_mode & 0o777 == 0o755
    state = json.loads((checkpoint / "state.json").read_text())
    assert state.keys() >= {"key", "data", "versions"}
    assert len(json.loads((checkpoint / "meta.json").read_text())["tokenizer"]) == 64
    assert state["versions"]["torch"] == torch.__version__


def test_a_stage_with_another_tokenizer_is_refused_the_checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(Stopped):
        stage(tmp_path, tokenizer, Recorder(), iter([False, True])).execute()
    other = Tokenizer.train(["all the world is a stage, and all the men merely players " * 20], vocab_size=270)
    with pytest.raises(StageError, match=r"E406.*trained with another tokenizer"):
        stage(tmp_path, other, Recorder()).execute()


def test_files_of_tensors_are_byte_for_byte_those_of_safetensors(tmp_path: Path) -> None:
    tensors = {f"{kind}{rows}": torch.ones(3, rows).to(dtype) for rows in (1, 2) for dtype, kind in TYPES.items()}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "ü": torch.arange(5), "t": torch.rand(3, 4).T}
    write_tensors(tensors, tmp_path / "ours")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs", {"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_home_on_a_disk_that_is_full_or_read_only_is_told_before_any_work(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disk("size=64k")
    monkeypatch.setenv("NANOCHAT_HOME", str(place))
    for name in ("NANOCHAT_RUN_DIR", "NANOCHAT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    check_home()
    with pytest.raises(OSError, match="No space left"):
        (place / "taken").write_bytes(b"\0" * 2**17)
    with pytest.raises(InputError, match=rf"E401.*the disk is full: nothing more can be written in {place}/runs"):
        check_home()
    (place / "taken").unlink()
    disk("ro")
    with pytest.raises(InputError, match=rf"E401.*cannot write in {place}/runs: read-only file system"):
        check_home()
