"""`nanochat new PATH`: a few questions, and a recipe that a person would have written.

Every question is an option too; what is not given is asked on a terminal, and takes its default where there is none.
"""

import glob
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import click

from nanochat.cli.estimate_text import headline
from nanochat.errors import InputError, wrong_input
from nanochat.estimating.budget import Budget, parse_budget
from nanochat.estimating.device import Device, named_device, this_cpu, this_device
from nanochat.estimating.new_plan import NewPlan
from nanochat.estimating.new_recipe import CLIMBMIX, PYDOCS, Goal, NewRecipe, recipe_text
from nanochat.hardware import Machine, default_device, probe_machine
from nanochat.quantity import size

MOST_SHOWN = 8
"""Files and folders that are named as text at hand."""
PROCESSES = (8, 4, 2, 1)
"""A recipe's eight data lanes are shared out equally."""
DEFAULT_SIZES = {"cuda": "4h", "cpu": "10min", "mps": "4"}
"""A depth where no time can be told."""
T = TypeVar("T")


@click.command("new")
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.toml"))
@click.option("--for", "goal", type=click.Choice(["chat", "pretrain"]), help="A chat model, or only a pretrained one.")
@click.option("--budget", metavar="BUDGET", help="What it may take: 30min, 8h, 1e18flops, 2e9tokens.")
@click.option("--depth", type=click.IntRange(1, 128), help="Blocks of the model; without it, what the budget allows.")
@click.option("--data", metavar="TEXT", help="pydocs (and stories), climbmix, or files: a path, a folder, a glob.")
@click.option("--conversations", type=click.Path(), help="A .jsonl file of conversations to finetune on as well.")
@click.option("--gpu", metavar="NAME", help="For such GPUs, not for this machine: h100, a100-80, rtx4090, …")
@click.option("--gpus", type=click.IntRange(1), metavar="N", help="How many; without it, one or those found here.")
@click.option("--yes", is_flag=True, help="Ask nothing: defaults for what is not given.")
def command(
    path: Path,
    goal: Goal | None,
    budget: str | None,
    depth: int | None,
    data: str | None,
    conversations: str | None,
    gpu: str | None,
    gpus: int | None,
    yes: bool,
) -> None:
    """Write a recipe to PATH (recipe.toml), which must not be there yet, and say what it will take."""
    _refuse_existing(path)
    named = named_device(gpu) if gpu else None
    machine = _machine(probe_machine(), named, gpus)
    wanted = parse_budget(budget) if budget is not None else None
    click.echo(f"hardware: {_described(machine, named)}")
    asking = sys.stdin.isatty() and not yes
    goal, wanted, depth, data = _answers(goal, wanted, depth, data, default_device(machine), asking)
    new = _without_sizes(path.absolute().parent, goal, data, conversations, machine)
    here = named or (this_cpu(machine) if new.device == "cpu" else this_device(machine))
    new, found = NewPlan(new=new, folder=path.absolute().parent, machine=machine, here=here).filled(wanted, depth)
    with path.open("x", encoding="utf-8") as file:
        file.write(recipe_text(new))
    click.echo(f"wrote {path}: {headline(found)}")
    click.echo(f"look at it, then: nanochat-run {path}    (nanochat estimate {path} says more)")


def _answers(
    goal: Goal | None, budget: Budget | None, depth: int | None, data: str | None, device: str, asking: bool
) -> tuple[Goal, Budget | None, int | None, str]:
    """Goal, budget, depth, text: what was given, and what is asked for the rest."""
    goal = goal or cast(Goal, _asked("For chat, or only to pretrain? (chat, pretrain)", "chat", _goal, asking))
    if budget is None and depth is None:
        question = "How large? A budget (30min, 8h, 1e18flops, 2e9tokens) or a depth (12)"
        budget, depth = _asked(question, DEFAULT_SIZES[device], _budget_or_depth, asking)
    if data is None:
        click.echo(f"text at hand: {', '.join(_at_hand(Path.cwd()))}")
        question = f"Text to pretrain on? ({PYDOCS}, {CLIMBMIX}, or files: a path, a folder, a glob)"
        data = _asked(question, CLIMBMIX if device == "cuda" else PYDOCS, _text, asking)
    return goal, budget, depth, _text(data)


def _at_hand(folder: Path) -> list[str]:
    """What could be trained on: what comes with nanochat, then the text files of a folder and of those in it."""
    kinds = (".txt", ".jsonl", ".parquet")
    files = sorted(file.name for file in folder.glob("*.*") if file.suffix in kinds and file.is_file())
    folders = sorted(
        f"{inner.name}/" for inner in folder.glob("*/") if any(f.suffix in kinds for f in inner.glob("*.*"))
    )
    own = [*folders, *files]
    more = [f"and {len(own) - MOST_SHOWN} more here"] if len(own) > MOST_SHOWN else []
    return [PYDOCS, f"{CLIMBMIX} (a download)", *own[:MOST_SHOWN], *more]


def _without_sizes(folder: Path, goal: Goal, data: str, conversations: str | None, machine: Machine) -> NewRecipe:
    """What was answered; depth and steps follow from the budget."""
    if conversations is not None and not Path(conversations).expanduser().is_file():
        raise wrong_input("E301", f"there is no file {conversations}", help="give a .jsonl file of conversations")
    device = default_device(machine)
    processes = next(n for n in PROCESSES if n <= max(1, machine.cuda_devices)) if device == "cuda" else 1
    if processes < machine.cuda_devices:
        click.echo(f"{processes} of the GPUs are used: the data's eight lanes are shared out equally")
    return NewRecipe(
        goal=goal,
        device=device,
        processes=processes,
        depth=1,
        steps=None,
        data=data if data in (PYDOCS, CLIMBMIX) else _from(folder, data),
        conversations=_from(folder, conversations) if conversations is not None else None,
        schema=(folder / "schema.json").is_file(),
    )


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise wrong_input("E407", f"{path} is there already, and is never overwritten", help="give another PATH")
    if not path.absolute().parent.is_dir():
        raise wrong_input("E407", f"there is no folder {path.parent}", help="make it first, or give another PATH")


def _machine(found: Machine, named: Device | None, gpus: int | None) -> Machine:
    """The machine that the recipe is for: with the GPUs that are named or counted."""
    if named is None and gpus is None:
        return found
    if named is None and not found.cuda_devices:
        raise wrong_input("E407", "this machine has no GPU", help="name the kind that --gpus counts: --gpu h100")
    return attrs.evolve(found, cuda_devices=gpus or max(1, found.cuda_devices))


def _described(machine: Machine, named: Device | None) -> str:
    if machine.cuda_devices:
        return f"{machine.cuda_devices} × {named.name if named else 'CUDA GPU'}"
    return f"{machine.cpu_cores} CPU cores, {size(machine.memory_bytes)} of memory, {'an' if machine.mps else 'no'} GPU"


def _asked(question: str, default: str, understand: Callable[[str], T], asking: bool) -> T:
    """The answer, asked again until it is understood; the default where nobody is asked."""
    while asking:
        answer: Any = click.prompt(question, default=default)
        try:
            return understand(str(answer))
        except InputError as fault:
            click.echo(str(fault), err=True)
    return understand(default)


def _goal(answer: str) -> str:
    if answer not in ("chat", "pretrain"):
        raise wrong_input("E407", f"{answer!r} is neither chat nor pretrain")
    return answer


def _budget_or_depth(answer: str) -> tuple[Budget | None, int | None]:
    if answer.strip().isdecimal() and 1 <= int(answer) <= 128:
        return None, int(answer)
    return parse_budget(answer), None


def _text(answer: str) -> str:
    """pydocs, climbmix, or files that are there."""
    if answer in (PYDOCS, CLIMBMIX) or (answer.strip() and Path(answer).expanduser().exists()):
        return answer
    if glob.has_magic(answer) and glob.glob(answer, recursive=True):  # noqa: PTH207 (a glob is no path)
        return answer
    raise wrong_input(
        "E301", f"nothing is at {answer!r}", help=f"give a path, a folder or a glob; or {PYDOCS}, {CLIMBMIX}"
    )


def _from(folder: Path, given: str) -> str:
    """A path as the recipe says it: relative to its folder where it lies below it, else absolute."""
    place = Path(given).expanduser().absolute()
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)
