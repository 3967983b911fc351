"""[plugins] block: what is not loaded, and what is said of a name that blocks nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_plugin import CPU, TINY, places, tiny_registry, write

from nanochat.errors import InputError
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry


def twofold() -> Registry:
    """The tiny registry, with a second distribution that claims `sgd`."""

    def register_optimizers(registry: Any) -> None:
        registry.add("sgd", build="tiny_plugin:SgdConfig", config="tiny_plugin:SgdConfig")

    registry = tiny_registry()
    registry.register(
        SimpleNamespace(register_optimizers=hookimpl(register_optimizers)), name="other", distribution="acme-other"
    )
    return registry


def blocking(names: str) -> str:
    return TINY.replace("[hardware]", f"[plugins]\nblock = [{names}]\n[hardware]")


def test_a_name_that_nothing_installed_has_is_a_warning_at_its_place(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, blocking('"zzz", "acme_tinny"')), registry=tiny_registry(), machine=CPU)
    unknown, near = recipe.warnings
    assert [unknown.severity, near.severity] == ["warning", "warning"]
    assert places(list(recipe.warnings)) == [("E201", "recipe.toml:5:10"), ("E201", "recipe.toml:5:17")]
    assert unknown.message == '[plugins] blocks "zzz", but no plugin or distribution of that name is installed'
    assert unknown.help == "installed: nanochat-run, nanochat, acme-tiny, tiny"
    assert near.label.startswith("did you mean `acme-tiny`")


def test_a_misspelt_block_is_told_beside_the_claim_that_it_does_not_settle(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, blocking('"acme-othr"')), registry=twofold(), machine=CPU)
    warning, claim, *_ = caught.value.diagnostics
    assert (warning.severity, warning.label.split(" or ")[0]) == ("warning", "did you mean `acme-other`")
    assert (claim.code, claim.severity) == ("E203", "error")


@pytest.mark.parametrize("name", ["acme-other", "other", "Acme.Other"])
def test_a_name_that_blocks_is_no_warning(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(write(tmp_path, blocking(f'"{name}"')), registry=twofold(), machine=CPU)
    assert recipe.warnings == []


def test_what_is_no_name_is_an_error_of_its_type_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, blocking("3")), registry=tiny_registry(), machine=CPU)
    assert places(list(caught.value.diagnostics)) == [("E103", "recipe.toml:5:10")]
