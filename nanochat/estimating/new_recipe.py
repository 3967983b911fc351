"""The text of a new recipe, as a person would have written it: few keys, each section explained.

In: what the person wants and has. Out: TOML. Sizes that nobody was asked for follow from the device: small rows and
vocabularies on a CPU, those of `recipes/speedrun.toml` on a GPU. Not here: questions, budgets, files.
"""

from collections.abc import Sequence
from typing import Literal

import attrs

from nanochat.recipe.notation import value_text

Goal = Literal["chat", "pretrain"]
PYDOCS, CLIMBMIX = "pydocs", "climbmix"


@attrs.frozen(kw_only=True)
class NewRecipe:
    """Everything that the text depends on."""

    goal: Goal
    device: str
    """cpu, mps or cuda."""
    processes: int
    depth: int
    steps: int | None
    """None: as many as its usual tokens for each matmul parameter make."""
    finetuning_steps: int = 1
    data: str
    """pydocs (and stories), climbmix, or a path of files."""
    shards: int = 1
    """climbmix: how many at least."""
    tokenizer_characters: int | None = None
    conversations: str | None = None
    """A .jsonl file of conversations to finetune on."""
    device_batch_size: int | None = None
    why: str = ""
    """How depth and steps were chosen, in one sentence."""
    schema: bool = False
    """A schema.json lies beside the file."""

    @property
    def large(self) -> bool:
        """Sized as for a GPU."""
        return self.device == "cuda"

    @property
    def tokens_per_param(self) -> float:
        """The field's 12 on a GPU. A CPU affords so few tokens of such simple text that a wider model serves better:
        quickstart.toml has a third of a token a parameter, by measurement.
        """
        return 12.0 if self.large else 2.0

    @property
    def knows_words(self) -> bool:
        """The text is sure to hold the thousand English words that spelling tasks need."""
        return self.data in (PYDOCS, CLIMBMIX)

    @property
    def tokenizer_shards(self) -> int:
        """climbmix: how many the tokenizer is trained on."""
        return 8 if self.large else 1

    @property
    def finetuning_share(self) -> float:
        """Finetuning steps for each pretraining step: a tiny model learns its skills then, a large one its manners."""
        return 0.1 if self.large else 0.5


def recipe_text(new: NewRecipe) -> str:
    """The whole file."""
    parts = [_head(new), _tokenizer(new), _pretraining(new)]
    if new.goal == "chat":
        parts += [_finetuning(new), _evaluation(new)]
    return "\n".join(parts)


def _head(new: NewRecipe) -> str:
    schema = "#:schema schema.json\n" if new.schema else ""
    goal = (
        "A chat model: tokenizer, pretraining, finetuning, evaluation." if new.goal == "chat" else "A pretrained model."
    )
    processes = f"nproc_per_node = {new.processes}\n" if new.large else ""
    return f'{schema}# {goal}\nformat = 1\nseed = 42\n\n[hardware]\ndevice = "{new.device}"\n{processes}'


def _tokenizer(new: NewRecipe) -> str:
    vocabulary = 32_768 if new.large or new.depth > 8 else 4_096 if new.depth > 4 else 2_048
    lines = [
        "# The tokenizer: text to ids. A larger vocabulary makes fewer tokens of a text, and larger embeddings.",
        "[stages.tok]",
        'use = "tokenizer"',
        f"vocab_size = {vocabulary}",
    ]
    if new.tokenizer_characters is not None:
        lines.append(f"max_chars = {new.tokenizer_characters}")
    if new.large:
        lines += [_noted("[stages.tok.hardware]", "it needs no GPU"), 'device = "cpu"', "nproc_per_node = 1"]
    return "\n".join([*lines, *_sources("tok", new, new.tokenizer_shards), ""])


def _sources(stage: str, new: NewRecipe, shards: int) -> list[str]:
    table = f"[stages.{stage}.data"
    if new.data == PYDOCS:
        return [f"{table}.docs]", 'use = "pydocs"', f"{table}.stories]", 'use = "stories"']
    if new.data == CLIMBMIX:
        return [f"{table}.web]", 'use = "climbmix"', f"shards = {shards}"]
    return [f"{table}.files]", 'use = "files"', f"path = {value_text(new.data)}"]


def _pretraining(new: NewRecipe) -> str:
    lines = [
        "# Pretraining: the model learns to continue text." + (f" {new.why}" if new.why else ""),
        "[stages.base]",
        'use = "pretrain"',
        'tokenizer = "stage:tok"',
        f"steps = {new.steps}" if new.steps is not None else f"tokens_per_param = {new.tokens_per_param}",
    ]
    if not new.large:
        lines += [f"total_batch_size = {4096 if new.depth <= 4 else 16_384}", 'packing = "stream"']
    if new.device_batch_size is not None:
        lines.append(_noted(f"device_batch_size = {new.device_batch_size}", "rows computed at once, as memory allows"))
    lines += [
        "[stages.base.model]",
        'use = "gpt"',
        _noted(f"depth = {new.depth}", "width and heads follow"),
    ]
    if not new.large:
        lines += ["head_dim = 64", "sequence_len = 256"]
    if new.data == CLIMBMIX and new.shards > new.tokenizer_shards:
        lines += _sources("base", new, new.shards)
    else:
        lines += ["[stages.base.data]", 'from = "stages.tok.data"']
    lines += [
        "",
        *_groups(new),
        _noted("[stages.base.evals.bpb]", "bits a byte on text that is held out"),
        'use = "bpb"',
    ]
    return "\n".join([*lines, f"tokens = {2**22 if new.large else 2**16}", ""])


@attrs.frozen
class _Group:
    name: str
    match: Sequence[str]
    lr: float
    more: str = ""


_SMALL = (
    _Group("head", ["head.*"], 0.008),
    _Group("embeddings", ["wte.*", "value_embeds.*"], 0.3),
    _Group("scalars", ["*_lambdas", "*_lambda", "smear_gate.*"], 0.01),
)
_BOTH, _BATCH = 'scale_lr = ["batch", "width"]', 'scale_lr = ["batch"]'
_LARGE = (
    _Group("head", ["head.*"], 0.008, f"beta2 = 0.96\nweight_decay = 0.01\n{_BOTH}"),
    _Group("wte", ["wte.*"], 0.3, f"beta2 = 0.995\nweight_decay = 0.001\n{_BOTH}"),
    _Group("value_embeddings", ["value_embeds.*"], 0.15, f"beta2 = 0.995\nweight_decay = 0.01\n{_BOTH}"),
    _Group("resid_lambdas", ["resid_lambdas"], 0.005, f"weight_decay = 0.05\n{_BATCH}"),
    _Group("x0_lambdas", ["x0_lambdas"], 0.5, f"beta1 = 0.96\n{_BATCH}"),
    _Group("smear_and_backout", ["smear_*", "backout_lambda"], 0.2),
)


def _groups(new: NewRecipe) -> list[str]:
    """Each parameter belongs to exactly one group."""
    scaled = _BATCH if new.large else "weight_decay = 0.0"
    lines = ["# Who updates which parameters: muon the matrices of the blocks, adamw the rest."]
    if new.large:
        lines.append(
            "# Rates are those of a d12 at 2^19 tokens a step; scale_lr says how each follows batch and width."
        )
    lines += ["[stages.base.optim.matrices]", 'use = "muon"', 'match = "blocks.*"', "lr = 0.02", scaled]
    for group in _LARGE if new.large else _SMALL:
        match = value_text(group.match[0] if len(group.match) == 1 else group.match)
        lines += [f"[stages.base.optim.{group.name}]", 'use = "adamw"', f"match = {match}", f"lr = {group.lr}"]
        lines += group.more.splitlines()
    return [*lines, ""]


def _finetuning(new: NewRecipe) -> str:
    lines = [
        "# Finetuning: it learns to answer, from conversations; the loss is on its own words alone.",
        "[stages.sft]",
        'use = "finetune"',
        'init = "stage:base"',
        f"steps = {new.finetuning_steps}",
        'total_batch_size = { from = "stages.base.total_batch_size" }',
    ]
    if not new.large:
        lines.append(_noted("lr_factor = 1.0", "a tiny model learns its skills here: the full rate"))
    if new.device_batch_size is not None:
        lines.append(f"device_batch_size = {new.device_batch_size}")
    lines += ["[stages.sft.optim]", 'from = "stages.base.optim"']
    if new.conversations is not None:
        lines += ["[stages.sft.data.conversations]", 'use = "custom_json"', f"path = {value_text(new.conversations)}"]
    lines += ["[stages.sft.data.arithmetic]", 'use = "arithmetic"', "size = 20000"]
    for task in ("spelling_bee", "simple_spelling") if new.knows_words else ():
        lines += [f"[stages.sft.data.{task}]", f'use = "{task}"', 'words = "stage:tok"', "size = 20000"]
    return "\n".join([*lines, "[stages.sft.tools.calculator]", 'use = "calculator"', ""])


def _evaluation(new: NewRecipe) -> str:
    lines = [
        "# Evaluation: problems that it has never seen.",
        "[stages.eval]",
        'use = "evaluate"',
        'checkpoint = "stage:sft"',
    ]
    tasks: dict[str, list[str]] = {"arithmetic": [], "spelling_bee": ['words = "stage:tok"']}
    for task, more in tasks.items() if new.knows_words else [("arithmetic", [])]:
        lines += [f"[stages.eval.evals.{task}]", 'use = "task"', "max_examples = 100"]
        lines += [f"[stages.eval.evals.{task}.task]", f'use = "{task}"', *more, 'split = "test"', "size = 100"]
    return "\n".join([*lines, ""])


def _noted(line: str, comment: str) -> str:
    """A line with a comment, all of them at one column."""
    return f"{line:<39} # {comment}"
