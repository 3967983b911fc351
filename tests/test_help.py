"""`--help` of every command and of its own commands answers without what takes long to import."""

import json
import subprocess
import sys

HEAVY = ["torch", "numpy", "pyarrow", "matplotlib", "rich", "safetensors", "starlette", "uvicorn", "prometheus_client"]
ALL_HELP = f"""
import json, sys
import click
from click.testing import CliRunner
from nanochat.cli.main import COMMANDS, nanochat

def ask(*words):
    result = CliRunner().invoke(nanochat, [*words, "--help"])
    asked.append([" ".join(words), result.exit_code, result.output.startswith("Usage: "), loaded()])

def loaded():
    new = [name for name in {HEAVY!r} if name in sys.modules]
    for name in new:
        del sys.modules[name]
    return new

asked = []
ask()
for name in COMMANDS:
    ask(name)
    command = nanochat.get_command(None, name)
    for inner in getattr(command, "commands", ()):
        ask(name, inner)
print(json.dumps(asked))
"""


def test_help_of_every_command_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, check=True)
    asked = json.loads(done.stdout)
    assert len(asked) > 40
    assert [found for found in asked if found[1:] != [0, True, []]] == []
