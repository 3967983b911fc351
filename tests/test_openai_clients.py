"""OpenAI's own client, curl, and what lm-eval sends, against a small model: choices, log-probabilities, stops, echo."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import torch
from test_engine import TOKENIZER, make_model, random_prompt
from test_serving import ASKED, CALLING, ENDLESS_SECONDS, make_app, running, wait_until

from nanochat.inference.engine import Engine
from nanochat.runtime import local_runtime
from nanochat.serving.app import create_app
from nanochat.text.conversation import render_prompt

MODEL = make_model(sequence_len=400)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(Engine(MODEL, TOKENIZER, local_runtime(), rows=8), model="tiny")) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


@torch.no_grad()
def logprobs(ids: list[int]) -> torch.Tensor:
    """The plain model's, (T, V): of what follows each id."""
    return MODEL(torch.tensor([ids]))[0].log_softmax(-1)


# Chat


def test_several_choices_are_what_their_seeds_give_alone(client: openai.OpenAI) -> None:
    def ask(n: int, seed: int) -> list[str | None]:
        made = client.chat.completions.create(
            model="tiny", messages=ASKED, n=n, seed=seed, temperature=1.0, max_tokens=12
        )
        assert made.usage is not None and made.usage.completion_tokens <= 12 * n
        return [choice.message.content for choice in made.choices]

    assert ask(3, 5) == [*ask(1, 5), *ask(1, 6), *ask(1, 7)]


def test_streamed_choices_are_told_apart(client: openai.OpenAI) -> None:
    settings: Any = {"n": 2, "seed": 1, "temperature": 1.0, "max_tokens": 12}
    whole = client.chat.completions.create(model="tiny", messages=ASKED, **settings)
    texts = {0: "", 1: ""}
    reasons = {}
    for chunk in client.chat.completions.create(model="tiny", messages=ASKED, stream=True, **settings):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}


def test_log_probabilities_are_the_models_whole_and_streamed(client: openai.OpenAI) -> None:
    settings: Any = {"logprobs": True, "top_logprobs": 2, "max_tokens": 8, "temperature": 1.0, "seed": 3}
    made = client.chat.completions.create(model="tiny", messages=ASKED, **settings).choices[0]
    assert made.logprobs is not None and made.logprobs.content
    prompt = render_prompt({"messages": ASKED}, TOKENIZER)
    spelled = b"".join(bytes(token.bytes or []) for token in made.logprobs.content)
    assert spelled.decode("utf-8", "replace") == made.message.content
    expected = logprobs(prompt)[-1].topk(2)
    top = made.logprobs.content[0].top_logprobs
    assert [token.logprob for token in top] == pytest.approx(expected.values.tolist(), abs=1e-3)
    assert [bytes(token.bytes or []) for token in top] == [
        TOKENIZER.decode_bytes([each]) for each in expected.indices.tolist()
    ]
    streamed = [
        token
        for chunk in client.chat.completions.create(model="tiny", messages=ASKED, stream=True, **settings)
        if chunk.choices[0].logprobs is not None
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in made.logprobs.content]


def test_a_stop_string_ends_the_answer_and_is_not_shown() -> None:
    with running(make_app()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
        stop = ["never", "t is te"]
        made = client.chat.completions.create(model="tiny", messages=ASKED, stop=stop).choices[0]
        assert (made.message.content, made.finish_reason) == ("Let me see: Tha", "stop")
        stream = client.chat.completions.create(model="tiny", messages=ASKED, stop=stop, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Let me see: Tha"


def test_the_next_turn_finds_the_last_ones_tool_call_in_the_cache_though_the_client_sends_text_alone() -> None:
    with running(make_app(rows=2)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
        first = client.chat.completions.create(model="tiny", messages=ASKED)
        said = first.choices[0].message.content
        messages: Any = [*ASKED, {"role": "assistant", "content": said}, {"role": "user", "content": "And?"}]
        second = client.chat.completions.create(model="tiny", messages=messages)
        assert first.usage is not None and second.usage is not None
        assert second.usage.prompt_tokens_details is not None
        # All but the last id of the first turn, which was written and never read.
        cached = second.usage.prompt_tokens_details.cached_tokens
        assert cached == first.usage.prompt_tokens + len(CALLING)
        other = client.chat.completions.create(model="tiny", messages=messages, user="somebody else")
        assert other.usage is not None and other.usage.prompt_tokens_details is not None
        assert other.usage.prompt_tokens_details.cached_tokens == 0


def test_an_asynchronous_stream_that_is_left_early_frees_its_slot() -> None:
    async def leave(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            stream = await client.chat.completions.create(model="tiny", messages=ASKED, stream=True)
            async for _ in stream:
                break
            await stream.close()

    with running(make_app(CALLING, endless=True, seconds=ENDLESS_SECONDS)) as url:
        asyncio.run(leave(url))
        wait_until(lambda: httpx.get(f"{url}/health").json()["open"] == 0)


def test_fields_that_clients_commonly_send_are_no_error(url: str) -> None:
    body = {
        "model": "tiny", "messages": ASKED, "max_tokens": 2, "n": 1, "stop": None, "presence_penalty": 0.5,
        "frequency_penalty": 0.1, "logit_bias": {"66": 3}, "seed": 1, "stream": False, "store": False, "metadata": {},
        "service_tier": "auto", "parallel_tool_calls": True, "reasoning_effort": "low", "user": "me",
        "response_format": {"type": "text"},
    }  # fmt: skip
    assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 200


# Completions


def test_a_text_is_continued_as_the_plain_model_would(client: openai.OpenAI) -> None:
    made = client.completions.create(model="tiny", prompt="the cat", max_tokens=5, temperature=0)
    ids = [TOKENIZER.bos_id, *TOKENIZER.encode("the cat")]
    for _ in range(5):
        following = logprobs(ids)[-1]
        following[TOKENIZER.vocab_size - 9 :] = -torch.inf
        ids.append(int(following.argmax()))
    assert made.choices[0].text == TOKENIZER.decode(ids[-5:])
    assert made.choices[0].finish_reason == "length"
    assert made.usage is not None and made.usage.total_tokens == len(ids)


@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("limit", [0, 1])
def test_echo_tells_every_prompts_log_probabilities_as_lm_eval_asks_for_them(
    url: str, as_ids: bool, limit: int
) -> None:
    texts = ["the cat sat on the mat", "how many r", "are in strawberry? the cat"]
    ids = [TOKENIZER.encode(text) for text in texts]
    body = {
        "model": "tiny", "prompt": ids if as_ids else texts, "temperature": 0, "max_tokens": limit, "logprobs": 1,
        "seed": 1234, "echo": True,
    }  # fmt: skip
    choices = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    for choice, prompt, text in zip(choices, ids, texts, strict=True):
        found = choice["logprobs"]
        expected = logprobs([TOKENIZER.bos_id, *prompt])[:-1]
        own = expected.gather(-1, torch.tensor(prompt)[:, None]).squeeze(-1)
        assert found["token_logprobs"][: len(prompt)] == pytest.approx(own.tolist(), abs=1e-3)
        assert len(found["tokens"]) == len(prompt) + limit
        assert choice["text"].startswith(text) and (limit or choice["text"] == text)
        for place, token in zip(found["text_offset"][: len(prompt)], found["tokens"][: len(prompt)], strict=True):
            assert text[place:].startswith(token)
        # lm-eval's question: was each token the likeliest?
        greedy = [
            logprob == max(top.values())
            for logprob, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True)
        ]
        assert greedy[: len(prompt)] == (expected.argmax(-1) == torch.tensor(prompt)).tolist()


def test_choices_of_several_prompts_come_in_order_and_the_prompts_count_once(client: openai.OpenAI) -> None:
    made = client.completions.create(model="tiny", prompt=["the", "cat sat"], n=2, max_tokens=3, temperature=1, seed=2)
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert made.usage is not None
    assert made.usage.prompt_tokens == sum(1 + len(TOKENIZER.encode(text)) for text in ("the", "cat sat"))
    alone = client.completions.create(model="tiny", prompt="cat sat", max_tokens=3, temperature=1, seed=2)
    assert made.choices[2].text == alone.choices[0].text


def test_a_streamed_completion_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    settings: Any = {"prompt": "the cat", "max_tokens": 6, "echo": True, "logprobs": 1, "temperature": 0}
    whole = client.completions.create(model="tiny", **settings).choices[0]
    pieces = list(client.completions.create(model="tiny", stream=True, **settings))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.text
    assert whole.logprobs is not None
    told = [token for piece in pieces if piece.choices[0].logprobs for token in piece.choices[0].logprobs.tokens or []]
    assert told == whole.logprobs.tokens


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([TOKENIZER.special_id("<|output_start|>")], "valid are 0 to"),
        ([65, TOKENIZER.bos_id], "valid are 0 to"),
        ([-1], "valid are 0 to"),
        ([], "must be a text"),
        ([[]], "must hold texts"),
        ([65, "x"], "must hold texts"),
        (["a"] * 129, "list of 1 to 128"),
        ({}, "must be a string or a list"),
        (None, "`prompt` is missing"),
        (list(random_prompt(400, 1)), "tokens long, and the context holds 400"),
    ],
)
def test_a_prompt_that_is_none_is_a_400(url: str, prompt: Any, said: str) -> None:
    answer = httpx.post(f"{url}/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_tokens_are_told_of_a_text_and_of_a_conversation(url: str) -> None:
    def tokens(body: Any) -> Any:
        return httpx.post(f"{url}/v1/tokenize", json=body).json()

    assert tokens({"prompt": "the cat"})["tokens"] == [TOKENIZER.bos_id, *TOKENIZER.encode("the cat")]
    found = tokens({"messages": ASKED})
    assert found["tokens"] == render_prompt({"messages": ASKED}, TOKENIZER)
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 400)
    assert "either" in tokens({})["error"]["message"]


# Other clients


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_sees_events_ended_by_done() -> None:
    with running(make_app()) as url:
        body = json.dumps({"messages": ASKED, "stream": True})
        command = ["curl", "-sN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    *events, last = [line.removeprefix("data: ") for line in shown.split("\n\n") if line]
    assert last == "[DONE]"
    text = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events)
    assert text == "Let me see: That is ten, é€."
