"""Made-up distributions for tests: a folder that Python finds them in, as pip would have left them there."""

from pathlib import Path

GOOD = """\
from nanochat.hooks import hookimpl
@hookimpl
def register_tasks(registry):
    registry.add("NAME", build="tiny_plugin:Sums")
"""


def install(site: Path, distribution: str, module: str, source: str, *, group: str = "nanochat.v1") -> None:
    """One distribution of version 2.0 with one module, which is its entry point."""
    info = site / f"{distribution.replace('-', '_')}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")
    (site / f"{module}.py").write_text(source)


def install_many(site: Path, count: int = 50) -> None:
    """Distributions `acme-00`, …: a module of hooks each, a task and an observer, and an implementation apart."""
    for number in range(count):
        name = f"acme_{number:02d}"
        hooks = GOOD.replace("NAME", name).replace("tiny_plugin", f"{name}_task")
        install(site, name.replace("_", "-"), name, hooks + "@hookimpl\ndef before_stage(stage):\n    pass\n")
        (site / f"{name}_task.py").write_text("import torch\nclass Sums:\n    pass\n")
