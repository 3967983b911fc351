"""`nanochat eval` and `nanochat diff` as a person uses them, on two small models that are not trained."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from core_bundle import in_float64, reference, tasks, write

from nanochat.cli.main import main
from nanochat.exchange.checkpoint_folder import write_model
from nanochat.exchange.weights import Weights
from nanochat.registry import load_registry
from nanochat.testing import tiny_model, tiny_tokenizer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two checkpoints, whose weights differ a little, and a bundle."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        model = tiny_model()
        if name == "two":
            with torch.no_grad():
                model.head.weight += 0.02 * torch.randn(model.head.weight.shape, generator=torch.manual_seed(1))
        weights = Weights(config=model.config, tensors=model.state_dict(), tokenizer=tiny_tokenizer())
        write_model(weights, tmp_path / name, load_registry())
    described = tasks(8)
    write(tmp_path / "bundle", {label: described[label] for label in ("plain", "schema", "answer")})
    return tmp_path


def nanochat(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == code, said.out + said.err
    return said.out


CORE = ("--eval", "core", "--set", "core.bundle=bundle", "--device", "cpu")


@pytest.mark.slow  # three processes that import torch
def test_eval_measures_a_checkpoint_and_diff_compares_two_example_by_example(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json.loads(nanochat(capsys, "eval", "one", *CORE, "--json"))
    model = in_float64(tiny_model().eval())
    for label, task in tasks(8).items():
        if label in ("plain", "schema", "answer"):
            right = [result.right for result in reference(label, task, model, tiny_tokenizer())]
            figure = first["figures"][f"core.{label}"]
            assert figure["value"] == pytest.approx(sum(right) / len(right))
            assert figure["n"] == len(right)
    assert first["settings"]["data"]["evals.core"]["sha256"] == first["figures"]["core.core"]["data"]
    lines = (Path(first["examples"]) / "core-0.jsonl").read_text().splitlines()
    assert len(lines) == first["figures"]["core.core"]["n"]
    again = nanochat(capsys, "eval", "one", *CORE)
    assert "nothing to do" in again
    assert re.search(r"core\.core +-?[0-9.]+ +24 +± ", again)

    second = json.loads(nanochat(capsys, "eval", "two", *CORE, "--json"))
    compared = json.loads(nanochat(capsys, "diff", first["run"], second["run"], "--json", code=1))
    whole = compared["examples"][0]
    assert (whole["name"], whole["n"], whole["unpaired"]) == ("eval.core", 24, 0)
    assert whole["gained"] - whole["lost"] == pytest.approx(24 * (whole["means"][1] - whole["means"][0]))
    said = nanochat(capsys, "diff", first["run"], second["run"], "--flips", code=1)
    assert re.search(r"eval\.core +24 ", said)
    assert said.count("eval.core ") >= 1 + whole["gained"] + whole["lost"]


def test_settings_of_what_is_not_measured_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--set", "bpb.tokens=4"], ["--set", "tokens=4"], ["--eval", "core"]):
        with pytest.raises(SystemExit) as ended:
            main(["eval", "one", *CORE, *arguments])
        assert ended.value.code == 2
        assert "E407" in capsys.readouterr().err


def test_what_is_wrong_is_said_as_of_a_recipe(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--set", "core.max_per_task=0"], "E104"),
        (["--set", "core.maximum=1"], "E102"),
        (["--data", "nowhere"], "E201"),
        (["--set", f'core.sha256="{"0" * 64}"'], "E304"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["eval", "one", *CORE, *arguments])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_an_evaluation_of_sources_without_one_is_told_the_commands_own_remedy(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "one", "--eval", "bpb"])
    said = capsys.readouterr().err
    assert (ended.value.code, "E407" in said, "--data SOURCE" in said) == (2, True, True)
    assert "stage" not in said and "table" not in said


@pytest.mark.slow
def test_an_evaluation_of_sources_is_given_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "text.txt").write_text("\n\n".join(f"The {n} small birds sat on a wall" for n in range(4000)))
    arguments = ("--eval", "bpb", "--data", "files", "--set", "files.path=text.txt", "--set", "bpb.tokens=640")
    found: dict[str, Any] = json.loads(nanochat(capsys, "eval", "one", *arguments, "--device", "cpu", "--json"))
    assert found["figures"]["bpb.bpb"]["n"] >= 1
