"""How fast the server answers so many clients at once, against the engine alone.

In: a subject. Out: for each number of clients a ServingSpeed. The engine behind the server and the clients are
processes of their own; so on two cores the engine has one, and server and clients have the other, if torch is given one
thread.
"""

import itertools
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import psutil

from nanochat.benchmarking.latency import Moments, Percentiles, between, first, percentiles
from nanochat.benchmarking.subject import Subject, endless, prompts
from nanochat.inference.engine import Engine
from nanochat.serving.app import create_server
from nanochat.serving.engine_process import EngineProcess
from nanochat.serving.models import Models
from nanochat.serving.server import address, bind, make_server

ROUNDS = 3
SECONDS = 10.0
"""Of rounds at least: where one takes half a second, other work on the machine decides it."""


@attrs.frozen(kw_only=True)
class ServingSpeed:
    """One number of clients, measured."""

    clients: int
    tokens_per_second: float
    """Of all clients together, from the first request to the last token."""
    of_engine: float
    """That over what the engine writes by itself, asked for the same: the median of rounds of one and the other."""
    first: Percentiles
    between: Percentiles
    health: Percentiles
    """How long /health took meanwhile."""
    cancel_seconds: float
    """From a client's going away to a free slot."""
    memory_bytes: int
    """Of the engine's process."""


def serving_speed(subject: Subject, *, clients: Sequence[int], prompt: int, tokens: int) -> list[ServingSpeed]:
    """Each number of clients in turn. prompt, tokens: of each."""
    return [_measured(subject, count, prompt, tokens) for count in clients]


def _measured(subject: Subject, count: int, prompt: int, tokens: int) -> ServingSpeed:
    shape = {"rows": count, "context": 2 * (prompt + tokens)}
    engine = subject.engine(**shape)
    models = Models(capacity=2 * count)
    # Before anything is measured each shape has come up once: on a GPU its graph is captured then.
    warm = (prompt, tokens) if engine.graphs is not None else (8, 4)
    engine.generate(prompts(count, warm[0], seed=0), endless(warm[1]))
    with _served(models, partial(subject.engine, **shape)) as url:
        _load(url, count, *warm, seed=0)
        told, ratios = [], []
        began = time.perf_counter()
        for seed in itertools.count(1):  # in turns: other work on the machine then slows both
            if seed > ROUNDS and time.perf_counter() - began > SECONDS:
                break
            alone = _alone(engine, count, prompt, tokens, seed)
            told.append(_load(url, count, prompt, tokens, seed))
            ratios.append(alone / told[-1]["seconds"])
        cancelled = _cancel(url, models, prompt, tokens)
        memory = psutil.Process(models.engines[0].pid).memory_info().rss
    answers = [Moments(**answer) for each in told for answer in each["answers"]]
    return ServingSpeed(
        clients=count,
        tokens_per_second=count * tokens / statistics.median(each["seconds"] for each in told),
        of_engine=statistics.median(ratios),
        first=first(answers),
        between=between(answers),
        health=percentiles([seconds for each in told for seconds in each["health"]]),
        cancel_seconds=cancelled,
        memory_bytes=memory,
    )


def _alone(engine: Engine, rows: int, prompt: int, tokens: int, seed: int) -> float:
    """Seconds of the engine by itself."""
    asked = prompts(rows, prompt, seed=seed)
    began = time.perf_counter()
    engine.generate(asked, endless(tokens))
    return time.perf_counter() - began


@contextmanager
def _served(models: Models, load: Callable[[], Engine]) -> Iterator[str]:
    link = EngineProcess(load)  # before there is a server to wait for

    def add() -> None:
        models.add("bench", [link])
        models.ready = True

    with bind("127.0.0.1", 0) as bound:
        server = make_server(create_server(models, start=add))
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]))
        thread.start()
        try:
            yield address(bound)
        finally:
            server.should_exit = True
            thread.join()


def _load(url: str, clients: int, prompt: int, tokens: int, seed: int) -> dict[str, Any]:
    """What the load generator tells."""
    wanted = json.dumps({"prompts": prompts(clients, prompt, seed=seed), "tokens": tokens})
    command = [sys.executable, "-m", "nanochat.benchmarking.load", url]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _cancel(url: str, models: Models, prompt: int, tokens: int) -> float:
    """Ask, wait for the first token, hang up, wait for the slot."""
    host, _, port = url.removeprefix("http://").partition(":")
    settings = {"max_tokens": tokens, "ignore_eos": True, "stream": True, "prompt": prompts(1, prompt, seed=0)[0]}
    body = json.dumps(settings).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while b"data: {" not in connection.recv(65536):
            pass
    began = time.perf_counter()
    while models.engines[0].open:
        time.sleep(0.0005)
    return time.perf_counter() - began
