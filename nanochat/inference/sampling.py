"""How a request's ids are chosen, and what is told of each: temperature, cuts, penalties, length, stop, seed.

In: what a user asks for. Out: a checked, frozen `Sampling`, and the uniform number of each of its choices. Imports no
torch; choosing an id from logits is `nanochat.inference.sampler`.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from attrs import Attribute, evolve, field, fields, frozen

from nanochat.errors import Diagnostic, InputError

UNIFORM_BITS = 24
"""As many as a float32 holds exactly."""
MOST_STOPS = 16
MOST_TOP_LOGPROBS = 20
MOST_BIASES = 1024
"""Ids of one logit_bias; each step of an answer adds them all."""
SEED_BITS = 64
"""Of a seed, its sign included."""


def _setting(default: float | None, lowest: float, highest: float, *, above: bool = False) -> Any:
    """A number within limits; `above`: the lowest itself is none."""
    return field(default=default, metadata={"lowest": lowest, "highest": highest, "above": above})


@frozen(kw_only=True)
class Sampling:
    """One request's settings; the only place where their defaults and limits live. InputError E602 for what makes no
    sense.
    """

    temperature: float = _setting(0.0, 0, math.inf)
    """0: greedy, the likeliest id each time. Small models answer best so, and the same question the same way."""
    top_k: int = _setting(0, 0, math.inf)
    """Only the k likeliest ids; 0: all."""
    top_p: float = _setting(1.0, 0, 1, above=True)
    """Only the likeliest ids that together reach this probability."""
    min_p: float = _setting(0.0, 0, 1)
    """Only ids that are at least this share as likely as the likeliest."""
    presence_penalty: float = _setting(0.0, -2, 2)
    """Taken from the logit of every id that was written."""
    frequency_penalty: float = _setting(0.0, -2, 2)
    """Taken from it for each time that the id was written."""
    repetition_penalty: float = _setting(1.0, 0, 100, above=True)
    """Positive logits of ids in prompt and answer are divided by it, negative ones multiplied (arXiv 1909.05858)."""
    logit_bias: Mapping[int, float] = field(factory=dict)
    """id → what is added to its logit, −100 to 100."""
    max_tokens: int | None = _setting(None, 0, math.inf)
    """The most ids to write, tool results included; None: as many as the context holds; 0: the prompt
    alone is told of."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""
    ignore_eos: bool = False
    """Go on to max_tokens: what would end the answer is never chosen."""
    logprobs: int | None = _setting(None, 0, MOST_TOP_LOGPROBS)
    """Tell each id's log-probability under the model, and so many likeliest others'."""
    prompt_logprobs: bool = False
    """Tell those of the prompt as well."""
    seed: int | None = _setting(None, -(1 << SEED_BITS - 1), (1 << SEED_BITS - 1) - 1)
    """The same seed gives the same ids, whatever else the engine does; None: another one each time. Several samples of
    one prompt need several seeds."""

    def __attrs_post_init__(self) -> None:
        problems = [problem for each in fields(Sampling) if (problem := _problem(each, getattr(self, each.name)))]
        if len(self.logit_bias) > MOST_BIASES:
            problems.append(f"logit_bias names {len(self.logit_bias)} tokens; it may name at most {MOST_BIASES}")
        elif wrong := [token for token, bias in self.logit_bias.items() if not -100 <= bias <= 100]:
            problems.append(f"logit_bias of {wrong[0]} is {self.logit_bias[wrong[0]]}; it must be from -100 to 100")
        if self.max_tokens == 0 and not self.prompt_logprobs:
            problems.append("max_tokens is 0; it must be at least 1")
        if len(self.stop) > MOST_STOPS or not all(self.stop):
            problems.append(f"stop must be at most {MOST_STOPS} strings, none of them empty")
        if problems:
            raise InputError([Diagnostic(code="E602", message=problem) for problem in problems])

    def another(self, number: int) -> "Sampling":
        """The same with the `number`-th seed after its own, if it has one; the first follows the last."""
        if self.seed is None:
            return self
        half = 1 << SEED_BITS - 1
        return evolve(self, seed=(self.seed + number + half) % (2 * half) - half)


def _problem(setting: "Attribute[object]", value: object) -> str | None:
    """What is wrong with a number, in words."""
    if not setting.metadata or (value is None and setting.default is None):
        return None
    lowest, highest, above = (setting.metadata[key] for key in ("lowest", "highest", "above"))
    if value is not None:
        assert isinstance(value, int | float)
        # abs, not math.isfinite, which makes a float of an integer first: of 10^400 there is none.
        if abs(value) < math.inf and lowest <= value <= highest and not (above and value == lowest):
            return None
    limits = f"{'above' if above else 'at least'} {lowest}" + ("" if math.isinf(highest) else f", at most {highest}")
    return f"{setting.name} is {written(value)}; it must be {limits}"


def written(value: object) -> str:
    """A number as it is, unless it has more digits than anyone reads, or Python writes."""
    return "a number of many digits" if isinstance(value, int) and abs(value) >= 10**40 else str(value)


def uniform(seed: int, index: int) -> float:
    """The number in (0, 1] that chooses a request's `index`-th id: a hash, so that no other request can disturb it."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "little") >> (64 - UNIFORM_BITS)) + 1) / (1 << UNIFORM_BITS)
