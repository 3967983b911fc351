"""`nanochat data show`: what of a conversation is learnt, what a row has room for, and what cannot be shown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_finetune import asked, checkpoint, tokenizer  # noqa: F401 (fixtures)

from nanochat.cli.data import command
from nanochat.errors import InputError

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
RECIPE = """
format = 1
name = "shown"
[stages.sft]
use = "finetune"
init = "path:CHECKPOINT"
total_batch_size = 64
[stages.sft.optim.all]
use = "adamw"
match = "*"
lr = 0.01
[stages.sft.data.mine]
use = "custom_json"
path = "mine.jsonl"
epochs = 2
[stages.sft.data.sums]
use = "arithmetic"
size = 3
"""
CALLED = [
    {"type": "text", "text": "So: "},
    {"type": "python", "text": "1+1"},
    {"type": "python_output", "text": "2"},
]


@pytest.fixture
def recipe(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    lines = [asked("hi <|assistant_end|>", "yo"), asked("q", CALLED), asked("to be?", "not to be " * 50)]  # type: ignore[arg-type]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    path = tmp_path / "shown.toml"
    path.write_text(RECIPE.replace("CHECKPOINT", str(checkpoint)))
    return path


def show(*words: Any) -> str:
    done = CliRunner().invoke(command, ["show", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_in_a_pipe_what_is_learnt_stands_between_brackets_and_the_tools_output_does_not(recipe: Path) -> None:
    first, text, cut, *_ = show(recipe, "stages.sft.data.mine", "--index", 1).splitlines()
    assert first == "conversation 1 of 4: example 1 of `mine`"
    # A row of the checkpoint's model holds 17: the rest is shown behind the cut.
    assert text == (
        "<|bos|><|user_start|>q<|user_end|><|assistant_start|>⟦So: <|python_start|>1+1<|python_end|>⟧"
        "<|output_start|>2<|output_end|>"
    )
    assert cut == "--- cut here: a row holds 17 tokens ---"


def test_what_a_user_spells_is_shown_and_counted_as_text(recipe: Path) -> None:
    shown = show(recipe, "sft.data.mine", "--color")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "hi <|assistant_end|><|user_end|>" in plain.replace("\n", "").replace(
        "--- cut here: a row holds 17 tokens ---", ""
    )
    assert "\x1b[2m<|bos|>" in shown
    assert "⟦" not in shown


def test_all_tokens_are_learnt_but_the_first_where_the_stage_says_so(recipe: Path) -> None:
    shown = show(recipe, "stages.sft.data.mine", "--index", 1, "--set", "stages.sft.loss_on=all")
    assert "<|bos|>⟦<|user_start|>q<|user_end|>" in shown
    assert "4 in a row, 3 of them learnt; a row holds 17" in shown


def test_an_index_of_the_stage_is_the_place_in_its_first_pass(recipe: Path) -> None:
    heads = [show(recipe, "stages.sft", "--index", n).splitlines()[0] for n in range(3) if n != bad_place(recipe)]
    assert all(re.fullmatch(r"conversation \d of 11: example \d of `(mine|sums)`", head) for head in heads)
    assert "in a pass: mine 8, sums 3" in show(recipe, "stages.sft", "--index", 0 if bad_place(recipe) else 1)


def bad_place(recipe: Path) -> int | None:
    """The first place, of three, at which the bad conversation comes."""
    for place in range(3):
        try:
            show(recipe, "stages.sft", "--index", place)
        except InputError:
            return place
    return None


@pytest.mark.parametrize(
    "where, index, code, said",
    [
        ("stages.sft", 11, "E405", "stages.sft has no conversation 11"),
        ("stages.sft", -1, "E405", "stages.sft has no conversation -1"),
        ("stages.sft.data.sums", 3, "E405", "stages.sft.data.sums has no conversation 3"),
        ("stages.sft.data.mine", 3, "E306", "no conversation: Expecting"),
        ("stages.stf", 0, "E405", "shown has no conversations at `stages.stf`"),
        ("stages.sft.data.minne", 0, "E405", "no conversations at `stages.sft.data.minne`"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(recipe: Path, where: str, index: int, code: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        show(recipe, where, "--index", index)
    (found,) = caught.value.diagnostics
    assert (found.code, said in found.message) == (code, True)
    assert found.help


def test_a_stage_whose_tokenizer_is_not_trained_says_how_to_train_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"E405.*stage:tok.*not there yet") as caught:
        show(QUICKSTART, "stages.sft", "--index", 3)
    assert caught.value.diagnostics[0].help.endswith("--until tok")
    with pytest.raises(InputError, match=r"no conversations at `stages\.base`"):
        show(QUICKSTART, "stages.base")
