"""`nanochat bench all`: every benchmark, on one page. `nanochat bench diff`: two such pages beside each other."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import click

import nanochat
from nanochat.benchmarking.catalogue import Benchmark, benchmarks
from nanochat.benchmarking.page import LIMIT_SECONDS, Outcome, Page, improvement, overall, parse, run, shown
from nanochat.cli.recipe_argument import recipe_file
from nanochat.cli.sheet import print_table, print_text
from nanochat.cli.status_line import StatusLine
from nanochat.errors import EXIT_DONE, EXIT_STAGE_FAILED, did_you_mean, wrong_input
from nanochat.hardware import default_device, probe_machine, processors
from nanochat.quantity import duration, size
from nanochat.recipe.load import load_recipe
from nanochat.running.json_file import write_text
from nanochat.running.provenance import now, packages
from nanochat.running.source_tree import described, source_trees

_PACKAGES = ("torch", "numpy", "pyarrow", "tiktoken")
_NEAR = 0.05
"""Ratios within this of 1 are not coloured: a machine that others use, too, gives as much from run to run."""


@click.command("all")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe.")
@click.option("--only", metavar="NAME,NAME", default="", help="These benchmarks; --list names them.")
@click.option("--list", "listed", is_flag=True, help="Name the benchmarks, run nothing.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks.md"),
    show_default=True,
    help="The page; beside it goes the .json for `bench diff`.",
)
@click.option(
    "--limit",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=LIMIT_SECONDS / 60,
    show_default=True,
    metavar="MINUTES",
    help="Of one benchmark: then it is stopped, and the next begins.",
)
def command(recipe: Path, overrides: tuple[str, ...], only: str, listed: bool, output: Path, limit: float) -> None:
    """Run every benchmark with RECIPE's model, one after another, and write one page with the machine's description.

    In a checkout of nanochat's source those of tests/benchmarks are among them. One that fails, or does not end within
    its limit, stands on the page with its error, and the exit code is 1. The page is written anew after each: a stopped
    command leaves what was measured.
    """
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=probe_machine())
    there = benchmarks(recipe, overrides, _tests(), cpu=default_device(probe_machine()) == "cpu")
    chosen = _chosen(there, only)
    if listed:
        for each in chosen:
            click.echo(each.name)
        return
    page = Page(facts=_facts(loaded.name, overrides), cores=probe_machine().cpu_cores, outcomes=())
    for number, each in enumerate(chosen, 1):
        outcome = _told(each, f"{number}/{len(chosen)}", 60 * limit)
        page = attrs.evolve(page, outcomes=[*page.outcomes, outcome])
        write_text(output, page.markdown())
        write_text(output.with_suffix(".json"), page.json())
    click.echo(page.markdown(), nl=False)
    click.echo(f"written to {output} and {output.with_suffix('.json')}", err=True)
    sys.exit(EXIT_STAGE_FAILED if any(outcome.error for outcome in page.outcomes) else EXIT_DONE)


def _told(benchmark: Benchmark, which: str, limit: float) -> Outcome:
    """Run it, and say on stderr which it is and how it ended; on a terminal also for how long it has run."""
    with StatusLine(err=True) as line:
        begun = f"[{which}] {benchmark.name} … "
        if not line.on_terminal:
            click.echo(begun, nl=False, err=True)
            begun = ""
        outcome = run(
            benchmark,
            limit=limit,
            waiting=lambda spent: line.show(f"{begun}{duration(spent)} (at most {duration(limit)})"),
        )
        ended = "not finished" if not outcome.finished else "failed" if outcome.error else "done"
        line.say(f"{begun}{ended} in {duration(outcome.seconds)}")
    return outcome


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(before: Path, after: Path, as_json: bool) -> None:
    """What differs between two pages of `bench all`: of two machines, or of two commits on one.

    `times as good` is above 1 where AFTER is faster or smaller. What a machine can do is shown, but not judged.
    """
    first, second = parse(before.with_suffix(".json")), parse(after.with_suffix(".json"))
    common = [name for name in first.quantities if name in second.quantities]
    ratios = {name: improvement(first.quantities[name], second.quantities[name]) for name in common}
    judged = [ratio for ratio in ratios.values() if ratio is not None]
    if as_json:
        pairs = {
            name: {"before": first.quantities[name].value, "after": second.quantities[name].value, "times_as_good": r}
            for name, r in ratios.items()
        }
        missing = {"only_before": _only(first, second), "only_after": _only(second, first)}
        click.echo(json.dumps({"quantities": pairs, "overall": overall(judged), **missing}, indent=2))
        return
    _print_facts(first.facts, second.facts)
    rows = [
        [name, shown(first.quantities[name]), shown(second.quantities[name]), _times(r)] for name, r in ratios.items()
    ]
    colours = {_times(r): "green" if r > 1 else "red" for r in judged if abs(r - 1) > _NEAR}
    print_table(["quantity", "before", "after", "times as good"], rows, words=1, colours=colours)
    for words, names in (("before", _only(first, second)), ("after", _only(second, first))):
        if names:
            print_text(f"only {words}: {', '.join(names)}")
    print_text(f"{len(judged)} judged; geometric mean {overall(judged):.2f} times as good", bold=True)


def _chosen(there: list[Benchmark], only: str) -> list[Benchmark]:
    """InputError E407 for a name that none has."""
    names = [part.strip() for part in only.split(",") if part.strip()]
    known = [each.name for each in there]
    for name in names:
        if name not in known:
            near = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise wrong_input("E407", f"there is no benchmark `{name}`", help=near)
    return [each for each in there if not names or each.name in names]


def _tests() -> Path | None:
    """tests/benchmarks, where this is a checkout."""
    folder = Path(nanochat.__file__).parent.parent / "tests" / "benchmarks"
    return folder if folder.is_dir() else None


def _facts(recipe: str, overrides: tuple[str, ...]) -> dict[str, str]:
    machine, installed, code = probe_machine(), packages(), Path(nanochat.__file__).parent.parent
    trees = source_trees(code, code)
    return {
        "time": now(),
        "machine": f"{machine.cpu_cores} cores, {size(machine.memory_bytes)}, {machine.name}",
        "processors": ", ".join(processors()) or "not known",
        "nanochat": described(trees[0].facts()) if trees else nanochat.__version__,
        "packages": ", ".join(f"{name} {installed[name]}" for name in _PACKAGES if name in installed),
        "recipe": " ".join([recipe, *overrides]),
    }


def _only(this: Page, other: Page) -> list[str]:
    return [name for name in this.quantities if name not in other.quantities]


def _print_facts(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name, "not told"), after.get(name, "not told")
        print_text(f"{name}: {a}" if a == b else f"{name}: {a} → {b}")
    click.echo()


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
