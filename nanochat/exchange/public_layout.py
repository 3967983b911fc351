"""Checkpoints of the public nanochat, both generations, read without running what a pickle says.

    model_NNNNNN.pt · meta_NNNNNN.json · tokenizer.pkl (beside them, or in the tokenizer/ folder of their home)

In: the folder. Out: Weights. Which generation it is, the names of the weights tell: the first release (2025-10) has
none of the current model's scales, gates and value embeddings, and its rotary base was 10,000; the current one
(2026-07) has all of them. What lies between wrote down neither its constants nor their values, and is refused.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nanochat.config import sentence
from nanochat.exchange.weights import ANOTHER_TOKENIZER, Weights, fitted, tokenizer_of, unusable, usable_tokenizer
from nanochat.model.gpt_config import GPTConfig
from nanochat.text.pickled_encoding import read_pickled_encoding
from nanochat.text.tokenizer import Tokenizer

COMPILED = "_orig_mod."
"""What torch.compile puts before a name."""
OUTSIDE = {"transformer.wte.weight": "wte.weight", "lm_head.weight": "head.weight"}
IN_BLOCK = {
    "attn.c_q": "attn.q",
    "attn.c_k": "attn.k",
    "attn.c_v": "attn.v",
    "attn.c_proj": "attn.out",
    "attn.ve_gate": "attn.value_gate",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}
"""Their name of a matrix → ours."""
CURRENT = ("resid_lambdas", "x0_lambdas", "smear_lambda", "smear_gate.weight", "backout_lambda")
"""The weights that only the current generation has, each named as ours; value embeddings come with them."""
ARCHIVE = b"PK\x03\x04"
"""How a file of torch's begins, since torch 1.6: it is a zip archive."""
TOKENIZERS = ("tokenizer.pkl", "tokenizer/tokenizer.pkl", "../../tokenizer/tokenizer.pkl")


def steps(folder: Path) -> list[int]:
    """The steps whose model is there, ascending."""
    return sorted(int(found[1]) for path in folder.iterdir() if (found := re.fullmatch(r"model_(\d+)\.pt", path.name)))


def read(folder: Path, tokenizer: Tokenizer | None = None, *, step: int | None = None) -> Weights:
    """The model of a step, by default the last; without a tokenizer, with that of its home.

    InputError E409 where it is none of these, or asks for more than tensors; E307 for its tokenizer.
    """
    there = steps(folder)
    chosen = there[-1] if step is None else step
    if chosen not in there:
        raise unusable(folder, f"has no model of step {step}; it has {', '.join(map(str, there))}")
    found = {_our_name(name): tensor for name, tensor in _state(folder / f"model_{chosen:06d}.pt").items()}
    config = _config(folder / f"meta_{chosen:06d}.json", found)
    tensors = fitted(found, config, folder / f"model_{chosen:06d}.pt")
    tokenizer = tokenizer or _tokenizer(folder)
    return Weights(config=config, tensors=tensors, tokenizer=usable_tokenizer(tokenizer, config, folder), step=chosen)


def _state(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it does not read, which then fail
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged pickle fails inside of torch in any way, struct.error among them
        raise unusable(path, f"holds no tensors that can be read safely: {_refused(path, fault)}") from fault
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise unusable(path, "is no table of tensors")
    return {str(name): tensor for name, tensor in found.items()}


def _refused(path: Path, fault: Exception) -> str:
    """Why torch did not read a file, in our words: its own advise to load any such file unsafely."""
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(ARCHIVE)) == ARCHIVE
    except OSError as unopened:
        return f"it cannot be opened ({unopened.strerror})"
    if asked := re.search(r"GLOBAL ([\w.]+)", str(fault)):
        return f"it asks for {asked[1]}, which no weights need"
    if is_archive:
        return "it was cut off or damaged, or is another kind of torch's archives"
    return "it is no file of torch's, or was cut off"


def _our_name(name: str) -> str:
    """Our name; a weight that is not known keeps its own, and is refused with it."""
    name = name.removeprefix(COMPILED)
    inside = re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.weight", name)
    if inside and inside[2] in IN_BLOCK:
        return f"blocks.{inside[1]}.{IN_BLOCK[inside[2]]}.weight"
    return OUTSIDE.get(name, name)


def _config(path: Path, found: Mapping[str, torch.Tensor]) -> GPTConfig:
    """The config that the meta file and the weights together tell."""
    try:
        model = json.loads(path.read_bytes())["model_config"]
        depth, dim, heads, kv_heads, sequence_len, vocab_size = (
            int(model[key]) for key in ("n_layer", "n_embd", "n_head", "n_kv_head", "sequence_len", "vocab_size")
        )
        rows = found["wte.weight"].size(0)
        config = GPTConfig(
            depth=depth,
            dim=dim,
            head_dim=dim // heads,
            n_head=heads,
            n_kv_head=kv_heads,
            sequence_len=sequence_len,
            vocab_size=vocab_size,
            **_generation(path, model, found, vocab_multiple=64 if rows == -(-vocab_size // 64) * 64 else 1),
        )
        problems = config.problems()
    except OSError as fault:
        raise unusable(path, f"cannot be read ({fault.strerror})") from fault
    except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError, RecursionError) as fault:
        raise unusable(path, f"does not describe a model ({type(fault).__name__}: {fault})") from fault
    if problems:
        raise unusable(path, f"does not fit together: {sentence(problems[0])}")
    return config


def _generation(
    path: Path, model: Mapping[str, Any], found: Mapping[str, torch.Tensor], *, vocab_multiple: int
) -> dict[str, Any]:
    """The switches of a generation. InputError E409 for one between the two."""
    there = [name for name in CURRENT if name in found]
    if there and len(there) < len(CURRENT):
        (lacking, *_) = (name for name in CURRENT if name not in found)
        raise unusable(
            path.with_name(path.name.replace("meta", "model").replace(".json", ".pt")),
            f"is of a time between the two generations that can be read: it has `{there[0]}` and no `{lacking}`",
            help="the first release (2025-10) and the current model (2026-07) can be read",
        )
    if not there:
        return dict(GPTConfig.BEFORE) | {"vocab_multiple": vocab_multiple}
    return {"window_pattern": str(model["window_pattern"]), "vocab_multiple": vocab_multiple}


def _tokenizer(folder: Path) -> Tokenizer:
    for place in TOKENIZERS:
        if (path := folder / place).is_file():
            return tokenizer_of(path, read_pickled_encoding)
    raise unusable(folder, "has no tokenizer.pkl beside it", help=ANOTHER_TOKENIZER)
