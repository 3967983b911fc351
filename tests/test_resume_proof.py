"""`nanochat bench resume`: runs that are really killed, and that whatever differs is found and named."""

import json
from pathlib import Path

import attrs
import pytest

from nanochat.cli.main import main
from nanochat.running.resume_proof import MOMENTS, VICTIMS, Kill, Proof, Trial
from nanochat.running.trace import Trace, compare
from nanochat.text.tokenizer import Tokenizer

RECIPE = """
format = 1
name = "tiny"
[stages.base]
use = "pretrain"
tokenizer = "path:tok"
total_batch_size = 128
device_batch_size = 2
packing_buffer = 8
[stages.base.model]
use = "gpt"
depth = 1
dim = 64
head_dim = 32
sequence_len = 32
[stages.base.data.stories]
use = "stories"
size = 100
[stages.base.optim.all]
use = "adamw"
match = "*"
"""


def resume(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "resume", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().out


def test_a_run_killed_in_its_start_and_in_a_write_is_the_undisturbed_one_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tok").mkdir()
    Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270).save(tmp_path / "tok")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    code, said = resume(capsys, str(tmp_path / "tiny.toml"), "--kills", "2", "--seed", "81", "--json")
    proof = json.loads(said)
    assert (code, proof["equal"], proof["differences"]) == (0, True, 0), said
    assert [kill["victim"] for kill in proof["kills"]] == ["runner", "rank 1"]
    assert (proof["restarts_by_runner"], proof["restarts_by_hand"]) == (1, 1)
    assert proof["comparison"]["losses_compared"] == 22
    assert proof["comparison"]["batches_compared"] > 2 * 22  # repeated steps


@pytest.mark.slow
def test_a_run_killed_sixteen_times_is_the_undisturbed_one_bit_for_bit(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = resume(capsys, "--kills", "16", "--json")
    proof = json.loads(said)
    assert (code, proof["equal"], proof["differences"]) == (0, True, 0), said
    hit = [(kill["victim"], kill["moment"]) for kill in proof["kills"]]
    assert {victim for victim, _ in hit} == set(VICTIMS)
    assert {moment for _, moment in hit} == set(MOMENTS)


def left(folder: Path, loss: float = 2.5, digest: str = "aa", model: str = "cc") -> Trace:
    """What a run of two steps leaves."""
    stage = folder / "store" / "base-0123abcd"
    (stage / "checkpoints/step_000002").mkdir(parents=True)
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": loss}, {"step": 2, "bpb.bpb": 1.0}]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for rank in range(2):
        taken = [{"step": 1, "digest": "bb"}, {"step": 2, "digest": digest if rank else "aa"}]
        (stage / f"batches-{rank}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in taken))
    files = {"model.safetensors": {"bytes": 1, "sha256": model}, "state.json": {"bytes": 1, "sha256": "dd"}}
    (stage / "checkpoints/step_000002/MANIFEST.json").write_text(json.dumps({"files": files}))
    return Trace(folder, "base")


def test_the_last_bit_of_a_loss_a_batch_and_a_file_are_differences_and_are_named(tmp_path: Path) -> None:
    first = left(tmp_path / "first")
    same = compare(first, left(tmp_path / "same"))
    assert (same.equal, same.losses_compared, same.batches_compared, same.files_compared) == (True, 2, 4, 2)
    other = compare(first, left(tmp_path / "other", loss=2.5 + 2**-51, digest="ab", model="ce"))
    assert other.losses == {2: ("0x1.4000000000000p+1", "0x1.4000000000001p+1")}
    assert (other.batches, other.files, other.differences, other.equal) == ([(1, 2)], ["model.safetensors"], 3, False)


def test_a_batch_of_a_repeated_step_counts_and_one_that_was_never_taken(tmp_path: Path) -> None:
    first, second = left(tmp_path / "first"), left(tmp_path / "second")
    assert second.folder is not None
    with (second.folder / "batches-0.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "digest": "wrong"}) + "\n")
    (second.folder / "batches-1.jsonl").write_text(json.dumps({"step": 1, "digest": "bb"}) + "\n")
    assert compare(first, second).batches == [(0, 1), (1, 2)]


def test_two_runs_that_left_nothing_are_not_called_equal(tmp_path: Path) -> None:
    assert not compare(Trace(tmp_path / "a", "base"), Trace(tmp_path / "b", "base")).equal


def test_the_command_prints_the_kills_and_the_differences_and_ends_with_1_where_there_are_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare(left(tmp_path / "first"), left(tmp_path / "other", loss=2.25))
    kills = [Kill(victim="agent", moment="write", step=4), Kill(victim="runner", moment="step", step=6)]
    proof = Proof(kills=kills, restarts_by_runner=1, restarts_by_hand=1, comparison=found)
    monkeypatch.setattr(Trial, "prove", lambda *_: proof)
    code, said = resume(capsys)
    assert code == 1
    rows = [line.split() for line in said.splitlines()]
    assert ["agent", "0", "0", "1", "1"] in rows and ["all", "0", "1", "1", "2"] in rows
    assert "1 differ (2 steps, as float.hex): step 2: 0x1.4000000000000p+1 and 0x1.2000000000000p+1" in said
    assert said.splitlines()[-1] == "not equal"
    equal = attrs.evolve(proof, comparison=compare(left(tmp_path / "a"), left(tmp_path / "b")))
    monkeypatch.setattr(Trial, "prove", lambda *_: equal)
    code, said = resume(capsys)
    assert (code, said.splitlines()[-1]) == (0, "equal to the bit")
