"""What the server counts, in Prometheus' format: requests, tokens, and how long they are waited for.

In: what the endpoints note. Out: the text of /metrics. Names end in their unit, as Prometheus has it.
"""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nanochat.inference.completion import Completion
from nanochat.serving.models import Models

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The counters of one application."""

    def __init__(self, models: Models) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("nanochat_requests", "Requests answered", ["path", "status"], registry=registry)
        self.tokens = Counter("nanochat_tokens", "Tokens: of prompts, cached, written", ["kind"], registry=registry)
        self.first = Histogram(
            "nanochat_time_to_first_token_seconds", "From the request", buckets=SECONDS, registry=registry
        )
        self.between = Histogram(
            "nanochat_inter_token_seconds", "Between two pieces of an answer", buckets=SECONDS, registry=registry
        )
        memory = Gauge("nanochat_resident_memory_bytes", "Of the server and its engines", registry=registry)
        memory.set_function(models.resident_bytes)
        opened = Gauge("nanochat_open_answers", "Being written or waiting", registry=registry)
        opened.set_function(lambda: sum(engine.open for engine in models.engines))

    def count(self, completions: Sequence[Completion]) -> None:
        """The tokens of finished answers."""
        for completion in completions:
            self.tokens.labels("prompt").inc(completion.prompt_tokens)
            self.tokens.labels("cached").inc(completion.cached_tokens)
            self.tokens.labels("written").inc(len(completion.ids))

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)


class Pace:
    """The moments at which pieces of one answer came."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics, self._last, self._begun = metrics, time.perf_counter(), False

    def piece(self) -> None:
        """Another piece is there."""
        now = time.perf_counter()
        histogram = self.metrics.between if self._begun else self.metrics.first
        histogram.observe(now - self._last)
        self._last, self._begun = now, True
