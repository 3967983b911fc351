"""The engine: many requests answered at once by one model, each as if it were alone.

In: prompts as ids, sampling settings. Out: requests that fill step by step, or completions. A step is schedule → run →
postprocess. One thread owns an engine; who shares it among others (the server) passes them messages.

Greedy ids are those of the plain model without a cache, in float32, whatever else is being answered.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from nanochat.errors import wrong_input
from nanochat.inference.completion import Completion, Told
from nanochat.inference.grammar import Grammar
from nanochat.inference.graphs import Graphs
from nanochat.inference.kv import KVCache
from nanochat.inference.logprobs import told
from nanochat.inference.penalties import adjusted
from nanochat.inference.request import Request
from nanochat.inference.sampler import sample
from nanochat.inference.sampling import Sampling
from nanochat.inference.scheduler import Batch, Scheduler
from nanochat.inference.tool import Tool
from nanochat.inference.transcript import Transcript
from nanochat.inference.transfer import on_device
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import Tokenizer

CHUNK_TOKENS = 1024
"""The most ids of prompts that are fed in one step, between two steps of the rows that are being answered, where nobody
watches them: products of fewer reach less of a processor's speed, and more steps go by in which few rows write."""
TOOL_WAIT_SECONDS = 0.01
"""How long a step waits where all rows wait for their tools."""


@attrs.frozen(kw_only=True)
class Sampled:
    """One id for each row of a batch, none where a prompt is not at its end; what is told of those who asked."""

    ids: Sequence[int] = ()
    told: Sequence[Told | None] = ()
    prompt_told: Sequence[Told] = ()


class Engine:
    """A model, its tokenizer and tools, and `rows` slots of `context` positions.

    chunk: ids of prompts fed in one step; None: as many as take 50 ms. reuse: whether what is cached of earlier
    requests serves later ones. patient: a step waits for tools that are at work, so that which rows are computed
    together, and the rounding with it, follows from the requests alone; else they hold up nobody but their own row.
    alone: no two rows are computed together, so that with a chunk and without reuse a request's numbers are its own,
    to the last bit. graphs: on a GPU decode by CUDA graphs, which repays an engine that lives long and whose
    weights stay where they are. compiled: the steps of decoding are compiled, on a CPU those of one row.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        runtime: Runtime,
        *,
        tools: Sequence[Tool] = (),
        rows: int = 32,
        context: int | None = None,
        chunk: int | None = CHUNK_TOKENS,
        reuse: bool = True,
        patient: bool = True,
        alone: bool = False,
        graphs: bool = False,
        compiled: bool = False,
    ) -> None:
        assert not (alone and (graphs or compiled)), "the shape of a graph follows from which other slots are in use"
        self.patient = patient
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.context: int = context or model.config.sequence_len
        self.grammar = Grammar(tokenizer, tools, vocab_size=model.config.vocab_size, device=runtime.device)
        self.cache = KVCache(model, slots=rows, positions=self.context, device=runtime.device)
        on_gpu = runtime.device.type == "cuda"
        self.graphs = Graphs(model, self.cache, runtime, compiled=compiled) if compiled or (graphs and on_gpu) else None
        self.scheduler = Scheduler(slots=rows, chunk=chunk, reuse=reuse, alone=alone)
        self._weights = _versions(model)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Answer every prompt, in the order given."""
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        requests = [self.submit(prompt, each) for prompt, each in zip(prompts, samplings, strict=True)]
        while any(request.finish_reason is None for request in requests):
            self.step()
        return [request.completion() for request in requests]

    def submit(self, prompt: Sequence[int], sampling: Sampling, *, salt: str = "") -> Request:
        """Queue a prompt of at least one id; only requests with the same salt share what is cached.

        InputError E601 where the context has no room for an answer to it, E602 for a bias of an id that is none.
        """
        assert prompt, "a prompt holds at least <|bos|>"
        wanted = self.context if sampling.max_tokens is None else sampling.max_tokens
        if len(prompt) + min(wanted, 1) > self.context:
            raise wrong_input(
                "E601",
                f"the prompt is {len(prompt)} tokens long, and the context holds {self.context}, the answer included",
                help="shorten the text, or leave the oldest turns of the conversation out",
            )
        if wrong := [token for token in sampling.logit_bias if not 0 <= token < self.tokenizer.vocab_size]:
            last = self.tokenizer.vocab_size - 1
            raise wrong_input("E602", f"logit_bias names the token {wrong[0]}; the vocabulary has 0 to {last}")
        if not self.scheduler.busy and self._weights != (weights := _versions(self.model)):
            self._weights = weights
            self.forget()
        request = Request(
            prompt_tokens=len(prompt),
            sampling=sampling,
            ids=list(prompt),
            limit=min(self.context, len(prompt) + wanted),
            transcript=Transcript(self.tokenizer, self.grammar, prompt, sampling.stop),
            salt=salt,
        )
        self.scheduler.add(request)
        return request

    def forget(self) -> None:
        """Nothing that is cached serves later requests: for whoever changes the weights.

        Changes in place, as optimizers make them, are noticed between two rounds of requests; no others are.
        """
        self.scheduler.slots.forget()

    def cancel(self, request: Request) -> None:
        """Stop answering; the slot is free for the next step."""
        self.scheduler.cancel(request)

    def step(self) -> list[Request]:
        """Compute one step. Returns the requests that have moved on; a finished one has left its slot."""
        for call in [request.call for request in self.scheduler.live if request.call] if self.patient else []:
            call.finished(math.inf)
        moved = [request for request in self.scheduler.live if request.take_result()]
        self._release(moved)
        step = self.scheduler.schedule()
        for copy in step.copies:
            self.cache.copy(copy.source, copy.target, copy.length)
        for batch in step.batches:
            moved += self.postprocess(batch, self.run(batch))
        if not step.batches and (calls := [request.call for request in self.scheduler.live if request.call]):
            calls[0].finished(TOOL_WAIT_SECONDS)
        return list(dict.fromkeys(moved))

    @torch.inference_mode()
    def run(self, batch: Batch) -> Sampled:
        """Feed a batch; one sampled id a row, or none where a prompt is not at its end yet."""
        began = time.perf_counter()
        requests, count = batch.requests, batch.count
        if self.graphs is not None and self.graphs.takes(batch):
            return self._sampled(self.graphs.logits(requests), requests)
        fed = on_device(
            [request.ids[request.cached : request.cached + count] for request in requests], self.runtime.device
        )  # (B, T)
        view = self.cache.view(
            slots=[request.slot for request in requests if request.slot is not None],
            starts=[request.cached for request in requests],
            previous_ids=[request.previous_id for request in requests],
            count=count,
        )
        telling = requests[0].telling
        hidden = self.model.hidden(fed, view, places=None if telling or count == 1 else _last(fed))
        hidden = hidden.view(len(requests), -1, hidden.shape[-1])  # (B, T or 1, C)
        if count > 1:
            if self.scheduler.timed and self.runtime.device.type == "cuda":  # else only its launches would be timed
                torch.cuda.current_stream(self.runtime.device).synchronize()
            self.scheduler.note_fill(count * len(requests), time.perf_counter() - began)
        prompt_told = self._tell_of_prompt(requests[0], hidden[0]) if telling else []
        if requests[0].pending > count or not requests[0].room:
            return Sampled(prompt_told=prompt_told)
        sampled = self._sampled(self.model.logits(hidden[:, -1]), requests)
        return attrs.evolve(sampled, prompt_told=prompt_told)

    def _sampled(self, logits: Tensor, requests: Sequence[Request]) -> Sampled:
        """logits (B, V) → an id for each row, and what is told of it."""
        ids = self._choose(logits, requests)
        return Sampled(ids=ids, told=_tell(logits, ids, requests))

    def _choose(self, logits: Tensor, requests: Sequence[Request]) -> list[int]:
        samplings = [request.sampling for request in requests]
        states = [request.transcript.state for request in requests]
        barred = self.grammar.barred(states, [sampling.ignore_eos for sampling in samplings])
        ids, prompts = [each.ids for each in requests], [each.prompt_tokens for each in requests]
        logits = adjusted(logits, samplings, ids, prompts)
        chosen: list[int] = sample(logits, barred, samplings, [each.uniform for each in requests]).tolist()
        return chosen

    def _tell_of_prompt(self, request: Request, hidden: Tensor) -> list[Told]:
        """What is told of the ids that follow those of a chunk, hidden (T, C), and belong to the prompt."""
        start = request.cached
        first = [Told(request.ids[0], None)] if start == 0 else []
        following = request.ids[start + 1 : min(start + 1 + len(hidden), request.prompt_tokens)]
        if not following:
            return first
        logits = self.model.logits(hidden[: len(following)])
        return first + told(logits, following, request.sampling.logprobs or 0)

    def postprocess(self, batch: Batch, sampled: Sampled) -> list[Request]:
        """Note what the cache holds now, hand each row its id, free the slots of those that are done."""
        batch.requests[0].prompt_told += sampled.prompt_told
        for request in batch.requests:
            request.cached += batch.count
        rows = zip(batch.requests, sampled.ids, sampled.told, strict=True) if sampled.ids else ()
        for request, token, told_of_it in rows:
            request.accept(token, told_of_it)
        moved = list(batch.requests) if sampled.ids else []
        if not batch.requests[0].room and not batch.requests[0].pending:  # a prompt that is only told of
            batch.requests[0].finish("length")
            moved = [batch.requests[0]]
        self._release(moved)
        return moved

    def _release(self, moved: Sequence[Request]) -> None:
        for request in moved:
            if request.finish_reason is not None:
                self.scheduler.release(request)


def _last(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the last id of each row of ids (B, T)."""
    rows = torch.arange(len(ids), device=ids.device)
    return rows, torch.full_like(rows, ids.shape[1] - 1)


def _versions(model: Any) -> int:
    """A number that grows with every change of the weights in place."""
    return sum(parameter._version for parameter in model.parameters()) if isinstance(model, nn.Module) else 0


def _tell(logits: Tensor, ids: Sequence[int], requests: Sequence[Request]) -> list[Told | None]:
    """What is told of each row's id, None where it was not asked for."""
    found: list[Told | None] = [None] * len(requests)
    rows = [row for row, request in enumerate(requests) if request.sampling.logprobs is not None]
    if rows:
        most = max(requests[row].sampling.logprobs or 0 for row in rows)
        asked = logits[on_device(rows, logits.device)]
        for row, each in zip(rows, told(asked, [ids[row] for row in rows], most), strict=True):
            found[row] = attrs.evolve(each, top=each.top[: requests[row].sampling.logprobs])
    return found
