"""`nanochat bench infer` and `bench serve`: how fast a recipe's model answers here, by itself and behind the server."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from nanochat.cli.number_list import numbers
from nanochat.cli.recipe_argument import recipe_file
from nanochat.cli.sheet import print_table
from nanochat.errors import wrong_input
from nanochat.estimating.estimate import pretraining_stage
from nanochat.hardware import missing, probe_machine
from nanochat.model.sizes import parameters as model_size
from nanochat.quantity import count, size
from nanochat.recipe.load import load_recipe
from nanochat.recipe.model_of import model_of
from nanochat.registry import load_registry

if TYPE_CHECKING:
    from nanochat.benchmarking.latency import Percentiles
    from nanochat.benchmarking.subject import Subject


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take."""
    options = [
        click.argument("recipe", type=click.Path(path_type=Path)),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipe."),
        click.option("--stage", metavar="NAME", help="A stage that trains; without it, the first that pretrains."),
        click.option(
            "--clients", callback=numbers, default="1,8,32,128", show_default=True, help="At once, one by one."
        ),
        click.option("--prompt", type=click.IntRange(1), default=128, show_default=True, help="Tokens of each."),
        click.option("--tokens", type=click.IntRange(2), default=64, show_default=True, help="To be written by each."),
        click.option("--threads", type=click.IntRange(1), help="Of torch, on a CPU."),
        click.option("--int8", is_flag=True, help="Weights in 8 bits, on a CPU."),
        click.option("--compile", "compiled", is_flag=True, help="torch.compile the steps of decoding."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("infer")
@_options
def infer(recipe: Path, prompt: int, tokens: int, clients: list[int], as_json: bool, **how: Any) -> None:
    """Answer prompts by the engine alone: tokens/s, latencies, bytes read against the memory's bandwidth, what a second
    turn saves. The model of RECIPE, untrained: that does not change its speed.
    """
    subject = _subject(recipe, **how)
    from nanochat.benchmarking.engine_speed import engine_speed

    found = engine_speed(subject, rows=clients, prompt=prompt, tokens=tokens)
    if as_json:
        click.echo(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return
    head = [
        "rows",
        "tokens/s",
        "decoding",
        "read",
        "of bandwidth",
        "first id",
        "between",
        "2nd turn",
        "cancel",
        "memory",
    ]
    rows = [
        [
            str(each.rows),
            f"{each.tokens_per_second:,.0f}",
            "" if each.decode_tokens_per_second is None else f"{each.decode_tokens_per_second:,.0f}",
            "" if each.bytes_per_second is None else f"{size(each.bytes_per_second)}/s",
            "" if each.of_bandwidth is None else f"{each.of_bandwidth:.0%}",
            _milliseconds(each.first),
            _milliseconds(each.between),
            f"{each.second_turn:.0%}",
            f"{1000 * each.cancel_seconds:.2f} ms",
            size(each.memory_bytes),
        ]
        for each in found
    ]
    print_table(head, rows, words=0)


@click.command("serve")
@_options
def serve(recipe: Path, prompt: int, tokens: int, clients: list[int], as_json: bool, **how: Any) -> None:
    """Answer clients by the server, as `infer` by the engine. The engine and the clients are processes of their own, so
    that --threads 1 on two cores gives the engine one, and server and clients the other.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    subject = _subject(recipe, **how)
    from nanochat.benchmarking.serving_speed import serving_speed

    found = serving_speed(subject, clients=clients, prompt=prompt, tokens=tokens)
    if as_json:
        click.echo(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return
    head = ["clients", "tokens/s", "of the engine's", "first token", "between", "/health", "cancel", "memory"]
    rows = [
        [
            str(each.clients),
            f"{each.tokens_per_second:,.0f}",
            f"{each.of_engine:.0%}",
            _milliseconds(each.first),
            _milliseconds(each.between),
            _milliseconds(each.health),
            f"{1000 * each.cancel_seconds:.1f} ms",
            size(each.memory_bytes),
        ]
        for each in found
    ]
    print_table(head, rows, words=0)


def _subject(
    recipe: Path, *, overrides: tuple[str, ...], stage: str | None, threads: int | None, int8: bool, compiled: bool
) -> "Subject":
    """The recipe's model, untrained. InputError E405 where no stage has one, E404 where the hardware is not here."""
    loaded = load_recipe(recipe_file(recipe), overrides=overrides, machine=probe_machine())
    name = stage or pretraining_stage(loaded)
    known = loaded.stages.get(name or "")
    component = model_of(known, loaded, load_registry(block=loaded.block)) if known is not None else None
    if known is None or component is None:
        raise wrong_input("E405", f"{loaded.name} has no stage{f' `{stage}`' if stage else ''} that tells its model")
    hardware: Any = known.hardware
    if lacks := missing(attrs.evolve(cast(Any, hardware), nodes=1, nproc_per_node=1), probe_machine()):
        raise wrong_input("E404", f"stage `{name}` {lacks}")
    from nanochat.benchmarking.subject import Subject

    dtype = "float32" if int8 else hardware.dtype
    weights = "int8" if int8 else dtype
    parameters = count(model_size(component.config.layout()))
    click.secho(f"{loaded.name}, `{name}`: {parameters} parameters, {weights} on {hardware.device}", err=True)
    return Subject(
        model=component,
        device=hardware.device,
        dtype=dtype,
        seed=loaded.seed,
        int8=int8,
        compiled=compiled,
        threads=threads,
    )


def _milliseconds(found: "Percentiles") -> str:
    return f"{1000 * found.p50:,.1f} / {1000 * found.p99:,.1f} ms"
