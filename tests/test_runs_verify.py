"""`nanochat runs verify`: whatever happened to a file of a checkpoint, it is named, and the exit code says so."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nanochat.cli.runs import command
from nanochat.running.store import StageFolder
from nanochat.training.manifest import write_manifest


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two checkpoints of stage `base` and one of `sft`, 3 kB each."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    for name, key, steps in (("base", "a" * 64, (2, 4)), ("sft", "b" * 64, (7,))):
        folder = tmp_path / "store" / f"{name}-{key[:8]}"
        StageFolder(path=folder, key=key).open({"stage": name})
        for step in steps:
            checkpoint = folder / f"checkpoints/step_{step:06d}"
            checkpoint.mkdir(parents=True)
            for file in ("meta.json", "model.safetensors", "optim-0.safetensors"):
                (checkpoint / file).write_bytes(f"{name} {step} {file}".encode().ljust(1000, b"."))
            write_manifest(checkpoint)
    return tmp_path / "store"


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["verify", *arguments])


def test_a_store_in_which_all_is_well_says_how_much_was_read(store: Path) -> None:
    result = ran()
    assert (result.exit_code, result.output) == (0, "3 checkpoints, 9 kB: all as they were written\n")
    assert ran("base-aaaaaaaa").output == "2 checkpoints, 6 kB: all as they were written\n"
    assert ran(str(store / "sft-bbbbbbbb/checkpoints/step_000007")).output.startswith("1 checkpoint, 3 kB: all")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (flip, "{} is not what was written: its digest differs from the manifest's"),
    "cut": (cut, "{} has 990 bytes, its manifest says 1000"),
    "gone": (Path.unlink, "{} is missing"),
}


@pytest.mark.parametrize("file", ["meta.json", "model.safetensors", "optim-0.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_damaged_is_named_with_what_is_wrong(damage: str, file: str, store: Path) -> None:
    spoil, said = DAMAGE[damage]
    checkpoint = store / "base-aaaaaaaa/checkpoints/step_000004"
    spoil(checkpoint / file)
    result = ran()
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"broken  {checkpoint}",
        f"        {said.format(file)}",
        "3 checkpoints, 9 kB: 1 broken, which a stage that goes on passes over",
    ]
    assert ran("sft-bbbbbbbb").exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "MANIFEST.json cannot be read: No such file or directory"),
        (b'{"format": 1, "fil', "MANIFEST.json cannot be read: it is damaged"),
        (b"[]", "MANIFEST.json cannot be read: it is damaged"),
        (b'{"files": {"meta.json": {"bytes": 3}}}', "MANIFEST.json does not say sha256"),
        (b'{"files": 3}', "MANIFEST.json cannot be read: it is damaged"),
        (b'{"format": 2, "files": {}}', "MANIFEST.json has format 2: a newer nanochat wrote it, this one reads 1"),
    ],
)
def test_a_manifest_that_says_nothing_is_a_fault_and_no_traceback(
    content: bytes | None, said: str, store: Path
) -> None:
    manifest = store / "sft-bbbbbbbb/checkpoints/step_000007/MANIFEST.json"
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    result = ran("sft-bbbbbbbb")
    assert result.exit_code == 1
    assert f"        {said}" in result.output


def test_all_faults_of_a_checkpoint_come_in_json_with_those_that_are_whole(store: Path) -> None:
    checkpoint = store / "base-aaaaaaaa/checkpoints/step_000002"
    flip(checkpoint / "model.safetensors")
    (checkpoint / "meta.json").unlink()
    result = ran("--json", "base-aaaaaaaa")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert [(Path(one["checkpoint"]).name, one["state"], len(one["faults"])) for one in found] == [
        ("step_000002", "broken", 2),
        ("step_000004", "ok", 0),
    ]


def test_what_was_set_aside_counts_as_broken_until_it_is_removed(store: Path) -> None:
    folder = store / "base-aaaaaaaa/checkpoints"
    (folder / "step_000002").rename(folder / "broken_step_000002")
    cut(folder / "broken_step_000002/meta.json")
    assert "broken_step_000002" in ran().output
    shutil.rmtree(folder / "broken_step_000002")
    assert ran().exit_code == 0


def test_a_name_that_leads_nowhere_is_an_error(store: Path) -> None:
    result = ran("nobody")
    assert "there is no run, stage, tag or checkpoint `nobody`" in str(result.exception)


def test_verifying_imports_no_torch(store: Path) -> None:
    code = "import sys; import nanochat.cli.runs_verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
