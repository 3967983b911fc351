"""Rollouts: many sampled answers at once, by the batched engine, with the model's tools.

In: prompts, each with its sampling settings. Out: completions, and which of their ids the model itself wrote. All ranks
answer at once, each its own prompts, and ask one another at intervals whether to stop: a rollout may take minutes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nanochat.errors import Stopped
from nanochat.inference.completion import Completion
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.inference.tool import Tool
from nanochat.runtime import Runtime
from nanochat.text.special import OUTPUT_END, OUTPUT_START
from nanochat.text.tokenizer import Tokenizer

STEPS_BETWEEN_QUESTIONS = 16
"""Of the engine: one exchange in so many costs nothing, and a stop is heard within a second or so."""


def roll_out(
    model: Any,
    tokenizer: Tokenizer,
    runtime: Runtime,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    tools: Sequence[Tool] = (),
    rows: int,
    should_stop: Callable[[], bool],
) -> list[Completion]:
    """This rank's answers, in order, at most `rows` of them at a time. Raises Stopped on all ranks alike.

    should_stop: asks all ranks. The memory of keys and values is only as long as the longest answer may become, and is
    given back: training needs the room.
    """
    engine, requests = None, []
    if prompts:
        longest = max(
            len(p) + (s.max_tokens or model.config.sequence_len) for p, s in zip(prompts, samplings, strict=True)
        )
        context = min(model.config.sequence_len, longest)
        engine = Engine(model, tokenizer, runtime, tools=tools, rows=min(rows, len(prompts)), context=context)
        requests = [engine.submit(prompt, each) for prompt, each in zip(prompts, samplings, strict=True)]
    while True:
        for _ in range(STEPS_BETWEEN_QUESTIONS):
            if engine is not None and engine.scheduler.busy:
                engine.step()
        if should_stop():
            raise Stopped
        if not runtime.any(engine is not None and engine.scheduler.busy):
            return [request.completion() for request in requests]


def sampling_seed(*parts: object) -> int:
    """A request's seed from what tells it from all others: the run's seed, the problem, the sample."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def written_mask(ids: Sequence[int], tokenizer: Tokenizer) -> list[bool]:
    """For each id of a completion whether the model wrote it: all but tools' outputs and the two tokens around them.

    The model itself can write neither of these, so that there is no doubt.
    """
    start, end = tokenizer.special_id(OUTPUT_START), tokenizer.special_id(OUTPUT_END)
    mask, inside = [], False
    for token in ids:
        inside = inside or token == start
        mask.append(not inside)
        inside = inside and token != end
    return mask


def row_of(prompt: Sequence[int], completion: Completion, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Inputs and targets of an answer behind its prompt; −1 where the model wrote nothing."""
    ids = [*prompt, *completion.ids]
    written = [*([False] * len(prompt)), *written_mask(completion.ids, tokenizer)]
    return ids[:-1], [token if own else -1 for token, own in zip(ids[1:], written[1:], strict=True)]


def padded(rows: Sequence[Sequence[int]], width: int, pad: int) -> torch.Tensor:
    """Rows of ids as (B, width) int64."""
    return torch.tensor([[*row, *([pad] * (width - len(row)))] for row in rows], dtype=torch.int64)
