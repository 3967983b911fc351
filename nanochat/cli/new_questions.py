"""The questions of `nanochat new`: what each asks, what its answers mean, what is taken where nobody can be asked.

In: what the options gave, the terminal. Out: answers, and a note of the defaults that were taken. Not here: what
follows from the answers.
"""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from nanochat.accelerators import ACCELERATORS
from nanochat.cli.sheet import print_pairs
from nanochat.errors import InputError, wrong_input
from nanochat.estimating.budget import Budget, parse_budget
from nanochat.estimating.device import Device, named_device
from nanochat.estimating.new_recipe import CLIMBMIX, PYDOCS
from nanochat.hardware import Machine
from nanochat.quantity import size
from nanochat.registry import Registry

HERE, TASKS = "here", "tasks"
MOST_SHOWN = 8
"""Files and folders that are named as data at hand."""
TEXT_KINDS = (".txt", ".jsonl", ".parquet")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Question:
    """One question, and the option that answers it."""

    option: str
    text: str
    meanings: Sequence[tuple[str, str]]
    """Answer → what it means, a line each."""
    default: str
    understand: Callable[[str], Any]
    """InputError where an answer cannot be understood: it is asked again."""


@attrs.frozen(kw_only=True)
class Interview:
    """Asks on a terminal, else takes defaults and remembers which."""

    asking: bool
    taken: list[str] = attrs.field(factory=list)
    """Options with the defaults that stood for them."""

    def answer(self, question: Question, given: str | None = None) -> Any:
        """What was given, what is answered, or the default, as the question understands it."""
        if given is not None:
            return question.understand(given)
        if not self.asking:
            self.taken.append(f"{question.option} {question.default}")
            return question.understand(question.default)
        click.echo(f"\n{question.text}    (or {question.option})")
        print_pairs(question.meanings, indent="  ")
        while True:
            try:
                return question.understand(str(click.prompt("answer", default=question.default)).strip())
            except InputError as fault:
                click.echo(str(fault), err=True)


def goal() -> Question:
    """A chat model, or a pretrained one."""
    return Question(
        option="--for",
        text="What is it for?",
        meanings=[
            ("chat", "a model that answers: tokenizer, pretraining, finetuning on conversations, evaluation"),
            ("pretrain", "a model that continues text: tokenizer and pretraining alone"),
        ],
        default="chat",
        understand=lambda answer: _one_of(answer, ("chat", "pretrain")),
    )


def hardware(machine: Machine) -> Question:
    """This machine, or a GPU by name: None or a Device."""
    return Question(
        option="--gpu",
        text="What will it run on?",
        meanings=[
            (HERE, f"this machine: {described(machine, None)}"),
            ("h100", f"such GPUs elsewhere; known: {', '.join(ACCELERATORS)}"),
        ],
        default=HERE,
        understand=lambda answer: None if answer == HERE else named_device(answer),
    )


def gpus(found: int) -> Question:
    """How many GPUs."""
    return Question(
        option="--gpus",
        text="How many GPUs?",
        meanings=[("8", "so many processes share each step; the data's eight lanes allow 1, 2, 4 or 8 of them")],
        default=str(max(1, found)),
        understand=_count,
    )


def length(device: str) -> Question:
    """A budget or a depth: a pair of which one is None."""
    return Question(
        option="--budget",
        text="How large?",
        meanings=[
            ("30min, 8h", "a time: the model and steps that fill it, the whole recipe counted"),
            ("1e18flops", "a number of FLOPs, of the whole recipe"),
            ("2e9tokens", "a number of tokens that it is pretrained on"),
            ("12", "a depth (or --depth): so many blocks, and as many steps as are usual for them"),
        ],
        default={"cuda": "4h", "cpu": "10min", "mps": "4"}[device],  # a depth where no time can be told
        understand=budget_or_depth,
    )


def text(device: str, folder: Path, talks: Sequence[str], registry: Registry) -> Question:
    """What is pretrained on. talks: files of conversations, which are no text."""
    own = [name for name in at_hand(folder) if name not in talks]
    return Question(
        option="--data",
        text="Which text is it pretrained on?",
        meanings=[
            (PYDOCS, "two million characters of simple English that are on every machine, and made-up stories"),
            (CLIMBMIX, "text of the web, as much as is read: downloaded, 0.1 GB a shard"),
            ("PATH", f"your own files, a folder, a glob; here: {', '.join(own) or 'none'}"),
        ],
        default=CLIMBMIX if device == "cuda" else PYDOCS,
        understand=lambda answer: _text(answer, registry),
    )


def conversations(registry: Registry, talks: Sequence[str]) -> Question:
    """What is finetuned on beside the tasks: None or a file."""
    return Question(
        option="--conversations",
        text="Which conversations does it learn to answer from?",
        meanings=[
            (TASKS, "those that come with nanochat: sums by a calculator, spelling"),
            ("FILE", f"your own .jsonl beside them, a conversation a line; here: {', '.join(talks) or 'none'}"),
        ],
        default=TASKS,
        understand=lambda answer: None if answer == TASKS else _talk(answer, registry),
    )


def described(machine: Machine, named: Device | None) -> str:
    """What a machine computes on, in words."""
    if machine.cuda_devices:
        return f"{machine.cuda_devices} × {named.name if named else 'CUDA GPU'}"
    return f"{machine.cpu_cores} CPU cores, {size(machine.memory_bytes)} of memory, {'an' if machine.mps else 'no'} GPU"


def at_hand(folder: Path) -> list[str]:
    """The folders with text files in a folder, then its own text files."""
    files = sorted(file.name for file in folder.glob("*.*") if file.suffix in TEXT_KINDS and file.is_file())
    folders = sorted(
        f"{inner.name}/" for inner in folder.glob("*/") if any(f.suffix in TEXT_KINDS for f in inner.glob("*.*"))
    )
    own = [*folders, *files]
    return own[:MOST_SHOWN] + ([f"and {len(own) - MOST_SHOWN} more"] if len(own) > MOST_SHOWN else [])


def talks_at_hand(folder: Path, registry: Registry) -> list[str]:
    """The .jsonl files of a folder whose first lines are conversations."""
    found = []
    for file in sorted(folder.glob("*.jsonl"))[: 4 * MOST_SHOWN]:
        try:
            _talk(str(file), registry)
        except InputError:
            continue
        found.append(file.name)
    return found[:MOST_SHOWN]


def budget_or_depth(answer: str) -> tuple[Budget | None, int | None]:
    """30min, or 12."""
    if answer.isdecimal() and 1 <= int(answer) <= 128:
        return None, int(answer)
    return parse_budget(answer), None


def _text(answer: str, registry: Registry) -> str:
    """pydocs, climbmix, or files that are there: the source that will read them has looked at the first."""
    if answer in (PYDOCS, CLIMBMIX):
        return answer
    there = answer.strip() and Path(answer).expanduser().exists()
    if not there and not (glob.has_magic(answer) and glob.glob(answer, recursive=True)):  # noqa: PTH207 (a glob)
        raise wrong_input(
            "E301", f"nothing is at {answer!r}", help=f"give a path, a folder or a glob; or {PYDOCS}, {CLIMBMIX}"
        )
    registry.config_class("source", "files")(path=Path(answer)).fingerprint()
    return answer


def _one_of(answer: str, valid: Sequence[str]) -> str:
    if answer not in valid:
        raise wrong_input("E407", f"{answer!r} is neither {' nor '.join(valid)}")
    return answer


def _count(answer: str) -> int:
    if not answer.isdecimal() or not 1 <= int(answer) <= 1024:
        raise wrong_input("E407", f"{answer!r} is no number of GPUs", help="give a number from 1")
    return int(answer)


def _talk(answer: str, registry: Registry) -> str:
    """A file of conversations: the task that will read it has looked at its first lines."""
    place = Path(answer).expanduser()
    if not place.is_file():
        raise wrong_input(
            "E301",
            f"there is no file {answer}",
            help=f"give a .jsonl file of conversations; or {TASKS}",
        )
    registry.config_class("task", "custom_json")(path=place).fingerprint()
    return answer
