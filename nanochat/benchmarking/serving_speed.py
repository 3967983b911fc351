"""How fast the server answers so many clients at once, against the engine alone, in the same process.

In: a model. Out: for each number of clients a ServingSpeed. The clients are a process of their own; so on two cores the
engine has one and they have the other, if torch is given one thread.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from nanochat.benchmarking.latency import Moments, Percentiles, between, first, percentiles
from nanochat.benchmarking.subject import endless, engine_of, memory_bytes, prompts
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime
from nanochat.serving.app import create_server
from nanochat.serving.models import Models
from nanochat.serving.server import address, bind, make_server


@attrs.frozen(kw_only=True)
class ServingSpeed:
    """One number of clients, measured."""

    clients: int
    tokens_per_second: float
    """Of all clients together, from the first request to the last token."""
    of_engine: float
    """That over what the engine writes by itself, asked for the same."""
    first: Percentiles
    between: Percentiles
    health: Percentiles
    """How long /health took meanwhile."""
    cancel_seconds: float
    """From a client's going away to a free slot."""
    memory_bytes: int


def serving_speed(
    model: GPT, runtime: Runtime, *, clients: Sequence[int], prompt: int, tokens: int
) -> list[ServingSpeed]:
    """Each number of clients in turn. prompt, tokens: of each."""
    found = []
    for count in clients:
        alone = _alone(model, runtime, count, prompt, tokens)
        models = Models(capacity=2 * count)
        with _served(models, model, runtime, count, 2 * (prompt + tokens)) as url:
            _load(url, count, *((prompt, tokens) if runtime.device.type == "cuda" else (8, 4)))  # graphs are captured
            told = _load(url, count, prompt, tokens)
            cancelled = _cancel(url, models, prompt, tokens)
        answers = [Moments(**answer) for answer in told["answers"]]
        rate = count * tokens / told["seconds"]
        found.append(
            ServingSpeed(
                clients=count,
                tokens_per_second=rate,
                of_engine=rate / alone,
                first=first(answers),
                between=between(answers),
                health=percentiles(told["health"]),
                cancel_seconds=cancelled,
                memory_bytes=memory_bytes(),
            )
        )
    return found


def _alone(model: GPT, runtime: Runtime, rows: int, prompt: int, tokens: int) -> float:
    """Tokens/s of the engine by itself."""
    engine = engine_of(model, runtime, rows=rows, context=2 * (prompt + tokens))
    engine.generate(prompts(rows, 8 if engine.graphs is None else prompt, seed=0), endless(4))
    began = time.perf_counter()
    engine.generate(prompts(rows, prompt, seed=1), endless(tokens))
    return rows * tokens / (time.perf_counter() - began)


@contextmanager
def _served(models: Models, model: GPT, runtime: Runtime, rows: int, context: int) -> Iterator[str]:
    def load() -> None:
        models.add("bench", [engine_of(model, runtime, rows=rows, context=context)])
        models.ready = True

    with bind("127.0.0.1", 0) as bound:
        server = make_server(create_server(models, start=load))
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]))
        thread.start()
        try:
            yield address(bound)
        finally:
            server.should_exit = True
            thread.join()


def _load(url: str, clients: int, prompt: int, tokens: int) -> dict[str, Any]:
    """What the load generator tells."""
    wanted = json.dumps({"prompts": prompts(clients, prompt, seed=1), "tokens": tokens})
    command = [sys.executable, "-m", "nanochat.benchmarking.load", url]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _cancel(url: str, models: Models, prompt: int, tokens: int) -> float:
    """Ask, wait for the first token, hang up, wait for the slot."""
    host, _, port = url.removeprefix("http://").partition(":")
    settings = {"max_tokens": tokens, "ignore_eos": True, "stream": True, "prompt": prompts(1, prompt, seed=5)[0]}
    body = json.dumps(settings).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while b"data: {" not in connection.recv(65536):
            pass
    began = time.perf_counter()
    while models.threads[0].open:
        time.sleep(0.0005)
    return time.perf_counter() - began
