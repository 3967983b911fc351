"""A conversation at a terminal: questions, answers, and commands that begin with a slash.

In: lines. Out: what is printed. Not here: reading lines, and which model it is.
"""

import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.answer_printer import interruption, print_answer
from nanochat.cli.dialogue import Dialogue
from nanochat.cli.prompt import check_text
from nanochat.cli.sampling_options import NUMBERS, is_optional, number_type
from nanochat.errors import NanochatError, did_you_mean, wrong_input
from nanochat.given_file import given_json, write_given
from nanochat.home import expanded
from nanochat.printable import printable
from nanochat.quantity import counted


class ChatSession:
    """A dialogue, and the commands on it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.retries = 0
        """Of the last question."""
        self.commands: dict[str, tuple[Callable[[str], object], str]] = {
            "help": (self._help, "this list"),
            "reset": (self._reset, "begins anew"),
            "system": (self._system, "TEXT: what the model is told beforehand; without it, nothing"),
            "set": (self._set, "NAME VALUE: temperature, top_p, seed …; without it, what is set"),
            "retry": (self._retry, "another answer to the last question; at temperature 0 it is the same again"),
            "undo": (self._undo, "forgets the last question and its answer"),
            "save": (self._save, "FILE: writes the conversation as JSON"),
            "load": (self._load, "FILE: goes on with one"),
            "quit": (lambda _: None, "ends, as Ctrl-D does; Ctrl-C stops an answer"),
        }

    def take(self, line: str) -> bool:
        """Answer a line, or do what it commands; whether to go on. Errors are printed."""
        try:
            check_text(line, "the line")
            if not line.startswith("/"):
                if line:
                    self.retries = 0
                    self._answer(line)
                return True
            name, _, rest = line[1:].partition(" ")
            name = {"exit": "quit", "?": "help"}.get(name, name)
            if name not in self.commands:
                near = did_you_mean(name, self.commands) or "/help lists what there is"
                raise wrong_input("E407", f"there is no command /{name}", help=near)
            self.commands[name][0](rest.strip())
        except NanochatError as fault:
            click.secho(printable(str(fault)), fg="red", err=True)
        else:
            return name != "quit"
        return True

    def _answer(self, question: str) -> bool:
        """Answer, whatever happens; whether anything was said. A fault of ours is shown, and ends no conversation."""
        try:
            with interruption() as interrupted:
                return answer(self.dialogue, question, interrupted, consent=_consent)
        except (NanochatError, click.Abort):
            raise
        except Exception:
            click.secho(traceback.format_exc(), fg="red", err=True, nl=False)
            _note("the answer failed by a fault of nanochat's; the conversation goes on, and /save keeps it")
            return False

    def _help(self, _: str) -> None:
        for name, (_act, what) in self.commands.items():
            click.secho(f"/{name:7} {what}", dim=True)
        click.secho('Several lines: paste them, or write them between """ and """.', dim=True)

    def _reset(self, _: str) -> None:
        self.dialogue.reset()
        _note("a new conversation")

    def _system(self, text: str) -> None:
        self.dialogue.set_system(text or None)
        _note("the model is told this from now on" if text else "the model is told nothing beforehand")

    def _set(self, rest: str) -> None:
        sampling = self.dialogue.sampling
        name, _, value = rest.replace("=", " ").partition(" ")
        if not rest:
            for known in NUMBERS:
                click.secho(f"{known} {_shown(getattr(sampling, known))}", dim=True)
            return
        if name not in NUMBERS:
            near = did_you_mean(name, NUMBERS) or f"there are {', '.join(NUMBERS)}"
            raise wrong_input("E407", f"there is no setting `{name}`", help=near)
        if not value.strip():
            click.secho(f"{name} {_shown(getattr(sampling, name))}: {NUMBERS[name]}", dim=True)
            return
        number = _number(name, value.strip())
        self.dialogue.sampling = attrs.evolve(sampling, **{name: number})
        _note(f"{name} is {_shown(number)}")

    def _retry(self, _: str) -> None:
        """Where nothing comes of it, the answer that there was stays. A seed that is set is counted up, as it would
        give the same answer.
        """
        before, sampling, said = self.dialogue.turns, self.dialogue.sampling, False
        question = self.dialogue.forget_last()
        self.retries += 1
        if sampling.seed is not None and sampling.temperature:
            self.dialogue.sampling = sampling.another(self.retries)
            _note(f"with seed {self.dialogue.sampling.seed}")
        try:
            said = self._answer(question)
        finally:
            self.dialogue.sampling = sampling
            if not said:
                self.dialogue.turns = before
        if said and self.dialogue.turns[-1]["content"] == before[-1]["content"]:
            why = ": at temperature 0 no chance is in it; /set temperature 0.8 puts some in"
            _note("the same again" + ("" if sampling.temperature else why))

    def _undo(self, _: str) -> None:
        self.retries = 0
        _note(f"forgotten: {self.dialogue.forget_last()!r:.60}")

    def _save(self, name: str) -> None:
        path = _path(name)
        if not self.dialogue.turns:
            raise wrong_input("E407", "nothing was asked yet: there is nothing to save")
        text = json.dumps({"messages": self.dialogue.messages}, ensure_ascii=False, indent=1) + "\n"
        write_given(path, text, help="name a file in a folder that is there, and that you may write to")
        _note(f"{counted(len(self.dialogue.messages), 'message')} in {path}")

    def _load(self, name: str) -> None:
        path = _path(name)
        unanswered = self.dialogue.take_up(given_json(path, help="name a file as /save writes them"))
        self.retries = 0
        _note(f"{counted(len(self.dialogue.messages), 'message')} from {path}")
        if unanswered:
            _note(f"left out, as it has no answer: {unanswered!r:.60}")


def answer(
    dialogue: Dialogue,
    question: str,
    interrupted: threading.Event | None = None,
    consent: Callable[[int], bool] = lambda _: True,
) -> bool:
    """Answer one question; say what was left out of the conversation for it. The event stops the answer.

    consent: asked before so many of the oldest messages are left out. Whether anything was said; what was, before an
    exception too, belongs to the conversation.
    """
    request, left_out = dialogue.ask(question, consent)
    if left_out:
        note = f"(the conversation no longer fits the context: its {left_out} oldest messages were left out)"
        click.secho(note, dim=True, err=True)
    try:
        print_answer(dialogue.engine, request, interrupted)
    finally:
        said = dialogue.answered(request)
    return said


def _consent(left_out: int) -> bool:
    said = f"The conversation no longer fits the context. Leave its {left_out} oldest messages out?"
    return click.confirm(said, default=True, err=True)


def _path(name: str) -> Path:
    if not name:
        raise wrong_input("E407", "which file?", help="/save talk.json, /load talk.json")
    return expanded(name)


def _number(name: str, value: str) -> Any:
    """A setting's value as it is written. InputError E407 where it is no number."""
    if value == "none" and is_optional(name):
        return None
    try:
        return number_type(name)(value)
    except ValueError:
        wanted = "a whole number" if number_type(name) is int else "a number"
        wanted += ", or none" if is_optional(name) else ""
        raise wrong_input("E407", f"{name} cannot be {value!r:.60}: it is {wanted}") from None


def _shown(number: float | None) -> str:
    return "none" if number is None else str(number)


def _note(text: str) -> None:
    click.secho(f"({text})", dim=True)
