"""The terminal chat's commands, and how its lines are read."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
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
    again, _ = say("/retry")
    assert again.startswith(first) and "at temperature 0" in again  # greedily the same, and that is said
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
    assert "seed none\n" in say("/set")[0]
    before = session.dialogue.sampling
    refused = {
        "temperature -1": "E602", "temperature hot": "E407", "temprature 1": "temperature", "stop x": "E407",
        "temperature none": "a number", "top_k none": "a whole number", "top_p none": "a number",
        "frequency_penalty none": "a number", "top_k 1.5": "a whole number", "seed 1.5": "a whole number, or none",
        "max_tokens x": "a whole number, or none", "max_tokens 0": "E602", "temperature nan": "E602",
    }  # fmt: skip
    for wrong, said in refused.items():
        assert said in say(f"/set {wrong}")[1]
    assert session.dialogue.sampling == before
    assert "top_k 7: Only the k likeliest" in say("/set top_k")[0]
    out, err = say("how many?")
    assert out.strip() and not err


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


TURN: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
QUESTION: Any = {"role": "user", "content": "and?"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "is no JSON: it is nested too deeply"),
        (b'{"messages": "caf\xe9"}', "it is no UTF-8 text (byte 17 is 0xe9)"),
        (b"\x89PNG\r\n\x1a\n\0\0", "it is no UTF-8 text (byte 0 is 0x89)"),
        (b"", "is no JSON"),
        (b"1", "no list of messages"),
        (b"[]", "no list of messages"),
        (b'{"messages": []}', "no message of a user"),
        (json.dumps({"messages": [QUESTION, QUESTION]}).encode(), "'assistant' must follow"),
        (json.dumps({"messages": TURN[1:]}).encode(), "'user' must follow"),
        (
            json.dumps({"messages": [QUESTION, {"role": "assistant", "content": [
                {"type": "python", "tool": "search", "text": "x"}]}]}).encode(),
            "calls the tool 'search', and the tokenizer has no <|search_start|>",
        ),
        (json.dumps({"messages": [{"role": "user", "content": "\ud83d"}]}).encode(), "no valid Unicode"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_taken_up_is_refused_with_the_reason_and_the_talk_goes_on(
    session: ChatSession, say: Talk, tmp_path: Path, content: bytes, said: str
) -> None:
    say("one")
    kept = session.dialogue.messages
    file = tmp_path / "talk.json"
    file.write_bytes(content)
    shown = say(f"/load {file}")[1]
    assert shown.startswith("error[E30") and said in shown
    assert session.dialogue.messages == kept
    out, err = say("two")
    assert out.strip() and not err


def test_a_talk_that_windows_notepad_saved_is_taken_up(session: ChatSession, say: Talk, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(json.dumps({"messages": TURN}), encoding="utf-8-sig")
    assert "2 messages" in say(f"/load {tmp_path / 'talk.json'}")[0]


def test_a_last_question_without_an_answer_is_left_out_and_that_is_said(
    session: ChatSession, say: Talk, tmp_path: Path
) -> None:
    (tmp_path / "talk.json").write_text(json.dumps({"messages": [*TURN, QUESTION]}))
    out, _ = say(f"/load {tmp_path / 'talk.json'}")
    assert "2 messages" in out and "'and?'" in out
    assert session.dialogue.messages == TURN


def test_what_cannot_be_saved_is_one_clear_error_and_the_file_stays_as_it_was(
    session: ChatSession, say: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nothing was asked yet" in say("/save talk.json")[1]
    say("one")
    for name, said in {
        "a\0b": "a\ufffdb cannot be written: embedded null byte",
        "no/such/folder.json": "No such file or directory",
        str(tmp_path): "Is a directory",
        "x" * 300: "File name too long",
        "~nobody-of-this-name/x": "No such file or directory",
        "": "E407",
    }.items():
        shown = say(f"/save {name}")[1]
        assert shown.startswith("error[E") and said in shown
    (tmp_path / "talk.json").write_text("old")
    session.dialogue.system = [{"role": "system", "content": "\udcff"}]
    assert "surrogates not allowed" in say("/save talk.json")[1]
    assert (tmp_path / "talk.json").read_text() == "old"


def test_a_line_with_bytes_that_are_no_text_is_refused_before_anything_is_done(
    session: ChatSession, say: Talk, tmp_path: Path
) -> None:
    for line in ("/system be \udcff", "how \udce4?", "/save \udcff", "/set \udcff 1", "/\udcff"):
        assert re.match(r"error\[E407\]: the line is no UTF-8 text: it holds the byte 0x(ff|e4)\n", say(line)[1])
    assert session.dialogue.messages == []
    say("one")
    assert "2 messages" in say(f"/save {tmp_path / 'talk.json'}")[0]


def test_another_answer_with_a_set_seed_is_another_one_and_the_same_the_next_time(
    session: ChatSession, say: Talk
) -> None:
    say("/set temperature 1", "/set seed 3", "/set max_tokens 12")
    first = say("one")[0]
    second, third = say("/retry")[0], say("/retry")[0]
    assert second.startswith("(with seed 4)") and third.startswith("(with seed 5)")
    assert len({first, second.partition("\n")[2], third.partition("\n")[2]}) == 3
    assert session.dialogue.sampling.seed == 3
    say("two", "/undo")
    assert say("/retry")[0] == second
    say("/reset")
    assert [say("one")[0], say("/retry")[0]] == [first, second]


def test_a_question_in_parts_is_asked_again_by_its_text(session: ChatSession, say: Talk, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "how "}, {"type": "text", "text": "many?"}]
    (tmp_path / "talk.json").write_text(json.dumps({"messages": [{"role": "user", "content": parts}, TURN[1]]}))
    say(f"/load {tmp_path / 'talk.json'}", "/retry")
    assert questions(session) == ["how many?"]
    assert "forgotten: 'how many?'" in say("/undo")[0]


def test_another_answer_that_does_not_come_leaves_the_one_that_there_was(
    session: ChatSession, say: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("/set max_tokens none", "/set temperature 1", "zq" * 60)
    session.dialogue.turns = session.dialogue.turns * 3  # an answer no longer fits behind the question
    kept = session.dialogue.messages
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert "E601" in say("/retry")[1]
    assert session.dialogue.messages == kept
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(click.Abort):  # Ctrl-D, where one is asked
        session.take("/retry")
    assert session.dialogue.messages == kept


def test_a_fault_while_an_answer_is_written_is_shown_and_leaves_nothing_behind(
    session: ChatSession, say: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = session.dialogue.engine
    say("one")
    kept = session.dialogue.messages
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", lambda _: 1 / 0)
        for line in ("two", "/retry"):
            out, err = say(line)
            assert "ZeroDivisionError" in err and "the conversation goes on" in out
    assert not engine.scheduler.busy
    assert session.dialogue.messages == kept
    out, err = say("two")
    assert out.strip() and not err
    assert questions(session) == ["one", "two"]


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
