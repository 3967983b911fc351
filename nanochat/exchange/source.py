"""What lies in a folder, told by its files, and the reader of it.

In: a folder, and perhaps the file of a tokenizer. Out: Weights. Here and nowhere else it is decided which format it is.
"""

import json
from pathlib import Path

from nanochat.errors import wrong_input
from nanochat.exchange import huggingface, public_layout
from nanochat.exchange.checkpoint_folder import read_model
from nanochat.exchange.weights import Weights, tokenizer_of, unusable
from nanochat.registry import Registry
from nanochat.text.formats import read_huggingface
from nanochat.text.pickled_encoding import read_pickled_encoding
from nanochat.text.tokenizer import Tokenizer
from nanochat.text.vocabulary_file import read_vocabulary_file
from nanochat.training.manifest import MANIFEST


def read(folder: Path, registry: Registry, *, tokenizer_file: Path | None = None, step: int | None = None) -> Weights:
    """The model of a folder. InputError E409 where there is none that is known, E307 for its tokenizer.

    InputError E407 for a step or a tokenizer that a folder of this format does not take.
    """
    if not folder.is_dir():
        raise unusable(folder, "is no folder")
    is_public, is_theirs = bool(public_layout.steps(folder)), (folder / huggingface.CONFIG).is_file()
    if step is not None and not is_public:
        raise wrong_input(
            "E407",
            f"--step goes with files model_NNNNNN.pt, and {folder} has none",
            help="name the folder that holds them, or leave --step out",
        )
    if not (is_public or is_theirs):
        return _read_ours(folder, registry, tokenizer_file)
    tokenizer = read_tokenizer(tokenizer_file) if tokenizer_file is not None else None
    return public_layout.read(folder, tokenizer, step=step) if is_public else huggingface.read(folder, tokenizer)


def _read_ours(folder: Path, registry: Registry, tokenizer_file: Path | None) -> Weights:
    if not (folder / MANIFEST).is_file():
        raise unusable(folder, f"has neither {huggingface.CONFIG}, nor model_NNNNNN.pt, nor {MANIFEST}")
    if tokenizer_file is not None:
        raise wrong_input(
            "E407",
            f"--tokenizer goes with models of other programs, and {folder} is a checkpoint of ours, which brings "
            "its own tokenizer",
            help="leave --tokenizer out",
        )
    return read_model(folder, registry)


def read_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer.pkl of the public nanochat, or a tokenizer.json, Hugging Face's or ours. InputError E307."""
    if file.suffix == ".pkl":
        return tokenizer_of(file, read_pickled_encoding)
    return tokenizer_of(file, read_vocabulary_file if _is_ours(file) else read_huggingface)


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # the other reader says why
    return isinstance(content, dict) and "sha256" in content
