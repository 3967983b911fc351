"""The loop and its checkpoints: the same result whatever the micro-batch, the interruption or the damage."""

import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file

from nanochat.config import Component
from nanochat.data.loader import Batch, LoaderState
from nanochat.errors import StageError, Stopped, stage_failure
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.stages.context import StageContext
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.slots import GroupSlot
from nanochat.stages.subject import Subject
from nanochat.stages.training_stage import TrainingStage
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import checkpoint, manifest
from nanochat.training.batch_digests import digest
from nanochat.training.loop import TrainingRun, accumulate_gradients
from nanochat.training.schedule_config import ScheduleConfig
from nanochat_plugins.transforms import molegrad
from nanochat_plugins.transforms.molegrad_config import MolegradConfig

CONFIG = GPTConfig(depth=2, dim=32, head_dim=16, n_head=2, n_kv_head=2, vocab_size=300, sequence_len=16)
REGISTRY = load_registry()


class CountingLoader:
    """Random rows that depend on the step alone; its place is the step."""

    def __init__(self) -> None:
        self.step = 0

    def ready(self, seconds: float) -> bool:
        return True

    def next_batch(self) -> Batch:
        generator = torch.Generator().manual_seed(self.step)
        ids = torch.randint(0, 300, (8, 17), generator=generator)
        targets = ids[:, 1:].clone()
        targets[torch.rand(targets.shape, generator=generator) < 0.3] = -1
        self.step += 1
        return Batch(inputs=ids[:, :-1], targets=targets)

    def state(self) -> LoaderState:
        return LoaderState(cursors={"rows": 8 * self.step, "lane_count": 1, "lanes": {"0": self.step}}, buffers={})

    def load_state(self, state: LoaderState) -> None:
        self.step = state.cursors["lanes"]["0"]

    def counts(self) -> Mapping[str, int]:
        return {}

    def position(self) -> Mapping[str, float]:
        return {"documents": self.step}

    def close(self) -> None:
        pass


class Recorder:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.losses: dict[int, str] = {}
        self.speeds: dict[int, float] = {}
        self.notes: list[str] = []

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        if "loss" in figures:
            self.losses[step] = float(figures["loss"]).hex()
        if "tokens_per_second" in figures:
            self.speeds[step] = figures["tokens_per_second"]

    def progress(self, done: int, total: int, figures: Mapping[str, float]) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def truncate_metrics(self, step: int) -> None:
        self.losses = {s: loss for s, loss in self.losses.items() if s <= step}


def group(name: str, use: str, match: str | list[str], **options: Any) -> Component:
    config = REGISTRY.config_class("optimizer", use)(**options)
    slot = GroupSlot(match=match, lr_factor=1.0)
    return Component(kind="optimizer", name=name, use=use, revision=1, config=config, slot=slot)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)


def stage(
    folder: Path, tokenizer: Tokenizer, recorder: Recorder, stops: Iterator[bool] | None = None, **changes: Any
) -> TrainingStage:
    """A pretraining stage of 12 steps with a loader of its own."""
    runtime = local_runtime()
    runtime.seed_everything()
    optim = {
        "matrices": group("matrices", "muon", "blocks.*", weight_decay=0.1),
        "rest": group("rest", "adamw", ["[!b]*", "backout_lambda"], lr=0.01),
    }
    config = PretrainConfig(
        tokenizer=None, model=None, data={}, optim=optim, steps=12, total_batch_size=128, tag=CONFIG.tag(),
        schedule=ScheduleConfig(warmup_steps=2), **{"log_every": 1, "compile": False} | changes,
    )  # type: ignore[arg-type]  # fmt: skip
    model = GPT(CONFIG)
    stops = stops or itertools.repeat(False)
    context = StageContext(
        stage="base", folder=folder, runtime=runtime, registry=REGISTRY, reporter=recorder,
        should_stop=lambda: next(stops),
    )  # fmt: skip
    described = checkpoint.describe(Component(kind="model", name="gpt", use="gpt", revision=1, config=CONFIG))
    return TrainingStage(
        context=context, config=config, model=model, described_model=described, tokenizer=tokenizer,
        loader=CountingLoader(), steps=12, fraction=lambda step: step / 12,
        subject=Subject(model=model, tokenizer=tokenizer, runtime=runtime, build=context.build),
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_that_is_stopped_and_goes_on_equals_an_undisturbed_one_bit_for_bit(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    undisturbed, disturbed = Recorder(), Recorder()
    stage(tmp_path / "whole", tokenizer, undisturbed).execute()
    for at in (3, 4):  # asked to stop after three steps, then after four more
        with pytest.raises(Stopped):
            stage(tmp_path / "cut", tokenizer, disturbed, iter([False] * (at - 1) + [True])).execute()
    record = stage(tmp_path / "cut", tokenizer, disturbed).execute()
    assert disturbed.losses == undisturbed.losses
    assert len(disturbed.losses) == 12
    whole, cut = (weights(tmp_path / name / record.artifact) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert "goes on from step 7" in disturbed.notes


def test_bases_of_gradients_go_on_bit_for_bit_and_are_no_part_of_the_model(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    def low_rank(folder: str, recorder: Recorder, stops: Iterator[bool] | None = None) -> TrainingStage:
        made = stage(tmp_path / folder, tokenizer, recorder, stops)
        config = MolegradConfig(rank_k=4, target_layers="all", chunk=20, refresh=3, warm_start=2)
        molegrad.build(config, made.model, made.context.runtime)
        muon = made.config.optim["matrices"]
        optim = made.config.optim | {
            "matrices": attrs.evolve(muon, config=attrs.evolve(muon.config, factored_momentum=True))
        }
        made.config = attrs.evolve(made.config, optim=optim)
        return made

    undisturbed, disturbed = Recorder(), Recorder()
    low_rank("whole", undisturbed).execute()
    with pytest.raises(Stopped):
        low_rank("cut", disturbed, iter([False] * 5 + [True])).execute()
    record = low_rank("cut", disturbed).execute()
    assert disturbed.losses == undisturbed.losses
    whole, cut = (tmp_path / name / record.artifact for name in ("whole", "cut"))
    for file in ("model", "bases"):
        expected, found = (load_file(folder / f"{file}.safetensors") for folder in (whole, cut))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (
        checkpoint.load_checkpoint(whole, local_runtime(), REGISTRY).model.state_dict().keys() == weights(whole).keys()
    )
    (whole / "bases.safetensors").unlink()
    manifest.write_manifest(whole)
    with pytest.raises(StageError, match=r"E406.*its bases of gradients do not fit the model"):
        low_rank("whole", Recorder()).execute()


def test_the_rows_of_each_step_are_written_down_by_their_digest_and_are_the_same_after_a_stop(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with pytest.raises(Stopped):
        stage(tmp_path, tokenizer, Recorder(), iter([False] * 4 + [True]), batch_digests=True).execute()
    stage(tmp_path, tokenizer, Recorder(), batch_digests=True).execute()
    lines = [json.loads(line) for line in (tmp_path / "batches-0.jsonl").read_text().splitlines()]
    loader = CountingLoader()
    assert lines == [{"step": step, "digest": digest(loader.next_batch())} for step in range(1, 13)]
    assert len({line["digest"] for line in lines}) == 12


def test_a_checkpoint_that_is_asked_for_is_made_at_that_step_and_training_goes_on(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    made, asked = stage(tmp_path, tokenizer, Recorder(), checkpoints_kept=9), iter([False] * 4 + [True])
    made.context = attrs.evolve(made.context, take_save_request=lambda: next(asked, False))
    made.execute()
    assert [path.name for path in manifest.checkpoints(tmp_path / "checkpoints")] == ["step_000005", "step_000012"]


def test_a_stop_in_the_middle_of_an_evaluation_loses_no_step(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, recorder = stage(tmp_path, tokenizer, Recorder()), Recorder()

    def stopped_in(self: TrainingStage, step: int) -> Mapping[str, float]:
        if step == 5:
            raise Stopped
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStage, "evaluate_due", stopped_in)
        with pytest.raises(Stopped):
            made.execute()
    stage(tmp_path, tokenizer, recorder).execute()
    assert "goes on from step 5" in recorder.notes


def test_asked_to_stop_while_it_waits_for_data_training_saves_its_steps(tmp_path: Path, tokenizer: Tokenizer) -> None:
    undisturbed, disturbed = Recorder(), Recorder()
    stage(tmp_path / "whole", tokenizer, undisturbed).execute()
    made = stage(tmp_path / "cut", tokenizer, disturbed, iter([False] * 7 + [True]))
    made.loader.ready = lambda seconds: made.loader.step < 5  # type: ignore[attr-defined, method-assign]
    with pytest.raises(Stopped):  # after five questions of the steps, and two of the wait
        made.execute()
    stage(tmp_path / "cut", tokenizer, disturbed).execute()
    assert "goes on from step 5" in disturbed.notes
    assert disturbed.losses == undisturbed.losses


def test_data_that_fails_costs_no_step_that_was_trained(tmp_path: Path, tokenizer: Tokenizer) -> None:
    undisturbed, disturbed = Recorder(), Recorder()
    stage(tmp_path / "whole", tokenizer, undisturbed).execute()
    made = stage(tmp_path / "cut", tokenizer, disturbed)
    rows = made.loader.next_batch

    def next_batch() -> Batch:
        if made.loader.step == 5:  # type: ignore[attr-defined]
            raise stage_failure("E301", "the shard cannot be had")
        return rows()

    made.loader.next_batch = next_batch  # type: ignore[method-assign]
    with pytest.raises(StageError, match="the shard cannot be had"):
        made.execute()
    stage(tmp_path / "cut", tokenizer, disturbed).execute()
    assert "goes on from step 5" in disturbed.notes
    assert disturbed.losses == undisturbed.losses


def test_with_a_document_mask_the_first_loss_is_that_of_the_documents_one_by_one(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The loader's rows are cut after 7 ids: the same halves, as rows of their own, have the same loss."""
    recorder = Recorder()
    made = stage(tmp_path, tokenizer, recorder, document_mask=True)
    batch = made.loader.next_batch()
    numbers = (torch.arange(16) >= 7).int().expand(8, 16)
    made.loader.next_batch = lambda: attrs.evolve(batch, documents=numbers)  # type: ignore[method-assign]
    with torch.no_grad():
        for parameter in made.model.parameters():  # a fresh model's attention has no effect yet
            parameter.add_(0.05 * torch.randn_like(parameter))
        halves = [made.model(batch.inputs[:, p], batch.targets[:, p], "sum") for p in (slice(7), slice(7, None))]
        expected = sum(halves) / (batch.targets >= 0).sum()
        masked_out = made.model(batch.inputs, batch.targets)
    made.execute()
    assert float.fromhex(recorder.losses[1]) == pytest.approx(float(expected), abs=1e-6)
    assert float(masked_out) != pytest.approx(float(expected), abs=1e-6)


def test_a_model_that_does_not_know_of_documents_is_refused_a_document_mask(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    made = stage(tmp_path, tokenizer, Recorder(), document_mask=True)
    made.model = torch.nn.Linear(2, 2)
    with pytest.raises(StageError, match="has document_mask, and its model does not know of documents"):
        made.execute()


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path: Path, tokenizer: Tokenizer) -> None:
    undisturbed, disturbed = Recorder(), Recorder()
    stage(tmp_path / "whole", tokenizer, undisturbed).execute()
    with pytest.raises(Stopped):
        stage(tmp_path / "cut", tokenizer, disturbed, iter([False] * 7 + [True]), checkpoint_every=3).execute()
    newest = tmp_path / "cut/checkpoints/step_000008"
    damaged = newest / "optim-0.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    stage(tmp_path / "cut", tokenizer, disturbed).execute()
    assert any("optim-0.safetensors is not what was written" in note for note in disturbed.notes)
    assert "goes on from step 6" in disturbed.notes
    assert disturbed.losses == undisturbed.losses
    assert newest.with_name("broken_step_000008").exists()


def test_a_checkpoint_without_optimizer_state_by_parameter_is_refused_by_name(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with pytest.raises(Stopped):
        stage(tmp_path, tokenizer, Recorder(), iter([False] * 3 + [True])).execute()
    (made,) = manifest.checkpoints(tmp_path / "checkpoints")
    (made / "optim-0.json").unlink()
    manifest.write_manifest(made)
    with pytest.raises(StageError, match="it has no optimizer state by parameter; an earlier version made it"):
        stage(tmp_path, tokenizer, Recorder()).execute()


def test_a_truncated_checkpoint_is_refused_by_name(tmp_path: Path, tokenizer: Tokenizer) -> None:
    record = stage(tmp_path, tokenizer, Recorder()).execute()
    path = tmp_path / record.artifact / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StageError, match=r"model\.safetensors has \d+ bytes, its manifest says \d+"):
        checkpoint.load_checkpoint(tmp_path / record.artifact, local_runtime(), REGISTRY)


def test_a_checkpoint_gives_back_model_and_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = stage(tmp_path, tokenizer, Recorder())
    record = made.execute()
    loaded = checkpoint.load_checkpoint(tmp_path / record.artifact, local_runtime(), REGISTRY)
    ids = torch.randint(0, 300, (2, 16))
    assert torch.equal(loaded.model(ids), made.model(ids))
    assert loaded.tokenizer.encode("to be") == tokenizer.encode("to be")
    assert (loaded.meta["step"], loaded.meta["tag"]) == (12, "d2_w32_h2")


def test_as_many_checkpoints_are_kept_as_the_recipe_says(tmp_path: Path, tokenizer: Tokenizer) -> None:
    stage(tmp_path, tokenizer, Recorder(), checkpoint_every=3, checkpoints_kept=3).execute()
    assert [path.name for path in manifest.checkpoints(tmp_path / "checkpoints")] == [
        f"step_{step:06d}" for step in (6, 9, 12)
    ]


def test_two_checkpoints_are_kept_where_it_says_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    stage(tmp_path, tokenizer, Recorder(), checkpoint_every=2).execute()
    assert [path.name for path in manifest.checkpoints(tmp_path / "checkpoints")] == ["step_000010", "step_000012"]
    assert not list((tmp_path / "checkpoints").glob(".writing*"))
    said = json.loads((tmp_path / "checkpoints/step_000012/MANIFEST.json").read_text())
    assert set(said["files"]) >= {"model.safetensors", "optim-0.safetensors", "state.json", "tokenizer.json"}


def test_of_a_compiled_model_the_first_step_is_told_and_is_in_no_speed(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]

    def slow_at_first(model: torch.nn.Module) -> Any:
        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            passed[0] = 3600.0
            return model(*args, **kwargs)

        call.train = model.train  # type: ignore[attr-defined]
        return call

    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    monkeypatch.setattr(torch, "compile", slow_at_first)
    compiled, plain = Recorder(), Recorder()
    stage(tmp_path / "compiled", tokenizer, compiled, compile=True, checkpoint_minutes=1e6, log_every=6).execute()
    stage(tmp_path / "plain", tokenizer, plain, log_every=6).execute()

    groups, beforehand, after = compiled.notes
    assert beforehand == "torch.compile works in the first step, which may take minutes"
    assert re.fullmatch(r"the first step, compiled, took 1 h( \d\d min)?", after)
    assert 5 * 128 / compiled.speeds[6] < 3600  # seconds of the five steps after it
    assert compiled.losses == plain.losses
    assert plain.notes == [groups]


@pytest.mark.slow  # torch's compiler makes two models
def test_a_compiled_stage_learns_the_same_and_goes_on_where_it_was_stopped(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    compiled, plain = Recorder(), Recorder()
    once = stage(tmp_path / "compiled", tokenizer, compiled, stops=iter([False] * 5 + [True]), compile=True)
    with pytest.raises(Stopped):
        once.execute()
    assert 0 < len(compiled.losses) < 12
    record = stage(tmp_path / "compiled", tokenizer, compiled, compile=True).execute()
    stage(tmp_path / "plain", tokenizer, plain).execute()

    assert list(compiled.losses) == list(plain.losses) == list(range(1, 13))
    ours, theirs = ([float.fromhex(loss) for loss in run.losses.values()] for run in (compiled, plain))
    assert ours == pytest.approx(theirs, rel=1e-5)
    found, expected = (weights(tmp_path / name / record.artifact) for name in ("compiled", "plain"))
    assert found.keys() == expected.keys()
    # Not number by number: where a gradient is nothing but rounding, AdamW makes it as great as any. So is that of
    # backout's share here: of two blocks the last is the middle one, and the norm takes back what is subtracted.
    for name in expected.keys() - {"backout_lambda"}:
        assert (found[name] - expected[name]).norm() < 0.05 * expected[name].norm(), name


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_gradient_does_not_depend_on_the_device_batch_size(rows: int) -> None:
    def gradients(device_batch_size: int) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = GPT(CONFIG)
        run = TrainingRun(
            model=model, optimizers={}, loader=CountingLoader(), runtime=local_runtime(), schedule=ScheduleConfig(),
            steps=1, fraction=lambda step: 0.0, device_batch_size=device_batch_size, metrics=lambda *_: None,
            progress=lambda *_: None, evaluate=lambda step: {}, save=lambda: None, stop_asked=lambda: False,
        )  # fmt: skip
        loss, _ = accumulate_gradients(run, CountingLoader().next_batch())
        return float(loss), [p.grad for p in model.parameters() if p.grad is not None]

    expected_loss, expected = gradients(8)
    loss, found = gradients(rows)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = stage(tmp_path, tokenizer, Recorder())
    with torch.no_grad():
        made.model.head.weight[0, 0] = float("nan")
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    with pytest.raises(StageError, match="the loss is nan at step 0"):
        made.execute()
    for name, parameter in made.model.named_parameters():
        assert torch.equal(parameter.nan_to_num(), before[name].nan_to_num())
