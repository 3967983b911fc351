"""What tests and benchmarks share: fifty plugins beside those that are installed."""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugin_site import install_many

if TYPE_CHECKING:
    from test_running import House

# Container images set it, and each process that a test starts would compile its modules anew: for torch's, 4 to 11 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before torch is imported: threads that wait for each other's cores stand still
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # a shell's job in the background, and all that it starts, have it so
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "quickstart", "running", "sweep", "supervision", "go_back", "record", "recipes", "resume_proof", "thirdparty",
    "recipe_fuzz", "loop", "code", "slurm", "shards", "several_nodes", "scaffold", "public_layout", "chat_cli", "runs",
    "hub_training", "reinforce", "plugins_readme", "estimate_memory", "saves_of_ranks", "checkpoint_crash", "sandbox",
)  # fmt: skip
"""The files that take longest, of which none should be begun when the other cores have nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take longest come first."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fifty distributions, for PYTHONPATH."""
    site = tmp_path_factory.mktemp("fifty")
    install_many(site)
    return site


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the recipe of test_running was run to its end, by real processes, once for all tests."""
    from test_running import STEPS, enter  # imports the running room, which most tests do without

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        house = enter(folder, patch)
        house.write(STEPS)
        code, output = house.run()
    assert code == 0, output
    return folder


@pytest.fixture
def made(made_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "House":
    """A copy of `made_folder`, to be spoilt: stage `two` has a checkpoint of each of its five steps."""
    from test_running import enter

    shutil.copytree(made_folder, tmp_path, dirs_exist_ok=True)
    return enter(tmp_path, monkeypatch)
