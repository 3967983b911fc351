"""The terminal chat's commands, and how its lines are read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_chat_cli import dialogue

from nanochat.cli import line_reader
from nanochat.cli.chat_session import ChatSession
from nanochat.cli.line_reader import LineReader

Talk = Callable[..., tuple[str, str]]


@pytest.fixture
def session() -> ChatSession:
    return ChatSession(dialogue(400, max_tokens=3))


@pytest.fixture
def say(session: ChatSession, capsys: pytest.CaptureFixture[str]) -> Talk:
    """Lines to the session; what it printed for the last of them."""

    def talk(*lines: str) -> tuple[str, str]:
        for line in lines:
            capsys.readouterr()
            assert session.take(line) is (line not in ("/quit", "/exit"))
        captured = capsys.readouterr()
        return captured.out, captured.err

    return talk


def questions(session: ChatSession) -> list[Any]:
    return [turn["content"] for turn in session.dialogue.turns if turn["role"] == "user"]


def test_a_session_answers_forgets_asks_again_and_ends(session: ChatSession, say: Talk) -> None:
    first, _ = say("one")
    say("two")
    assert questions(session) == ["one", "two"]
    assert "forgotten: 'two'" in say("/undo")[0]
    assert questions(session) == ["one"]
    assert say("/retry")[0] == first  # greedily the same
    assert questions(session) == ["one"]
    say("/reset")
    assert session.dialogue.turns == []
    assert "E407" in say("/undo")[1] and "E407" in say("/retry")[1]
    say("", "/quit", "/exit")


def test_settings_are_changed_shown_and_refused(session: ChatSession, say: Talk) -> None:
    say("/set temperature 0.5", "/set top_k=7", "/set seed 3")
    sampling = session.dialogue.sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed, sampling.max_tokens) == (0.5, 7, 3, 3)
    assert "temperature 0.5" in say("/set")[0]
    say("/set seed none")
    assert session.dialogue.sampling.seed is None
    refused = {"temperature -1": "E602", "temperature hot": "E407", "temprature 1": "temperature", "stop x": "E407"}
    for wrong, code in refused.items():
        assert code in say(f"/set {wrong}")[1]
    assert session.dialogue.sampling.temperature == 0.5


def test_what_the_model_is_told_beforehand_is_changed(session: ChatSession, say: Talk) -> None:
    say("/system be kind")
    assert session.dialogue.messages == [{"role": "system", "content": "be kind"}]
    say("/system")
    assert session.dialogue.messages == []


def test_a_conversation_is_saved_and_taken_up_again(session: ChatSession, say: Talk, tmp_path: Path) -> None:
    say("/system be kind", "one", f"/save {tmp_path / 'talk.json'}")
    kept = session.dialogue.messages
    assert json.loads((tmp_path / "talk.json").read_text()) == {"messages": kept}
    say("/reset", "/system", f"/load {tmp_path / 'talk.json'}")
    assert session.dialogue.messages == kept
    (tmp_path / "wrong.json").write_text('{"messages": [{"role": "robot", "content": ""}]}')
    (tmp_path / "none.json").write_text("{")
    for name, said in (("wrong.json", "E306"), ("none.json", "E304"), ("absent.json", "No such file"), ("", "E407")):
        assert said in say(f"/load {tmp_path / name if name else ''}")[1]
    assert session.dialogue.messages == kept


def test_an_unknown_command_is_no_question_and_help_lists_all(session: ChatSession, say: Talk) -> None:
    assert "did you mean `reset`" in say("/rest")[1]
    assert session.dialogue.turns == []
    listed = say("/help")[0]
    for name in ("help", "reset", "system", "set", "save", "load", "retry", "undo", "quit"):
        assert f"/{name}" in listed


def test_where_the_context_is_full_turns_are_left_out_only_if_one_wants(
    session: ChatSession, say: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("zq" * 120, "zq" * 20)
    for wish, left in ((False, 2), (True, 2)):
        monkeypatch.setattr("click.confirm", lambda *_, wish=wish, **__: wish)
        said = say("zq" * 60)[1]
        assert ("E601" in said) is not wish
        assert len(questions(session)) == left
    assert questions(session)[0] == "zq" * 20


# Lines


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], int], LineReader]:
    def make(lines: list[str], at_once: int) -> LineReader:
        waiting = list(lines)
        begun = len(lines)
        monkeypatch.setattr("builtins.input", lambda *_: waiting.pop(0))

        def more(*_: object) -> tuple[list[object], list[object], list[object]]:
            return [sys.stdin] if begun - len(waiting) < at_once else [], [], []

        monkeypatch.setattr(line_reader.select, "select", more)
        return LineReader(tmp_path / "history")

    return make


def test_lines_that_are_pasted_are_one_message(reader: Any) -> None:
    assert reader(["one", "two"], 1).read() == "one"
    assert reader(["one", "  two", "three", "the rest"], 3).read() == "one\n  two\nthree\nthe rest"


def test_lines_between_triple_quotes_are_one_message(reader: Any) -> None:
    assert reader(['"""one', "", 'two"""'], 1).read() == "one\n\ntwo"
    assert reader(['"""one"""'], 1).read() == "one"


def test_what_was_typed_is_there_the_next_time_and_for_nobody_else(reader: Any, tmp_path: Path) -> None:
    pytest.importorskip("readline").clear_history()
    first = reader(["one"], 1)
    first.readline.add_history("how many?")
    first.close()
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0
    first.readline.clear_history()
    second = reader([], 0)
    assert second.readline.get_history_item(1) == "how many?"
    second.readline.clear_history()
