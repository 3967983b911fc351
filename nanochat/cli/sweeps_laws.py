"""`nanochat sweeps laws NAME`: how loss falls with compute over a sweep's runs, and which size is best for how much."""

import json
import math
from typing import TYPE_CHECKING

import attrs
import click

from nanochat.cli.sheet import print_table, print_text
from nanochat.hardware import probe_machine
from nanochat.registry import load_registry
from nanochat.sweeping.question import FIGURE, FURTHER
from nanochat.sweeping.sweep import find_sweep

if TYPE_CHECKING:
    from nanochat.sweeping.laws import Laws


@click.command("laws")
@click.argument("name")
@click.option("--figure", default=FIGURE, show_default=True, metavar="FIGURE", help="What is fitted.")
@click.option("--flops", type=click.FloatRange(0, min_open=True), help=f"Foretell this; by default {FURTHER:g} × most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, figure: str, flops: float | None, as_json: bool) -> None:
    """Scaling laws of a sweep over sizes and budgets: loss against compute, the best size, tokens a parameter.

    N is the number of parameters in a matrix product for every token (the blocks' and the head's), as where a recipe
    says tokens_per_param; C is FLOPs a token times tokens. Intervals are of 95 %. What cannot be fitted is named.
    """
    from nanochat.sweeping.laws import absent, laws, points_of  # import NumPy
    from nanochat.sweeping.laws_text import budget_table, sentences

    sweep = find_sweep(name)
    points = points_of(sweep, figure, load_registry(), probe_machine())
    if flops is not None and not math.isfinite(flops):
        raise click.BadParameter("it must be finite", param_hint="--flops")
    found = laws(points, figure=figure, next_flops=flops, absent=absent(sweep))
    if as_json:
        click.echo(json.dumps(_description(found), indent=2, ensure_ascii=False))
        return
    columns, cells = budget_table(found)
    print_table(columns, cells, words=0)
    for line in sentences(found):
        print_text(line)


def _description(found: "Laws") -> dict[str, object]:
    """Plain data; a budget's points stand once, at the top."""
    described = attrs.asdict(found)
    for budget in described["budgets"]:
        del budget["points"]
    return described
