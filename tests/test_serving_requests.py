"""The server's finer manners: what helpers make of a stream, what counts as open, what a refusal says."""

import asyncio
import json
import logging
import socket
import threading
from typing import Any

import httpx
import openai
import pytest
from starlette.testclient import TestClient
from test_serving import ASKED, CALLING, TOKENIZER, Answering, chat, make_app, running, wait_until

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.runtime import local_runtime
from nanochat.serving.answers import ChatForm
from nanochat.serving.app import create_server
from nanochat.serving.engine_client import EngineClient
from nanochat.serving.engine_thread import EngineThread
from nanochat.serving.jobs import Job, Update
from nanochat.serving.models import Models

ENDLESS = TOKENIZER.encode("on and ")
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def place_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def received(place: tuple[str, int], sent: bytes) -> bytes:
    """All that comes until the server closes the connection."""
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


def test_openais_stream_helper_joins_the_parts_to_those_of_the_whole_answer() -> None:
    with running(make_app()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
        whole = client.chat.completions.create(model="tiny", messages=ASKED).choices[0].message
        with client.chat.completions.stream(model="tiny", messages=ASKED) as stream:
            joined = stream.get_final_completion().choices[0].message
    assert joined.content == whole.content
    assert whole.model_extra and joined.model_extra
    numbered = [{"index": index, **part} for index, part in enumerate(whole.model_extra["parts"])]
    assert joined.model_extra["parts"] == numbered and len(numbered) == 4


def test_a_model_without_tools_streams_no_parts() -> None:
    model: Any = Answering(TOKENIZER.encode("hi"))
    form = ChatForm("tiny", TOKENIZER, 1, logprobs=False, tools=False)
    answers = asyncio.run(_updates(Engine(model, TOKENIZER, local_runtime(), rows=1)))
    chunks = [chunk for choice, update in answers for chunk in form.chunks(choice, update)]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "hi"
    assert not any("parts" in chunk["choices"][0]["delta"] for chunk in chunks)


async def _updates(engine: Engine) -> list[tuple[int, Update]]:
    client = EngineClient(EngineThread(engine), capacity=1)
    client.start()
    async with client.answer([job()], 60) as answer:
        found = [update async for update in answer]
    client.stop()
    return found


def job() -> Job:
    return Job(prompt=[TOKENIZER.bos_id, TOKENIZER.special_id("<|assistant_start|>")], sampling=Sampling())


def test_one_model_is_told_of_by_its_name() -> None:
    with running(make_app()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
        assert client.models.retrieve("tiny") == next(iter(client.models.list()))
        with pytest.raises(openai.NotFoundError, match="there is no model `other`"):
            client.models.retrieve("other")


@pytest.mark.parametrize("stream", [False, True])
def test_what_can_never_fit_is_refused_and_not_put_off(stream: bool) -> None:
    with TestClient(make_app(capacity=3)) as client:
        refused = chat(client, n=4, stream=stream)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")
        assert "4 answers are asked for at once; this server has room for 3" in refused.json()["error"]["message"]
        assert chat(client, n=3, stream=stream).status_code == 200


def test_a_conversation_is_tokenised_as_a_chat_completion_sees_it() -> None:
    """An answer that was cut into other ids than a tokenizer would give: the exact ids are counted."""
    letters = [token for letter in "the cat" for token in TOKENIZER.encode(letter)]
    assert len(letters) > len(TOKENIZER.encode("the cat"))
    for who in ({}, {"user": "me"}, {"prompt_cache_key": "here"}):
        with TestClient(make_app(letters)) as client:
            messages = [*ASKED, {"role": "assistant", "content": "the cat"}, ASKED[0]]
            before = client.post("/v1/tokenize", json={"messages": messages} | who).json()["count"]
            assert chat(client, **who).json()["choices"][0]["message"]["content"] == "the cat"
            after = client.post("/v1/tokenize", json={"messages": messages} | who).json()["count"]
            used = chat(client, **{"messages": messages} | who).json()["usage"]["prompt_tokens"]
        assert after == used > before


def test_what_one_model_has_written_is_not_recalled_for_another() -> None:
    letters = [token for letter in "the cat" for token in TOKENIZER.encode(letter)]
    models = Models()

    def load() -> None:
        for name in ("one", "other"):
            model: Any = Answering(letters)
            models.add(name, [EngineThread(Engine(model, TOKENIZER, local_runtime(), rows=1))])
        models.ready = True

    with TestClient(create_server(models, start=load)) as client:
        messages = [*ASKED, {"role": "assistant", "content": "the cat"}, ASKED[0]]

        def count(model: str) -> int:
            return int(client.post("/v1/tokenize", json={"messages": messages, "model": model}).json()["count"])

        before = count("one"), count("other")
        chat(client, model="one")
        assert count("one") > before[0] and count("other") == before[1]


def test_a_slot_is_free_one_step_after_its_client_has_gone_and_who_has_gone_is_not_counted() -> None:
    model: Any = Answering(ENDLESS, endless=True, seconds=0.02)
    steps = []
    hidden = model.hidden
    model.hidden = lambda *given, **options: (steps.append(1), hidden(*given, **options))[1]
    engine = Engine(model, TOKENIZER, local_runtime(), rows=4)
    client = EngineClient(EngineThread(engine), capacity=9)

    async def ask_and_leave() -> int:
        async with client.answer([job() for _ in range(9)], 60) as answer:
            assert client.open == 9
            await anext(aiter(answer))
        left = len(steps)
        assert client.open <= 9
        while client.open:
            await asyncio.sleep(0.001)
        return left

    client.start()
    left = asyncio.run(ask_and_leave())
    assert not engine.scheduler.busy
    client.stop()
    assert len(steps) <= left + 1


def test_answers_that_have_ended_leave_nothing_in_the_count() -> None:
    model: Any = Answering(TOKENIZER.encode("hi"))
    client = EngineClient(EngineThread(Engine(model, TOKENIZER, local_runtime(), rows=4)), capacity=6)

    async def ask() -> None:
        for _ in range(3):
            async with client.answer([job() for _ in range(6)], 60) as answer:
                assert sum([update.completion is not None async for _, update in answer]) == 6
            assert client.open == 0  # at once: another six are let in

    client.start()
    asyncio.run(ask())
    client.stop()


def test_while_a_great_answer_is_written_down_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go_on = threading.Event(), threading.Event()
    whole = ChatForm.whole

    def slow(self: ChatForm, completions: Any) -> Any:
        writing.set()
        assert go_on.wait(20)
        return whole(self, completions)

    monkeypatch.setattr(ChatForm, "whole", slow)
    with running(make_app()) as url:
        answers: list[httpx.Response] = []
        body = {"messages": ASKED}
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30))
        )
        asking.start()
        assert writing.wait(20)
        assert httpx.get(f"{url}/health").status_code == 200
        go_on.set()
        asking.join()
    assert answers[0].json()["choices"][0]["message"]["content"] == "Let me see: That is ten, é€."


@pytest.mark.parametrize(
    "sent", [b"HELLO?\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n a: b\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_openais_shape(sent: bytes) -> None:
    with running(make_app()) as url:
        head, _, body = received(place_of(url), sent + b"\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes() -> None:
    with running(make_app()) as url:
        answer = received(place_of(url), f"{HEAD}Content-Length: 300000000\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 413") and b"too_large" in answer


def test_who_goes_away_in_the_middle_of_a_body_is_no_mistake_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), running(make_app()) as url:
        with socket.create_connection(place_of(url)) as connection:
            connection.sendall(f"{HEAD}Content-Length: 5000\r\n\r\n{{".encode())
        wait_until(lambda: 'status="499"' in httpx.get(f"{url}/metrics").text)
        assert 'status="500"' not in httpx.get(f"{url}/metrics").text
    assert not [record for record in caplog.records if record.exc_info]


def test_all_tokens_are_asked_for_as_other_servers_have_it() -> None:
    with TestClient(make_app()) as client:
        assert chat(client, top_k=-1, temperature=0.01, seed=1).status_code == 200


def test_a_refusal_says_what_to_do() -> None:
    with TestClient(make_app(CALLING)) as client:
        error = chat(client, messages=[{"role": "robot", "content": "x"}, *ASKED]).json()["error"]
        assert error["param"] == "messages" and "; valid roles: user, assistant" in error["message"]
