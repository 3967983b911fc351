"""A model on its way between two formats: its config, its tensors under our names, its tokenizer.

In: what a format's reader found. Out: the same, checked against the config's own layout. Nothing is built or computed;
every tensor goes through as it is, but for its dtype (float32 is exact for the smaller ones) and the padding rows.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from nanochat.errors import InputError, wrong_input
from nanochat.model.gpt_config import GPTConfig
from nanochat.text.tokenizer import Tokenizer
from nanochat.text.vocabulary_file import Vocabulary

ANOTHER_TOKENIZER = "name the tokenizer.pkl or tokenizer.json that it was trained with: --tokenizer FILE"


@attrs.frozen(kw_only=True, eq=False)
class Weights:
    """A `gpt` model as data."""

    config: GPTConfig
    tensors: Mapping[str, torch.Tensor]
    """Float32, named and shaped as `GPTConfig.layout` says."""
    tokenizer: Tokenizer
    tools: Sequence[Mapping[str, Any]] = ()
    """As `checkpoint.describe` gives them."""
    step: int = 0
    notes: Sequence[str] = ()
    """What whoever imports it should know."""


def fitted(found: Mapping[str, torch.Tensor], config: GPTConfig, place: Path) -> dict[str, torch.Tensor]:
    """The tensors as float32, in the layout's order. InputError E409 that names the first one that does not fit."""
    layout = config.layout()
    if missing := [name for name in layout if name not in found]:
        raise unusable(place, f"lacks the weight `{missing[0]}`{_more(missing)}")
    if unknown := [name for name in found if name not in layout]:
        raise unusable(place, f"has a weight that its model does not: `{unknown[0]}`{_more(unknown)}")
    for name, shape in layout.items():
        if tuple(found[name].shape) != shape:
            raise unusable(
                place, f"has `{name}` of shape {list(found[name].shape)}, where its config says {list(shape)}"
            )
        if not found[name].is_floating_point():
            raise unusable(place, f"has `{name}` as {found[name].dtype}, and weights are floating-point numbers")
    return {name: found[name].float().contiguous() for name in layout}


def with_rows(table: torch.Tensor, rows: int) -> torch.Tensor:
    """The first rows of an embedding table (V, C), or rows of zeros after its own: no id has a padding row."""
    if rows <= table.size(0):
        return table[:rows].contiguous()
    return torch.cat((table, table.new_zeros(rows - table.size(0), table.size(1))))


def is_vocabulary_table(name: str) -> bool:
    """Whether a parameter of ours has a row for each id."""
    return name in ("wte.weight", "head.weight") or name.startswith("value_embeds.")


def tokenizer_of(file: Path, read: Callable[[Path], Vocabulary]) -> Tokenizer:
    """The vocabulary of a file in use. InputError E307 where it cannot be read, or its pattern or tokens not be used.

    Whatever the reader advises, the help is an import's own.
    """
    try:
        return Tokenizer(read(file))
    except InputError as fault:
        raise InputError(
            attrs.evolve(found, help=ANOTHER_TOKENIZER) if found.code == "E307" else found
            for found in fault.diagnostics
        ) from fault
    except ValueError as fault:
        raise wrong_input(
            "E307", f"the tokenizer file {file} cannot be used: {fault}", help=ANOTHER_TOKENIZER
        ) from fault


def usable_tokenizer(tokenizer: Tokenizer, config: GPTConfig, place: Path) -> Tokenizer:
    """The tokenizer, where it has an id for each of the model's. InputError E409."""
    if tokenizer.vocab_size != config.vocab_size:
        raise unusable(
            place,
            f"has a model of {config.vocab_size:,} ids, and its tokenizer, with the nine specials, has "
            f"{tokenizer.vocab_size:,}",
            help=ANOTHER_TOKENIZER,
        )
    return tokenizer


def unusable(
    place: Path, reason: str, *, help: str = "`nanochat explain E409` lists what can be imported"
) -> InputError:
    """The error E409 of something that cannot be imported."""
    return wrong_input("E409", f"{place} {reason}", help=help)


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
