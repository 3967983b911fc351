"""What the model itself wrote, by what its readers saw of it: the exact ids of earlier answers.

In: a prompt's ids and the answer to it. Out: for the same words after the same prompt, the ids that were sampled, which
are not always those that a tokenizer would give the text; so the next turn finds all of it in the cache, tool calls
included where a client sends back only the text that it was shown. The oldest are forgotten.
"""

import hashlib
import json
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from nanochat.inference.completion import Completion

KEPT = 2048
"""Answers, each by its text and by its parts."""


class Turns:
    """A bounded memory of answers. Safe to use from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._ids: OrderedDict[bytes, array[int]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, salt: str, prompt: Sequence[int], completion: Completion, ends: frozenset[int]) -> None:
        """Remember an answer that one of `ends` has ended: the ids of any other do not spell what was shown of it."""
        if not completion.ids or completion.ids[-1] not in ends:
            return
        ids = array("l", completion.ids[:-1])
        with self._lock:
            for content in (completion.text, list(completion.parts)):
                self._ids[_key(salt, prompt, content)] = ids
            while len(self._ids) > 2 * self.kept:
                self._ids.popitem(last=False)

    def recall(self, salt: str, prompt: Sequence[int], content: Any) -> Sequence[int] | None:
        """The ids of the answer with this content to this prompt, if it was given here."""
        with self._lock:
            return self._ids.get(_key(salt, prompt, content))


def _key(salt: str, prompt: Sequence[int], content: Any) -> bytes:
    # A salt may hold half a surrogate pair, as a user's name in JSON may spell it.
    begins = f"{salt}\0{json.dumps(content)}\0".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(begins, digest_size=16)
    digest.update(array("l", prompt).tobytes())
    return digest.digest()
