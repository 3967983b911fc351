"""What a server must bear: slow and rude clients, floods, wrong keys, pages of other hosts, a model not yet there."""

import asyncio
import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from test_serving import ASKED, ENDLESS_SECONDS, TOKENIZER, Answering, make_app, running, wait_until

from nanochat.errors import InputError
from nanochat.inference.engine import Engine
from nanochat.runtime import local_runtime
from nanochat.serving.app import create_app, create_server
from nanochat.serving.engine_client import EngineClient
from nanochat.serving.engine_thread import EngineThread
from nanochat.serving.faults import RequestError
from nanochat.serving.keys import Buckets, Keys, read_keys
from nanochat.serving.models import Models
from nanochat.serving.protocol import DeadlineProtocol
from nanochat.serving.server import address, bind, make_server
from nanochat.serving.service import Limits

ENDLESS = TOKENIZER.encode("on and ")


def link(answer: list[int] = ENDLESS, **changes: Any) -> EngineThread:
    model: Any = Answering(answer, **changes)
    return EngineThread(Engine(model, TOKENIZER, local_runtime(), rows=4))


@contextmanager
def guarded(*, loaded: bool = True, **changes: Any) -> Iterator[TestClient]:
    models = Models()

    def load() -> None:
        if loaded:
            models.add("tiny", [link(TOKENIZER.encode("hi"))])
            models.ready = True

    with TestClient(create_server(models, start=load, **changes)) as client:
        client.app_state["models"] = models
        yield client


# Keys


def test_without_a_valid_key_nothing_is_answered_but_health_and_the_page() -> None:
    with guarded(keys=Keys(["sésame", "two", "voilà"])) as client:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic two"}, {"Authorization": "two"}):
            for path in ("/v1/models", "/metrics", "/v1/nothing"):
                answer = client.get(path, headers=header)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/v1/models", headers={"Authorization": "Bearer two"}).status_code == 200
        for key, encoding in itertools.product(("sésame", "voilà"), ("utf-8", "latin-1")):
            header = {"Authorization": f"bearer {key}".encode(encoding)}
            assert client.get("/v1/models", headers=header).status_code == 200
        assert client.get("/health").status_code == client.get("/").status_code == 200


def test_two_keys_share_nothing_that_is_cached() -> None:
    with guarded(keys=Keys(["one", "two"])) as client:

        def cached(key: str) -> int:
            body = {"messages": ASKED, "max_tokens": 1}
            answer = client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
            return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert [cached(key) > 0 for key in ("one", "two", "one", "two")] == [False, False, True, True]


def test_each_key_may_ask_so_often_a_minute_and_is_told_when_again() -> None:
    with guarded(keys=Keys(["one", "two"], per_minute=2)) as client:

        def ask(key: str) -> httpx.Response:
            return client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})

        assert [ask("one").status_code for _ in range(3)] == [200, 200, 429]
        assert 25 <= int(ask("one").headers["Retry-After"]) <= 30
        assert ask("two").status_code == 200
    assert RequestError(429, "", retry=28.1).response().headers["Retry-After"] == "29"  # 28 would be too early


def test_a_bucket_fills_steadily_and_never_over_its_size() -> None:
    now = [0.0]
    buckets = Buckets(60, clock=lambda: now[0])
    assert [buckets.take("x") for _ in range(60)] == [0] * 60
    assert buckets.take("x") == pytest.approx(1.0)
    now[0] += 1.5
    assert [buckets.take("x") for _ in range(2)] == [0, pytest.approx(0.5)]
    now[0] += 10**6
    assert sum(buckets.take("x") == 0 for _ in range(100)) == 60


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Any) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\none  # anna\n\n two\n")
    assert read_keys(path, "three, one") == ["one", "two", "three"]
    assert read_keys(None, None) == []
    path.write_text("# none\n")
    with pytest.raises(InputError, match="E407"):
        read_keys(path, None)


# Browsers


def test_a_page_of_another_host_cannot_ask_unless_it_is_let() -> None:
    body = {"messages": ASKED, "max_tokens": 1}
    with guarded(origins=("https://mine.example",)) as client:
        for origin, status in (
            ("http://testserver", 200), ("https://mine.example", 200), ("https://evil.example", 403), ("null", 403),
            ("http://[", 403),
        ):  # fmt: skip
            answer = client.post("/v1/chat/completions", json=body, headers={"Origin": origin})
            assert answer.status_code == status, origin
        assert answer.headers.get("Access-Control-Allow-Origin") is None
    with guarded() as client:
        preflight = {"Origin": "https://mine.example", "Access-Control-Request-Method": "POST"}
        answer = client.options("/v1/chat/completions", headers=preflight)
        assert answer.status_code == 403 and "Access-Control-Allow-Origin" not in answer.headers


def test_bound_to_loopback_it_is_asked_by_no_other_name_unless_it_is_let() -> None:
    with guarded(hosts=["chat.mine"]) as client:
        for host, status in (
            ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8000", 200), ("127.0.0.9", 200),
            ("chat.mine:8000", 200), ("evil.example:8000", 403), ("localhost.evil.example", 403), ("10.0.0.1", 403),
            ("127.0.0.1.evil.example", 403), ("evil@127.0.0.1x", 403), ("[", 403), ("testserver", 403),
        ):  # fmt: skip
            # A page whose name was made to mean this machine asks its own origin, as far as a browser can see.
            headers = {"Host": host, "Origin": f"http://{host}"}
            for path in ("/health", "/v1/models", "/"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == status, host
            assert status == 200 or answer.json()["error"]["code"] == "host"
    with guarded() as client:
        assert client.get("/health", headers={"Host": "any.example"}).status_code == 200


# While it is loaded


def test_until_a_model_is_loaded_the_server_says_so_and_is_alive() -> None:
    with guarded(loaded=False) as client:
        assert client.get("/health").status_code == 200
        for answer in (client.get("/ready"), client.post("/v1/chat/completions", json={"messages": ASKED})):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.json()["error"]["code"] == "loading"
        models = client.app_state["models"]
        models.add("tiny", [link(TOKENIZER.encode("hi"))])
        models.ready = True
        assert client.get("/ready").status_code == 200
        assert client.post("/v1/chat/completions", json={"messages": ASKED, "max_tokens": 1}).status_code == 200


def test_several_models_answer_by_their_names_and_the_least_loaded_engine_is_asked() -> None:
    models = Models()

    def load() -> None:
        models.add("a", [link(TOKENIZER.encode("I am a"))])
        models.add("b", [link(endless=True, seconds=0.01), link(endless=True, seconds=0.01)])
        models.ready = True

    with running(create_server(models, start=load)) as url, httpx.Client(base_url=url) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["a", "b"]
        said = client.post("/v1/chat/completions", json={"messages": ASKED}).json()
        assert (said["model"], said["choices"][0]["message"]["content"]) == ("a", "I am a")
        asked: Any = {"method": "POST", "url": "/v1/chat/completions"}
        asked["json"] = {"model": "b", "messages": ASKED, "stream": True}
        with client.stream(**asked), client.stream(**asked):
            wait_until(lambda: [engine.open for engine in models.served[1].engines] == [1, 1])


# Slow and rude clients


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(DeadlineProtocol, "head_seconds", 0.5)
    with running(make_app(TOKENIZER.encode("hi"), limits=Limits(body_seconds=0.5))) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def trickle(address: tuple[str, int], request: bytes, *, start: bytes = b"") -> bytes:
    """Send a byte every tenth of a second until the server ends the connection; what it has answered."""
    found = b""
    with socket.create_connection(address) as connection:
        connection.sendall(start)
        connection.settimeout(0.1)
        for byte in request:
            try:
                connection.sendall(bytes([byte]))
                piece = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return found
            if not piece:
                return found
            found += piece
    raise AssertionError("the server let it go on")


def test_headers_and_bodies_that_trickle_in_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with impatient(monkeypatch) as place:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
        with ThreadPoolExecutor(3) as pool:
            answers = [
                pool.submit(trickle, place, b"GET / HTTP/1.1\r\nX: " + b"a" * 100),
                pool.submit(trickle, place, b" " * 100, start=head),
                pool.submit(trickle, place, b"a" * 100, start=b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP"),
            ]
            slow_head, slow_body, second = [answer.result() for answer in answers]
        assert slow_head.startswith(b"HTTP/1.1 408")
        assert slow_body.startswith(b"HTTP/1.1 408")
        assert b"200 OK" in second and b"HTTP/1.1 408" in second


def test_who_reads_nothing_of_its_answer_is_cut_off_and_who_reads_slowly_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DeadlineProtocol, "reader_seconds", 0.5)
    ended, size = list[str](), 32 << 20

    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 16)
                    await asyncio.sleep(0)
            finally:
                ended.append("endless")

        return StreamingResponse(pieces())

    async def whole(_: Request) -> Response:
        return Response(bytes(size))  # handed over in one piece

    app = Starlette(routes=[Route("/endless", endless), Route("/whole", whole)])
    app.state.end_answers = lambda: None
    with running(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as deaf, socket.create_connection((host, int(port))) as slow:
            deaf.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.sendall(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n")
            read = 0
            while read < size:  # for four times the deadline
                piece = slow.recv(1 << 20)
                assert piece, "cut off while it was reading"
                read += len(piece)
                time.sleep(2.0 * len(piece) / size)
            assert ended == ["endless"]


def test_an_answer_that_takes_longer_than_the_limit_is_ended_with_a_reason() -> None:
    limits = Limits(answer_seconds=0.3)
    with running(make_app(ENDLESS, endless=True, seconds=ENDLESS_SECONDS, limits=limits)) as url:
        whole = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASKED})
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "timeout")
        streamed = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASKED, "stream": True}).text
        assert '"code": "timeout"' in streamed and streamed.endswith("data: [DONE]\n\n")
        wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 0)


def test_a_body_is_refused_while_it_is_still_being_sent() -> None:
    with running(make_app()) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head)
            sent = 0
            connection.settimeout(5)
            try:
                while sent < 50 * 2**20:
                    connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
                    sent += 2**20
                    connection.setblocking(False)
                    try:
                        if answer := connection.recv(100):
                            assert answer.startswith(b"HTTP/1.1 413")
                            break
                    except BlockingIOError:
                        pass
                    connection.settimeout(5)
            except OSError:
                pass
            assert sent < 50 * 2**20
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_client_that_goes_away_while_its_prompt_is_read_frees_its_slot() -> None:
    model: Any = Answering(ENDLESS, endless=True, seconds=0.3)
    steps: list[int] = []
    hidden = model.hidden
    model.hidden = lambda ids, *given, **options: (steps.append(ids.size(1)), hidden(ids, *given, **options))[1]
    engine = Engine(model, TOKENIZER, local_runtime(), rows=1, chunk=64)  # 300 ids are read by five chunks
    with running(create_app(engine, model="tiny")) as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"messages": [{"role": "user", "content": "zq" * 150}], "stream": False}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
            wait_until(lambda: steps)
        wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 0)
        assert sum(steps) < 300, "the whole prompt was read"


@pytest.fixture
def most_open(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most answers that were open at once."""
    found, submit = [0], EngineClient.submit

    def watched(engine: EngineClient, *given: Any) -> None:
        submit(engine, *given)
        found[0] = max(found[0], engine.open)

    monkeypatch.setattr(EngineClient, "submit", watched)
    return found


@pytest.mark.parametrize("stream", [True, False])
def test_no_more_answers_are_open_than_the_server_keeps_however_many_ask_at_once(
    stream: bool, most_open: list[int]
) -> None:
    async def ask_all(url: str) -> list[int]:
        body = {"messages": ASKED, "stream": stream}
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=60)) as client:
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(60)))
        return [answer.status_code for answer in answers]

    with running(make_app(TOKENIZER.encode("hi"), rows=2, capacity=4, seconds=0.05)) as url:
        statuses = asyncio.run(ask_all(url))
    assert set(statuses) == {200, 429} and most_open == [4]


def test_a_thousand_requests_at_once_are_answered_or_turned_away_and_memory_stays_flat(most_open: list[int]) -> None:
    body = json.dumps({"messages": ASKED, "max_tokens": 3}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def flood(url: str, count: int) -> list[int]:
        host, port = url.removeprefix("http://").split(":")

        async def ask() -> int:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
            status = int(answer.split()[1])
            assert status == 200 or b"retry-after: " in answer.lower()
            return status

        return await asyncio.gather(*(ask() for _ in range(count)))

    with running(make_app(TOKENIZER.encode("hi"), rows=8, capacity=64)) as url:
        asyncio.run(flood(url, 200))
        before = psutil.Process().memory_info().rss
        statuses: list[int] = []
        flooding = threading.Thread(target=lambda: statuses.extend(asyncio.run(flood(url, 1000))))
        flooding.start()
        while flooding.is_alive():
            assert httpx.get(f"{url}/health", timeout=60).status_code == 200
            time.sleep(0.2)
        assert len(statuses) == 1000 and set(statuses) <= {200, 429} and statuses.count(200) >= 64
        assert most_open == [64]
        # The clients of this process are counted as well: each takes some 100 KB.
        assert psutil.Process().memory_info().rss - before < 300 * 2**20
        wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 0)


# The end


def test_answers_that_outlast_the_time_for_the_end_are_ended_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(ENDLESS, endless=True, seconds=ENDLESS_SECONDS)
    with caplog.at_level(logging.WARNING), bind("127.0.0.1", 0) as bound:
        server = make_server(app, drain_seconds=1)
        serving = threading.Thread(target=lambda: server.run(sockets=[bound]))
        serving.start()
        url = f"{address(bound)}/v1/chat/completions"
        with ThreadPoolExecutor(2) as pool:
            whole, streamed = (
                pool.submit(httpx.post, url, json={"messages": ASKED, "stream": stream}, timeout=30)
                for stream in (False, True)
            )
            try:
                wait_until(lambda: httpx.get(f"{address(bound)}/health").json()["open"] == 2)
            finally:
                server.should_exit = True
            assert (whole.result().status_code, whole.result().headers["Retry-After"]) == (503, "2")
            assert "the server is shutting down" in whole.result().json()["error"]["message"]
            assert "the server is shutting down" in streamed.result().text
            assert streamed.result().text.endswith("data: [DONE]\n\n")
        serving.join(30)
        assert not serving.is_alive()
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


# What is told to programs


def test_metrics_count_requests_tokens_and_times() -> None:
    with guarded() as client:
        usage = client.post("/v1/chat/completions", json={"messages": ASKED}).json()["usage"]
        client.get("/v1/no/such/path")
        lines = client.get("/metrics").text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert values['nanochat_requests_total{path="/v1/chat/completions",status="200"}'] == "1.0"
        assert values['nanochat_requests_total{path="other",status="404"}'] == "1.0"
        assert float(values['nanochat_tokens_total{kind="prompt"}']) == usage["prompt_tokens"]
        assert float(values['nanochat_tokens_total{kind="written"}']) == usage["completion_tokens"]
        assert values["nanochat_time_to_first_token_seconds_count"] == "1.0"
        assert float(values["nanochat_resident_memory_bytes"]) > 2**20


def test_the_openapi_document_is_valid_and_its_limits_are_kept() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with guarded() as client:
        document = client.get("/openapi.json").json()
        post = document["paths"]["/v1/chat/completions"]["post"]
        schema = post["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for body in (
            {"messages": ASKED, "temperature": -1}, {"messages": ASKED, "top_p": 0}, {"messages": ASKED, "n": 0},
            {"messages": ASKED, "seed": "x"}, {"messages": []}, {}, {"messages": ASKED, "min_p": 1.5},
        ):  # fmt: skip
            assert not validator.is_valid(body)
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 400
            jsonschema.validate(answer.json(), document["components"]["schemas"]["Error"])
        assert validator.is_valid({"messages": ASKED, "temperature": 0.5, "stop": ["x"], "max_tokens": None})
