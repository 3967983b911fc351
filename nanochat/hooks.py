"""What a plugin can implement: one hookspec for each kind of component, and the observers of a run.

A plugin is a module (or object) named by an entry point in the group `nanochat.v1`. It marks functions with `hookimpl`.
The `register_…` hooks receive a registrar whose `add` takes strings, not objects, so that listing and planning import
neither the plugin's implementation nor torch.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import pluggy

PROJECT = "nanochat"
GROUP = "nanochat.v1"
"""The entry-point group. The API version stands in its name: an incompatible plugin is seen without importing it."""

KINDS = (
    "stage",
    "model",
    "transform",
    "optimizer",
    "source",
    "task",
    "eval",
    "tool",
    "launcher",
    "tracker",
    "derivation",
)

GIVES: Mapping[str, tuple[str, ...]] = {
    "model": ("parameters", "state_dict", "load_state_dict"),
    "transform": ("parameters", "state_dict", "load_state_dict"),
    "optimizer": ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict"),
    "source": ("shards", "documents", "skipped"),
    "task": ("evaluate", "__len__", "__getitem__"),
    "tool": ("name", "start", "end", "run"),
    "launcher": ("command", "environment"),
    "tracker": ("start", "log", "finish"),
}
"""Kind → what a builder's result must have. It is looked at when it is built: a plugin's author reads what is missing,
and nobody searches for it in a traceback of ours."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Registrar(Protocol):
    """What a `register_…` hook receives: a door for one kind of component."""

    def add(self, name: str, *, build: str, config: str | None = None, revision: int = 1) -> None:
        """Offer a component under `name`.

        build: "package.module:attribute", what makes it (each kind's contract says with which arguments).
        config: "package.module:Class", its frozen attrs config class; None: the keywords of `build` serve.
        revision: an integer to raise whenever the component's results change; it is part of every stage's key.
        """


@hookspec
def register_stages(registry: Registrar) -> None:
    """Stages: `build(config, context) -> Record`.

    The config class says what the stage makes, `produces: ClassVar[str]`: "tokenizer", "checkpoint" or "figures";
    without it, nothing that another stage can use. `numeric: ClassVar[bool] = False` says that the compute dtype does
    not change the result, `seeded: ClassVar[bool] = False` that the recipe's seed does not (its runtime's is 0 then);
    without them, dtype and seed are part of the stage's key.
    """


@hookspec
def register_models(registry: Registrar) -> None:
    """Models: `build(config, runtime) -> torch.nn.Module`; the config class offers `layout()`.

    It may also offer `tag()`, what checkpoints of this shape are called.

    For `nanochat estimate` it may also offer `flops_per_token()`, without which 6 a parameter are assumed;
    `moments(rows, *, element_bytes, device)`, a list of `nanochat.model.sizes.Moment` that begins at the loss, without
    which (or without an option `sequence_len`) no memory is told; `weight_bytes()` of all parameters, where these are
    not all float32 as their gradients are; and `buffer_bytes(*, element_bytes)`, else 0. Where a
    transform has blocks computed again, `moments` is given `recomputes`, which says of a block's number whether it is;
    where one keeps gradients in factors, `streams` and `columns` as well (see `register_transforms`).
    `decode_bytes(context, *, element_bytes)` tells what one more token reads: bytes of weights, of each row's cache.
    """


@hookspec
def register_transforms(registry: Registrar) -> None:
    """Transforms: `build(config, model, runtime) -> model`, applied before compilation.

    The config class may offer `lacks(hardware, machine)`: a sentence on what the stage's hardware cannot do and what to
    do instead, or "". Such a stage is blocked in `nanochat plan`.

    It may offer `refuses(shapes, beside)`, called before any work with the model's parameter names and shapes, and the
    names of the stage's other transforms: a sentence on what it cannot change and what to do instead, or "".

    For `nanochat estimate` it may also offer `recomputes(block)`: whether the backward pass computes that block again,
    so that only its input is kept; `streams(block)`: tokens of its MLP whose hidden activations stand at once, 0 where
    all are kept; and `columns(name)`: of a parameter's gradient in factors, 0 where it is dense.
    """


@hookspec
def register_optimizers(registry: Registrar) -> None:
    """Optimizers: `build(config, parameters, runtime) -> Optimizer` for one named group of parameters.

    The config class may offer `refuses(shapes)`, called before any work with the group's parameter names and shapes:
    a sentence on what it cannot update and what to do instead, or "".

    With `elementwise: ClassVar[bool] = True` it says that each number is updated by its own gradient alone, so that
    several processes may update the rows of one parameter; without it, parameters are whole.

    For `nanochat estimate` the config class may offer `state_bytes(shapes)`, what is kept from step to step, and
    `workspace_bytes(shapes, *, element_bytes)`, what a step needs beside it; without them, 8 bytes a parameter and no
    workspace are assumed.

    What is built may say `takes_factors`: see `nanochat/training/optimizer.py`.
    """


@hookspec
def register_sources(registry: Registrar) -> None:
    """Sources of documents for pretraining: `build(config) -> Source`.

    For `nanochat estimate` the config class may offer `characters()`, how many it reads in one pass, as a count or as
    good a guess as is to be had without reading, and `disk_bytes()`, what a download would leave on disk; None where
    that is not known. Where it has an option `shards`, how many of these would do is told.
    """


@hookspec
def register_tasks(registry: Registrar) -> None:
    """Tasks, that is conversations and how to score them: `build(config) -> Task`, or keywords without a config."""


@hookspec
def register_evals(registry: Registrar) -> None:
    """Evaluations: `build(config, subject) -> Mapping[str, Figure]`.

    For `nanochat estimate` the config class may offer `forward_tokens()`, how many tokens one evaluation computes.

    What it needs from a network its config gets in `fetch()`, where it offers one, before a training begins.

    For `nanochat data overlap` it may offer `texts(build)`: pairs of a name ("" where there is one set) and the list of
    texts that it measures on. `build(component)` makes a component of its config.
    """


@hookspec
def register_tools(registry: Registrar) -> None:
    """Tools a model can call while it answers: `build(config) -> Tool`."""


@hookspec
def register_launchers(registry: Registrar) -> None:
    """Launchers of a stage's worker processes: `build(hardware) -> Launcher`, as `nanochat.running.launcher` says."""


@hookspec
def register_trackers(registry: Registrar) -> None:
    """Trackers of a run's figures: `build(config) -> Tracker`."""


@hookspec
def register_derivations(registry: Registrar) -> None:
    """Rules that fill an `"auto"` value: `build` names a `nanochat.config.Derivation`."""


@hookspec
def validate_recipe(recipe: Any) -> list[str] | str | None:
    """Look at a resolved recipe; return messages, each of which stops the run. The only observer that can.

    A text alone is one message, and "" none.
    """


@hookspec
def before_stage(stage: str, folder: str) -> None:
    """A stage is about to start in its store folder."""


@hookspec
def on_step(stage: str, step: int, figures: Mapping[str, float]) -> None:
    """A training step was logged. Called on rank 0 of the worker."""


@hookspec
def after_stage(stage: str, record: Mapping[str, Any]) -> None:
    """A stage has finished and its record was written."""


@hookspec
def collect_provenance() -> Mapping[str, Any] | None:
    """More facts for the run's env.json, kept under the plugin's name."""
