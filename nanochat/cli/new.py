"""`nanochat new PATH`: a few questions, and a recipe that a person would have written.

Every question is an option too; what is not given is asked on a terminal, and takes its default where there is none.
"""

import sys
from pathlib import Path

import attrs
import click

from nanochat.cli import new_questions as ask
from nanochat.cli.estimate_text import headline
from nanochat.cli.new_from import write_branch
from nanochat.errors import wrong_input
from nanochat.estimating.budget import Budget, parse_budget
from nanochat.estimating.device import Device, this_cpu, this_device
from nanochat.estimating.new_plan import NewPlan
from nanochat.estimating.new_recipe import CLIMBMIX, PYDOCS, Goal, NewRecipe, recipe_text
from nanochat.hardware import Machine, default_device, probe_machine
from nanochat.registry import Registry, load_registry

PROCESSES = (8, 4, 2, 1)
"""A recipe's eight data lanes are shared out equally."""


@attrs.frozen(kw_only=True)
class Answers:
    """All that is asked."""

    goal: Goal
    machine: Machine
    """With the GPUs that were named or counted."""
    named: Device | None
    budget: Budget | None
    depth: int | None
    data: str
    conversations: str | None


@attrs.frozen(kw_only=True)
class Given:
    """The options as they were given."""

    goal: str | None
    gpu: str | None
    gpus: int | None
    budget: Budget | None
    depth: int | None
    data: str | None
    conversations: str | None


@click.command("new")
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.toml"))
@click.option("--for", "goal", type=click.Choice(["chat", "pretrain"]), help="A chat model, or only a pretrained one.")
@click.option("--gpu", metavar="NAME", help="For such GPUs (h100, a100-80, rtx4090, …), or `here`: this machine.")
@click.option("--gpus", type=click.IntRange(1), metavar="N", help="How many; without it, one or those found here.")
@click.option("--budget", metavar="BUDGET", help="What it may take: 30min, 8h, 1e18flops, 2e9tokens.")
@click.option("--depth", type=click.IntRange(1, 128), help="Blocks of the model; without it, what the budget allows.")
@click.option("--data", metavar="TEXT", help="pydocs (and stories), climbmix, or files: a path, a folder, a glob.")
@click.option("--conversations", metavar="FILE", help="A .jsonl file to finetune on as well, or `tasks`: ours alone.")
@click.option("--from", "parent", metavar="RUN", help="Branch from a run: all its values, with --set changed in them.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="With --from: what is to be tried.")
@click.option("--yes", is_flag=True, help="Ask nothing: defaults for what is not given.")
def command(
    path: Path,
    goal: str | None,
    gpu: str | None,
    gpus: int | None,
    budget: str | None,
    depth: int | None,
    data: str | None,
    conversations: str | None,
    parent: str | None,
    changes: tuple[str, ...],
    yes: bool,
) -> None:
    """Write a recipe to PATH (recipe.toml), which must not be there yet, and say what it will take."""
    _refuse_existing(path)
    asked = (goal, gpu, gpus, budget, depth, data, conversations)
    if parent is not None and any(answer is not None for answer in asked):
        raise wrong_input("E407", "--from takes all values from the run", help="change them by --set KEY=VALUE")
    if parent is not None:
        write_branch(path, parent, changes)
        return
    if changes:
        raise wrong_input("E407", "--set changes a run's values", help="name the run: --from RUN")
    wanted = parse_budget(budget) if budget is not None else None
    given = Given(goal=goal, gpu=gpu, gpus=gpus, budget=wanted, depth=depth, data=data, conversations=conversations)
    registry = load_registry()
    interview = ask.Interview(asking=sys.stdin.isatty() and not yes)
    answers = _answers(given, interview, registry)
    if interview.taken and not interview.asking and not yes:
        click.echo(f"nobody to ask: took {' '.join(interview.taken)}; each is an option to change", err=True)
    machine, folder = answers.machine, path.absolute().parent
    click.echo(f"hardware: {ask.described(machine, answers.named)}")
    new = _without_sizes(folder, answers)
    here = answers.named or (this_cpu(machine) if new.device == "cpu" else this_device(machine))
    plan = NewPlan(new=new, folder=folder, machine=machine, here=here, registry=registry)
    new, found = plan.filled(answers.budget, answers.depth)
    with path.open("x", encoding="utf-8") as file:
        file.write(recipe_text(new))
    click.echo(f"wrote {path}: {headline(found)}")
    click.echo(f"look at it, then: nanochat-run {path}    (nanochat estimate {path} says more)")


def _answers(given: Given, interview: ask.Interview, registry: Registry) -> Answers:
    """What was given, and what is asked for the rest."""
    goal: Goal = interview.answer(ask.goal(), given.goal)
    if goal != "chat" and given.conversations is not None:
        raise wrong_input("E407", "a pretrained model learns from no conversations", help="--for chat")
    machine, named = _hardware(given, interview, probe_machine())
    device = default_device(machine)
    size = (given.budget, given.depth)
    budget, depth = interview.answer(ask.length(device)) if size == (None, None) else size
    talks = ask.talks_at_hand(Path.cwd(), registry) if interview.asking else []
    data = interview.answer(ask.text(device, Path.cwd(), talks, registry), given.data)
    question = ask.conversations(registry, talks)
    return Answers(
        goal=goal,
        machine=machine,
        named=named,
        budget=budget,
        depth=depth,
        data=data,
        conversations=interview.answer(question, given.conversations) if goal == "chat" else None,
    )


def _hardware(given: Given, interview: ask.Interview, found: Machine) -> tuple[Machine, Device | None]:
    """The machine that the recipe is for, with the GPUs that are named or counted."""
    counted_here = given.gpu is None and given.gpus is not None and found.cuda_devices
    named = None if counted_here else interview.answer(ask.hardware(found), given.gpu)
    if named is None and not found.cuda_devices:
        if given.gpus is not None:
            raise wrong_input("E407", "this machine has no GPU", help="name the kind that --gpus counts: --gpu h100")
        return found, None
    count = interview.answer(ask.gpus(found.cuda_devices)) if given.gpus is None else given.gpus
    return attrs.evolve(found, cuda_devices=count), named


def _without_sizes(folder: Path, answers: Answers) -> NewRecipe:
    """What was answered; depth and steps follow from the budget."""
    machine, data, talk = answers.machine, answers.data, answers.conversations
    device = default_device(machine)
    processes = next(n for n in PROCESSES if n <= max(1, machine.cuda_devices)) if device == "cuda" else 1
    if processes < machine.cuda_devices:
        click.echo(f"{processes} of the GPUs are used: the data's eight lanes are shared out equally")
    return NewRecipe(
        goal=answers.goal,
        device=device,
        processes=processes,
        depth=1,
        steps=None,
        data=data if data in (PYDOCS, CLIMBMIX) else _from(folder, data),
        conversations=_from(folder, talk) if talk is not None else None,
        schema=(folder / "schema.json").is_file(),
    )


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise wrong_input("E407", f"{path} is there already, and is never overwritten", help="give another PATH")
    if not path.absolute().parent.is_dir():
        raise wrong_input("E407", f"there is no folder {path.parent}", help="make it first, or give another PATH")


def _from(folder: Path, given: str) -> str:
    """A path as the recipe says it: relative to its folder where it lies below it, else absolute."""
    place = Path(given).expanduser().absolute()
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)
