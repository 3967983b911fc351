"""`nanochat data overlap`: runs of words that evaluations share with training texts."""

import json
import random
from pathlib import Path

import pytest
from core_bundle import Task, write
from hypothesis import given
from hypothesis import strategies as st

from nanochat.cli.main import main
from nanochat.data.overlap import overlaps

WORDS = st.sampled_from(["a", "b", "c", "D,", "e."])
TEXTS = st.lists(st.lists(WORDS, max_size=9).map(" ".join), max_size=5)


@given(TEXTS, TEXTS, st.integers(2, 4))
def test_a_text_is_found_where_its_words_stand_in_a_row_in_a_training_text(
    evaluated: list[str], trained: list[str], n: int
) -> None:
    found = overlaps({"set": evaluated}, trained, n)["set"]

    def plain(text: str) -> str:
        return " " + "".join(c for c in text.lower() if c not in ",.") + " "

    def shared(text: str) -> bool:
        words = plain(text).split()
        runs = [" " + " ".join(words[i : i + n]) + " " for i in range(len(words) - n + 1)]
        return any(run in plain(other) for run in runs for other in trained)

    assert [number for number, _ in found.found] == [i for i, text in enumerate(evaluated) if shared(text)]
    assert found.short == sum(len(text.split()) < n for text in evaluated)
    assert found.texts == len(evaluated)


RECIPE = """
format = 1
[hardware]
device = "cpu"
[stages.tok]
use = "tokenizer"
vocab_size = 300
[stages.tok.data.own]
use = "files"
path = "text.txt"
[stages.base]
use = "pretrain"
tokenizer = "stage:tok"
steps = 1
total_batch_size = 256
device_batch_size = 4
[stages.base.model]
use = "gpt"
depth = 1
sequence_len = 64
[stages.base.data]
from = "stages.tok.data"
[stages.base.optim.all]
use = "adamw"
match = "*"
lr = 0.01
[stages.base.evals.core]
use = "core"
bundle = "bundle"
[stages.base.evals.samples]
use = "samples"
"""


def test_a_task_that_stands_in_the_training_text_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    rng = random.Random(5)
    words = [f"w{n}" for n in range(400)]
    asked = [" ".join(rng.sample(words, 20)) for _ in range(10)]
    texts = [" ".join(rng.sample(words, 60)) for _ in range(300)]
    for number in (2, 7):  # in other words around it, without its case and signs
        texts[number * 3] = f"He said: {asked[number].upper()}! and left."
    (tmp_path / "text.txt").write_text("\n\n".join(texts))
    rows = [{"context": text, "continuation": "yes"} for text in asked] + [{"context": "so", "continuation": "x"}]
    clean = [{"context": " ".join(rng.sample(words, 20)), "continuation": "no"} for _ in range(4)]
    described = {
        "leaked": Task(type="language_modeling", shots=0, examples=rows),
        "clean": Task(type="language_modeling", shots=0, examples=clean),
    }
    write(tmp_path / "bundle", described)
    (tmp_path / "r.toml").write_text(RECIPE)
    arguments = ["data", "overlap", str(tmp_path / "r.toml"), "--set", "stages.tok.data.own.validation_share=0.0"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    found = json.loads(said.out)
    (source,) = found["sources"]
    assert source["name"] == "base.own"
    leaked, nothing = source["overlaps"]["base.core.leaked"], source["overlaps"]["base.core.clean"]
    assert [number for number, _ in leaked["found"]] == [2, 7]
    assert (leaked["texts"], leaked["short"]) == (11, 1)
    assert nothing["found"] == []
    assert any("base.samples (samples) is left out" in note for note in found["notes"])
    with pytest.raises(SystemExit):
        main(arguments)
    assert "20.00%" in capsys.readouterr().out
