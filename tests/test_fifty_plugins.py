"""With fifty plugins installed, --help imports none, planning imports their hooks alone, and nothing imports torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.toml"


def imported(site: Path, *arguments: str) -> set[str]:
    """The modules that a command leaves imported."""
    script = (
        "import sys\n"
        "from nanochat.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print(*sorted(sys.modules), sep='\\n', file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "NANOCHAT_HOME": str(site / "home")}
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_imports_no_plugin_and_neither_the_registry(fifty: Path) -> None:
    found = imported(fifty, "--help")
    assert not [name for name in found if name.startswith("acme_")]
    assert found.isdisjoint({"torch", "nanochat.registry", "pluggy", "attrs"})


@pytest.mark.parametrize("command", [("plan", str(RECIPE)), ("plugins",), ("show", str(RECIPE))])
def test_planning_imports_every_plugins_hooks_and_no_implementation(fifty: Path, command: tuple[str, ...]) -> None:
    found = imported(fifty, *command)
    assert {name for name in found if name.startswith("acme_")} == {f"acme_{number:02d}" for number in range(50)}
    assert found.isdisjoint({"torch", "numpy"})
