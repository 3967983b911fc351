"""Samples: what a model writes after a few prompts, greedily and by chance, to be read.

Each is kept as an example with its prompt and temperature; what is greedy is also said while the stage runs. Two
figures tell from afar whether it is worth reading: how long the samples are, and how much of them is repetition.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import torch

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.text.conversation import render_prompt
from nanochat_plugins.evals.samples_config import SamplesConfig

GRAM = 4
"""Repetition is counted in runs of so many ids."""


def evaluate(config: SamplesConfig, subject: Subject) -> Mapping[str, Figure]:
    """length: tokens of a sample. repetition: the share of its runs of four ids that stood in it before."""
    engine = Engine(subject.model, subject.tokenizer, subject.runtime, tools=subject.tools, rows=config.rows)
    wanted = [(prompt, temperature) for prompt in config.prompts for temperature in config.temperatures]
    measured = torch.zeros(len(wanted), 2, dtype=torch.float64)
    for picked in subject.rounds(len(wanted), config.rows):
        if not picked:
            continue
        prompts = [prompt_ids(wanted[index][0], config, subject, engine.context) for index in picked]
        found = engine.generate(prompts, [settings(config, index, wanted[index][1]) for index in picked])
        for index, completion in zip(picked, found, strict=True):
            prompt, temperature = wanted[index]
            text = "".join(part["text"] for part in completion.parts)
            repeated = repetition(completion.ids)
            subject.keep_example(
                {"prompt": prompt, "completion": text, "temperature": temperature, "index": index, "question": prompt}
                | {"score": repeated, "lower_is_better": True}
            )
            if temperature == 0:
                subject.note(f"{prompt} → {text.strip()}")
            measured[index, 0], measured[index, 1] = len(completion.ids), repeated
    measured = subject.runtime.sum(measured)
    data = hashlib.sha256(json.dumps([*wanted, config.chat]).encode()).hexdigest()
    return {"length": mean(measured[:, 0], data), "repetition": mean(measured[:, 1], data)}


def prompt_ids(prompt: str, config: SamplesConfig, subject: Subject, context: int) -> list[int]:
    """BOS and the prompt, or the conversation that it begins; of what is too long for a context, its end."""
    if config.chat:
        ids = render_prompt({"messages": [{"role": "user", "content": prompt}]}, subject.tokenizer)
    else:
        ids = [subject.tokenizer.bos_id, *subject.tokenizer.encode(prompt)]
    room = max(1, context - config.max_tokens)
    return ids if len(ids) <= room else ids[-room:]


def settings(config: SamplesConfig, index: int, temperature: float) -> Sampling:
    """A seed of its own for each sample."""
    top_k = config.top_k if temperature else 0
    return Sampling(temperature=temperature, top_k=top_k, max_tokens=config.max_tokens, seed=config.seed + index)


def repetition(ids: Sequence[int]) -> float:
    """The share of an id sequence's 4-grams that occurred in it before; 0 where it has none."""
    grams = [tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def mean(values: torch.Tensor, data: str) -> Figure:
    """Of one value a sample. data: the digest of what was to be continued."""
    error = float(values.std(correction=0)) / math.sqrt(len(values))
    return Figure(value=float(values.mean()), n=len(values), standard_error=error, data=data)
