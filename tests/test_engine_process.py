"""An engine in a process of its own: what it answers, how its end is told, that it outlives nobody."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import loaders
import psutil
import pytest
from test_serving import running, wait_until

from nanochat.errors import InputError, StageError
from nanochat.inference.sampling import Sampling
from nanochat.serving import engine_process
from nanochat.serving.app import create_server
from nanochat.serving.engine_client import EngineClient, TookTooLong
from nanochat.serving.engine_loop import about
from nanochat.serving.engine_process import EngineProcess, Load
from nanochat.serving.jobs import EngineFailed, Job, Update
from nanochat.serving.models import Models

PROMPT = [*b"how many?"]
ENDLESS = {"prompt": "the cat", "max_tokens": 150, "ignore_eos": True}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@contextmanager
def asked(load: Load, *, capacity: int = 8) -> Iterator[EngineClient]:
    client = EngineClient(EngineProcess(load), capacity=capacity)
    client.start()
    try:
        yield client
    finally:
        client.stop()


def job(prompt: list[int] | None = None, **settings: Any) -> Job:
    return Job(prompt=prompt or PROMPT, sampling=Sampling(**({"max_tokens": 20, "ignore_eos": True} | settings)))


async def updates(client: EngineClient, *jobs: Job) -> list[tuple[int, Update]]:
    async with client.answer(jobs, 60) as answer:
        return [update async for update in answer]


def test_it_answers_as_the_engine_itself_piece_by_piece_and_tells_what_it_is() -> None:
    here = loaders.tiny(tools=True)
    jobs = [
        job(logprobs=2, prompt_logprobs=True),
        job(temperature=1.0, seed=3),
        job([*PROMPT, here.tokenizer.special_id("<|assistant_start|>")], max_tokens=3),
    ]
    expected = here.generate([each.prompt for each in jobs], [each.sampling for each in jobs])
    with asked(partial(loaders.tiny, tools=True)) as client:
        told = asyncio.run(updates(client, *jobs))
        with pytest.raises(InputError, match=r"E601.* 201 tokens long"):
            asyncio.run(updates(client, job([65] * 201)))
        assert client.open == 0
        known, here_known = client.about, about(here)
        assert known.tokenizer.vocabulary == here_known.tokenizer.vocabulary
        assert (known.context, known.ends, known.tools) == (here_known.context, here_known.ends, True)
    for choice, completion in enumerate(expected):
        mine = [update for number, update in told if number == choice]
        assert mine[-1].completion == completion
        assert "".join(part["text"] for update in mine for part in update.parts) == completion.text
        # What is told of the prompt comes once, not with every piece.
        assert [bool(update.prompt_told) for update in mine] == [choice == 0, *[False] * (len(mine) - 1)]
        assert mine[0].prompt_told == completion.prompt_told or choice


def test_who_leaves_early_is_cancelled_there() -> None:
    async def leave(client: EngineClient) -> None:
        async with client.answer([job(max_tokens=150) for _ in range(6)], 60) as answer:
            await anext(aiter(answer))
            assert client.open == 6  # four are written, two wait
        began = time.monotonic()
        while client.open:
            await asyncio.sleep(0.001)
        assert time.monotonic() - began < 2  # the whole answers would take four

    with asked(partial(loaders.tiny, seconds=0.025)) as client:
        asyncio.run(leave(client))
        assert len(asyncio.run(updates(client, job(max_tokens=2)))) > 0


def test_signals_to_the_whole_group_are_left_to_the_server_and_reach_what_tools_run() -> None:
    with asked(partial(loaders.tiny, tools=True)) as client:
        assert client.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(client.pid, number)
        assert asyncio.run(updates(client, job(max_tokens=3)))
    with asked(partial(loaders.tiny, tools=True)) as client:
        special = client.about.tokenizer.special_id
        call = dict.fromkeys((special("<|python_start|>"), special("<|python_end|>")), 100.0)
        calling = job([*PROMPT, special("<|assistant_start|>")], logit_bias=call, max_tokens=30)
        parts = [part for _, update in asyncio.run(updates(client, calling)) for part in update.parts]
    assert {"type": "python_output", "text": "0 0"} in parts


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (loaders.refused, "E502.*more than there is.*use less"),
        (loaders.broken, "E403.*could not be loaded: its process ended with exit code 1"),
        (loaders.killed, "E403.*could not be loaded: its process was killed; the machine may have run out of memory"),
    ],
)
def test_why_a_model_could_not_be_loaded_is_told(load: Load, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(StageError, match=f"(?s){said}"):
        EngineProcess(load)
    assert {child.pid for child in psutil.Process().children()} == before
    assert ("the floor gave way" in capfd.readouterr().err) == (load is loaders.broken)


@pytest.mark.parametrize("stream", [True, False])
def test_where_the_process_is_lost_all_who_wait_are_told_and_health_says_why(stream: bool) -> None:
    models = Models()

    def load() -> None:
        models.add("tiny", [EngineProcess(partial(loaders.tiny, seconds=0.05, rows=1))])
        models.ready = True

    with running(create_server(models, start=load)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: models.ready)
        pid = models.engines[0].pid
        assert pid is not None
        answers: list[str] = []
        body = ENDLESS | {"stream": stream}
        asking = [  # one is answered, one waits
            threading.Thread(
                target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=body, timeout=30).text)
            )
            for _ in range(2)
        ]
        for each in asking:
            each.start()
        wait_until(lambda: client.get("/health").json()["open"] == 2)
        told = client.get("/metrics").text.split("\nnanochat_resident_memory_bytes ")[1]
        assert float(told.split()[0]) > psutil.Process(pid).memory_info().rss
        os.kill(pid, signal.SIGKILL)
        for each in asking:
            each.join(20)
        health = client.get("/health")
        assert health.status_code == 503
        said = "its process was killed"
        assert said in health.json()["reason"] and [said in answer for answer in answers] == [True, True]
        assert said in client.post("/v1/completions", json=ENDLESS).json()["error"]["message"]


def test_one_that_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "END_SECONDS", 0.3)
    client = EngineClient(EngineProcess(partial(loaders.tiny, seconds=60)), capacity=1)
    client.start()

    async def ask() -> None:
        async with client.answer([job()], 60) as answer:
            for stop in stopping:
                stop.start()
            await anext(aiter(answer))

    stopping = [threading.Thread(target=client.stop) for _ in range(2)]  # at the drain's end, and at the server's
    with pytest.raises(EngineFailed, match="the server is shutting down"):
        asyncio.run(ask())
    for stop in stopping:
        stop.join(20)
    assert client.pid is not None and not psutil.pid_exists(client.pid)


def test_one_that_does_not_read_holds_up_nobody_and_is_killed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "END_SECONDS", 0.3)
    client = EngineClient(EngineProcess(loaders.tiny), capacity=9)
    client.start()
    assert client.pid is not None
    os.kill(client.pid, signal.SIGSTOP)

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(TookTooLong):
                async with client.answer([job([65] * 10**6)], 0.2):
                    raise AssertionError

    began = time.monotonic()
    asyncio.run(ask())
    assert client.open == 3
    client.stop()
    assert time.monotonic() - began < 10
    assert client.open == 0 and client.ended == "the server is shutting down"
    assert not psutil.pid_exists(client.pid)


@pytest.mark.parametrize("load", ["tiny", "endless"])
def test_it_ends_with_whoever_started_it_loaded_or_not(load: str) -> None:
    lines = [
        "import loaders, subprocess",
        "from nanochat.serving import engine_process",
        "spawn = engine_process._spawn",
        "def told(pipe):",
        "    process = spawn(pipe)",
        "    print(process.pid, flush=True)",
        "    return process",
        "engine_process._spawn = told",
        f"engine_process.EngineProcess(loaders.{load})",
        "print('loaded', flush=True)",
        "input()",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if load == "tiny":
            assert parent.stdout.readline() == "loaded\n"
        else:
            wait_until(lambda: "torch" in " ".join(mapped.path for mapped in child.memory_maps()))
        parent.kill()
        child.wait(10)
