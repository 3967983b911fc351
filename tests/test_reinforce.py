"""The stage `reinforce` on a tiny model: it learns, goes on exactly, and shares its problems between processes."""

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from ranks import run_on_ranks
from safetensors.torch import load_file
from test_training import Recorder, group
from tiny_plugin import CPU

from nanochat.config import Artifact, Component
from nanochat.data.task import Conversation, Task
from nanochat.data.task_mixture import TaskShare
from nanochat.errors import InputError, StageError, Stopped
from nanochat.hooks import hookimpl
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.runtime import Runtime, local_runtime
from nanochat.stages import reinforce
from nanochat.stages.context import Record, StageContext
from nanochat.stages.reinforce_config import ReinforceConfig
from nanochat.stages.slots import EvalSlot, TaskSlot
from nanochat.testing.tiny import tiny_model, tiny_tokenizer
from nanochat.training import checkpoint, manifest
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.problems import Problems
from nanochat.training.schedule_config import ScheduleConfig
from nanochat.training.snapshot import Snapshot, json_text
from nanochat_plugins.evals.pass_at_k_config import PassAtKConfig

RL = Path(__file__).parents[1] / "recipes/rl.toml"
WORDS = [f"{a}{b}" for a in "abcdefgh" for b in "klmnop"]


class Words(Task):
    """Say something of small letters early in the alphabet: a reward that a model of noise can climb."""

    @property
    def eval_type(self) -> Any:
        return "generative"

    def num_examples(self) -> int:
        return len(WORDS)

    def get_example(self, index: int) -> Conversation:
        answer = {"role": "assistant", "content": "abc"}
        return {"messages": [{"role": "user", "content": f"Say {WORDS[index]}."}, answer]}

    def evaluate(self, conversation: Conversation, completion: str) -> float:
        return self.reward(conversation, completion)

    def reward(self, conversation: Conversation, completion: str) -> float:
        return sum("a" <= letter <= "m" for letter in completion) / max(1, len(completion))


class Unpaid:
    """A task of someone's own, which scores and pays nothing."""

    eval_type = "generative"

    def num_examples(self) -> int:
        return 3

    def get_example(self, index: int) -> Conversation:
        return Words().get_example(index)

    def evaluate(self, conversation: Conversation, completion: str) -> float:
        return 0.0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Conversation:
        return self.get_example(index)


class Plugin:
    """The tasks of this module, at the plugins' own door."""

    @hookimpl
    def register_tasks(self, registry: Any) -> None:
        registry.add("words", build=f"{__name__}:Words")
        registry.add("unpaid", build=f"{__name__}:Unpaid")
        registry.add("endless", build=f"{__name__}:Endless")


class Endless(Words):
    """Pays what is no number."""

    def reward(self, conversation: Conversation, completion: str) -> float:
        return float("nan")


@cache
def registry() -> Registry:
    found = load_registry()
    found.register(Plugin(), name="here", distribution="tests")
    return found


def initial(folder: Path) -> Path:
    """A checkpoint of the tiny model."""
    runtime, model = local_runtime(), tiny_model()
    described = checkpoint.describe(Component(kind="model", name="gpt", use="gpt", revision=1, config=model.config))
    meta = {
        "format": manifest.FORMAT, "stage": "sft", "tag": "tiny", "step": 1, "tokens": 1, "model": described,
        "tools": [{"use": "calculator", "config": {}}], "tokenizer": tiny_tokenizer().digest,
    }  # fmt: skip
    writer = CheckpointWriter(folder / "initial", 1, runtime, kept=1)
    tensors = {"model": model.state_dict()}
    writer.write(Snapshot(tensors=tensors, texts={"meta": json_text(meta)}, tokenizer=tiny_tokenizer()))
    return writer.commit()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initial(tmp_path_factory.mktemp("start"))


def task(use: str = "words") -> Component:
    config: Any = registry().config_class("task", use)()
    return Component(kind="task", name=use, use=use, revision=1, config=config, slot=TaskSlot())


def run(
    folder: Path,
    start: Path,
    recorder: Recorder,
    *,
    runtime: Runtime | None = None,
    stops: Iterator[bool] | None = None,
    use: str = "words",
    **changes: Any,
) -> Record:
    """Six steps on four problems each, four answers to each of them."""
    runtime = runtime or local_runtime()
    runtime.seed_everything()
    stops = stops or itertools.repeat(False)
    options: dict[str, Any] = {
        "init": Artifact(reference=f"path:{start}", kind="checkpoint", path=start),
        "data": {use: task(use)},
        "optim": {"all": group("all", "adamw", "*", lr=0.01)},
        "steps": 6, "problems_per_step": 4, "samples": 4, "max_tokens": 6, "held_out": 5, "lr_factor": 1.0,
        "rollout_rows": 7, "device_batch_size": 3, "log_every": 1, "tag": "tiny",
    }  # fmt: skip
    context = StageContext(
        stage="rl", folder=folder, runtime=runtime, registry=registry(), reporter=recorder,
        should_stop=lambda: runtime.any(next(stops)), stop_asked=lambda: next(stops),
    )  # fmt: skip
    return reinforce.run(ReinforceConfig(**(options | changes)), context)


def rollouts(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"rollouts-{rank}.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = manifest.checkpoints(folder / "checkpoints")[-1]
    return load_file(newest / "model.safetensors")


CLIMB: dict[str, Any] = {
    "steps": 16, "samples": 8, "rollout_rows": 32, "device_batch_size": 32,
    "optim": {"all": group("all", "adamw", "*", lr=0.03)},
}  # fmt: skip


def test_the_reward_rises(tmp_path: Path, start: Path) -> None:
    """From some answers of noise, a third of whose letters are right, to nearly all of them."""
    run(tmp_path, start, Recorder(), **CLIMB)
    paid = [line["reward"] for line in rollouts(tmp_path)]
    assert sum(paid[:64]) / 64 < 0.5
    assert sum(paid[-64:]) / 64 > 0.75


def test_the_log_shows_each_answer_with_its_reward_and_advantage(tmp_path: Path, start: Path) -> None:
    run(tmp_path, start, Recorder(), steps=2)
    found = rollouts(tmp_path)
    assert len(found) == 2 * 4 * 4
    for place in range(0, len(found), 4):
        group_ = found[place : place + 4]
        assert len({(line["step"], line["problem"], line["example"], line["question"]) for line in group_}) == 1
        mean = sum(line["reward"] for line in group_) / 4
        for line in group_:
            text = "".join(part["text"] for part in line["completion"] if part["type"] == "text")
            assert line["reward"] == Words().reward({}, text)
            assert line["advantage"] == pytest.approx(line["reward"] - mean)
            assert line["question"] == f"Say {WORDS[line['example']]}."
    assert [line["step"] for line in found] == [1] * 16 + [2] * 16


SWITCHES: dict[str, dict[str, Any]] = {
    "on-policy": {},
    "all switches": {"updates": 3, "clip": 0.2, "kl": 0.1, "baseline": "leave_one_out", "normalize": True},
}


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_stopped_in_rollouts_and_between_updates_and_killed_it_goes_on_bit_for_bit(
    tmp_path: Path, start: Path, switches: dict[str, Any]
) -> None:
    undisturbed, disturbed = Recorder(), Recorder()
    run(tmp_path / "whole", start, undisturbed, **switches)
    for questions in (2, 2):  # some of them asked in the midst of rollouts, some after a step
        with pytest.raises(Stopped):
            run(tmp_path / "cut", start, disturbed, stops=iter([False] * questions + [True] * 9), **switches)

    class Killed(BaseException):
        pass

    def kill(step: int, figures: Any) -> None:
        Recorder.metrics(disturbed, step, figures)
        if step == 5:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disturbed, "metrics", kill)
        with pytest.raises(Killed):
            run(tmp_path / "cut", start, disturbed, checkpoint_every=4, **switches)
    run(tmp_path / "cut", start, disturbed, **switches)
    assert disturbed.losses == undisturbed.losses
    assert len(disturbed.losses) == 6
    assert "goes on from step 4" in disturbed.notes
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert rollouts(tmp_path / "cut") == rollouts(tmp_path / "whole")


def test_several_updates_take_the_same_answers_and_move_away_from_them(tmp_path: Path, start: Path) -> None:
    recorder = Recorder()
    run(tmp_path, start, recorder, updates=3, clip=0.2, kl=0.1, schedule=ScheduleConfig(warmup_steps=0))
    assert [line["step"] for line in rollouts(tmp_path)] == [1] * 16 + [4] * 16
    # The first update's ratios are 1: its objective is −the mean advantage of its tokens, and no clip is met.
    first = rollouts(tmp_path)[:16]
    expected = -sum(line["advantage"] * line["tokens"] for line in first) / sum(line["tokens"] for line in first)
    assert float.fromhex(recorder.losses[1]) == pytest.approx(expected, abs=1e-6)


def test_no_problem_that_is_held_out_is_trained_on_though_its_question_comes_in_other_examples(start: Path) -> None:
    class Repeated(Words):
        def num_examples(self) -> int:
            return 4 * len(WORDS)

        def get_example(self, index: int) -> Conversation:
            return super().get_example(index % len(WORDS))

    tasks = {"words": TaskShare(task=Repeated(), epochs=2)}
    problems = Problems(tasks, tiny_tokenizer(), held_out=9, longest_prompt=63, seed=1)
    held_out = {problem.question for problem in problems.held_out}
    trained = {problem.question for problem in problems.take(1000)}
    assert len(held_out) == 9
    assert trained == {f"Say {word}." for word in WORDS} - held_out
    again = Problems(tasks, tiny_tokenizer(), held_out=9, longest_prompt=63, seed=2)
    assert {problem.question for problem in again.held_out} != held_out


def test_too_few_problems_and_too_long_ones_are_named() -> None:
    tasks = {"words": TaskShare(task=Words())}
    with pytest.raises(InputError, match="49 problems are to be held out of the training, and there are 48"):
        Problems(tasks, tiny_tokenizer(), held_out=49, longest_prompt=63, seed=1)
    problems = Problems(tasks, tiny_tokenizer(), held_out=48, longest_prompt=63, seed=1)
    with pytest.raises(InputError, match="each problem is held out, or longer than 63 tokens"):
        problems.take(1)
    with pytest.raises(InputError, match="1 problems are to be held out of the training, and there are 0"):
        Problems(tasks, tiny_tokenizer(), held_out=1, longest_prompt=3, seed=1)
    with pytest.raises(InputError, match=r"there is no example in any task"):
        Problems(
            {"words": TaskShare(task=Words(start=9, stop=9))}, tiny_tokenizer(), held_out=0, longest_prompt=9, seed=1
        )


def test_a_task_that_pays_no_reward_or_no_number_ends_the_stage_by_its_name(tmp_path: Path, start: Path) -> None:
    with pytest.raises(StageError, match=r"the task `unpaid` of stages\.rl\.data\.unpaid has no `reward`"):
        run(tmp_path, start, Recorder(), use="unpaid")
    with pytest.raises(StageError, match=r"`endless` rewards an answer to its example \d+ by nan, which is no finite"):
        run(tmp_path, start, Recorder(), use="endless")


def evals() -> dict[str, Component]:
    config = PassAtKConfig(samples=2, max_tokens=4)
    slot = EvalSlot(every=2)
    return {"held_out": Component(kind="eval", name="held_out", use="pass_at_k", revision=1, config=config, slot=slot)}


def test_the_held_out_problems_are_measured_on_the_way_and_the_record_tells(tmp_path: Path, start: Path) -> None:
    record = run(tmp_path, start, Recorder(), steps=4, evals=evals())
    assert (record.figures["held_out.pass@2"].n, record.figures["held_out"].value) == (5, 5.0)
    assert record.figures["problems"].value >= 16
    kept = [json.loads(line) for line in (tmp_path / "examples/step_000002/held_out-0.jsonl").read_text().splitlines()]
    asked = {line["messages"][0]["content"] for line in kept}
    assert len(kept) == 10
    assert not asked & {line["question"] for line in rollouts(tmp_path)}
    meta = json.loads((tmp_path / record.artifact / "meta.json").read_text())
    assert meta["tools"] == [{"use": "calculator", "config": {}}]


def run_here(runtime: Runtime, folder: Path, start: Path) -> None:
    recorder, place = Recorder(), folder / str(runtime.world_size)
    place.mkdir(exist_ok=True)
    run(place, start, recorder, runtime=runtime, steps=2, evals=evals(), kl=0.1, rollout_rows=16)
    (place / f"losses-{runtime.rank}.json").write_text(json.dumps(recorder.losses))


def test_two_ranks_answer_half_of_the_problems_each_and_learn_the_same(tmp_path: Path, start: Path) -> None:
    run_on_ranks(2, tmp_path, run_here, tmp_path, start, shard="optimizer")
    run_here(local_runtime(), tmp_path, start)
    two, one = tmp_path / "2", tmp_path / "1"
    losses = [json.loads((place / "losses-0.json").read_text()) for place in (one, two)]
    assert json.loads((two / "losses-1.json").read_text()) == losses[1]
    for step in ("1", "2"):
        alone, shared = (float.fromhex(its[step]) for its in losses)
        assert shared == pytest.approx(alone, abs=1e-5)
    halves = [*rollouts(two, 0), *rollouts(two, 1)]
    assert len(rollouts(two, 0)) == len(rollouts(two, 1)) == 16
    named = sorted(halves, key=lambda line: (line["step"], line["problem"]))
    assert [line["completion"] for line in named] == [line["completion"] for line in rollouts(one)]


def test_processes_that_cannot_share_the_problems_are_refused(tmp_path: Path, start: Path) -> None:
    runtime = attrs.evolve(local_runtime(), world_size=3)
    with pytest.raises(InputError, match="problems_per_step is 4, which 3 processes cannot share"):
        run(tmp_path, start, Recorder(), runtime=runtime)


@pytest.mark.parametrize(
    "change, said",
    [
        ("samples=1", "a group of one answer is its own mean: set samples to 2 or more"),
        ('baseline="leave_one_out" samples=1', "a group of one answer is its own mean"),
        ('baseline="none" samples=1 normalize=true', "a group of one answer has no standard deviation"),
        ("clip=0.2", "clip has no effect on the first update of a set of answers"),
        ('determinism="elastic"', "answers depend on what is sampled beside them"),
        ("document_mask=true", "a row holds one conversation"),
        ('data.arithmetic.split="test"', "the stage `rl` trains, and `stages.rl.data.arithmetic` is the test split"),
        (
            'evals.final={use="task",task={use="arithmetic",split="test"}}',
            "`stages.rl.evals.final.task` is the test split",
        ),
        ("samples=0", "it is at least 1"),
        ("temperature=0", "it is at least 0.05"),
        ("evals.held_out.temperature=0", "at temperature 0 all answers to a problem are one"),
    ],
)
def test_settings_that_make_no_sense_are_named_when_the_recipe_is_planned(change: str, said: str) -> None:
    overrides = [f"stages.rl.{one}" for one in change.split(" ")]
    with pytest.raises(InputError) as caught:
        load_recipe(RL, overrides=overrides, machine=CPU)
    assert said in str(caught.value)
