"""Runs over time: listing them, showing one, moving the home, removing what nobody needs.

The stages are those of tests/loose/counting.py, run by real processes.
"""

import shutil
from pathlib import Path

import pytest
from test_running import House, enter

from nanochat.running.find import find_checkpoint, find_run
from nanochat.running.report import finished_stages


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        code, output = enter(folder, patch).run()
    assert code == 0, output
    return folder


@pytest.fixture
def made(made_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A copy of a home in which the recipe was run to its end."""
    shutil.copytree(made_folder, tmp_path, dirs_exist_ok=True)
    return enter(tmp_path, monkeypatch)


# A home that moves


def test_a_copied_home_is_read_from_itself_and_not_from_the_one_it_was_copied_from(made: House) -> None:
    run = find_run("counting")
    assert {stage.folder.path.parent for stage in run.stages} == {made.store}


def test_a_moved_home_keeps_its_runs_and_their_results(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = made.folder / "elsewhere"
    (made.folder / "home").rename(elsewhere)
    monkeypatch.setenv("NANOCHAT_HOME", str(elsewhere))
    assert [stage.name for stage in finished_stages(find_run("counting"))] == ["one", "two", "grade"]
    assert find_checkpoint("counting/one").is_relative_to(elsewhere / "store")
    assert made.actions() == {"one": "reuse", "two": "reuse", "grade": "reuse"}


def test_a_run_of_another_home_is_read_with_the_results_beside_it(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_run("counting").path
    monkeypatch.setenv("NANOCHAT_HOME", str(made.folder / "empty"))
    assert len(finished_stages(find_run(str(run)))) == 3
