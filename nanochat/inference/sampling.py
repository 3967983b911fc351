"""How a request's ids are chosen: temperature, top-k, top-p, length, seed.

In: what a user asks for. Out: a checked, frozen `Sampling`, and the uniform number of each of its choices. Imports no
torch; choosing an id from logits is `nanochat.inference.sampler`.
"""

import hashlib
import math

from attrs import frozen

from nanochat.errors import Diagnostic, InputError

UNIFORM_BITS = 24
"""As many as a float32 holds exactly."""


@frozen(kw_only=True)
class Sampling:
    """One request's settings; the only place where their defaults live. InputError E602 for what makes no sense."""

    temperature: float = 0.0
    """0: greedy, the likeliest id each time. Small models answer best so, and the same question the same way."""
    top_k: int = 0
    """Only the k likeliest ids; 0: all."""
    top_p: float = 1.0
    """Only the likeliest ids that together reach this probability."""
    max_tokens: int | None = None
    """The most ids to write, tool results included; None: as many as the context holds."""
    seed: int | None = None
    """The same seed gives the same ids, whatever else the engine does; None: another one each time. Several samples of
    one prompt need several seeds."""

    def __attrs_post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            problems.append(f"temperature is {self.temperature}; it must be a number of at least 0 (0: greedy)")
        if self.top_k < 0:
            problems.append(f"top_k is {self.top_k}; it must be at least 0 (0: all)")
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            problems.append(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if problems:
            raise InputError([Diagnostic(code="E602", message=problem) for problem in problems])


def uniform(seed: int, index: int) -> float:
    """The number in (0, 1] that chooses a request's `index`-th id: a hash, so that no other request can disturb it."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "little") >> (64 - UNIFORM_BITS)) + 1) / (1 << UNIFORM_BITS)
