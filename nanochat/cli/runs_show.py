"""`nanochat runs show RUN`: a run's stages and where it came from."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import click

from nanochat.cli.sheet import print_pairs, print_table
from nanochat.quantity import duration, size
from nanochat.recipe.artifacts import KEY_CHARACTERS
from nanochat.running.figures import headline
from nanochat.running.find import find_run
from nanochat.running.source_tree import described
from nanochat.running.summary import details


@click.command("show")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(run: str | None, as_json: bool) -> None:
    """Show a run: stages, figures, provenance.

    RUN is a name or a folder; without one, the newest run.
    """
    found = details(find_run(run))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{click.style(found['run'], bold=True)}  {found['state']}, {found['done']} of {found['planned']} stages"
    )
    click.echo(f"{found['folder']}\n")
    titles = ["stage", "use", "state (UTC)", "key", "tag", "time", "on disk"]
    print_table(titles, [_row(found, stage) for stage in found["stages"]])
    click.echo()
    figures = [(stage["stage"], headline(stage["figures"], limit=len(stage["figures"]))) for stage in found["stages"]]
    print_pairs((f"{stage}:", shown) for stage, shown in figures if shown)
    click.echo()
    print_pairs(_facts(found))


def _row(found: Mapping[str, Any], stage: Mapping[str, Any]) -> list[str]:
    made_elsewhere = f" (in {stage['run']})" if stage["run"] != found["run"] else ""
    return [
        stage["stage"],
        stage["use"],
        f"{stage['state']} {stage['finished'][:16].replace('T', ' ')}".strip(),
        stage["key"][:KEY_CHARACTERS],
        stage["tag"],
        duration(stage["seconds"]) + made_elsewhere,
        size(stage["bytes"]),
    ]


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    known, machine = found["provenance"], found["provenance"]["machine"] or {}
    memory = size(machine.get("memory_bytes", 0))
    if not known["host"]:
        return []  # env.json is gone
    return [
        ("started", f"{found['first_started']}, last {found['started']}"),
        ("command", shlex.join(known["argv"] or [])),
        ("by", f"{known['user']} on {known['host']}, in {known['cwd']}"),
        *((f"commit of {' and '.join(tree['holds'])}", described(tree)) for tree in known["source_trees"]),
        ("machine", f"{machine.get('cpu_cores')} CPU cores, {memory}, {machine.get('cuda_devices')} CUDA devices"),
        ("system", f"{known['platform']}, Python {str(known['python']).split(' ')[0]}"),
        ("plugins", ", ".join(f"{name} {version}".strip() for name, version in known["plugins"].items())),
    ]
