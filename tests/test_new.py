"""`nanochat new`: whatever is answered, the recipe that is written loads, plans, and takes about what was asked for."""

import itertools
import os
import pty
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from nanochat.cli.new import Given, _hardware, command
from nanochat.cli.new_questions import Interview, at_hand, talks_at_hand
from nanochat.errors import InputError
from nanochat.estimating.budget import Budget, Taken, fill, parse_budget
from nanochat.estimating.device import Device, named_device
from nanochat.estimating.estimate import estimate
from nanochat.estimating.new_plan import NewPlan
from nanochat.estimating.new_recipe import NewRecipe, recipe_text
from nanochat.hardware import Machine
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.plan import make_plan
from nanochat.running.store import Store

LAPTOP = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=24 * 2**30, name="laptop")
TALK = '[{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]\n'
NODE = attrs.evolve(LAPTOP, cuda_devices=8, cpu_cores=64)
CPU = Device(name="cpu", kind="cpu", memory_bytes=LAPTOP.memory_bytes, flops={"float32": 1.9e11}, source="a test")
ON_CPU = (LAPTOP, CPU, ["25s", "10min", "8h", "1e13flops", "3e15flops", "1e6tokens", "2e8tokens"])
ON_GPUS = (NODE, named_device("h100"), ["10min", "4h", "3d", "1e18flops", "1e21flops", "2e9tokens"])

ANSWERS = [
    (machine, device, budget, goal, data)
    for machine, device, budgets in (ON_CPU, ON_GPUS)
    for (budget, (goal, data)) in zip(
        budgets,
        itertools.cycle([("pretrain", "pydocs"), ("chat", "climbmix"), ("chat", "pydocs"), ("pretrain", "climbmix")]),
    )
]


def planned(machine: Machine, device: Device, folder: Path, *, goal: str, data: str) -> NewPlan:
    new = NewRecipe(
        goal=goal,  # type: ignore[arg-type]
        device=device.kind,
        processes=max(1, machine.cuda_devices),
        depth=1,
        steps=None,
        data=data,
    )
    return NewPlan(new=new, folder=folder, machine=machine, here=device)


@pytest.mark.parametrize(("machine", "device", "budget", "goal", "data"), ANSWERS)
def test_what_is_written_loads_plans_and_keeps_to_its_budget(
    machine: Machine, device: Device, budget: str, goal: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    asked = parse_budget(budget)
    new, _ = planned(machine, device, tmp_path, goal=goal, data=data).filled(asked, None)
    (tmp_path / "recipe.toml").write_text(recipe_text(new), encoding="utf-8")

    recipe = load_recipe(tmp_path / "recipe.toml", machine=machine)
    found = estimate(recipe, machine, here=device)

    assert [stage.action for stage in make_plan(recipe, machine, Store(), registry=load_registry()).stages] == [
        "run"
    ] * len(recipe.stages)
    base = next(stage.training for stage in found.stages if stage.name == "base")
    assert base is not None
    assert base.tokens is not None
    assert base.fitting_batch_size >= base.device_batch_size  # type: ignore[operator]
    takes = {
        "time": found.durations[0].seconds,
        "FLOPs": sum(stage.flops or 0.0 for stage in found.stages),
        "tokens": base.tokens,
    }[asked.kind]
    assert takes == pytest.approx(asked.amount, rel=0.25)
    sft = next((stage.training for stage in found.stages if stage.name == "sft"), None)
    assert sft is None or sft.steps == 1 or sft.tokens <= 32_000_000  # type: ignore[operator]
    assert all(need.shards_needed <= need.shards for need in base.data if need.shards)  # type: ignore[operator]


def test_the_model_is_the_largest_whose_usual_steps_the_budget_allows() -> None:
    def measure(depth: int, steps: int | None) -> Taken:
        """12 tokens for each of 1000·depth³ parameters, 100 tokens a step."""
        steps = steps or 12 * 1000 * depth**3 // 100
        return Taken(steps=steps, amount=100 * steps, fits=True)

    assert fill(Budget(kind="tokens", amount=12 * 1000 * 6**3), measure) == (6, 120 * 6**3)
    # 7 would be too much; 6 uses the rest up by more steps, and a depth that was asked for by fewer.
    assert fill(Budget(kind="tokens", amount=12 * 1000 * 300), measure) == (6, 120 * 300)
    assert fill(Budget(kind="tokens", amount=12 * 1000 * 300), measure, depth=12) == (12, 120 * 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30min", Budget(kind="time", amount=1800)),
        ("1.5 h", Budget(kind="time", amount=5400)),
        ("1e18flops", Budget(kind="FLOPs", amount=1e18)),
        ("2e9 tokens", Budget(kind="tokens", amount=2e9)),
    ],
)
def test_a_budget_is_a_number_with_what_it_counts(text: str, expected: Budget) -> None:
    assert parse_budget(text) == expected


@pytest.mark.parametrize(
    "text", ["2e9", "0h", "-1h", "soon", "", "1e999h", "8 parsecs", "nanh", "1e308d", "1e25tokens", "1e29flops"]
)
def test_anything_else_is_refused_with_what_could_be_written(text: str) -> None:
    with pytest.raises(InputError, match="30min"):
        parse_budget(text)


def written(*arguments: str, folder: Path, answers: str = "") -> Result:
    return CliRunner().invoke(command, [str(folder / "recipe.toml"), *arguments], input=answers, catch_exceptions=True)


def test_without_a_terminal_nothing_is_asked_and_defaults_stand_for_what_is_not_given(tmp_path: Path) -> None:
    result = written("--depth", "4", folder=tmp_path)
    recipe = load_recipe(tmp_path / "recipe.toml")

    assert result.exit_code == 0, result.output
    assert "?" not in result.output
    (said,) = result.stderr.splitlines()
    assert said.startswith("nobody to ask: took --for chat --gpu here --data pydocs --conversations tasks; ")
    assert list(recipe.stages) == ["tok", "base", "sft", "eval"]
    assert recipe.stages["base"].config.model.config.depth == 4
    assert recipe.stages["base"].config.tokens_per_param == 2.0
    assert recipe_first_line(tmp_path).startswith("# A chat model")


def test_a_schema_beside_the_file_is_named_in_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    written("--depth", "1", "--for", "pretrain", folder=tmp_path)

    assert recipe_first_line(tmp_path) == "#:schema schema.json"


def recipe_first_line(folder: Path) -> str:
    return (folder / "recipe.toml").read_text(encoding="utf-8").splitlines()[0]


def test_ones_own_files_are_named_as_seen_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / 'a "b".txt').write_text("Once upon a time.\n\n" * 50)
    talk = tmp_path / "talk.jsonl"
    talk.write_text(TALK)
    monkeypatch.chdir(tmp_path)
    result = written("--depth", "2", "--data", 'texts/a "b".txt', "--conversations", "talk.jsonl", folder=tmp_path)
    text = (tmp_path / "recipe.toml").read_text(encoding="utf-8")

    assert result.exit_code == 0, result.output
    assert 'path = "texts/a \\"b\\".txt"' in text
    assert 'path = "talk.jsonl"' in text
    load_recipe(tmp_path / "recipe.toml")


def test_of_a_source_that_has_less_text_than_is_read_all_shards_are_named(tmp_path: Path) -> None:
    plan = planned(NODE, named_device("h100"), tmp_path, goal="pretrain", data="climbmix")
    new, _ = plan.filled(parse_budget("1e13tokens"), 1)

    assert new.shards == 6542


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("mine")
    result = written("--yes", folder=tmp_path)

    assert isinstance(result.exception, InputError)
    assert "is never overwritten" in str(result.exception)
    assert (tmp_path / "recipe.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "1s"], "1 s is not enough: 20 steps of a model of depth 1 take about"),
        (["--budget", "10min", "--depth", "32", "--gpu", "a10"], "does not fit the device's memory"),
        (["--budget", "1e3tokens", "--depth", "4"], "1 k tokens is not enough: 20 steps"),
        (["--data", "nowhere/*.txt", "--depth", "1"], "nothing is at 'nowhere/*.txt'"),
        (["--data", ""], "nothing is at ''"),
        (["--gpus", "8"], "this machine has no GPU"),
        (["--for", "pretrain", "--conversations", "talk.jsonl"], "learns from no conversations"),
        (["--conversations", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--conversations", __file__], "no conversation: Expecting value"),
        (["--gpu", "abacus"], "there are no figures for a GPU called 'abacus'"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_leaves_no_file(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = written(*arguments, folder=tmp_path)

    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_recipe_of_twenty_seconds_really_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    new, _ = planned(LAPTOP, CPU, tmp_path, goal="pretrain", data="pydocs").filled(parse_budget("20s"), None)
    (tmp_path / "recipe.toml").write_text(recipe_text(new), encoding="utf-8")
    run = [sys.executable, "-m", "nanochat.cli.main", "run", str(tmp_path / "recipe.toml")]

    said = subprocess.run(run, capture_output=True, text=True, check=True)

    assert "bpb.bpb" in said.stdout + said.stderr
    assert load_recipe(tmp_path / "recipe.toml").stages["base"].config.steps >= 20


def test_the_text_and_the_conversations_at_hand_are_named(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "notes.md", "texts/one.parquet", "code/x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "talk.jsonl").write_text(TALK)
    assert at_hand(tmp_path) == ["texts/", "a.jsonl", "b.txt", "talk.jsonl"]
    assert talks_at_hand(tmp_path, load_registry()) == ["talk.jsonl"]


def on_a_terminal(folder: Path, *arguments: str, answers: str) -> str:
    """What `nanochat new` shows a person who types these lines."""
    ours, theirs = pty.openpty()
    run = [sys.executable, "-c", "from nanochat.cli.main import main; main()", "new", *arguments]
    with subprocess.Popen(run, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder) as process:
        os.close(theirs)
        os.write(ours, answers.encode())
        shown, _ = process.communicate(timeout=120)
        os.close(ours)
    return shown.decode()


def test_on_a_terminal_each_question_says_what_answers_mean_and_which_option_it_is(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text(TALK)
    (tmp_path / "bad.jsonl").write_text("Once upon a time.\n")
    answers = ["dog", "chat", "h100", "4", "2", "bad.jsonl", "climbmix", "bad.jsonl", "talk.jsonl"]
    shown = on_a_terminal(tmp_path, answers="".join(f"{answer}\n" for answer in answers))
    recipe = load_recipe(tmp_path / "recipe.toml")

    for option in ("--for", "--gpu", "--gpus", "--budget", "--depth", "--data", "--conversations"):
        assert f"(or {option})" in shown, shown
    assert "'dog' is neither chat nor pretrain" in shown
    assert f"{tmp_path / 'bad.jsonl'}".rpartition("/")[2] + ":1:1" in shown
    assert "bad.jsonl:1 cannot be read: no JSON" in shown
    assert "here: talk.jsonl" in shown
    assert recipe.stages["base"].hardware.nproc_per_node == 4
    assert recipe.stages["base"].config.model.config.depth == 2
    assert recipe.stages["base"].config.data["web"].use == "climbmix"
    assert recipe.stages["sft"].config.data["conversations"].config.path == tmp_path / "talk.jsonl"


@pytest.mark.parametrize(
    ("machine", "gpu", "gpus", "count", "name", "taken"),
    [
        (LAPTOP, None, None, 0, None, ["--gpu here"]),
        (NODE, None, None, 8, None, ["--gpu here", "--gpus 8"]),
        (NODE, None, 2, 2, None, []),
        (NODE, "here", None, 8, None, ["--gpus 8"]),
        (LAPTOP, "h100", None, 1, "h100", ["--gpus 1"]),
        (LAPTOP, "a10", 4, 4, "a10", []),
    ],
)
def test_hardware_is_what_is_here_unless_it_is_named_or_counted(
    machine: Machine, gpu: str | None, gpus: int | None, count: int, name: str | None, taken: list[str]
) -> None:
    given = Given(goal=None, gpu=gpu, gpus=gpus, budget=None, depth=None, data=None, conversations=None)
    interview = Interview(asking=False)
    found, named = _hardware(given, interview, machine)

    assert found.cuda_devices == count
    assert (named.name if named else None) == name
    assert interview.taken == taken


def test_what_an_option_says_is_not_asked(tmp_path: Path) -> None:
    options = ["--for", "pretrain", "--gpu", "here", "--budget", "1e7tokens", "--data", "pydocs"]
    shown = on_a_terminal(tmp_path, *options, answers="")

    assert "answer" not in shown
    assert list(load_recipe(tmp_path / "recipe.toml").stages) == ["tok", "base"]
