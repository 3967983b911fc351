"""A task class of the public nanochat's form takes part with one line of registration and no change."""

from pathlib import Path
from typing import Any

import attrs
import public_form
import pytest

from nanochat.data.task_mixture import TaskMixture, TaskShare
from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.testing import tiny_subject, tiny_tokenizer
from nanochat.text.conversation import render_conversation
from nanochat_plugins.evals.task import evaluate
from nanochat_plugins.evals.task_config import TaskConfig

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"


@pytest.fixture
def registry() -> Registry:
    found = load_registry()
    found.register(public_form, name="public", distribution="public")
    return found


def recipe(registry: Registry, table: str) -> Any:
    return load_recipe(QUICKSTART, overrides=[f"stages.sft.data.mine={table}"], registry=registry)


def test_the_constructors_keywords_and_those_it_hands_on_are_keys_of_a_recipe(registry: Registry) -> None:
    table = '{use = "capitals", subset = "europe", split = "train", start = 1, stop = 9, step = 3, epochs = 2}'
    part = recipe(registry, table).stages["sft"].config.data["mine"]
    task = registry.builder("task", "capitals")(part.config)
    countries = [example["messages"][0]["content"].split()[-1] for example in task]
    assert countries == ["Italy?", "France?", "Norway?"]
    mixture = TaskMixture({"mine": TaskShare(task=task, epochs=part.slot.epochs)}, 0)
    assert sorted(mixture.place(n)[1] for n in range(len(mixture))) == [0, 0, 1, 1, 2, 2]
    for example in task:
        assert render_conversation(example, tiny_tokenizer()).ids
    assert (task.reward(task[0], "Rome"), task.reward(task[0], "Oslo")) == (1.0, 0.0)


@pytest.mark.parametrize(
    "table, said",
    [
        ('{use = "capitals", subset = "europe"}', "split"),
        ('{use = "capitals", subset = "europe", split = "train", stopp = 3}', "stopp"),
        ('{use = "heavier", size = "5"}', "size"),
        ('{use = "capitals", subset = "europe", split = "test"}', "the test split of `capitals`"),
    ],
)
def test_what_is_missing_unknown_or_of_the_wrong_type_is_named_like_any_components(
    table: str, said: str, registry: Registry
) -> None:
    with pytest.raises(InputError) as caught:
        recipe(registry, table)
    assert said in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    "use, options", [("capitals", {"subset": "europe", "split": "test"}), ("heavier", {"stop": 3})]
)
def test_it_is_evaluated_by_letters_or_by_what_the_model_writes(
    use: str, options: dict[str, Any], registry: Registry
) -> None:
    config = registry.config_class("task", use)(**options)
    subject = tiny_subject(build=lambda component: registry.builder("task", component.use)(component.config))
    from nanochat.config import Component

    task = Component(kind="task", name="task", use=use, revision=1, config=config)
    figure = evaluate(TaskConfig(task=task, max_tokens=4), subject)["accuracy"]
    assert (figure.n, 0 <= figure.value <= 1) == (3 if use == "heavier" else 4, True)
    assert attrs.has(type(config))
