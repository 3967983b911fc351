"""recipes/README.md: its examples load, and its screens are what is shown."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tiny_plugin import CPU, write

from nanochat.cli.main import main
from nanochat.recipe.load import load_recipe

README = Path(__file__).parents[1] / "recipes" / "README.md"


def examples(language: str = "toml") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", range(len(examples()) if README.exists() else 0))
def test_the_examples_of_the_readme_load(tmp_path: Path, example: int) -> None:
    """Each is a whole recipe, or is added to the first one, which is saved as base.toml beside it."""
    whole, *_ = examples()
    text = examples()[example]
    write(tmp_path, whole, "base.toml")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("Once upon a time.")
    said = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(said) + "\n")
    load_recipe(write(tmp_path, text if text.startswith(("format", "extends")) else f'extends = "base.toml"\n{text}'))


@pytest.mark.parametrize("transcript", examples("console"), ids=lambda transcript: transcript.split()[2])
def test_the_screens_of_the_readme_are_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], transcript: str
) -> None:
    """All but the digits of keys, which follow the interpreter's own documentation, and the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    monkeypatch.setattr("nanochat.cli.plan.probe_machine", lambda: CPU)
    for name, text in zip(("base.toml", "deeper.toml"), examples(), strict=False):
        write(tmp_path, text, name)
    command, _, expected = transcript.removeprefix("$ nanochat ").partition("\n")
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    shown = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    assert without_keys(shown) == without_keys(expected)


def without_keys(screen: str) -> str:
    return re.sub(r"\b[0-9a-f]{8}\b", "KEY", screen)
