"""`nanochat data synth`: conversations that a model writes, checked, gone on with, and read by custom_json."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import test_serving
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from test_serving import TOKENIZER, make_app, running

from nanochat.cli.data import command
from nanochat.data.synthesis import Brief, Synthesis, read_conversation
from nanochat.errors import InputError, NanochatError
from nanochat.text.conversation import check_conversation
from nanochat_plugins.tasks.custom_json import CustomJSON, CustomJSONConfig


def written(question: str, answer: str = "I am Ada.") -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


@contextmanager
def endpoint(answer: Callable[[dict[str, Any]], str | int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that says what `answer` gives for a request's body, or refuses with that status."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append({**body, "authorization": self.headers["Authorization"], "path": self.path})
            said = answer(body)
            content = json.dumps(
                {"choices": [{"message": {"content": said}}]} if isinstance(said, str) else {"error": "no"}
            )
            self.send_response(200 if isinstance(said, str) else said)
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def synth(file: Path, address: str, *words: Any) -> str:
    done = CliRunner().invoke(
        command, ["synth", str(file), "--endpoint", address, *map(str, words)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def conversations(file: Path) -> CustomJSON:
    return CustomJSON(CustomJSONConfig(path=file))


def test_our_own_server_writes_what_custom_json_then_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_serving, "CONTEXT", 3_000)
    said = "Here it is:\n```json\n" + written("Who are you?") + "\n```"
    with running(make_app(TOKENIZER.encode(said))) as address:
        synth(tmp_path / "talk.jsonl", f"{address}/v1", "--count", 1, "--model", "tiny", "--temperature", 0)
    task = conversations(tmp_path / "talk.jsonl")
    assert [message["content"] for message in task[0]["messages"]] == ["Who are you?", "I am Ada."]


def test_persona_and_topics_reach_the_model_and_each_number_asks_for_something_else(tmp_path: Path) -> None:
    (tmp_path / "persona.txt").write_text("It is called Ada.\n")
    (tmp_path / "topics.txt").write_text("bread\n\nstars\n")
    (tmp_path / "key").write_text("secret\n")
    with endpoint(lambda body: written(body["messages"][0]["content"])) as (address, heard):
        file, options = (
            tmp_path / "talk.jsonl",
            ("--persona", tmp_path / "persona.txt", "--topics", tmp_path / "topics.txt"),
        )
        synth(file, address, "--count", 30, *options, "--api-key-file", tmp_path / "key", "--temperature", 0.5)
    prompts = [body["messages"][0]["content"] for body in heard]
    assert len(set(prompts)) > 25
    assert all("It is called Ada." in prompt for prompt in prompts)
    assert {"bread", "stars"} == {
        line.removeprefix("The topic: ") for p in prompts for line in p.splitlines() if "topic:" in line
    }
    assert {(body["authorization"], body["temperature"], body["path"]) for body in heard} == {
        ("Bearer secret", 0.5, "/v1/chat/completions")
    }
    assert len(conversations(file)) == 30


def test_a_file_that_was_cut_off_is_gone_on_with_and_what_it_has_is_not_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    with endpoint(lambda body: written(body["messages"][0]["content"])) as (address, heard):
        synth(file, address, "--count", 6)
        whole = file.read_text()
        file.write_text(whole[: len(whole) * 2 // 3])
        kept = file.read_text().count("\n")
        asked = len(heard)
        synth(file, address, "--count", 8)
    assert 0 < kept < 6
    assert len(heard) - asked == 8 - kept
    assert sorted(json.loads(line)["synth"]["number"] for line in file.read_text().splitlines()) == list(range(8))
    assert sorted(file.read_text().splitlines())[:6] >= sorted(whole.splitlines())[:1]
    assert len(conversations(file)) == 8


def test_what_is_no_conversation_or_was_written_before_is_asked_for_again_and_given_up(tmp_path: Path) -> None:
    replies = iter(["no JSON", written("a"), written("a"), "{}", written("A "), written("b", "")])
    with endpoint(lambda body: next(replies)) as (address, heard):
        said = synth(tmp_path / "talk.jsonl", address, "--count", 2, "--workers", 1)
    assert "1 written, 1 given up" in said
    assert len(heard) == 5  # two tries for the first, three for the second
    assert len({body["seed"] for body in heard}) == 5
    assert len(conversations(tmp_path / "talk.jsonl")) == 1


@pytest.mark.parametrize("reply, code", [("chatter", "E306"), (401, "E602"), (500, "E602")])
def test_a_model_that_writes_none_and_an_endpoint_that_refuses_are_named(
    reply: str | int, code: str, tmp_path: Path
) -> None:
    with endpoint(lambda body: reply) as (address, _), pytest.raises(NanochatError, match=code):
        synth(tmp_path / "talk.jsonl", address, "--count", 2)


def test_an_address_where_nobody_is_and_a_file_of_other_conversations_are_named(tmp_path: Path) -> None:
    with pytest.raises(NanochatError, match=r"E301.*gives no completion"):
        synth(tmp_path / "talk.jsonl", "http://127.0.0.1:9/v1", "--count", 1)
    with pytest.raises(InputError, match=r"E407.*is no address"):
        synth(tmp_path / "talk.jsonl", "localhost:8000", "--count", 1)
    (tmp_path / "mine.jsonl").write_text(written("a") + "\n")
    with pytest.raises(InputError, match=r"E407.*mine.jsonl:1 was not written by this command"):
        synth(tmp_path / "mine.jsonl", "http://127.0.0.1:9/v1", "--count", 1)
    assert (tmp_path / "mine.jsonl").read_text() == written("a") + "\n"


@given(
    st.text()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["messages", "role", "content", "x"]), inner),
    ).map(json.dumps)
)
def test_whatever_a_model_writes_is_a_sound_conversation_or_asked_for_again(said: str) -> None:
    found = Synthesis(brief=Brief(persona="p"), write=lambda prompt, seed: said).conversation(0)
    if not isinstance(found, str):
        check_conversation(found)
        assert found == read_conversation(said)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_asks_for_the_same_each_time(seed: int, number: int) -> None:
    brief = Brief(persona="p", topics=["a", "b"], seed=seed)
    assert brief.prompt(number) == Brief(persona="p", topics=["a", "b"], seed=seed).prompt(number)
