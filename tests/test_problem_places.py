"""Where settings that do not fit together are shown: at the key that a config class names, else at its table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_plugin import CPU, TINY, tiny_registry, write

from nanochat.config import Artifact, artifact, config, option
from nanochat.errors import InputError
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe

ANSWER: list[Any] = []
TABLE = "[stages.sft.data.sums]"


@config
class Inner:
    """A table in a task's table."""

    size: int = option(1)


@config
class Picky:
    """A task whose config gives the answer of the test."""

    low: int = option(1)
    high: int = option(2)
    inner: Inner = option(Inner())
    words: Artifact | None = artifact("tokenizer", optional=True)

    def problems(self) -> list[Any]:
        """What the test wants said."""
        return ANSWER


def register_tasks(registry: Any) -> None:
    registry.add("picky", build="test_problem_places:Picky", config="test_problem_places:Picky")


@pytest.mark.parametrize(
    "problem, shown",
    [
        (("low", "it is so"), ("low = 3", "3")),
        (("words", "it is so"), ('words = "stage:tok"', '"stage:tok"')),
        (("inner", "it is so"), ("inner = {size = 2}", "inner")),
        (("high", "it is so"), (TABLE, "sums")),  # not written in the recipe
        (("nothing", "it is so"), (TABLE, "sums")),
        ("it is so", (TABLE, "sums")),
    ],
)
def test_a_problem_stands_at_the_key_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Any, shown: tuple[str, str]
) -> None:
    monkeypatch.setattr("test_problem_places.ANSWER", [problem])
    registry = tiny_registry()
    registry.register(SimpleNamespace(register_tasks=hookimpl(register_tasks)), name="picky")
    keys = 'low = 3\ninner = {size = 2}\nwords = "stage:tok"'
    text = TINY.replace(f'{TABLE}\nuse = "sums"', f'{TABLE}\nuse = "picky"\n{keys}')
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text), registry=registry, machine=CPU)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("E115", "stages.sft.data.sums: it is so")
    place = found.location
    assert place is not None
    assert (place.text, place.text[place.column - 1 :][: place.width]) == shown
