"""What all training stages have in common around the loop: groups, resume, evaluations, checkpoints, record.

In: a stage's config and a model, loader and tokenizer that the stage made. Out: its record. The stages differ only in
what they put in.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from platform import python_version
from typing import Any, Protocol

import attrs
import torch
from safetensors.torch import load_file
from torch import nn

import nanochat
from nanochat.config import Artifact, Component
from nanochat.data.loader import Batch, LoaderState, joined
from nanochat.data.source import digests
from nanochat.quantity import duration
from nanochat.stages import evaluation, inheritance, optimizers
from nanochat.stages.context import Figure, Record, StageContext
from nanochat.stages.rows_at_once import rows_at_once
from nanochat.stages.subject import Subject
from nanochat.stages.training_faults import refuse_without_documents
from nanochat.text.tokenizer import Tokenizer
from nanochat.training import checkpoint, factored_gradient, manifest, optimizer_state
from nanochat.training.batch_digests import DigestedLoader
from nanochat.training.checkpoint_writer import CheckpointWriter
from nanochat.training.loop import TrainingRun, train
from nanochat.training.memory import peak_memory_bytes
from nanochat.training.meter import Meter
from nanochat.training.objective import Objective, cross_entropy
from nanochat.training.optimizer_state import Updater
from nanochat.training.peak import peak_flops
from nanochat.training.saved_model import SavedModel
from nanochat.training.saves import Saves
from nanochat.training.snapshot import HostCopies, Snapshot, json_text
from nanochat.training.step_memory import StepMemory


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
    """A TrainingConfig, whose keys are read here."""
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
    rows: int | None = None
    """Of this rank in a step, where the config has no `total_batch_size` of tokens that says it."""
    objective: Objective = cross_entropy
    waits_for: str = "data_wait"
    """As the Meter's."""
    told: Callable[[], Mapping[str, float]] = dict
    shown: Callable[[], Mapping[str, float]] = dict
    """As the TrainingRun's."""
    warm_start: Artifact | None = None
    """The checkpoint whose optimizers' state a run begins with."""
    updaters: Sequence[Updater] = ()
    run: TrainingRun = attrs.field(init=False)
    copies: HostCopies = attrs.field(init=False)
    """The memory that checkpoints are written from."""
    data: Mapping[str, str] = attrs.field(init=False)
    """The digests of what is read."""
    began: float | None = attrs.field(default=None, init=False)
    """When the first step of this process began, until it is done: seconds of time.monotonic."""

    def execute(self) -> Record:
        """Train from the newest checkpoint, or from the start, to the end; then run the evaluations that are left."""
        context, config = self.context, self.config
        evaluation.fetch(config.evals)
        if config.document_mask:
            refuse_without_documents(self.model, context)
        self.copies, self.data = HostCopies(context.runtime.device), digests(self.subject.sources)
        exchange, self.updaters = optimizers.build(config, self.model, context, self.lr_factor)
        self.run = TrainingRun(
            model=torch.compile(self.model) if config.compile else self.model,
            optimizers=optimizers.by_group(config.optim, self.updaters),
            exchange=exchange,
            loader=self.digested() if config.batch_digests else self.loader,
            runtime=context.runtime,
            schedule=config.schedule,
            steps=self.steps,
            fraction=self.fraction,
            device_batch_size=rows_at_once(config, self.model, self.tokenizer.vocab_size, context, self.rows),
            objective=self.objective,
            grad_clip=config.grad_clip,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoint_seconds=60 * config.checkpoint_minutes,
            metrics=context.reporter.metrics,
            progress=self.progress,
            evaluate=self.evaluate_due,
            save=self.save,
            saves=Saves(context.runtime, background=config.checkpoint_async),
            stop_asked=context.stop_asked,
            take_save_request=context.take_save_request,
            folder=context.folder,
            told=self.told,
            shown=self.shown,
            meter=Meter(
                flops_per_token=flops_per_token(self.model),
                peak_flops=peak_flops(context.runtime),
                waits_for=self.waits_for,
                processes=context.runtime.world_size if context.runtime.device.type == "cpu" else 0,
            ),
            memory=StepMemory(device=context.runtime.device, steps=config.track_memory),
        )
        self.resume()
        if config.compile:
            context.reporter.note("torch.compile works in the first step, which may take minutes")
        self.began = time.monotonic()
        try:
            with exchange.steady():
                train(self.run)
        finally:
            self.run.saves.abandon()
            self.loader.close()
        with exchange.whole():
            figures = evaluation.run_evals(config.evals, self.subject, context)
        figures |= {name: Figure(value=float(count)) for name, count in self.loader.counts().items()}
        context.reporter.metrics(self.run.step, evaluation.values(figures))
        return self.record(figures)

    def record(self, figures: dict[str, Figure]) -> Record:
        """What the finished stage leaves, beside the figures of its evaluations."""
        measured = self.run.meter.speed | self.run.memory.figures(self.held_bytes())
        return Record(
            data=self.data,
            artifact=f"checkpoints/step_{self.run.step:06d}",
            figures=figures
            | {
                "steps": Figure(value=float(self.run.step)),
                "tokens": Figure(value=float(self.run.tokens)),
                "parameters": Figure(value=float(sum(p.numel() for p in self.model.parameters()))),
                "peak_memory_bytes": Figure(value=float(peak_memory_bytes(self.context.runtime.device))),
            }
            | {name: Figure(value=float(value)) for name, value in measured.items()},
        )

    def held_bytes(self) -> int:
        """On the main rank, which writes the record: of weights, buffers, and state of optimizers and bases."""
        part = self.run.exchange.model_part()
        weights = part.tensors if part else {}  # of weights that are cut, the rows that are here
        buffers = [its for name, its in self.model.named_buffers() if name not in weights]
        state, _ = optimizer_state.state_of(self.updaters)
        bases = factored_gradient.states(self.run.exchange.parameters)
        return sum(its.nbytes for its in (*weights.values(), *buffers, *state.values(), *bases.values()))

    def digested(self) -> DigestedLoader:
        """The loader, what it gives written down."""
        file = self.context.folder / f"batches-{self.context.runtime.rank}.jsonl"
        return DigestedLoader(inner=self.loader, file=file, step=lambda: self.run.step + 1)

    def progress(self, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """Tell of a step that was made; of the first, which compiles, how long it took, and no speed is told of it."""
        if self.began is not None and self.config.compile:
            seconds = duration(time.monotonic() - self.began)
            self.context.reporter.note(f"the first step, compiled, took {seconds}")
            self.run.meter.begin()
        self.began = None
        self.context.reporter.progress(step, steps, figures)

    def evaluate_due(self, step: int) -> Mapping[str, float]:
        """Figures of the evaluations whose interval this step completes; the last step's come with the record."""
        wanted = evaluation.due(self.config.evals, step)
        if not wanted or self.run.finished:
            return {}
        self.run.saves.finish()  # an evaluation is long, may fail, and exchanges nothing that could commit a save
        with self.run.exchange.whole():
            return evaluation.values(evaluation.run_evals(wanted, self.subject, self.context, step=step))

    def save(self) -> None:
        """Begin a checkpoint of the run as it stands, unless this step has one."""
        run, runtime = self.run, self.context.runtime
        if run.saved_step == run.step:
            return
        run.saves.finish()  # its memory is about to be used again
        folder, kept = self.context.folder / "checkpoints", self.config.checkpoints_kept
        writer, snapshot = CheckpointWriter(folder, run.step, runtime, kept=kept), self.snapshot()
        writer.require_room(int(runtime.sum(torch.tensor(snapshot.n_bytes))))
        run.saves.begin(writer, snapshot)

    def snapshot(self) -> Snapshot:
        """This rank's part of a checkpoint: a copy where it is written beside the training."""
        runtime, run = self.context.runtime, self.run
        place = self.loader.state()
        part = run.exchange.model_part()
        optimizer_tensors, optimizer_values = optimizer_state.state_of(self.updaters)
        tensors: dict[str, Mapping[str, torch.Tensor]] = {
            f"loader-{runtime.rank}": checkpoint.as_tensors(place.buffers),
            f"optim-{runtime.rank}": optimizer_tensors,
        }
        values = {f"loader-{runtime.rank}": place.cursors, f"optim-{runtime.rank}": optimizer_values}
        if part is not None:
            tensors[part.file] = part.tensors
        if runtime.is_main:
            tensors["random"] = checkpoint.random_states(runtime)
            bases = factored_gradient.states(run.exchange.parameters)
            tensors |= {"bases": bases} if bases else {}
            values |= {"state": self.state(), "meta": self.meta()}
        return Snapshot(
            tensors=self.copies.of(tensors) if self.config.checkpoint_async else tensors,
            texts={name: json_text(value) for name, value in values.items()},
            metadata={part.file: part.metadata} if part is not None else {},
            tokenizer=self.tokenizer if runtime.is_main else None,
        )

    def state(self) -> dict[str, Any]:
        """Where the run stands, and what it was made of and with."""
        run = self.run
        return {
            "step": run.step,
            "tokens": run.tokens,
            "meter": run.meter.state(),
            "loss_scale": run.loss_scale.state() if run.loss_scale else None,
            "key": self.context.key,
            "processes": checkpoint.processes(self.context.runtime),
            "data": self.data,
            "versions": {"nanochat": nanochat.__version__, "torch": torch.__version__, "python": python_version()},
        }

    def meta(self) -> dict[str, Any]:
        """What a reader of the checkpoint needs to build the model again."""
        return {
            "format": manifest.FORMAT,
            "stage": self.context.stage,
            "tag": self.config.tag,
            "step": self.run.step,
            "tokens": self.run.tokens,
            "model": self.described_model,
            "tools": [checkpoint.describe(tool) for tool in self.tools.values()],
            "tokenizer": self.tokenizer.digest,
        }

    def resume(self) -> None:
        """Go on from the newest valid checkpoint of this stage; else begin, warm where that is said."""
        context, runtime = self.context, self.context.runtime
        found = checkpoint.newest_valid(context.folder / "checkpoints", runtime, context.reporter.note)
        if found is None:
            if self.warm_start is not None:
                inheritance.warm_start(self.updaters, self.warm_start, runtime)
            return
        state = json.loads((found / "state.json").read_text())
        if json.loads((found / "meta.json").read_text())["tokenizer"] != self.tokenizer.digest:
            raise manifest.broken(found, "it was trained with another tokenizer than this stage's")
        ranks = checkpoint.ranks_to_read(state, runtime)
        self.run.exchange.load_model(SavedModel(found, runtime.device, ranks))
        try:
            optimizer_state.restore(self.updaters, optimizer_state.read_states(found, runtime.device, ranks))
        except (KeyError, ValueError) as fault:
            raise manifest.broken(found, f"its optimizer state does not fit the groups: {fault}") from fault
        self.resume_bases(found / "bases.safetensors")
        checkpoint.restore_random_states(load_file(found / "random.safetensors"), runtime)
        self.loader.load_state(read_loader_state(found, ranks))
        self.run.step, self.run.tokens, self.run.saved_step = state["step"], state["tokens"], state["step"]
        self.run.meter.load_state(state["meter"])
        if self.run.loss_scale is not None:
            self.run.loss_scale.load_state(state["loss_scale"])
        context.reporter.truncate_metrics(self.run.step)
        context.reporter.note(f"goes on from step {self.run.step}")

    def resume_bases(self, file: Path) -> None:
        """Take up the bases of gradients in factors. StageError E406 where they are not all there."""
        saved = load_file(file, device=str(self.context.runtime.device)) if file.exists() else {}
        try:
            factored_gradient.load_states(self.run.exchange.parameters, saved)
        except (KeyError, ValueError) as fault:
            raise manifest.broken(file.parent, f"its bases of gradients do not fit the model: {fault}") from fault


def flops_per_token(model: nn.Module) -> int | None:
    """Training FLOPs a token; None where the model's config does not say."""
    said = getattr(getattr(model, "config", None), "flops_per_token", None)
    return said() if callable(said) else None


def read_loader_state(found: Path, ranks: Collection[int] | None) -> LoaderState:
    """The places of ranks that wrote a checkpoint, in one. None: of all."""
    states = []
    for path in manifest.files_of_ranks(found, "loader", ranks):
        tensors = load_file(path.with_suffix(".safetensors"))
        buffers = {name: tensor.numpy() for name, tensor in tensors.items()}
        states.append(LoaderState(cursors=json.loads(path.read_text()), buffers=buffers))
    return joined(states)
