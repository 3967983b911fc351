"""Running recipes: the plan, the runner with real worker processes, reports, and finding what was made.

The stages come from tests/loose/counting.py, a plugin in a loose file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from patience import PATIENCE

from nanochat.errors import InputError
from nanochat.hardware import Machine
from nanochat.markdown import table
from nanochat.quantity import duration
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.find import find_checkpoint, find_run
from nanochat.running.lease import is_held
from nanochat.running.plan import Plan, make_plan
from nanochat.running.progress import Pace
from nanochat.running.store import Store

LOOSE = Path(__file__).parent / "loose"
COMMAND = [sys.executable, "-c", "from nanochat.cli.main import main; main()"]
MACHINE = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**32, name="test")

RECIPE = """
format = 1
name = "counting"

[hardware]
launcher = "local"
device = "cpu"

[stages.one]
use = "count"
steps = 4

[stages.two]
use = "count"
init = "stage:one"
steps = 5

[stages.grade]
use = "evaluate_count"
of = "stage:two"
"""
STEPS = RECIPE.replace("steps = 5", "steps = 5\ncheckpoint_every = 1")
"""The same results, with a checkpoint of each of the five steps of `two`."""


@attrs.frozen
class House:
    """A home folder, a recipe in it, and the commands run there."""

    folder: Path
    plugins: Path = LOOSE

    @property
    def recipe(self) -> Path:
        return self.folder / "counting.toml"

    @property
    def store(self) -> Path:
        return self.folder / "home" / "store"

    def write(self, text: str) -> None:
        self.recipe.write_text(text)

    def start(self, *arguments: str, home: str | None = None) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "NANOCHAT_HOME": home or str(self.folder / "home"),
            "NANOCHAT_PLUGINS_DIR": str(self.plugins),
        }
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def call(self, *arguments: str, home: str | None = None) -> tuple[int, str]:
        """Exit code and output of a nanochat command."""
        process = self.start(*arguments, home=home)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def run(self, *options: str) -> tuple[int, str]:
        return self.call("run", str(self.recipe), *options)

    def plan(self, *overrides: str, fresh: Sequence[str] = (), machine: Machine = MACHINE) -> Plan:
        registry = load_registry()
        recipe = load_recipe(self.recipe, overrides=overrides, registry=registry, machine=machine)
        return make_plan(recipe, machine, Store(), registry, fresh=fresh)

    def actions(self, *overrides: str, fresh: Sequence[str] = ()) -> dict[str, str]:
        return {stage.name: stage.action for stage in self.plan(*overrides, fresh=fresh).stages}

    def stage(self, name: str) -> Path:
        (found,) = self.store.glob(f"{name}-*")
        return found


def enter(folder: Path, patch: pytest.MonkeyPatch) -> House:
    patch.setenv("NANOCHAT_HOME", str(folder / "home"))
    patch.setenv("NANOCHAT_PLUGINS_DIR", str(LOOSE))
    for name in ("NANOCHAT_RUN_DIR", "NANOCHAT_DATA_DIR"):
        patch.delenv(name, raising=False)
    house = House(folder)
    house.write(RECIPE)
    return house


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A fresh home."""
    return enter(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the recipe was run to its end, by real processes; each test of it leaves it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        code, output = enter(folder, patch).run()
    assert code == 0, output
    (folder / "output").write_text(output)
    return folder


@pytest.fixture
def finished(finished_folder: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """The house of `finished_folder`."""
    return enter(finished_folder, monkeypatch)


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def wait_for_step(house: House, stage: str, process: subprocess.Popen[str]) -> None:
    """Until the stage has done a step (or the process has ended, which the assertions then explain)."""
    wait_for(lambda: any(house.store.glob(f"{stage}-*/metrics.jsonl")) or process.poll() is not None)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


# The plan


def test_a_recipe_that_never_ran_has_everything_to_do(house: House) -> None:
    assert house.actions() == {"one": "run", "two": "run", "grade": "run"}
    assert [stage.why for stage in house.plan().stages] == ["no result yet"] * 3


def test_finished_stages_are_reused_whatever_their_execution_fields_say(finished: House) -> None:
    reused = {"one": "reuse", "two": "reuse", "grade": "reuse"}
    assert finished.actions() == reused
    assert finished.actions("stages.two.pause=0.5", "hardware.launcher=torchrun") == reused


def test_a_changed_field_redoes_its_stage_and_what_follows_and_the_plan_says_which_and_where(finished: House) -> None:
    plan = finished.plan("stages.two.steps=6")
    assert [stage.action for stage in plan.stages] == ["reuse", "run", "run"]
    two, grade = plan.stages[1:]
    assert [(change.field, change.old, change.new) for change in two.changes] == [("steps", "5", "6")]
    assert "--set" in two.changes[0].origin or two.changes[0].origin == "set"
    assert two.why.startswith("steps 5 → 6 (")
    assert "of changed (stage:two)" in grade.why


def test_a_field_put_back_to_its_default_is_shown_as_such(finished: House) -> None:
    changes = finished.plan("stages.one.steps=3").stages[0].changes
    assert [(change.field, change.old, change.new) for change in changes] == [("steps", "4", "the default 3")]


def test_a_stage_with_a_checkpoint_and_no_record_is_resumed(house: House) -> None:
    folder = house.plan().stages[0].folder
    folder.open({"stage": "one"})
    (folder.path / "checkpoints" / "step_000002").mkdir(parents=True)
    one = house.plan().stages[0]
    assert one.action == "resume"
    assert "step 2" in one.why


def test_hardware_that_is_not_here_blocks_a_stage_and_what_needs_it_but_not_a_result_that_is_there(
    finished: House,
) -> None:
    finished.write(RECIPE.replace("steps = 5", 'steps = 6\n[stages.two.hardware]\ndevice = "cuda"\ndtype = "float32"'))
    plan = finished.plan()
    assert [stage.action for stage in plan.stages] == ["reuse", "blocked", "blocked"]
    assert "CUDA" in plan.stages[1].why
    assert plan.stages[2].why == "needs two, which is blocked"


def test_a_fresh_stage_is_redone_with_what_follows_it(finished: House) -> None:
    assert finished.actions(fresh=["two"]) == {"one": "reuse", "two": "run", "grade": "run"}


def test_one_recipe_has_one_run_folder_and_a_changed_one_another(house: House) -> None:
    folder = house.plan().run_folder
    assert folder == house.plan("stages.one.pause=1").run_folder
    assert folder != house.plan("stages.one.steps=9").run_folder
    assert folder.name.startswith("counting-")


def test_planning_and_finding_nothing_to_do_import_no_torch(finished: House) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from nanochat.running.request import Request; from nanochat.running.runner import run_recipe\n"
        "from nanochat.cli import plan, report, runs\n"
        "assert run_recipe(Request(recipe=Path(sys.argv[1]))) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(finished.recipe)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_plan_is_printed_as_lines_and_as_json(finished: House) -> None:
    code, output = finished.call("plan", str(finished.recipe), "--set", "stages.grade.hardware.device=cuda", "--json")
    assert code == 0, output
    described = json.loads(output)
    assert [stage["stage"] for stage in described["stages"]] == ["one", "two", "grade"]
    code, output = finished.call("plan", str(finished.recipe))
    assert code == 0, output
    title, _, first, *_ = output.splitlines()
    assert title == "counting: 0 of 3 stages to do"
    assert first.split()[:2] == ["one", "reuse"]


# The runner


def test_a_run_goes_through_all_stages_and_each_takes_what_the_one_before_made(finished: House) -> None:
    one, two, grade = (record_of(finished.stage(name)) for name in ("one", "two", "grade"))
    assert one["figures"]["count.count"] == {"value": 4.0, "n": 1, "standard_error": None}
    assert two["figures"]["count.count"]["value"] == 9.0
    assert grade["figures"] == {"counting.accuracy": {"value": 1.0, "n": 200, "standard_error": 0.01}}
    assert two["artifact"] == "checkpoints/step_000005"
    assert (two["tag"], "tag" in grade) == ("counted", False)
    assert (two["use"], two["produces"], two["device"], two["world_size"]) == ("count", "checkpoint", "cpu", 1)
    steps = [json.loads(line)["step"] for line in (finished.stage("two") / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5]


def test_the_end_shows_the_accuracy_and_how_to_chat(finished: House) -> None:
    output = (finished.folder / "output").read_text()
    assert "| counting | 100.0% | 200 | ± 1.0%" in output
    assert 'nanochat chat -p "' in output


def test_an_observer_that_fails_is_named_and_changes_nothing(finished: House) -> None:
    output = (finished.folder / "output").read_text()
    assert "before_stage of plugin `counting` failed and is passed over: ValueError" in output
    assert (
        "WARNING counting: ValueError: an observer that fails at one 1"
        in (finished.stage("one") / "logs" / "worker.log").read_text()
    )


def test_a_run_folder_tells_where_a_result_came_from(finished: House) -> None:
    run = find_run("counting")
    names = {path.name for path in run.path.iterdir()}
    assert {"sources", "recipe.lock.toml", "plan.json", "env.json", "events.jsonl", "report.md", "report.html"} <= names
    assert (run.path / "sources" / "counting.toml").read_text() == RECIPE
    assert {"source_trees", "packages", "python", "machine", "argv", "user", "host", "time"} <= set(run.environment)
    assert "torch" in run.environment["packages"]
    events = [json.loads(line)["event"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [e for e in events if e not in ("observer_failed", "note")] == [
        "run_started",
        *["stage_started", "stage_done"] * 3,
        "run_finished",
    ]


def test_the_lock_of_a_run_plans_to_the_same_keys(finished: House) -> None:
    lock = load_recipe(find_run("counting").path / "recipe.lock.toml", machine=MACHINE)
    again = make_plan(lock, MACHINE, Store(), load_registry())
    assert [stage.key for stage in again.stages] == [stage.key for stage in finished.plan().stages]


def test_a_second_run_does_nothing_and_says_so(finished: House) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    code, output = finished.run()
    assert code == 0
    assert "nothing to do" in output
    assert "report.md" in output
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_runs_are_listed_and_the_report_is_written_again(finished: House) -> None:
    code, output = finished.call("runs", "--json")
    (run,) = json.loads(output)
    assert (code, run["state"], [stage["stage"] for stage in run["stages"]]) == (0, "finished", ["one", "two", "grade"])
    report = find_run("counting").report
    wanted = report.read_text()
    report.write_text("")
    code, output = finished.call("report", "counting")
    assert (code, output) == (0, f"{wanted}\nwith plots: {find_run('counting').page}\n")
    assert report.read_text() == wanted
    assert "1.000 → 0.250" in wanted


def test_a_dry_run_shows_the_command_lines_and_starts_nothing(house: House) -> None:
    code, output = house.run("--dry-run", "--set", "hardware.launcher=torchrun")
    assert code == 0, output
    assert output.count("torch.distributed.run --standalone --nproc-per-node 1") == 3
    assert "OMP_WAIT_POLICY=passive" in output
    assert not (house.folder / "home").exists()


def test_a_dry_run_shows_what_other_machines_start(house: House) -> None:
    nodes = ["hardware.nodes=2", "hardware.rendezvous='node0:29500'", "hardware.network_interface='nowhere0'"]
    sets = [word for key in nodes for word in ("--set", key)]
    code, output = house.run("--dry-run", "--set", "hardware.launcher=torchrun", *sets)
    assert code == 0, output
    assert output.count("--rdzv-endpoint node0:29500") == 6 and output.count("is_host=true") == 3
    assert output.count("--local-addr ADDRESS_OF_nowhere0") == 6
    eight = ["hardware.device=cuda", "hardware.nproc_per_node=8", "hardware.launcher=torchrun"]
    code, output = house.run("--dry-run", *(word for key in eight for word in ("--set", key)))
    assert code == 0, output
    assert "blocked (asks for 8 CUDA devices" in output and output.count("--nproc-per-node 8") == 3


def test_a_dry_run_shows_where_a_stage_goes_on(house: House) -> None:
    folder = house.plan().stages[0].folder
    folder.open({"stage": "one"})
    (folder.path / "checkpoints" / "step_000002").mkdir(parents=True)
    code, output = house.run("--dry-run")
    assert code == 0, output
    assert "one: resume (stopped; its newest checkpoint is of step 2)\n    " in output


def test_until_stops_after_a_stage_and_from_needs_the_ones_before(house: House) -> None:
    code, output = house.run("--from", "two")
    assert (code, "E407" in output, "one comes before it and is not finished" in output) == (2, True, True)
    code, output = house.run("--until", "one")
    assert code == 0, output
    assert house.actions() == {"one": "reuse", "two": "run", "grade": "run"}
    code, output = house.run("--until", "three")
    assert (code, "its stages are one, two, grade" in output) == (2, True)


def test_a_blocked_stage_stops_a_run_before_any_stage(house: House) -> None:
    hardware = 'launcher = "torchrun"\ndevice = "cuda"\ndtype = "float32"\nnproc_per_node = 64\n'
    house.write(RECIPE + f"[stages.grade.hardware]\n{hardware}")
    code, output = house.run()
    assert code == 2
    assert "error[E404]: stage `grade` is blocked: asks for 64 CUDA devices" in output
    assert not house.store.exists()


def test_settings_that_a_launcher_refuses_stop_the_plan_at_their_place(house: House) -> None:
    house.write(RECIPE + "[stages.grade.hardware]\nnproc_per_node = 64\n")
    code, output = house.call("plan", str(house.recipe))
    assert code == 2
    assert 'error[E115]: launcher "local" starts one process; the hardware table asks for 64' in output
    assert 'launcher = "local"\n' in output and "counting.toml:6:" in output
    house.write(RECIPE.replace("[hardware]", "[hardware]\nnodes = 3"))
    code, output = house.call("plan", str(house.recipe), "--set", "hardware.launcher=torchrun")
    assert (code, "E115" in output, "3 nodes have no place to meet" in output) == (2, True, True)


def test_what_a_plugin_finds_in_a_recipe_stops_the_run(house: House) -> None:
    house.write(RECIPE.replace('"counting"', '"unlucky"'))
    code, output = house.run()
    assert (code, "E115" in output, "thirteen stages bring bad luck" in output) == (2, True, True)


def test_a_home_that_is_a_file_is_refused_before_any_work(house: House) -> None:
    (house.folder / "file").write_text("")
    code, output = house.call("run", str(house.recipe), home=str(house.folder / "file"))
    assert (code, "error[E401]: cannot write in " in output, "Traceback" in output) == (2, True, False)


@pytest.mark.parametrize(
    "trouble, exit_code, said",
    [
        ("input", 2, "error[E302]: the corpus is empty\n  = help: give it a document"),
        ("bug", 1, "error[E403]: stage `one` failed: ZeroDivisionError: a bug"),
        ("killed", 1, "its process was killed by SIGKILL"),
        ("last rank killed", 1, "its rank 1 was killed by SIGKILL"),
    ],
)
def test_a_failing_stage_shows_its_diagnostic_and_leaves_no_record(
    house: House, trouble: str, exit_code: int, said: str
) -> None:
    if trouble == "last rank killed":
        house.write(RECIPE.replace('"local"', '"torchrun"\nnproc_per_node = 2'))
    code, output = house.run("--set", f'stages.one.trouble="{trouble}"', "--set", "hardware.restarts=0")
    assert code == exit_code, output
    assert said in output
    assert f"the log: {house.stage('one') / 'logs' / 'worker.log'}" in output
    assert "Traceback" not in output.partition("\n  | ")[0]
    assert "gloo" not in output, "what the others said of it"
    assert not (house.stage("one") / "record.json").exists()
    assert not any(house.store.glob("two-*"))
    report = find_run("counting").report.read_text()
    assert "Stage one (count) failed" in report and f"- the log: {house.stage('one') / 'logs' / 'worker.log'}" in report
    assert said.split("]: ")[-1].partition("\n")[0] in report


def test_sigusr1_saves_and_goes_on_and_sigterm_saves_and_exits_75_and_the_same_command_goes_on(house: House) -> None:
    options = ["--until", "one", "--set", "stages.one.steps=200", "--set", "stages.one.pause=0.05"]
    process = house.start("run", str(house.recipe), *options)
    wait_for_step(house, "one", process)
    process.send_signal(signal.SIGUSR1)  # to the runner: it reaches the ranks
    wait_for(lambda: any(house.store.glob("one-*/checkpoints/step_*")) or process.poll() is not None)
    (saved,) = house.stage("one").glob("checkpoints/step_*")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, output
    assert "of 200; the same command goes on" in output
    reached = int(output.split("at step ")[1].split()[0])
    assert int(saved.name.removeprefix("step_")) < reached
    assert house.actions(*options[3::2])["one"] == "resume"

    code, output = house.run(*options[:-1], "stages.one.pause=0")
    assert code == 0, output
    assert f"one: goes on from step {reached}" in output
    lines = (house.stage("one") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 201))
    assert record_of(house.stage("one"))["figures"]["count.count"]["value"] == 200.0


def test_two_ranks_save_once_when_asked_and_stop_in_order_and_a_second_runner_is_told_who_runs_the_stage(
    house: House,
) -> None:
    house.write(RECIPE.replace('"local"', '"torchrun"\nnproc_per_node = 2'))
    options = ["--until", "one", "--set", "stages.one.steps=2000", "--set", "stages.one.pause=0.05"]
    process = house.start("run", str(house.recipe), *options)
    wait_for_step(house, "one", process)

    # Another recipe, another run folder, the same stage.
    code, output = house.run(*options, "--set", "stages.two.steps=17")
    assert code == 2
    assert f"error[E402]: stage `one` is being run by process {process.pid} on " in output

    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: any(house.stage("one").glob("checkpoints/step_*")) or process.poll() is not None)
    reached = len((house.stage("one") / "metrics.jsonl").read_text().splitlines())
    wait_for(lambda: len((house.stage("one") / "metrics.jsonl").read_text().splitlines()) > reached + 5)

    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, output
    assert len(list(house.stage("one").glob("checkpoints/step_*"))) == 2, "the one that was asked for, and the last"
    assert "stopped one at step" in output
    assert "Traceback" not in output
    assert not is_held(house.stage("one"))


def test_kill_9_of_the_runner_takes_all_ranks_down_and_frees_the_lease(house: House) -> None:
    house.write(RECIPE.replace('"local"', '"torchrun"\nnproc_per_node = 2'))
    process = house.start("run", str(house.recipe), "--set", "stages.one.steps=9999", "--set", "stages.one.pause=0.05")
    wait_for_step(house, "one", process)
    family = workers(process)
    assert len(family) >= 3, family
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert alive == []
    assert not is_held(house.stage("one"))
    assert not is_held(find_run("counting").path)


def test_a_second_signal_stops_a_stage_at_once(house: House) -> None:
    process = house.start("run", str(house.recipe), "--set", "stages.one.pause=600")
    wait_for(lambda: any(house.store.glob("one-*/logs/worker.log")) or process.poll() is not None)
    wait_for(lambda: len(workers(process)) >= 1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, output
    assert "stopped one at once" in output


# Finding


def test_a_checkpoint_is_found_by_nothing_run_stage_folder_and_step(finished: House) -> None:
    two, one = (finished.stage(name) / "checkpoints" for name in ("two", "one"))
    run = find_run("counting").path.name
    for argument in (None, "counting", run, f"{run}/two", "counting/two", finished.stage("two").name):
        assert find_checkpoint(argument) == two / "step_000005"
    assert find_checkpoint("counting/one") == one / "step_000004"
    assert find_checkpoint(f"{finished.stage('one').name}@4") == one / "step_000004"
    assert find_checkpoint(str(finished.stage("one"))) == one / "step_000004"
    assert find_checkpoint(str(one / "step_000004")) == one / "step_000004"
    assert find_checkpoint(record_of(finished.stage("one"))["key"][:8]) == one / "step_000004"
    assert find_checkpoint("counting@4") == one / "step_000004"


@pytest.mark.parametrize(
    "argument, said",
    [
        ("nothing-like-it", "there is no run, stage, tag or checkpoint `nothing-like-it`"),
        ("countin", "did you mean `counting`"),
        ("counting/tow", "did you mean `two`"),
        ("counting/xyz", "its stages are one, two, grade"),
        ("counting/three", "has no stage `three`"),
        ("counting/grade", "has no finished model"),
        ("counting/one@7", "`counting/one` has no checkpoint of step 7\n  = help: steps in checkpoints/: one-"),
        ("counting/one@last", "is no step"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_an_error_that_says_what_there_is(
    finished: House, argument: str, said: str
) -> None:
    with pytest.raises(InputError, match="E405") as missing:
        find_checkpoint(argument)
    assert said in str(missing.value)


def test_without_any_run_the_error_says_how_to_make_one(house: House) -> None:
    with pytest.raises(InputError, match=r"E405(?s:.)*nanochat-run recipes/quickstart.toml"):
        find_checkpoint(None)


# What is shown


def test_pace_forgets_a_pause_and_starts_anew_with_another_count() -> None:
    pace = Pace()
    for second in range(5):
        report = {"time": float(second), "done": second, "total": 100, "unit": "steps"}
        pace.add({**report, "figures": {"tokens": 10.0 * second}})
    assert pace.tokens_per_second == 10.0
    assert pace.seconds_left({"done": 4, "total": 100}) == 96.0
    pace.add({"time": 5.0, "done": 0, "total": 7, "unit": "steps", "figures": {}})
    assert pace.seconds_left({"done": 0, "total": 7}) is None


def test_characters_that_were_read_say_nothing_of_the_pace_of_merges() -> None:
    pace = Pace()
    for second in (0, 1):
        pace.add({"time": float(second), "done": 10 * second, "total": 10, "unit": "characters", "figures": {}})
    pace.add({"time": 2.0, "done": 256, "total": 2_560, "unit": "merges", "figures": {}})
    assert pace.seconds_left({"done": 256, "total": 2_560}) is None
    pace.add({"time": 4.0, "done": 512, "total": 2_560, "unit": "merges", "figures": {}})
    assert pace.seconds_left({"done": 512, "total": 2_560}) == 16.0


@pytest.mark.parametrize(
    "seconds, text",
    [
        (3.4, "3 s"),
        (59.7, "1 min"),
        (65, "1 min 05 s"),
        (3599.6, "1 h"),
        (7380, "2 h 03 min"),
        (352_800, "4 d 02 h"),
        (7.5 * 365.25 * 86_400, "7.5 years"),
    ],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_table_is_aligned_and_a_bar_in_a_cell_does_not_split_it() -> None:
    assert table(["a", "long title"], [["x|y", "1"]]) == "\n".join(
        ["| a    | long title |", "| ---- | ---------- |", "| x\\|y | 1          |"]
    )
