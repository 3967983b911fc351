"""`tokenizer.pkl`: a pickled `tiktoken.Encoding`, as the public nanochat keeps its tokenizer, read without trusting it.

In: the file. Out: a Vocabulary. A pickle is a program that may name any function of any module; this reader knows one
name, tiktoken's Encoding, puts an inert stand-in in its place, and refuses every other. So nothing is imported, nothing
is called, and all that can come out is what the stand-in was handed: plain data. Not here: writing one.
"""

import pickle
from pathlib import Path
from typing import Any

from nanochat.text.formats import in_order, unusable, usable
from nanochat.text.special import SPECIAL_TOKENS
from nanochat.text.vocabulary_file import Vocabulary

LARGEST_BYTES = 64 << 20
"""A vocabulary of 200,000 tokens takes 4 MB."""
ENCODING = ("tiktoken.core", "Encoding")


class _Inert:
    """Stands for an Encoding: takes no arguments, keeps the state that it is given."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) == ENCODING:
            return _Inert
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only a tiktoken Encoding is read")


def read_pickled_encoding(path: Path) -> Vocabulary:
    """The vocabulary of a pickled Encoding; those specials of ours that it lacks go last.

    InputError E307 where the file is anything else, whatever it would do if it were unpickled.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size > LARGEST_BYTES:
                raise unusable(path, f"is larger than {LARGEST_BYTES >> 20} MiB")
            found = _Reader(file).load()
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, EOFError, MemoryError) as error:
        raise unusable(path, f"is no pickled tiktoken Encoding: {error or type(error).__name__}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        # The ways in which a damaged pickle fails inside of the unpickler.
        raise unusable(path, f"is no pickle that can be read ({type(error).__name__}: {error})") from error
    state = getattr(found, "state", None) if type(found) is _Inert else None
    if not isinstance(state, dict):
        raise unusable(path, "holds no tiktoken Encoding with a vocabulary of its own")
    return _vocabulary(state, path)


def _vocabulary(state: dict[Any, Any], path: Path) -> Vocabulary:
    pattern, ranks, special = (state.get(name) for name in ("pat_str", "mergeable_ranks", "special_tokens"))
    if not (isinstance(pattern, str) and _maps(ranks, bytes) and _maps(special, str)):
        raise unusable(path, "holds an Encoding without pattern, tokens or specials")
    assert isinstance(ranks, dict) and isinstance(special, dict)
    tokens = in_order(ranks, path)
    names = sorted(special, key=lambda name: int(special[name]))
    if [special[name] for name in names] != list(range(len(tokens), len(tokens) + len(names))):
        raise unusable(path, "has specials whose ids do not follow the others'")
    ours = tuple(token for token in SPECIAL_TOKENS if token not in special)
    return usable(Vocabulary(pattern=pattern, tokens=tokens, specials=(*names, *ours)), path)


def _maps(value: object, keys: type) -> bool:
    """Whether it is a table from such keys to ids."""
    return type(value) is dict and all(type(key) is keys and type(place) is int for key, place in value.items())
