"""What pretraining and finetuning have in common around the loop: groups, resume, evaluations, checkpoints, record.

In: a stage's config and a model, loader and tokenizer that the stage made. Out: its record. The two stages differ only
in what they put in.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from safetensors.torch import load_file
from torch import nn

from nanochat.config import Component
from nanochat.data.loader import Batch, LoaderState, joined
from nanochat.data.source import digests
from nanochat.stages import evaluation
from nanochat.stages.context import Figure, Record, StageContext
from nanochat.stages.subject import Subject
from nanochat.stages.training_config import rows_off_cuda
from nanochat.stages.training_faults import refuse_without_documents, rows_of_a_rank
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import checkpoint, groups, micro_batch, schedule
from nanochat.training.group_table import GroupRow, group_row, table_text
from nanochat.training.loop import TrainingRun, train
from nanochat.training.memory import peak_memory_bytes
from nanochat.training.meter import Meter
from nanochat.training.optimizer import Optimizer
from nanochat.training.peak import peak_flops


class ResumableLoader(Protocol):
    """A loader whose place can be saved."""

    def ready(self, seconds: float) -> bool: ...
    def next_batch(self) -> Batch: ...
    def state(self) -> LoaderState: ...
    def load_state(self, state: LoaderState) -> None: ...
    def counts(self) -> Mapping[str, int]: ...
    def position(self) -> Mapping[str, float]: ...
    def close(self) -> None: ...


@attrs.define(kw_only=True)
class TrainingStage:
    """One training stage under way."""

    context: StageContext
    config: Any
    """A PretrainConfig or FinetuneConfig: the keys that both have are read here."""
    model: nn.Module
    described_model: Mapping[str, Any]
    """The model as `checkpoint.describe` gives it, kept in every checkpoint."""
    tokenizer: Tokenizer
    tools: Mapping[str, Component] = attrs.field(factory=dict)
    loader: ResumableLoader
    subject: Subject
    steps: int | None
    fraction: Callable[[int], float]
    lr_factor: float = 1.0
    optimizers: dict[str, Optimizer] = attrs.field(factory=dict)
    run: TrainingRun = attrs.field(init=False)

    def execute(self) -> Record:
        """Train from the newest checkpoint, or from the start, to the end; then run the evaluations that are left."""
        context, config = self.context, self.config
        if config.document_mask:
            refuse_without_documents(self.model, context)
        self.optimizers = build_optimizers(config.optim, self.model, context, self.lr_factor)
        self.run = TrainingRun(
            model=torch.compile(self.model) if config.compile else self.model,
            optimizers=self.optimizers,
            loader=self.loader,
            runtime=context.runtime,
            schedule=config.schedule,
            steps=self.steps,
            fraction=self.fraction,
            device_batch_size=self.rows_at_once(),
            grad_clip=config.grad_clip,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoint_seconds=60 * config.checkpoint_minutes,
            metrics=context.reporter.metrics,
            progress=context.reporter.progress,
            evaluate=self.evaluate_due,
            save=self.save,
            stop_asked=context.stop_asked,
            folder=context.folder,
            meter=Meter(flops_per_token=flops_per_token(self.model), peak_flops=peak_flops(context.runtime)),
        )
        context.reporter.note(table_text(group_rows(config.optim, self.model, self.lr_factor)))
        self.resume()
        try:
            train(self.run)
        finally:
            self.loader.close()
        figures = evaluation.run_evals(config.evals, self.subject, context)
        figures |= {name: Figure(value=float(count)) for name, count in self.loader.counts().items()}
        context.reporter.metrics(self.run.step, evaluation.values(figures))
        return self.record(figures)

    def record(self, figures: dict[str, Figure]) -> Record:
        """What the finished stage leaves, beside the figures of its evaluations."""
        return Record(
            data=digests(self.subject.sources),
            artifact=f"checkpoints/step_{self.run.step:06d}",
            figures=figures
            | {
                "steps": Figure(value=float(self.run.step)),
                "tokens": Figure(value=float(self.run.tokens)),
                "parameters": Figure(value=float(sum(p.numel() for p in self.model.parameters()))),
                "peak_memory_bytes": Figure(value=float(peak_memory_bytes(self.context.runtime.device))),
            },
        )

    def rows_at_once(self) -> int:
        """The recipe's device_batch_size; where that is "auto", what suits the device."""
        config, runtime = self.config, self.context.runtime
        if config.device_batch_size != "auto":
            return int(config.device_batch_size)
        sequence_len = self.subject.model.config.sequence_len
        rows = rows_of_a_rank(config.total_batch_size, sequence_len, runtime.world_size)
        if runtime.device.type == "cuda":
            chosen = micro_batch.probed(
                self.model,
                runtime,
                rows=rows,
                vocab_size=self.tokenizer.vocab_size,
                documents=config.document_mask,
                reserved=state_bytes(config.optim, self.model),
            )
        else:
            chosen = min(rows, rows_off_cuda(sequence_len))
        self.context.reporter.note(f"{chosen} of {rows} rows at once (device_batch_size = auto)")
        return chosen

    def evaluate_due(self, step: int) -> Mapping[str, float]:
        """Figures of the evaluations whose interval this step completes; the last step's come with the record."""
        wanted = evaluation.due(self.config.evals, step)
        if not wanted or self.run.finished:
            return {}
        return evaluation.values(evaluation.run_evals(wanted, self.subject, self.context, step=step))

    def save(self) -> None:
        """Write a checkpoint of the run as it stands, unless this step has one."""
        if self.run.saved_step == self.run.step:
            return
        runtime, run = self.context.runtime, self.run
        folder, kept = self.context.folder / "checkpoints", self.config.checkpoints_kept
        writer = checkpoint.CheckpointWriter(folder, run.step, runtime, kept=kept)
        place = self.loader.state()
        writer.json(f"loader-{runtime.rank}", place.cursors)
        writer.tensors(f"loader-{runtime.rank}", checkpoint.as_tensors(place.buffers))
        if runtime.is_main:
            tensors, values = checkpoint.optimizer_tensors(self.optimizers)
            writer.tensors("model", self.model.state_dict())
            writer.tensors("optim", tensors)
            writer.tensors("random", checkpoint.random_states(runtime))
            scale = run.loss_scale.state() if run.loss_scale else None
            state = {"step": run.step, "tokens": run.tokens, "meter": run.meter.state(), "loss_scale": scale}
            writer.json("state", state | {"optimizers": values})
            writer.json("meta", self.meta())
            self.tokenizer.save(writer.folder)
        writer.commit()

    def meta(self) -> dict[str, Any]:
        """What a reader of the checkpoint needs to build the model again."""
        return {
            "format": checkpoint.FORMAT,
            "stage": self.context.stage,
            "tag": self.config.tag,
            "step": self.run.step,
            "tokens": self.run.tokens,
            "model": self.described_model,
            "tools": [checkpoint.describe(tool) for tool in self.tools.values()],
            "tokenizer": self.tokenizer.digest,
        }

    def resume(self) -> None:
        """Go on from the newest valid checkpoint of this stage, if there is one."""
        context, runtime = self.context, self.context.runtime
        found = checkpoint.newest_valid(context.folder / "checkpoints", runtime, context.reporter.note)
        if found is None:
            return
        state = json.loads((found / "state.json").read_text())
        device = str(runtime.device)
        self.model.load_state_dict(load_file(found / "model.safetensors", device=device))
        tensors = load_file(found / "optim.safetensors", device=device)
        checkpoint.restore_optimizers(self.optimizers, tensors, state["optimizers"])
        checkpoint.restore_random_states(load_file(found / "random.safetensors"), runtime)
        self.loader.load_state(read_loader_state(found))
        self.run.step, self.run.tokens, self.run.saved_step = state["step"], state["tokens"], state["step"]
        self.run.meter.load_state(state.get("meter", {}))
        if self.run.loss_scale is not None:
            self.run.loss_scale.load_state(state["loss_scale"])
        context.reporter.truncate_metrics(self.run.step)
        context.reporter.note(f"goes on from step {self.run.step}")


def state_bytes(optim: Mapping[str, Component], model: nn.Module) -> int:
    """What the groups' optimizers will keep; two float32 numbers a parameter for one that does not say."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    members = groups.assign(shapes, {name: group.slot.match for name, group in optim.items()}).groups
    total = 0
    for name, group in optim.items():
        own = [shapes[member] for member in members[name]]
        said = getattr(group.config, "state_bytes", None)
        total += said(own) if callable(said) else sum(8 * math.prod(shape) for shape in own)
    return total


def flops_per_token(model: nn.Module) -> int | None:
    """Training FLOPs a token; None where the model's config does not say."""
    said = getattr(getattr(model, "config", None), "flops_per_token", None)
    return said() if callable(said) else None


def read_loader_state(found: Path) -> LoaderState:
    """The places of all ranks that wrote a checkpoint, in one."""
    states = []
    for path in sorted(found.glob("loader-*.json")):
        tensors = load_file(path.with_suffix(".safetensors"))
        buffers = {name: tensor.numpy() for name, tensor in tensors.items()}
        states.append(LoaderState(cursors=json.loads(path.read_text()), buffers=buffers))
    return joined(states)


def group_rows(optim: Mapping[str, Component], model: nn.Module, lr_factor: float) -> list[GroupRow]:
    """The table of the groups, of the model as it is."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assigned = groups.assign(shapes, {name: group.slot.match for name, group in optim.items()}).groups
    return [
        group_row(group, {member: shapes[member] for member in assigned[name]}, lr_factor)
        for name, group in optim.items()
    ]


def build_optimizers(
    optim: Mapping[str, Component], model: nn.Module, context: StageContext, lr_factor: float
) -> dict[str, Optimizer]:
    """One optimizer a group, each with the parameters its patterns match; learning rates scaled as the slots say."""
    parameters = dict(model.named_parameters())
    assignment = groups.assign(parameters, {name: group.slot.match for name, group in optim.items()})
    assert not (assignment.unmatched or assignment.doubled or assignment.empty), "the recipe engine checks the groups"
    optimizers: dict[str, Optimizer] = {}
    for name, group in optim.items():
        members = {member: parameters[member] for member in assignment.groups[name]}
        optimizers[name] = context.build(group, members, context.runtime)
        schedule.remember_peaks([optimizers[name]], lr_factor * group.slot.lr_factor)
    return optimizers
