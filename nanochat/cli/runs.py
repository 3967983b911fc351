"""`nanochat runs`: what was run, when, how it stands, what came out."""

import json
from pathlib import Path
from typing import Any

import click

from nanochat.running.find import list_runs
from nanochat.running.json_file import read_lines
from nanochat.running.lease import is_held
from nanochat.running.report import finished_stages, headline, table
from nanochat.running.run_folder import EVENTS, RunFolder


@click.command("runs")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(as_json: bool) -> None:
    """List the runs, newest first."""
    found = [describe(run) for run in list_runs()]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        click.echo("no runs yet; the first: nanochat-run recipes/quickstart.toml")
    else:
        rows = [[r["run"], r["started"][:16].replace("T", " "), r["state"], headline(r["figures"])] for r in found]
        click.echo(table(["run", "last started (UTC)", "state", "figures"], rows))


def describe(run: RunFolder) -> dict[str, Any]:
    """A run as plain data: name, folder, start, state, stages, the figures of the last stage that measured any."""
    stages = finished_stages(run)
    measured = [stage.figures for stage in stages if headline(stage.figures)]
    return {
        "run": run.path.name,
        "recipe": run.plan.get("recipe", ""),
        "folder": str(run.path),
        "started": str(run.environment.get("time", "")),
        "state": _state(run.path, len(stages), len(run.plan.get("stages", []))),
        "stages": {stage.name: str(stage.folder.path) for stage in stages},
        "figures": dict(measured[-1]) if measured else {},
    }


def _state(folder: Path, finished: int, planned: int) -> str:
    """finished · running · stopped · failed · unfinished."""
    if is_held(folder):
        return "running"
    if finished == planned:
        return "finished"
    endings = [e["event"] for e in read_lines(folder / EVENTS) if str(e.get("event", "")).startswith("stage_")]
    last = endings[-1].removeprefix("stage_") if endings else ""
    return f"{last if last in ('stopped', 'failed') else 'unfinished'}, {finished} of {planned} stages done"
