"""The settings of sampling, on a command line and in a chat."""

import attrs
import pytest
from click.testing import CliRunner

from nanochat.cli.chat import command as chat
from nanochat.cli.complete import command as complete
from nanochat.cli.sampling_options import NUMBERS, is_optional, number_type
from nanochat.errors import InputError
from nanochat.inference.sampling import Sampling

NOT_FOR_A_TERMINAL = {"logit_bias", "ignore_eos", "logprobs", "prompt_logprobs"}
"""Told to clients, or of use to those who count tokens."""


def test_every_setting_has_an_option() -> None:
    fields = {field.name for field in attrs.fields(Sampling)} - NOT_FOR_A_TERMINAL
    assert set(NUMBERS) | {"stop"} == fields
    for command in (chat, complete):
        shown = CliRunner().invoke(command, ["--help"]).output
        assert [name for name in fields if f"--{name.replace('_', '-')} " not in shown] == []


@pytest.mark.parametrize("field", attrs.fields(Sampling), ids=lambda field: field.name)
def test_none_is_a_value_of_what_may_be_left_open_and_of_nothing_else(field: "attrs.Attribute[object]") -> None:
    if not field.metadata:
        return
    if field.default is None:
        assert getattr(Sampling(**{field.name: None}), field.name) is None
    else:
        with pytest.raises(InputError, match=f"E602.*{field.name} is None; it must be"):
            Sampling(**{field.name: None})


def test_options_have_the_types_of_the_settings() -> None:
    assert [name for name in NUMBERS if is_optional(name)] == ["max_tokens", "seed"]
    assert {name for name in NUMBERS if number_type(name) is int} == {"top_k", "max_tokens", "seed"}
