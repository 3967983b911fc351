"""The engine: many requests answered at once by one model, each as if it were alone.

In: prompts as ids, sampling settings. Out: requests that fill step by step, or completions. A step is schedule → run →
postprocess. One thread owns an engine; who shares it among others (the server) passes them messages.

Greedy ids are those of the plain model without a cache, in float32, whatever else is being answered.
"""

from collections.abc import Sequence

import torch

from nanochat.errors import wrong_input
from nanochat.inference.grammar import Grammar
from nanochat.inference.kv import KVCache
from nanochat.inference.request import Completion, Request
from nanochat.inference.sampler import sample
from nanochat.inference.sampling import Sampling
from nanochat.inference.scheduler import Batch, Scheduler
from nanochat.inference.tool import Tool
from nanochat.inference.transcript import Transcript
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime
from nanochat.text.tokenizer import Tokenizer

CHUNK_TOKENS = 256
"""The most ids of a prompt that are fed in one step, between two steps of the rows that are being answered."""


class Engine:
    """A model, its tokenizer and tools, and `rows` slots of `context` positions."""

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        runtime: Runtime,
        *,
        tools: Sequence[Tool] = (),
        rows: int = 32,
        context: int | None = None,
        chunk: int = CHUNK_TOKENS,
    ) -> None:
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.context: int = context or model.config.sequence_len
        self.grammar = Grammar(tokenizer, tools, vocab_size=model.config.vocab_size, device=runtime.device)
        self.cache = KVCache(model, slots=rows, positions=self.context, device=runtime.device)
        self.scheduler = Scheduler(slots=rows, chunk=chunk)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Answer every prompt, in the order given."""
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        requests = [self.submit(prompt, each) for prompt, each in zip(prompts, samplings, strict=True)]
        while any(request.finish_reason is None for request in requests):
            self.step()
        return [request.completion() for request in requests]

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> Request:
        """Queue a prompt of at least one id. InputError E601 where the context has no room for an answer to it."""
        assert prompt, "a prompt holds at least <|bos|>"
        if len(prompt) >= self.context:
            raise wrong_input(
                "E601",
                f"the prompt is {len(prompt)} tokens long, and the context holds {self.context}, the answer included",
                help="shorten the text, or leave the oldest turns of the conversation out",
            )
        request = Request(
            prompt_tokens=len(prompt),
            sampling=sampling,
            ids=list(prompt),
            limit=min(self.context, len(prompt) + (sampling.max_tokens or self.context)),
            transcript=Transcript(self.tokenizer, self.grammar, prompt),
        )
        self.scheduler.add(request)
        return request

    def cancel(self, request: Request) -> None:
        """Stop answering; the slot is free for the next step."""
        self.scheduler.cancel(request)

    def step(self) -> list[Request]:
        """Compute one step. Returns the requests for which an id was sampled; a finished one has left its slot."""
        moved: list[Request] = []
        for batch in self.scheduler.schedule():
            sampled = self.run(batch)
            moved += self.postprocess(batch, sampled)
        return moved

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[int]:
        """Feed a batch; one sampled id a row, or none where a prompt is not at its end yet."""
        requests, count = batch.requests, batch.count
        fed = [request.ids[request.cached : request.cached + count] for request in requests]
        view = self.cache.view(
            slots=[request.slot for request in requests if request.slot is not None],
            starts=[request.cached for request in requests],
            previous_ids=[request.previous_id for request in requests],
            count=count,
        )
        hidden = self.model.hidden(torch.tensor(fed, device=self.runtime.device), view)  # (B, T, C)
        if requests[0].pending > count:
            return []
        logits = self.model.logits(hidden[:, -1])  # (B, V)
        forbidden = self.grammar.forbidden[[request.transcript.state for request in requests]]
        samplings = [request.sampling for request in requests]
        sampled: list[int] = sample(logits, forbidden, samplings, [request.uniform for request in requests]).tolist()
        return sampled

    def postprocess(self, batch: Batch, sampled: Sequence[int]) -> list[Request]:
        """Note what the cache holds now, hand each row its id, free the slots of those that are done."""
        for request in batch.requests:
            request.cached += batch.count
        if not sampled:
            return []
        for request, token in zip(batch.requests, sampled, strict=True):
            request.accept(token)
            if request.finish_reason is not None:
                self.scheduler.release(request)
        return list(batch.requests)
