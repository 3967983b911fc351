"""The finetuning stage on conversations that are short, long, few, wrong, all masked: no NaN, no hang, all counted."""

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from test_training import CONFIG, REGISTRY, CountingLoader, Recorder, group, stage

from nanochat.config import Artifact, Component
from nanochat.data.loader import Batch
from nanochat.errors import InputError, StageError
from nanochat.exchange.checkpoint_folder import copy_model
from nanochat.model.gpt import GPT
from nanochat.recipe.load import load_recipe
from nanochat.running.keys import stage_keys
from nanochat.runtime import local_runtime
from nanochat.stages import finetune
from nanochat.stages.context import Record, StageContext
from nanochat.stages.finetune_config import FinetuneConfig
from nanochat.stages.slots import TaskSlot
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.loop import TrainingRun, accumulate_gradients
from nanochat.training.manifest import write_manifest
from nanochat.training.schedule_config import ScheduleConfig

ROW = 16
"""Tokens that the checkpoint's model was made for."""
FLAT = ScheduleConfig(warmup_steps=0, warmdown_ratio=0.0, momentum_warmup_steps=0, momentum_peak=0.95, decay="constant")


class Lines(Recorder):
    """Keeps every figure too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, float]] = []

    def metrics(self, step: int, figures: Any) -> None:
        super().metrics(step, figures)
        self.lines.append({"step": step, **figures})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Of twelve steps by muon and adamw, whose peak rates were 0.02 and 0.01."""
    folder = tmp_path_factory.mktemp("made")
    return folder / stage(folder, tokenizer, Recorder()).execute().artifact


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def groups(**options: Any) -> dict[str, Component]:
    return {
        "matrices": group("matrices", "muon", "blocks.*", weight_decay=0.1, **options),
        "rest": group("rest", "adamw", ["[!b]*", "backout_lambda"], **{"lr": 0.01, **options}),
    }


def run(
    folder: Path, checkpoint: Path, *lines: Any, slot: TaskSlot | None = None, **changes: Any
) -> tuple[Record, Lines]:
    """Finetune on the lines of a custom_json file, 64 tokens a step."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    task = Component(
        kind="task", name="mine", use="custom_json", revision=1, slot=slot or TaskSlot(),
        config=REGISTRY.config_class("task", "custom_json")(path=path),
    )  # fmt: skip
    config = FinetuneConfig(
        **{
            "init": Artifact(reference="stage:base", kind="checkpoint", path=checkpoint), "data": {"mine": task},
            "optim": groups(), "total_batch_size": 64, "device_batch_size": 1, "lanes": 4, "packing_buffer": 5,
            "log_every": 1, "tag": "tiny", "compile": False, **changes,
        }
    )  # fmt: skip
    runtime, recorder = local_runtime(), Lines()
    runtime.seed_everything()
    context = StageContext(
        stage="sft", folder=folder, runtime=runtime, registry=REGISTRY, reporter=recorder,
        should_stop=lambda: next(itertools.repeat(False)),
    )  # fmt: skip
    return finetune.run(config, context), recorder


def losses(recorder: Recorder) -> list[float]:
    return [float.fromhex(loss) for loss in recorder.losses.values()]


def weights(record: Record, folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / record.artifact / "model.safetensors")


def all_finite(record: Record, folder: Path) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in weights(record, folder).values())


# Rows that are too short, examples that are too few


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_in_rows_of_sixteen_tokens_long_conversations_are_cut_and_short_ones_learnt(
    loss_on: str, tmp_path: Path, checkpoint: Path
) -> None:
    talk = [
        asked("to be?", "not to be " * 50),
        asked("a", "b"),
        asked("why " * 40, "because"),
        asked("", "x") | asked("q", "r"),
    ]
    record, recorder = run(tmp_path, checkpoint, *talk, steps=6, loss_on=loss_on)
    assert len(losses(recorder)) == 6
    assert all(0 < loss < 10 for loss in losses(recorder))
    assert record.figures["mine.cut"].value > 0
    # Of the third one, a row holds nothing but the question: learnt only where the loss is on all.
    assert ("mine.skipped.nothing to learn" in record.figures) == (loss_on == "assistant")
    assert all_finite(record, tmp_path)


def test_a_single_example_is_one_pass_and_then_the_stage_is_done(tmp_path: Path, checkpoint: Path) -> None:
    record, recorder = run(tmp_path, checkpoint, asked("a", "b"))
    assert all(math.isfinite(loss) for loss in losses(recorder))
    # The lanes take it in turn, four rows a step; the first step holds the first pass.
    assert record.figures["steps"].value == 1
    assert all_finite(record, tmp_path)


def test_a_single_example_can_be_learnt_by_heart(tmp_path: Path, checkpoint: Path) -> None:
    _, recorder = run(tmp_path, checkpoint, asked("a", "b"), steps=60, schedule=FLAT)
    assert losses(recorder)[-1] < 0.1 < losses(recorder)[0]


@pytest.mark.parametrize("examples", [7, 8, 9, 33])
def test_without_steps_the_stage_ends_with_the_first_step_that_completes_a_pass(
    examples: int, tmp_path: Path, checkpoint: Path
) -> None:
    """A row of sixteen holds two conversations of seven tokens; a step holds four rows."""
    talk = [asked(chr(97 + number % 26), chr(65 + number % 26)) for number in range(examples)]
    record, recorder = run(tmp_path, checkpoint, *talk)
    assert record.figures["steps"].value == -(-examples // 8)
    assert len(losses(recorder)) == -(-examples // 8)
    lr = [line["lr.rest"] for line in recorder.lines if "lr.rest" in line]
    assert lr[0] == pytest.approx(0.008)
    assert lr == sorted(lr, reverse=True)


def test_examples_of_which_no_row_holds_anything_to_learn_are_refused_and_no_endless_search(
    tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(InputError, match=r"E302.*anything to learn within 17 tokens"):
        run(tmp_path, checkpoint, *[asked("why " * 40, "because")] * 3)


def test_rows_without_any_target_add_nothing_to_loss_and_gradients_and_are_no_nan() -> None:
    """A step whose rows are all masked has loss 0; one of them beside others leaves their mean as it is."""

    def step(batch: Batch) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = GPT(CONFIG)
        run = TrainingRun(
            model=model, optimizers={}, loader=CountingLoader(), runtime=local_runtime(), schedule=ScheduleConfig(),
            steps=1, fraction=lambda step: 0.0, device_batch_size=1, metrics=lambda *_: None,
            progress=lambda *_: None, evaluate=lambda step: {}, save=lambda: None, stop_asked=lambda: False,
        )  # fmt: skip
        loss, _ = accumulate_gradients(run, batch)
        return float(loss), [p.grad for p in model.parameters() if p.grad is not None]

    whole = CountingLoader().next_batch()
    some, none = whole.targets.clone(), torch.full_like(whole.targets, -1)
    some[4:] = -1
    loss, gradients = step(Batch(whole.inputs, none))
    assert loss == 0.0
    assert all(bool((gradient == 0).all()) for gradient in gradients)
    masked, found = step(Batch(whole.inputs, some))
    alone, expected = step(Batch(whole.inputs[:4], whole.targets[:4]))
    assert masked == pytest.approx(alone, rel=1e-6)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)


# Bad conversations


BAD = [
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "image", "text": ""}]}],
    {"messages": []},
    "{",
]


def test_bad_conversations_stop_the_stage_before_a_step_all_of_them_by_file_and_line(
    tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path, checkpoint, asked("a", "b"), *BAD)
    found = caught.value.diagnostics
    assert {said.code for said in found} == {"E306"}
    assert [str(said.location).rpartition("/")[2] for said in found[:3]] == [f"mine.jsonl:{n}:1" for n in (2, 3, 4)]
    assert "messages[1] has role 'user' where 'assistant' must follow" in found[0].message
    assert "messages[1].content[0] is no part" in found[1].message
    assert not (tmp_path / "checkpoints").exists()


def test_bad_conversations_are_skipped_and_counted_where_the_recipe_says_so(tmp_path: Path, checkpoint: Path) -> None:
    skip = TaskSlot(bad_conversations="skip")
    good = [asked("a", "b"), asked("c", "d")]
    record, recorder = run(tmp_path / "mixed", checkpoint, good[0], *BAD, good[1], slot=skip, steps=4)
    assert record.figures["mine.skipped.bad conversation"].value == 4
    assert recorder.lines[-1]["mine.skipped.bad conversation"] == 4
    assert all(math.isfinite(loss) for loss in losses(recorder))


def test_where_all_are_bad_and_skipped_there_is_nothing_to_finetune_on(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="E302"):
        run(tmp_path, checkpoint, *BAD, slot=TaskSlot(bad_conversations="skip"), steps=4)


# What is taken over from the checkpoint


def rates(recorder: Lines) -> dict[str, float]:
    return {name: value for name, value in recorder.lines[0].items() if name.startswith("lr.")}


def test_rates_are_inherited_from_what_the_checkpoint_was_trained_with(tmp_path: Path, checkpoint: Path) -> None:
    talk = [asked("a", "b"), asked("c", "d")]
    own = run(tmp_path / "own", checkpoint, *talk, steps=1, optim=groups(lr=0.5))[1]
    assert rates(own) == pytest.approx({"lr.matrices": 0.4, "lr.rest": 0.4})
    inherited = run(tmp_path / "inherited", checkpoint, *talk, steps=1, optim=groups(lr=0.5), inherit_lr=True)[1]
    assert rates(inherited) == pytest.approx({"lr.matrices": 0.8 * 0.02, "lr.rest": 0.8 * 0.01})
    assert any("0.016" in note for note in inherited.notes)  # in the table of groups


def test_a_group_whose_parameters_had_two_rates_can_inherit_none(tmp_path: Path, checkpoint: Path) -> None:
    one = {"all": group("all", "adamw", "*", lr=0.1)}
    with pytest.raises(StageError, match=r"group `all` has no one learning rate .* 0\.01, 0\.02"):
        run(tmp_path, checkpoint, asked("a", "b"), steps=1, optim=one, inherit_lr=True)


def moments(folder: Path) -> dict[str, torch.Tensor]:
    """By parameter and slot, whatever the group was called."""
    return {name.partition("/")[2]: t for name, t in load_file(folder / "optim-0.safetensors").items()}


def test_a_warm_start_goes_on_from_the_momentum_of_the_checkpoint_at_its_own_rates(
    tmp_path: Path, checkpoint: Path
) -> None:
    """One step at β from the state m is β·m + (1 − β)·g; from nothing it is (1 − β)·g: they differ by β·m."""
    renamed = {f"other_{name}": attrs.evolve(part, name=f"other_{name}") for name, part in groups(lr=0.0).items()}
    talk = [asked("a", "b"), asked("c", "d")]
    options: dict[str, Any] = {"steps": 1, "optim": renamed, "schedule": FLAT}
    cold, _ = run(tmp_path / "cold", checkpoint, *talk, **options)
    warm, recorder = run(tmp_path / "warm", checkpoint, *talk, **options, warm_start=True)
    before = moments(checkpoint)
    from_nothing, went_on = moments(tmp_path / "cold" / cold.artifact), moments(tmp_path / "warm" / warm.artifact)
    betas = {"momentum": 0.95, "exp_avg": 0.8}
    compared = 0
    for name, moment in before.items():
        if (beta := betas.get(name.rpartition("/")[2])) is not None:
            torch.testing.assert_close(went_on[name] - from_nothing[name], beta * moment, atol=1e-6, rtol=1e-4)
            compared += bool(moment.any())
        if name.endswith("/step"):
            assert (float(moment), float(went_on[name]), float(from_nothing[name])) == (12.0, 13.0, 1.0)
    assert compared > 8
    assert set(rates(recorder).values()) == {0.0}


def test_a_warm_start_from_another_optimizer_is_refused_by_the_parameters_name(
    tmp_path: Path, checkpoint: Path
) -> None:
    other = groups() | {"rest": group("rest", "torch:SGD", ["[!b]*", "backout_lambda"], lr=0.01)}
    with pytest.raises(StageError, match=r"E115.*`\w.*` was updated by another optimizer than that of group `rest`"):
        run(tmp_path, checkpoint, asked("a", "b"), steps=1, optim=other, warm_start=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """As `nanochat export --format safetensors` writes it."""
    folder = tmp_path_factory.mktemp("exported") / "plain"
    copy_model(checkpoint, folder)
    return folder


@pytest.mark.parametrize("option", ["warm_start", "inherit_lr"])
def test_weights_alone_have_no_optimizers_to_take_over_and_are_not_called_broken(
    option: str, tmp_path: Path, exported: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path, exported, asked("a", "b"), steps=1, **{option: True})
    (found,) = caught.value.diagnostics
    assert found.code == "E115"
    assert found.message.startswith("stage:base holds weights alone, as exports and imports do")
    assert f"leave `{option}` out" in found.help and "--fresh" not in found.help


def test_a_warm_start_from_a_checkpoint_that_lost_its_optimizers_says_that_it_is_broken(
    tmp_path: Path, checkpoint: Path
) -> None:
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    (damaged / "optim-0.safetensors").unlink()
    with pytest.raises(StageError, match=r"E406.*is broken: optim-0\.safetensors is missing"):
        run(tmp_path / "run", damaged, asked("a", "b"), steps=1, warm_start=True)


def test_a_warm_start_from_a_checkpoint_of_before_the_state_was_by_parameter_says_so(
    tmp_path: Path, checkpoint: Path
) -> None:
    earlier = shutil.copytree(checkpoint, tmp_path / "earlier")
    (earlier / "optim-0.safetensors").rename(earlier / "optim.safetensors")
    (earlier / "optim-0.json").unlink()
    write_manifest(earlier)
    with pytest.raises(StageError, match=r"E406.*no optimizer state by parameter; an earlier version made it"):
        run(tmp_path / "run", earlier, asked("a", "b"), steps=1, warm_start=True)


def test_a_stage_that_was_stopped_goes_on_from_its_own_state_and_not_from_the_warm_start(
    tmp_path: Path, checkpoint: Path
) -> None:
    talk = [asked(chr(97 + n), chr(65 + n)) for n in range(9)]
    options: dict[str, Any] = {"steps": 6, "warm_start": True, "inherit_lr": True, "checkpoint_every": 2}
    whole, recorder = run(tmp_path / "whole", checkpoint, *talk, **options)
    half = tmp_path / "half"
    run(half, checkpoint, *talk, **options)
    for folder in (half / "checkpoints").glob("step_*"):
        if folder.name > "step_000004":
            shutil.rmtree(folder)
    again, went_on = run(half, checkpoint, *talk, **options)
    assert any("goes on from step 4" in note for note in went_on.notes)
    assert went_on.losses == {step: loss for step, loss in recorder.losses.items() if step > 4}
    a, b = weights(whole, tmp_path / "whole"), weights(again, half)
    assert all(torch.equal(a[name], b[name]) for name in a)


# What is refused when it is planned


QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
HELD_OUT = '{use = "task", every = 5, task = {use = "arithmetic", split = "train", seed = 1}}'


@pytest.mark.parametrize("options", [("warm_start",), ("inherit_lr",), ("inherit_lr", "warm_start")])
def test_weights_alone_are_told_when_it_is_planned(options: tuple[str, ...], tmp_path: Path, exported: Path) -> None:
    path, line = tmp_path / "mine.toml", f'init = "path:{exported}"'
    told = "".join(f"{option} = true\n" for option in options)
    path.write_text(f'format = 1\nextends = "{QUICKSTART}"\n[stages.sft]\n{line}\n{told}')
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    (found,) = caught.value.diagnostics
    assert (found.code, found.location and found.location.text) == ("E115", line)
    assert f"path:{exported} holds weights alone" in found.message
    assert all(f"`{option}`" in found.help for option in options)
    load_recipe(path, overrides=[f"stages.sft.{option}=false" for option in options])


def test_whole_checkpoints_and_those_that_cannot_be_judged_are_planned(tmp_path: Path, checkpoint: Path) -> None:
    damaged, newer = (shutil.copytree(checkpoint, tmp_path / name) for name in ("damaged", "newer"))
    (damaged / "MANIFEST.json").write_text("{")
    (newer / "MANIFEST.json").write_text('{"format": 9, "files": {"state": {"bytes": 1, "sha256": ""}}}')
    for there in (checkpoint, damaged, newer):
        assert load_recipe(QUICKSTART, overrides=[f'stages.sft.init="path:{there}"', "stages.sft.warm_start=true"])


@pytest.mark.parametrize("place", ["data.arithmetic", "evals.held_out.task"])
def test_a_test_split_decides_nothing_in_training(place: str, tmp_path: Path) -> None:
    path, line = tmp_path / "mine.toml", 'split = "test"'
    text = f'format = 1\nextends = "{QUICKSTART}"\n[stages.sft.{place}]\n{line}\n'
    measured = [f"stages.sft.evals.held_out={HELD_OUT}"] if place.startswith("evals") else []
    assert load_recipe(QUICKSTART, overrides=measured)
    if measured:
        text += '[stages.sft.evals.held_out]\nuse = "task"\n[stages.sft.evals.held_out.task]\nuse = "arithmetic"\n'
        text = text.replace(f"[stages.sft.{place}]\n{line}\n", "", 1) + line
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    (found,) = caught.value.diagnostics
    assert found.code == "E115"
    assert found.message == f"the stage `sft` trains, and `stages.sft.{place}` is the test split of `arithmetic`"
    assert found.location is not None and found.location.text == line
    assert 'use = "evaluate"' in found.help


def test_what_a_stage_takes_over_is_part_of_its_identity() -> None:
    settings = ("lr_factor=1.0", "warm_start=true", "inherit_lr=true", "warm_start=false")
    keys = {one: stage_keys(load_recipe(QUICKSTART, overrides=[f"stages.sft.{one}"]))["sft"] for one in settings}
    assert len(set(keys.values())) == 3
    assert keys["lr_factor=1.0"] == keys["warm_start=false"]
