"""A small pretraining run for tests of several processes: 12 steps of a tiny model, on the ranks that there are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from test_training import CONFIG, REGISTRY, CountingLoader, Recorder, group

from nanochat.config import Component
from nanochat.data.loader import Batch, LoaderState
from nanochat.errors import Stopped
from nanochat.model.gpt import GPT
from nanochat.runtime import Runtime
from nanochat.stages.context import StageContext
from nanochat.stages.pretrain_config import PretrainConfig
from nanochat.stages.subject import Subject
from nanochat.stages.training_stage import TrainingStage
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import checkpoint, manifest, share
from nanochat.training.saved_model import SavedModel
from nanochat.training.schedule_config import ScheduleConfig

STEPS, LANES = 12, 4


class RankLoader:
    """This rank's rows of the eight that a step has, whatever the number of ranks."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.rows = runtime, CountingLoader()

    def ready(self, seconds: float) -> bool:
        return True

    def next_batch(self) -> Batch:
        batch, own = self.rows.next_batch(), slice(self.runtime.rank, None, self.runtime.world_size)
        return Batch(batch.inputs[own].contiguous(), batch.targets[own].contiguous())

    def state(self) -> LoaderState:
        lanes = {str(lane): self.rows.step for lane in range(self.runtime.rank, LANES, self.runtime.world_size)}
        return LoaderState(cursors={"rows": 8 * self.rows.step, "lane_count": LANES, "lanes": lanes}, buffers={})

    def load_state(self, state: LoaderState) -> None:
        own = [str(lane) for lane in range(self.runtime.rank, LANES, self.runtime.world_size)]
        assert all(lane in state.cursors["lanes"] for lane in own)
        (self.rows.step,) = set(state.cursors["lanes"].values())

    def counts(self) -> Mapping[str, int]:
        return {}

    def position(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        pass


def train_on(
    runtime: Runtime,
    folder: Path,
    tokenizer: Path,
    *,
    steps: int = STEPS,
    until: int | None = None,
    embedding_dtype: str = "float32",
    **changes: Any,
) -> None:
    """Train in `folder` from its newest checkpoint to step `until`, or to the end after `steps`; rank 0 writes the
    losses beside the checkpoints.
    """
    share.SMALLEST = 64  # else all of so small a model is everybody's
    runtime.seed_everything()
    recorder, asked = Recorder(), 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return until is not None and stage.run.step >= until

    optim = {
        "matrices": group("matrices", "muon", "blocks.*", weight_decay=0.1),
        "rest": group("rest", "adamw", ["[!b]*", "backout_lambda"], lr=0.01, eps=1e-5),
    }
    config = PretrainConfig(
        tokenizer=None, model=None, data={}, optim=optim, steps=steps, total_batch_size=128, log_every=1, tag="d2",
        schedule=ScheduleConfig(warmup_steps=2), lanes=LANES, device_batch_size=2, compile=False, **changes,
    )  # type: ignore[arg-type]  # fmt: skip
    context = StageContext(
        stage="base", folder=folder, runtime=runtime, registry=REGISTRY, reporter=recorder, should_stop=should_stop
    )
    gpt = attrs.evolve(CONFIG, embedding_dtype=embedding_dtype)
    model, words = GPT(gpt), Tokenizer.load(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model's outputs are zeros, whatever some of its weights are
            parameter.add_(0.05 * torch.randn_like(parameter))
    described = checkpoint.describe(Component(kind="model", name="gpt", use="gpt", revision=1, config=CONFIG))
    stage = TrainingStage(
        context=context, config=config, model=model, described_model=described, tokenizer=words,
        loader=RankLoader(runtime), steps=steps, fraction=lambda step: step / steps,
        subject=Subject(model=model, tokenizer=words, runtime=runtime, build=context.build),
    )  # fmt: skip
    try:
        stage.execute()
    except Stopped:
        assert until is not None and until < steps
    if runtime.is_main:
        path = folder / "losses.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | {str(step): loss for step, loss in recorder.losses.items()}))


@attrs.frozen
class Outcome:
    """What a run left."""

    losses: dict[str, str]
    """Step → float.hex."""
    weights: dict[str, torch.Tensor]

    @classmethod
    def of(cls, folder: Path) -> "Outcome":
        newest = manifest.checkpoints(folder / "checkpoints")[-1]
        return cls(json.loads((folder / "losses.json").read_text()), SavedModel(newest).whole())
