"""Clients of a server, many at once, in a process of their own: `python -m nanochat.benchmarking.load URL JSON`.

In: the server's address, and how many clients ask for what. Out: on stdout, JSON with every answer's moments, and how
long /health took meanwhile. The standard library alone, so that it takes little of the machine it measures.
"""

import asyncio
import json
import sys
import time
from typing import Any

import attrs

from nanochat.benchmarking.latency import Moments

HEALTH_EVERY_SECONDS = 0.05


async def _post(host: str, port: int, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(host, port)
    method = f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}" if body else f"GET {path} HTTP/1.1"
    writer.write(f"{method}\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def ask(host: str, port: int, body: bytes) -> Moments:
    """One streamed completion, to its end."""
    moments = Moments(time.perf_counter())
    reader, writer = await _post(host, port, "/v1/completions", body)
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            moments.pieces.append(time.perf_counter())
    writer.close()
    return moments


async def watch_health(host: str, port: int, found: list[float]) -> None:
    """Ask /health again and again."""
    while True:
        began = time.perf_counter()
        reader, writer = await _post(host, port, "/health", b"")
        await reader.read()
        writer.close()
        found.append(time.perf_counter() - began)
        await asyncio.sleep(HEALTH_EVERY_SECONDS)


async def run(url: str, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """All prompts at once, each by a client of its own."""
    host, _, port = url.removeprefix("http://").partition(":")
    settings = {"max_tokens": tokens, "ignore_eos": True, "stream": True}
    bodies = [json.dumps(settings | {"prompt": prompt}).encode() for prompt in prompts]
    health: list[float] = []
    watching = asyncio.create_task(watch_health(host, int(port), health))
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(host, int(port), body) for body in bodies))
    seconds = time.perf_counter() - began
    watching.cancel()
    return {"seconds": seconds, "answers": [attrs.asdict(answer) for answer in answers], "health": health}


if __name__ == "__main__":
    json.dump(asyncio.run(run(sys.argv[1], **json.load(sys.stdin))), sys.stdout)
