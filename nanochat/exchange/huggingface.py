"""A model as Hugging Face transformers keeps it (`NanoChatForCausalLM`), to and from.

    config.json · model.safetensors · tokenizer.json · tokenizer_config.json · generation_config.json

In and out: folders and Weights. Theirs is the first release's model: rotary positions turned by −θ, QK norm, relu²,
softcapped logits, grouped heads, tied or not. What ours can do beyond that is refused by name. Logits are the same in
float32: the norms' ε goes with the config, and padding rows stay behind, so that no id without a token can be sampled.
Nothing of transformers is imported.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nanochat.config import sentence
from nanochat.errors import wrong_input
from nanochat.exchange.chat_template import CHAT_TEMPLATE
from nanochat.exchange.checkpoint_folder import whole_folder
from nanochat.exchange.weights import (
    Weights,
    fitted,
    is_vocabulary_table,
    tokenizer_of,
    unusable,
    usable_tokenizer,
    with_rows,
)
from nanochat.model.gpt_config import GPTConfig
from nanochat.text import special
from nanochat.text.formats import read_huggingface, write_huggingface
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.tensor_file import write_tensors

ARCHITECTURE = "NanoChatForCausalLM"
EPSILON = torch.finfo(torch.float32).eps
"""Of our norms in float32, 1.19e-7; theirs is 1e-6 where the config does not say."""
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

OUTSIDE = {"wte.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
IN_BLOCK = {
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.out": "self_attn.o_proj",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
"""Our name of a matrix → theirs."""


def write(weights: Weights, final: Path) -> None:
    """Write the folder. InputError E408 where the model has what theirs lacks, E308 without the package tokenizers."""
    refuse_inexpressible(weights.config)
    config, tokenizer = weights.config, weights.tokenizer
    end = tokenizer.special_id(special.ASSISTANT_END)
    tensors = {
        _their_name(name): with_rows(tensor, config.vocab_size) if is_vocabulary_table(name) else tensor
        for name, tensor in weights.tensors.items()
    }
    files = {
        CONFIG: _their_config(config, bos=tokenizer.bos_id, end=end),
        "generation_config.json": {"bos_token_id": tokenizer.bos_id, "eos_token_id": end, "pad_token_id": end},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.sequence_len,
            "clean_up_tokenization_spaces": False,
            "bos_token": special.BOS,
            "eos_token": special.ASSISTANT_END,
            "pad_token": special.ASSISTANT_END,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    with whole_folder(final) as folder:
        write_tensors(tensors, folder / WEIGHTS)
        write_huggingface(tokenizer.vocabulary, folder / "tokenizer.json")
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def refuse_inexpressible(config: GPTConfig) -> None:
    """InputError E408 that names every switch that transformers' model does not have."""
    found = [name for name in ("value_embeddings", "residual_lambdas", "smear", "backout") if getattr(config, name)]
    if config.qk_scale != 1:
        found.append(f"qk_scale = {config.qk_scale:g}")
    if any(window < config.sequence_len for window in config.windows()):
        found.append(f'window_pattern = "{config.window_pattern}"')
    if found:
        raise wrong_input(
            "E408",
            f"transformers' {ARCHITECTURE} does not have what this model uses: {', '.join(found)}",
            help="export it with --format safetensors; `nanochat explain E408` says what it does have",
        )


def read(folder: Path, tokenizer: Tokenizer | None = None) -> Weights:
    """Read such a folder; without a tokenizer, with its own. InputError E409 where it is none, E307 for its tokenizer.

    The weights come back as they are, in float32; the tables get padding rows of zeros, as ours have. Rows of ids that
    the tokenizer does not have are left out.
    """
    theirs = _json(folder / CONFIG)
    if tokenizer is None:
        tokenizer = tokenizer_of(folder / "tokenizer.json", read_huggingface)
    notes = []
    try:
        given, epsilon = int(theirs["vocab_size"]), float(theirs.get("rms_norm_eps", 1e-6))
        config = _our_config(theirs, vocab_size=min(given, tokenizer.vocab_size), folder=folder)
        found = {_our_name(name, folder): tensor for name, tensor in _tensors(folder).items()}
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as fault:
        raise unusable(folder, f"does not describe a {ARCHITECTURE} ({type(fault).__name__}: {fault})") from fault
    if problems := config.problems():
        raise unusable(folder / CONFIG, f"does not fit together: {sentence(problems[0])}")
    if config.tied:
        found.pop("head.weight", None)
    if given > config.vocab_size:
        notes.append(f"left out the rows of {given - config.vocab_size:,} ids that have no token")
    if epsilon != EPSILON:
        notes.append(f"its norms add {epsilon:g}, ours {EPSILON:.3g} in float32: logits differ a little")
    return Weights(
        config=config,
        tensors=fitted(_padded(found, given, config, folder), config, folder),
        tokenizer=usable_tokenizer(tokenizer, config, folder),
        notes=notes,
    )


def _padded(found: Mapping[str, torch.Tensor], given: int, config: GPTConfig, folder: Path) -> dict[str, torch.Tensor]:
    """With tables of so many rows as ours have, from theirs of `given`. InputError E409 where they have others."""
    padded = dict(found)
    for name in filter(is_vocabulary_table, found):
        if tuple(found[name].shape) != (given, config.dim):
            shape = list(found[name].shape)
            raise unusable(folder, f"has `{_their_name(name)}` of shape {shape}, not {[given, config.dim]}")
        padded[name] = with_rows(with_rows(found[name], config.vocab_size), config.padded_vocab_size)
    return padded


def _their_config(config: GPTConfig, *, bos: int, end: int) -> dict[str, Any]:
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "nanochat",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.mlp_ratio * config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "max_position_embeddings": config.sequence_len,
        "hidden_act": "relu2",
        "attention_bias": False,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "final_logit_softcapping": config.logit_softcap or None,
        "tie_word_embeddings": config.tied,
        "bos_token_id": bos,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _our_config(theirs: Mapping[str, Any], *, vocab_size: int, folder: Path) -> GPTConfig:
    """KeyError, TypeError, ValueError where the config is not theirs; InputError E409 for what ours cannot do."""
    rotary = theirs.get("rope_parameters") or {"rope_theta": theirs.get("rope_theta", 10_000.0)}
    dim, heads, hidden = (int(theirs[key]) for key in ("hidden_size", "num_attention_heads", "intermediate_size"))
    ours = {
        "model_type": theirs["model_type"] == "nanochat",
        "hidden_act": theirs.get("hidden_act", "relu2") == "relu2",
        "attention_bias": not theirs.get("attention_bias", False),
        "rope_parameters": rotary.get("rope_type", "default") == "default",
        "intermediate_size": hidden % dim == 0,
        "head_dim": int(theirs.get("head_dim") or dim // heads) * heads == dim,
    }
    if strange := [key for key, fits in ours.items() if not fits]:
        raise unusable(folder / CONFIG, f"has `{strange[0]}` = {theirs.get(strange[0])!r}, which our model cannot do")
    switches = dict(GPTConfig.BEFORE) | {"vocab_multiple": 64, "rotary_base": float(rotary.get("rope_theta", 10_000.0))}
    return GPTConfig(
        depth=int(theirs["num_hidden_layers"]),
        dim=dim,
        head_dim=dim // heads,
        n_head=heads,
        n_kv_head=int(theirs.get("num_key_value_heads") or heads),
        sequence_len=int(theirs["max_position_embeddings"]),
        vocab_size=vocab_size,
        mlp_ratio=hidden // dim,
        logit_softcap=float(theirs.get("final_logit_softcapping", 15.0) or 0.0),
        tied=bool(theirs.get("tie_word_embeddings", False)),
        **switches,
    )


def _their_name(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, matrix = name.removesuffix(".weight").split(".", 2)
    return f"model.layers.{layer}.{IN_BLOCK[matrix]}.weight"


def _our_name(name: str, folder: Path) -> str:
    """InputError E409 for a weight that the model does not have."""
    inside = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    for ours, theirs in IN_BLOCK.items():
        if inside and inside[2] == theirs:
            return f"blocks.{inside[1]}.{ours}.weight"
    for ours, theirs in OUTSIDE.items():
        if name == theirs:
            return ours
    raise unusable(folder, f"has the weight `{name}`, which {ARCHITECTURE} does not have")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a folder, from its one file or its several. InputError E409 where one cannot be read."""
    index = folder / INDEX
    names = sorted(set(_json(index)["weight_map"].values())) if index.is_file() else [WEIGHTS]
    found: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            found |= load_file(folder / Path(name).name)
        except FileNotFoundError as fault:
            raise unusable(folder / name, "is missing") from fault
        except OSError as fault:
            raise unusable(folder / name, f"cannot be read ({fault.strerror or type(fault).__name__})") from fault
        except SafetensorError as fault:
            raise unusable(folder / name, "is no safetensors file, or was cut off or damaged") from fault
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as fault:
        raise unusable(path, f"cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise unusable(path, "is no JSON: it was cut off or damaged") from fault
    if not isinstance(content, dict):
        raise unusable(path, "is no table")
    return content
