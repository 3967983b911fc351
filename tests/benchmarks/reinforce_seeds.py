"""Does reinforcement raise the reward? The stage `rl` of recipes/rl.toml from one checkpoint, over several seeds.

    uv run python tests/benchmarks/reinforce_seeds.py CHECKPOINT [--seeds 5] [--jobs 2] [--set stages.rl.steps=16 …]

CHECKPOINT: a finetuned model's, such as `nanochat-run recipes/rl.toml --until sft` makes. Measured is the test split of
the recipe's task, no pair of whose numbers is in any training example, before and after, with the same problems for all
seeds. Printed is a table in Markdown, and the mean rise twice: over the seeds, with its 95% confidence interval
(Student's t); and over the problems, whose rewards before and after are pairs, so that the chance in the one
measurement before counts too.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from nanochat.config import Artifact
from nanochat.hardware import Machine
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.running.find import find_checkpoint
from nanochat.running.paired import bootstrap
from nanochat.runtime import local_runtime
from nanochat.stages import reinforce
from nanochat.stages.context import Figure, StageContext
from nanochat.stages.subject import Subject
from nanochat.sweeping.student import half_width
from nanochat.training.checkpoint import load_checkpoint
from nanochat_plugins.evals.pass_at_k import evaluate

RECIPE = Path(__file__).parents[2] / "recipes/rl.toml"


@attrs.frozen(kw_only=True)
class Outcome:
    """What was measured."""

    seed: int | None
    figures: Mapping[str, Figure]
    rewards: Sequence[float]
    """Each problem's, the mean of its answers."""
    seconds: float
    """Of the processor."""


class Teller:
    """A reporter that prints the rewards."""

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        if "reward" in figures:
            told = ", ".join(f"{name} {figures[name]:.3f}" for name in ("reward", "rollout_share", "answer_tokens"))
            print(f"  step {step}: {told}", flush=True)

    def progress(self, done: int, total: int, figures: Mapping[str, float], unit: str = "steps") -> None: ...
    def note(self, text: str) -> None: ...
    def truncate_metrics(self, step: int) -> None: ...


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", help="rl/sft, a folder, or whatever else `nanochat chat` takes")
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 1001), metavar="N")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--set", action="append", default=[], help="as of nanochat-run")
    arguments = parser.parse_args()
    machine = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**33, name="this machine")
    recipe = load_recipe(RECIPE, overrides=arguments.set, machine=machine)
    stages, start = recipe.stages, find_checkpoint(arguments.checkpoint)
    config, measure = stages["rl"].config, stages["after"].config.evals["arithmetic"].config
    init = Artifact(reference=f"path:{start}", kind="checkpoint", path=start)
    work = partial(outcome, attrs.evolve(config, init=init, evals={}), measure)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        before, *after = pool.map(work, [None, *range(1, arguments.seeds + 1)])
    print(table(before, after))


def outcome(config: Any, measure: Any, seed: int | None) -> Outcome:
    """What is measured after the stage with a seed; None: before it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        checkpoint = config.init.folder() if seed is None else trained(config, Path(folder), seed)
        figures, rewards = measured(checkpoint, measure)
        found = Outcome(seed=seed, figures=figures, rewards=rewards, seconds=time.process_time() - began)
    print(f"seed {seed}: reward {found.figures['reward'].value:.3f}", flush=True)
    return found


def trained(config: Any, folder: Path, seed: int) -> Path:
    """The checkpoint of the stage with a seed of its own."""
    runtime = local_runtime(seed=seed)
    runtime.seed_everything()
    context = StageContext(
        stage="rl", folder=folder, runtime=runtime, registry=load_registry(), reporter=Teller(),
        should_stop=lambda: False,
    )  # fmt: skip
    return folder / reinforce.run(config, context).artifact


def measured(checkpoint: Path, measure: Any) -> tuple[Mapping[str, Figure], list[float]]:
    """The figures of a checkpoint and each problem's reward, answers sampled by the same numbers each time."""
    kept: list[float] = []
    runtime, registry = local_runtime(), load_registry()
    loaded = load_checkpoint(checkpoint, runtime, registry)
    subject = Subject(
        keep_example=lambda line: kept.append(line["reward"]),
        model=loaded.model.eval(), tokenizer=loaded.tokenizer, runtime=runtime, tools=loaded.tools,
        build=lambda component, *rest: registry.builder(component.kind, component.use)(component.config, *rest),
    )  # fmt: skip
    figures, k = evaluate(measure, subject), measure.samples
    return figures, [statistics.mean(kept[begin : begin + k]) for begin in range(0, len(kept), k)]


def table(before: Outcome, after: Sequence[Outcome]) -> str:
    """Rewards and pass@k by seed; below, the mean rise of the reward."""
    names = [name for name in before.figures if name != "too_long"]
    lines = ["| | " + " | ".join(names) + " | CPU seconds |", "| --- " * (len(names) + 2) + "|"]
    for outcome in (before, *after):
        values = [f"{outcome.figures[name].value:.3f} ± {outcome.figures[name].standard_error:.3f}" for name in names]
        title = "before" if outcome.seed is None else f"seed {outcome.seed}"
        lines.append(f"| {title} | " + " | ".join(values) + f" | {outcome.seconds:.0f} |")
    start = before.figures["reward"]
    rises = [outcome.figures["reward"].value - start.value for outcome in after]
    half = half_width(rises)
    mean = statistics.mean(rises)
    lines.append(f"\nrise of the reward: {mean:.3f} ± {half:.3f} (95%, {len(rises)} seeds, {start.n} problems)")
    pairs = [
        statistics.mean(problem) - first
        for first, *problem in zip(before.rewards, *(outcome.rewards for outcome in after), strict=True)
    ]
    half = 1.96 * statistics.stdev(pairs) / math.sqrt(len(pairs))
    lines.append(f"over the problems: {statistics.mean(pairs):.3f} ± {half:.3f} (95%), p {bootstrap(pairs):.2g}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
