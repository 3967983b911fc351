"""A conversation at a terminal: questions, answers, and commands that begin with a slash.

In: lines. Out: what is printed. Not here: reading lines, and which model it is.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from nanochat.cli.answer_printer import interruption, print_answer
from nanochat.cli.dialogue import Dialogue
from nanochat.errors import NanochatError, did_you_mean, wrong_input
from nanochat.inference.sampling import Sampling

SETTABLE = {
    field.name: type(getattr(Sampling(), field.name))
    for field in attrs.fields(Sampling)
    if type(field.default) in (int, float)
} | {"max_tokens": int, "seed": int}
"""Settings that are numbers."""


class ChatSession:
    """A dialogue, and the commands on it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.commands: dict[str, tuple[Callable[[str], object], str]] = {
            "help": (self._help, "this list"),
            "reset": (self._reset, "begins anew"),
            "system": (self._system, "TEXT: what the model is told beforehand; without it, nothing"),
            "set": (self._set, "NAME VALUE: temperature, top_p, seed …; without it, what is set"),
            "retry": (self._retry, "another answer to the last question"),
            "undo": (self._undo, "forgets the last question and its answer"),
            "save": (self._save, "FILE: writes the conversation as JSON"),
            "load": (self._load, "FILE: goes on with one"),
            "quit": (lambda _: None, "ends, as Ctrl-D does; Ctrl-C stops an answer"),
        }

    def take(self, line: str) -> bool:
        """Answer a line, or do what it commands; whether to go on. Errors are printed."""
        try:
            if not line.startswith("/"):
                if line:
                    self._answer(line)
                return True
            name, _, rest = line[1:].partition(" ")
            name = {"exit": "quit", "?": "help"}.get(name, name)
            if name not in self.commands:
                near = did_you_mean(name, self.commands) or "/help lists what there is"
                raise wrong_input("E407", f"there is no command /{name}", help=near)
            self.commands[name][0](rest.strip())
        except NanochatError as fault:
            click.secho(str(fault), fg="red", err=True)
        except OSError as fault:
            click.secho(f"{fault.strerror}: {fault.filename}", fg="red", err=True)
        else:
            return name != "quit"
        return True

    def _answer(self, question: str) -> None:
        with interruption() as interrupted:
            answer(self.dialogue, question, interrupted, consent=_consent)

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
            for known in SETTABLE:
                click.secho(f"{known} {getattr(sampling, known)}", dim=True)
            return
        if name not in SETTABLE:
            near = did_you_mean(name, SETTABLE) or f"there are {', '.join(SETTABLE)}"
            raise wrong_input("E407", f"there is no setting `{name}`", help=near)
        try:
            number: Any = None if value.strip() == "none" else SETTABLE[name](value)
            self.dialogue.sampling = attrs.evolve(sampling, **{name: number})
        except (ValueError, TypeError):
            raise wrong_input("E407", f"{name} cannot be {value.strip()!r}: it is a number") from None
        _note(f"{name} is {number}")

    def _retry(self, _: str) -> None:
        self._answer(self.dialogue.forget_last())

    def _undo(self, _: str) -> None:
        _note(f"forgotten: {self.dialogue.forget_last()!r:.60}")

    def _save(self, name: str) -> None:
        path = _path(name)
        path.write_text(json.dumps({"messages": self.dialogue.messages}, ensure_ascii=False, indent=1) + "\n")
        _note(f"{len(self.dialogue.messages)} messages in {path}")

    def _load(self, name: str) -> None:
        path = _path(name)
        try:
            conversation = json.loads(path.read_text())
        except ValueError as fault:
            raise wrong_input("E304", f"{path} is no JSON: {fault}", help="/save writes such files") from fault
        self.dialogue.take_up(conversation)
        _note(f"{len(self.dialogue.messages)} messages from {path}")


def answer(
    dialogue: Dialogue,
    question: str,
    interrupted: threading.Event | None = None,
    consent: Callable[[int], bool] = lambda _: True,
) -> None:
    """Answer one question; say what was left out of the conversation for it. The event stops the answer.

    consent: asked before so many of the oldest messages are left out.
    """
    request, left_out = dialogue.ask(question, consent)
    if left_out:
        note = f"(the conversation no longer fits the context: its {left_out} oldest messages were left out)"
        click.secho(note, dim=True, err=True)
    print_answer(dialogue.engine, request, interrupted)
    dialogue.answered(request)


def _consent(left_out: int) -> bool:
    said = f"The conversation no longer fits the context. Leave its {left_out} oldest messages out?"
    return click.confirm(said, default=True, err=True)


def _path(name: str) -> Path:
    if not name:
        raise wrong_input("E407", "which file?", help="/save talk.json")
    return Path(name).expanduser()


def _note(text: str) -> None:
    click.secho(f"({text})", dim=True)
