"""`nanochat chat`, `complete` and `serve` as a person uses them, on a small checkpoint: by pipe and on a terminal."""

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import loaders
import pytest
import torch

from nanochat.cli.checkpoint_engine import model_name
from nanochat.cli.dialogue import Dialogue
from nanochat.cli.main import main
from nanochat.config import Component
from nanochat.errors import InputError
from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.printable import printable
from nanochat.runtime import local_runtime
from nanochat.text.conversation import render_prompt
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import describe
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.snapshot import Snapshot

TOKENIZER = Tokenizer.train(["how many r are in strawberry? the cat sat on the mat " * 8], vocab_size=290)
CONTEXT = 3000


def tiny_model(context: int = CONTEXT) -> GPT:
    torch.manual_seed(0)
    return GPT(
        GPTConfig(
            depth=1, dim=32, head_dim=16, n_head=2, n_kv_head=2, vocab_size=290, sequence_len=context, rotary_margin=1
        )
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained model: what it says is noise, but always the same."""
    model = tiny_model()
    writer = CheckpointWriter(tmp_path_factory.mktemp("chat") / "checkpoints", 7, local_runtime(), kept=2)
    gpt = Component(kind="model", name="model", use="gpt", revision=1, config=model.config)
    meta = json.dumps({"model": describe(gpt), "tools": []})
    writer.write(Snapshot(tensors={"model": model.state_dict()}, texts={"meta": meta}, tokenizer=TOKENIZER))
    return writer.commit()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@attrs.frozen
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Command:
    """`nanochat …` in this process, with stdin that is no terminal."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.patch, self.captured = patch, captured

    def __call__(self, *arguments: str, stdin: str = "") -> Done:
        self.patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = self.captured.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, captured.out, captured.err)


@pytest.fixture
def nanochat(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("NANOCHAT_HOME", str(home))
    return Command(monkeypatch, capsys)


# Through pipes


def test_a_prompt_from_the_option_and_the_same_from_stdin_are_answered_alike(
    nanochat: Command, checkpoint: Path
) -> None:
    settings = ("--max-tokens", "12", "--temperature", "1", "--seed", "3")
    option = nanochat("chat", str(checkpoint), "-p", "how many?", *settings)
    assert (option.code, option.err) == (0, "")
    assert option.out.strip()
    for stdin in ("how many?", "how many?\n"):  # as `printf` writes it, and `echo`
        assert nanochat("chat", str(checkpoint), *settings, stdin=stdin).out == option.out
    piped = nanochat("complete", str(checkpoint), *settings, stdin="how many?\n")
    assert piped.out == nanochat("complete", str(checkpoint), *settings, "-p", "how many?").out
    more = nanochat("complete", str(checkpoint), *settings, stdin="how many?\n\n")
    assert more.out.startswith("how many?\n"), "one line's end alone is echo's"


def test_complete_prints_the_text_and_what_follows_it(nanochat: Command, checkpoint: Path) -> None:
    done = nanochat("complete", str(checkpoint), "-p", "the cat", "--max-tokens", "5")
    assert done.code == 0
    prompt = [TOKENIZER.bos_id, *TOKENIZER.encode("the cat")]
    expected = Engine(tiny_model(), TOKENIZER, local_runtime(), rows=1).generate([prompt], Sampling(max_tokens=5))
    assert done.out == printable("the cat" + expected[0].text) + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("chat", "-p", "hi"), "E405", "nanochat-run recipes/quickstart.toml"),
        (("chat", "-p", "hi", "--temperature=-1"), "E602", "temperature is -1.0"),
        (("chat", "-p", "hi", "--temperature", "nan"), "E602", "temperature is nan"),
        (("complete", "-p", "hi", "--max-tokens", "0"), "E602", "max_tokens is 0"),
        (("complete", "-p", "hi", "--frequency-penalty", "3"), "E602", "frequency_penalty is 3.0"),
        (("chat", "-p", "hi", "--system", "a\udcff"), "E407", "--system is no UTF-8 text"),
        (("chat",), "E407", "the prompt is empty"),
        (("chat", "-p", " "), "E407", "the prompt is empty"),
        (("serve", "no-such-run", "--port", "0"), "E405", "no-such-run"),
        (("serve", "--compile", "--deterministic"), "E407", "--deterministic and --compile exclude one another"),
        (("serve", "--host", "999.1.1.1"), "E603", "cannot listen on 999.1.1.1:8000"),
    ],
)
def test_what_cannot_work_is_one_clear_error(
    nanochat: Command, arguments: tuple[str, ...], code: str, said: str
) -> None:
    done = nanochat(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"error[{code}]")
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_prompt_longer_than_the_context_is_one_clear_error(nanochat: Command, checkpoint: Path) -> None:
    done = nanochat("chat", str(checkpoint), stdin="zq" * CONTEXT)
    assert done.code == 2
    assert re.match(rf"error\[E601\].* tokens long, and the context holds {CONTEXT}", done.err)


def test_a_damaged_checkpoint_is_named(nanochat: Command, checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 10)
    for words in (("chat", str(tmp_path), "-p", "hi"), ("serve", str(tmp_path), "--port", "0")):
        done = nanochat(*words)
        assert done.code == 1
        assert done.err.startswith("error[E406]") and str(tmp_path) in done.err


@pytest.mark.parametrize("words", [("chat", "-p", "hi"), ("serve", "--port", "0")])
@pytest.mark.parametrize(("free", "said"), [(10, "the weights of "), (60_000, "keys and values take ")])
def test_a_model_too_large_for_the_memory_is_refused(
    nanochat: Command, checkpoint: Path, words: tuple[str, ...], free: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = (checkpoint / "model.safetensors").stat().st_size
    left = free if free == 10 else weights + free
    monkeypatch.setattr("nanochat.inference.kv.free_memory", lambda _: left)
    monkeypatch.setattr("nanochat.cli.serve.load_engine", partial(loaders.with_free_memory, left))  # in its own process
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    done = nanochat(words[0], str(checkpoint), *words[1:])
    assert done.code == 1
    assert done.err.startswith("error[E502]") and said in done.err and "free" in done.err


# On a terminal


class Terminal:
    """`nanochat …` in a terminal of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.pid, self.end = pty.fork()
        if not self.pid:
            os.environ |= {"NANOCHAT_HOME": str(home), "OMP_NUM_THREADS": "1", "TERM": "dumb"}
            os.execv(sys.executable, [sys.executable, "-m", "nanochat.cli.main", *arguments])
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def press_until(self, key: str, text: str) -> None:
        """Press a key until `text` is shown: one that comes while Python prepares to read a line is not noticed."""
        for _ in range(50):
            self.type(key)
            try:
                self.wait_for(text, seconds=1)
            except AssertionError:
                continue
            return
        raise AssertionError(self.seen)

    def wait_for(self, text: str, seconds: float = 300.0) -> str:
        """What is shown up to `text`, which must come."""
        deadline = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < deadline:
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.end, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        assert text in self.seen, self.seen
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_on_a_terminal_one_can_talk_stop_an_answer_begin_anew_and_leave(home: Path, checkpoint: Path) -> None:
    terminal = Terminal(home, "chat", str(checkpoint))
    terminal.wait_for("> ")
    terminal.type("/help\n")
    terminal.wait_for("Several lines: paste them")
    terminal.wait_for("> ")
    os.write(terminal.end, b"/system caf\xe9 \xff\n")
    terminal.wait_for("the line is no UTF-8 text: it holds the byte 0xe9")
    terminal.wait_for("> ")
    terminal.type("how many?\n")
    terminal.wait_for("how many?\r\n")
    time.sleep(0.3)  # the likeliest noise never ends: it is being written until the context of 3,000 tokens is full
    terminal.type("\x03")
    terminal.wait_for("(stopped)")
    terminal.wait_for("> ")
    terminal.type("/reset\n")
    terminal.wait_for("(a new conversation)")
    terminal.wait_for("> ")
    terminal.press_until("\x03", "/quit or Ctrl-D ends")
    terminal.wait_for("> ")
    terminal.type("/quit\n")
    assert terminal.exit_code() == 0


# Serving


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def serving(home: Path, checkpoint: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "nanochat.cli.main", "serve", str(checkpoint), "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"NANOCHAT_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "NANOCHAT_API_KEYS": "secret"},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.fixture
def server(home: Path, checkpoint: Path, namesake: Path, free_port: int) -> Iterator[subprocess.Popen[str]]:
    with serving(home, checkpoint, free_port, str(namesake)) as started:
        yield started


@pytest.fixture
def namesake(checkpoint: Path, tmp_path: Path) -> Path:
    """The same elsewhere, in a folder of the name that the checkpoint has."""
    return shutil.copytree(checkpoint, tmp_path / model_name(checkpoint))


def test_sigterm_lets_answers_end_and_a_checkpoint_that_is_overwritten_meanwhile_changes_nothing(
    home: Path, checkpoint: Path, free_port: int, tmp_path: Path
) -> None:
    copy = tmp_path / "copied"
    shutil.copytree(checkpoint, copy)
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 60, "ignore_eos": True, "seed": 1}
    key = {"Authorization": "Bearer secret"}
    with serving(home, copy, free_port) as server, httpx.Client(base_url=f"http://127.0.0.1:{free_port}") as client:
        assert server.stdout is not None and "answers at" in server.stdout.readline()
        before = client.post("/v1/chat/completions", json=asked, headers=key, timeout=60).json()
        weights = copy / "model.safetensors"
        weights.write_bytes(b"\0" * weights.stat().st_size)
        with client.stream("POST", "/v1/chat/completions", json=asked | {"stream": True}, headers=key) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.send_signal(signal.SIGTERM)
            events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        text = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1])
        assert text == before["choices"][0]["message"]["content"]
        _, complaints = server.communicate(timeout=60)
        assert (server.returncode, complaints) == (0, "")


def test_serve_says_where_it_answers_answers_there_and_ends_with_ctrl_c(
    server: subprocess.Popen[str], namesake: Path, free_port: int, nanochat: Command
) -> None:
    assert server.stdout is not None
    url = f"http://127.0.0.1:{free_port}"
    names = [f"{namesake.name}@7", f"{namesake.parent.name}:{namesake.name}"]
    assert server.stdout.readline().startswith(f"{', '.join(names)} answers at {url} (chat page)")
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    assert httpx.post(f"{url}/v1/chat/completions", json=asked).status_code == 401
    key = {"Authorization": "Bearer secret"}
    assert [model["id"] for model in httpx.get(f"{url}/v1/models", headers=key).json()["data"]] == names
    for name in names:
        assert httpx.get(f"{url}/v1/models/{name}", headers=key).json()["id"] == name
        named = asked | {"model": name}
        answer = httpx.post(f"{url}/v1/chat/completions", json=named, headers=key, timeout=30).json()
        assert (answer["model"], answer["usage"]["completion_tokens"]) == (name, 4)
    assert "<title>nanochat</title>" in httpx.get(url).text
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 403
    second = nanochat("serve", "--port", str(free_port))
    assert second.code == 2
    assert second.err.startswith(f"error[E603]: cannot listen on 127.0.0.1:{free_port}")
    server.send_signal(signal.SIGINT)
    _, complaints = server.communicate(timeout=30)
    assert (server.returncode, complaints) == (0, "")


# The pieces


def dialogue(context: int, **changes: Any) -> Dialogue:
    return Dialogue(Engine(tiny_model(context), TOKENIZER, local_runtime(), rows=1), Sampling(**changes))


def answered(talk: Dialogue, text: str) -> int:
    request, left_out = talk.ask(text)
    talk.engine.cancel(request)
    request.transcript.parts.append({"type": "text", "text": f"answer to {text}"})
    talk.answered(request)
    return left_out


def test_a_conversation_that_no_longer_fits_loses_its_oldest_turns_and_keeps_the_system_message() -> None:
    talk = dialogue(160)
    talk.system = [{"role": "system", "content": "be kind"}]
    left_out = [answered(talk, f"question {number}") for number in range(6)]
    assert left_out[:2] == [0, 0] and sum(left_out) > 0 and set(left_out) <= {0, 2, 4}
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"] * (len(talk.turns) // 2)
    assert talk.turns[-2]["content"] == "question 5"
    assert len(talk.turns) == 12 - sum(left_out)
    rendered = TOKENIZER.decode(render_prompt({"messages": [*talk.system, *talk.turns]}, TOKENIZER))
    assert "be kind" in rendered and "question 0" not in rendered


def test_a_question_that_alone_does_not_fit_is_refused_and_the_conversation_stays_as_it_was() -> None:
    talk = dialogue(120)
    answered(talk, "a")
    before = list(talk.turns)
    with pytest.raises(InputError, match="E601"):
        talk.ask("zq" * 100)
    assert talk.turns == before


def test_a_question_to_which_nothing_was_said_is_forgotten() -> None:
    talk = dialogue(120)
    request, _ = talk.ask("a")
    talk.engine.cancel(request)
    talk.answered(request)
    assert talk.turns == []
