"""The server: OpenAI's wire format as its own client speaks it, errors, disconnects, the page's files."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient
from torch import Tensor

from nanochat.errors import InputError
from nanochat.inference.engine import Engine
from nanochat.inference.scheduler import Scheduler
from nanochat.inference.transcript import Transcript
from nanochat.runtime import local_runtime
from nanochat.serving.app import create_app
from nanochat.serving.fields import CHAT
from nanochat.serving.server import address, bind, make_server
from nanochat.serving.service import Limits
from nanochat.text.special import PYTHON_END, PYTHON_START
from nanochat.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["how many r are in strawberry? the cat sat on the mat " * 8], vocab_size=290)
ANSWER_START, ANSWER_END = TOKENIZER.special_id("<|assistant_start|>"), TOKENIZER.special_id("<|assistant_end|>")
CONTEXT = 400
ENDLESS_SECONDS = 0.1
"""Of a step, where an answer must not end before the test does."""


class Counter:
    """A tool that counts letters of whatever it is given."""

    name, start, end = "counter", PYTHON_START, PYTHON_END

    def run(self, code: str) -> str | None:
        return str(len(code))


class Answering:
    """A model that writes `answer` after every <|assistant_start|>, nothing without one; endless: again and again."""

    dtype = torch.float32

    def __init__(self, answer: list[int], *, endless: bool = False, seconds: float = 0.0) -> None:
        self.answer, self.endless, self.seconds = answer, endless, seconds
        self.config = SimpleNamespace(
            depth=1, n_kv_head=1, head_dim=2, sequence_len=CONTEXT, vocab_size=TOKENIZER.vocab_size
        )
        self.ids = torch.zeros(64, CONTEXT, dtype=torch.long)

    def hidden(self, ids: Tensor, cache: Any, *, places: Any = None) -> Tensor:
        time.sleep(self.seconds)
        self.ids[cache.slots, cache.positions] = ids
        hidden = torch.cat((cache.slots.expand_as(ids)[..., None], cache.positions[..., None]), dim=-1)
        return hidden if places is None else hidden[places]

    def logits(self, hidden: Tensor) -> Tensor:
        logits = torch.zeros(hidden.size(0), TOKENIZER.vocab_size)
        for row, (slot, position) in enumerate(hidden.tolist()):
            before = self.ids[slot, : position + 1].tolist()
            if ANSWER_START not in before:  # a text to be continued
                logits[row, ANSWER_END] = 10.0
                continue
            written = before[len(before) - before[::-1].index(ANSWER_START) :]
            place = len(written) % len(self.answer) if self.endless else len(written)
            logits[row, self.answer[place] if place < len(self.answer) else ANSWER_END] = 10.0
        return logits


def with_call(before: str, code: str, after: str) -> list[int]:
    """An answer with a call of Counter in it: forced ids stand in their places, so that it goes on after them."""
    special = TOKENIZER.special_id
    return [
        *TOKENIZER.encode(before),
        *(special(PYTHON_START), *TOKENIZER.encode(code), special(PYTHON_END)),
        *(special("<|output_start|>"), *TOKENIZER.encode(str(len(code))), special("<|output_end|>")),
        *TOKENIZER.encode(after),
    ]


CALLING = with_call("Let me see: ", "strawberry", "That is ten, é€.")


def make_app(
    answer: list[int] = CALLING,
    *,
    rows: int = 4,
    capacity: int = 256,
    limits: Limits | None = None,
    **changes: Any,
) -> Starlette:
    model: Any = Answering(answer, **changes)
    engine = Engine(model, TOKENIZER, local_runtime(), tools=[Counter()], rows=rows)
    return create_app(engine, model="tiny", capacity=capacity, limits=limits)


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """The address of a real server on loopback, in a thread."""
    with bind("127.0.0.1", 0) as bound:
        server = make_server(app)
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]))
        thread.start()
        try:
            yield address(bound)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(make_app()) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused")


ASKED: Any = [{"role": "user", "content": "How many letters?"}]


def chat(client: TestClient | httpx.Client, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": ASKED} | body)


# The openai client


def test_the_openai_client_gets_an_answer_with_the_tool_call_shown_beside_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=ASKED)
    choice = answer.choices[0]
    assert choice.message.content == "Let me see: That is ten, é€."
    assert choice.finish_reason == "stop"
    assert choice.message.model_extra is not None
    assert choice.message.model_extra["parts"] == [
        {"type": "text", "text": "Let me see: "},
        {"type": "python", "text": "strawberry"},
        {"type": "python_output", "text": "10"},
        {"type": "text", "text": "That is ten, é€."},
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(CALLING) + 1  # and <|assistant_end|>


def test_a_streamed_answer_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    *chunks, counted = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Let me see: That is ten, é€."
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert counted.choices == []
    assert counted.usage is not None and counted.usage.completion_tokens == len(CALLING) + 1
    assert len({chunk.id for chunk in [*chunks, counted]}) == 1


def test_an_asynchronous_client_gets_many_answers_at_once(url: str) -> None:
    async def ask_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model="tiny", messages=ASKED) for _ in range(12))
            )
        return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(ask_all()) == ["Let me see: That is ten, é€."] * 12


def test_max_tokens_cuts_the_answer_and_says_so(client: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = client.chat.completions.create(model="tiny", messages=ASKED, **limit)  # type: ignore[call-overload]
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None and answer.usage.completion_tokens == 3


def test_the_same_seed_gives_the_same_answer(url: str) -> None:
    # The scripted model is so sure of itself that only a high temperature makes it waver.
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")

    def answer(seed: int) -> str | None:
        made = client.chat.completions.create(
            model="tiny", messages=ASKED, temperature=1.9, seed=seed, max_tokens=40, extra_body={"top_k": 200}
        )
        return made.choices[0].message.content

    assert answer(1) == answer(1) != answer(2)


def test_the_client_lists_the_model_and_is_told_when_it_asks_for_another(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.NotFoundError, match="there is no model `gpt-5`; this server has `tiny`"):
        client.chat.completions.create(model="gpt-5", messages=ASKED)


def test_a_prompt_beyond_the_context_is_refused_with_its_counts_streaming_or_not(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=rf"tokens long, and the context holds {CONTEXT}") as refused:
            client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "zq" * CONTEXT}], stream=stream
            )
        assert refused.value.code == "context_length_exceeded"


# Requests as they should not be


@pytest.fixture(scope="module")
def local() -> Iterator[TestClient]:
    with TestClient(make_app()) as client:
        yield client


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -1}, "temperature is -1.0"),
    ({"temperature": "hot"}, "`temperature` must be a number"),
    ({"temperature": True}, "`temperature` must be a number"),
    ({"temperature": 10**400}, "temperature is inf"),
    ({"top_p": 0}, "top_p is 0.0"),
    ({"top_k": -5}, "`top_k` is -5"),
    ({"max_tokens": 0}, "`max_tokens` is 0; it must be at least 1"),
    ({"max_completion_tokens": -3}, "`max_completion_tokens` is -3; it must be at least 1"),
    ({"min_p": 2}, "min_p is 2.0"),
    ({"presence_penalty": -2.5}, "presence_penalty is -2.5"),
    ({"logit_bias": {"x": 1}}, "`logit_bias` must name tokens by their ids"),
    ({"logit_bias": {"99999": 1}}, "logit_bias names the token 99999"),
    ({"logit_bias": {"1": "high"}}, "`logit_bias` must be a number"),
    ({"logit_bias": [1]}, "`logit_bias` must be an object"),
    ({"top_logprobs": 21, "logprobs": True}, "`top_logprobs` is 21; it must be at least 0, at most 20"),
    ({"top_logprobs": 2}, "`top_logprobs` asks for `logprobs` to be true"),
    ({"logprobs": 3}, "`logprobs` must be true or false"),
    ({"stop": [""]}, "stop must be"),
    ({"stop": [3]}, "`stop` must be a string"),
    ({"stop": {}}, "`stop` must be a string or a list"),
    ({"n": 0}, "`n` is 0"),
    ({"n": 129}, "`n` is 129; it must be at least 1, at most 128"),
    ({"tools": [{"type": "function"}]}, "`tools` is not supported"),
    ({"stream_options": {"include_usage": "yes"}}, "`stream_options.include_usage` must be true or false"),
    ({"max_tokens": 2.5}, "`max_tokens` must be an integer"),
    ({"seed": "x"}, "`seed` must be an integer"),
    ({"seed": 10**4000}, "`seed` is a number of many digits; it must be at least -9223372036854775808, at most"),
    ({"max_tokens": 10**400}, "`max_tokens` is a number of many digits; it must be at least 1, at most"),
    ({"top_k": 1 << 63}, "`top_k` is 9223372036854775808; it must be at least -1, at most 9223372036854775807"),
    ({"n": -(10**400)}, "`n` is a number of many digits; it must be at least 1, at most 128"),
    ({"logit_bias": {str(token): 1 for token in range(9999)}}, "names 9999 tokens; it may name at most 1024"),
    ({"tool_choice": "required"}, "`tool_choice` is not supported"),
    ({"stream": "yes"}, "`stream` must be true or false"),
    ({"stream_options": 3}, "`stream_options` must be an object"),
    ({"model": 7}, "`model` must be a string"),
    ({"messages": None}, "at least one message"),
    ({"messages": []}, "at least one message"),
    ({"messages": ["hi"]}, "the last message must be the user's"),
    ({"messages": [{"role": "assistant", "content": "hi"}]}, "the last message must be the user's"),
    ({"messages": [3, *ASKED]}, "messages[0]"),
    ({"messages": [*ASKED, *ASKED]}, "messages[1] has role 'user' where 'assistant' must follow"),
    ({"messages": [{"role": "robot", "content": "x"}, *ASKED]}, "messages[0] has role 'robot'"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "python_output", "text": "3"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": ["\ud800"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "\ud800", "content": "x"}, *ASKED]}, "messages[0] has role"),
    ({"messages": [{"role": "x" * 10**6, "content": "x"}, *ASKED]}, "messages[0] has role"),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_a_wrong_field_is_a_400_that_names_it(local: TestClient, wrong: dict[str, Any], reason: str) -> None:
    answer = local.post("/v1/chat/completions", content=json.dumps({"messages": ASKED} | wrong))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert reason in error["message"] and len(error["message"]) < 500
    assert error["type"] == "invalid_request_error"
    assert error["param"].partition(".")[0] in wrong


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 200_000, b'{"messages": NaN}', b'{"seed": ' + b"9" * 5000 + b"}"],
)
def test_a_body_that_is_no_request_is_a_400(local: TestClient, body: bytes) -> None:
    answer = local.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "said"), [("\ud800", "`?`"), ("gpt-\udfff", "`gpt-?`"), ("", "``"), ("x" * 9999, "x`")]
)
def test_no_name_of_a_model_is_more_than_a_404(local: TestClient, name: str, said: str) -> None:
    answer = local.post("/v1/chat/completions", content=json.dumps({"messages": ASKED, "model": name}))
    assert answer.status_code == 404
    assert said in answer.json()["error"]["message"] and len(answer.content) < 500


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1 << 63, -(10**400)])
    | st.floats()
    | st.text(st.characters()),  # halves of pairs included
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(CHAT.keys() - {"messages"})
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user") | JSON, "content": JSON}) | JSON, max_size=3)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), MESSAGES | st.just(ASKED) | JSON)
@settings(max_examples=150, deadline=None)
def test_no_json_makes_the_server_fail(local: TestClient, fields: dict[str, Any], messages: Any) -> None:
    content = json.dumps(fields | {"messages": messages})
    assert local.post("/v1/chat/completions", content=content).status_code in (200, 400, 404)


@pytest.mark.parametrize("field", ["user", "prompt_cache_key"])
def test_half_a_surrogate_pair_may_be_a_users_name(local: TestClient, field: str) -> None:
    said = {"role": "assistant", "content": "hi"}
    for messages in (ASKED, [*ASKED, said, *ASKED]):
        for stream in (False, True):
            body = {"messages": messages, field: "\ud800", "stream": stream}
            answer = local.post("/v1/chat/completions", content=json.dumps(body))
            assert answer.status_code == 200 and '"finish_reason": "stop"' in answer.text
            assert not stream or answer.text.endswith("data: [DONE]\n\n")


def test_the_greatest_seed_has_others_after_it(local: TestClient) -> None:
    assert len(chat(local, seed=(1 << 63) - 1, n=3, temperature=1.0).json()["choices"]) == 3
    assert chat(local, seed=-(1 << 63)).status_code == 200


def test_neither_a_path_nor_a_host_makes_the_server_fail() -> None:
    with running(make_app()) as url:
        host, port = url.removeprefix("http://").split(":")
        for path, name in [("/%00", "x"), ("/static/%00", "x"), ("/%ed%a0%80", "x"), ("/no", "[x"), ("/health/", "[x")]:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                status = int(connection.recv(100).split()[1])
            assert status < 500, (path, name, status)


def test_not_a_number_as_temperature_is_a_400(local: TestClient) -> None:
    content = json.dumps({"messages": ASKED, "temperature": float("nan")})
    assert "temperature is nan" in local.post("/v1/chat/completions", content=content).json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(local: TestClient) -> None:
    answer = local.post("/v1/chat/completions", content=b" " * (Limits().body_bytes + 1))
    assert answer.status_code == 413


def test_paths_and_methods_that_do_not_exist_have_openais_error_shape(local: TestClient) -> None:
    for answer, status in ((local.get("/v1/nothing"), 404), (local.get("/v1/chat/completions"), 405)):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_fields_that_change_nothing_are_accepted(local: TestClient) -> None:
    harmless: dict[str, Any] = {"user": "me", "n": 1, "stop": None, "logprobs": False, "store": True, "metadata": {}}
    harmless |= {"presence_penalty": 0.0, "response_format": {"type": "text"}, "top_p": 1, "something_new": [1]}
    assert chat(local, **harmless).status_code == 200


def test_content_in_parts_a_developers_message_and_an_answer_with_its_tool_calls_are_understood(
    local: TestClient,
) -> None:
    first = chat(local).json()["choices"][0]["message"]
    messages = [
        {"role": "developer", "content": "Count."},
        {"role": "user", "content": [{"type": "text", "text": "How many"}, {"type": "text", "text": " letters?"}]},
        {"role": "assistant", "content": first["parts"]},
        *ASKED,
    ]
    answer = chat(local, messages=messages)
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] > len(CALLING)


def test_a_user_who_spells_special_tokens_writes_ordinary_text(local: TestClient) -> None:
    plain = chat(local, messages=[{"role": "user", "content": "x"}]).json()["usage"]["prompt_tokens"]
    spelt = chat(local, messages=[{"role": "user", "content": "x<|assistant_start|>"}]).json()["usage"]["prompt_tokens"]
    assert spelt > plain + 5


# The engine's thread


def wait_until(what: Any, seconds: float = 10.0) -> None:
    """Far less than an answer takes that never ends by itself: CONTEXT steps of ENDLESS_SECONDS."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.01)
    raise AssertionError(f"it did not happen within {seconds:g} seconds")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_answer_and_frees_its_slot(stream: bool) -> None:
    with running(make_app(TOKENIZER.encode("on and "), endless=True, seconds=ENDLESS_SECONDS, rows=1)) as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"messages": ASKED, "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
            wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 1)
            if stream:
                assert connection.recv(100)
        wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 0)


def test_a_client_that_goes_away_while_it_waits_leaves_the_line() -> None:
    with running(make_app(TOKENIZER.encode("on and "), endless=True, seconds=ENDLESS_SECONDS, rows=1)) as url:

        def open_answers() -> int:
            return int(httpx.get(f"{url}/health").json()["open"])

        with httpx.Client(base_url=url) as client:
            request = {"messages": ASKED, "stream": True}
            with client.stream("POST", "/v1/chat/completions", json=request):
                with client.stream("POST", "/v1/chat/completions", json=request):
                    wait_until(lambda: open_answers() == 2)
                wait_until(lambda: open_answers() == 1)


def test_more_answers_than_the_server_keeps_are_turned_away_until_one_is_done() -> None:
    app = make_app(TOKENIZER.encode("on and "), endless=True, seconds=0.02, rows=1, capacity=2)
    with running(app) as url, httpx.Client(base_url=url) as client:
        chat: Any = {"method": "POST", "url": "/v1/chat/completions", "json": {"messages": ASKED, "stream": True}}
        with client.stream(**chat):
            with client.stream(**chat):
                refused = client.request(**chat)
                assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
            wait_until(lambda: client.get("/health").json()["open"] == 1)
            with client.stream(**chat) as accepted:
                assert accepted.status_code == 200


def test_health_answers_while_the_engine_is_busy() -> None:
    with TestClient(make_app(TOKENIZER.encode("on and "), endless=True, seconds=0.01)) as client:
        with client.stream("POST", "/v1/chat/completions", json={"messages": ASKED, "stream": True}):
            pass
        assert client.get("/health").json()["status"] == "ok"


def test_an_engine_that_fails_costs_its_answers_and_not_the_server() -> None:
    app_model = Answering(CALLING)
    hidden, failing = app_model.hidden, [True]

    def fail_once(ids: Tensor, cache: Any, **options: Any) -> Tensor:
        if failing.pop() if failing else False:
            raise RuntimeError("no memory left")
        return hidden(ids, cache, **options)

    app_model.hidden = fail_once  # type: ignore[method-assign]
    model: Any = app_model
    with TestClient(
        create_app(Engine(model, TOKENIZER, local_runtime(), tools=[Counter()], rows=1), model="x")
    ) as client:
        lost = chat(client)
        assert lost.status_code == 503
        assert "no memory left" in lost.json()["error"]["message"]
        assert chat(client).json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("broken", ["scheduler.schedule", "transcript.take"])
@pytest.mark.parametrize("stream", [True, False])
def test_when_the_engines_thread_dies_all_who_wait_are_told_and_health_says_why(
    broken: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = Answering(TOKENIZER.encode("on and "), endless=True, seconds=0.01)
    engine = Engine(model, TOKENIZER, local_runtime(), rows=1)
    steps = iter(range(10**9))

    def fail_later(*_: Any) -> Any:
        if next(steps) > 3:
            raise SystemExit("the floor gave way")
        return original(*_)

    place: Any = Scheduler if broken == "scheduler.schedule" else Transcript
    original = getattr(place, broken.partition(".")[2])
    monkeypatch.setattr(place, broken.partition(".")[2], fail_later)
    with running(create_app(engine, model="tiny")) as url:

        def ask() -> str:
            return httpx.post(f"{url}/v1/chat/completions", json={"messages": ASKED, "stream": stream}, timeout=20).text

        with ThreadPoolExecutor(3) as pool:  # one is answered, two wait
            for told in [pool.submit(ask) for _ in range(3)]:
                assert "the floor gave way" in told.result()
        assert "the floor gave way" in ask()
        health = httpx.get(f"{url}/health")
        assert health.status_code == 503
        assert health.json()["status"] == "stopped" and "the floor gave way" in health.json()["reason"]


def test_a_prompt_that_the_engine_chokes_on_is_told_and_the_next_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(make_app()) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Scheduler, "add", lambda *_: 1 / 0)
            assert chat(client).status_code == 503
        assert chat(client).status_code == 200


def test_an_address_in_use_is_said_before_anything_is_loaded() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"E603.*127.0.0.1:{port}"):
            bind("127.0.0.1", port)
    with pytest.raises(InputError, match="E603"):
        bind("no.such.host.invalid", 8000)


# The page


def test_the_page_and_its_files_come_from_this_server_alone(local: TestClient) -> None:
    page = local.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for path in (Path(__file__).parent.parent / "nanochat" / "serving" / "static").iterdir():
        assert local.get(f"/static/{path.name}").status_code == 200
    assert local.get("/static/../app.py").status_code == 404


def test_the_page_never_makes_html_of_text_and_names_no_other_host() -> None:
    static = Path(__file__).parent.parent / "nanochat" / "serving" / "static"
    for path in static.iterdir():
        text = path.read_text()
        assert not any(
            way in text for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
