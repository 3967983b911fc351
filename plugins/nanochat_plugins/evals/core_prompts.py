"""From the examples of a CORE task to prompts: which examples are taken, what is shown before each, what is scored.

In: a task and its examples. Out: `Prompts`, each example's as ids. The rules are those of the public nanochat
(core_eval.py, base_eval.py), so that the figures can be compared: examples are shuffled with the seed 1337 and cut off
at the cap; before number i of them stand examples that are drawn, with the seed 1234 + i, from all others, not from
those below the cap alone. Prompts are made once for a tokenizer and kept on disk. Not here: the model.
"""

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from nanochat.durable import replace_content
from nanochat.home import data_dir
from nanochat.inference.scoring import Continuations, common_length
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.evals.core_bundle import Bundle, BundleTask, Example, question

FORMAT = 1
SHUFFLE_SEED, SHOT_SEED = 1337, 1234
AT_ONCE = 64
"""Examples whose prompts are tokenised together."""

Ids = NDArray[np.int32]


@attrs.frozen(kw_only=True, eq=False)
class Prompts:
    """The prompts of a task's examples, in the order in which they are taken."""

    task: BundleTask
    golds: Sequence[int]
    """The right choice; of language modeling, 0."""
    made: Sequence[Continuations | str]
    """What is scored; or why nothing can be."""
    texts: Sequence[str]
    """What is asked, without what is shown before, to be read."""


def shuffled(count: int) -> list[int]:
    """The order of a task's examples: numbers in the file."""
    order = list(range(count))
    random.Random(SHUFFLE_SEED).shuffle(order)
    return order


def shots(index: int, count: int, wanted: int) -> list[int]:
    """Which of `count` shuffled examples are shown before number `index`: `wanted` of the others.

    The draw from a list of the others depends on its length alone, so the list need not be made.
    """
    if not wanted:
        return []
    drawn = random.Random(SHOT_SEED + index).sample(range(count - 1), wanted)
    return [number + (number >= index) for number in drawn]


def answered(example: Example, task: BundleTask) -> str:
    """An example with its right answer, as it is shown before others."""
    if task.type == "multiple_choice":
        return f"{example['query']}{task.delimiter}{example['choices'][example['gold']]}"
    if task.type == "schema":
        return f"{example['context_options'][example['gold']]}{task.delimiter}{example['continuation']}"
    return f"{example['context'].strip()}{task.delimiter}{example['continuation']}"


def rendered(example: Example, shown: Iterable[Example], task: BundleTask) -> list[str]:
    """The texts of an example: one for each choice; of language modeling, without the answer and with it."""
    before = "".join(f"{answered(one, task)}\n\n" for one in shown)
    if task.type == "multiple_choice":
        return [f"{before}{example['query']}{task.delimiter}{choice}" for choice in example["choices"]]
    if task.type == "schema":
        return [f"{before}{option}{task.delimiter}{example['continuation']}" for option in example["context_options"]]
    asked = f"{before}{example['context'].strip()}{task.delimiter}"
    # The space before an answer belongs to its first token, so the prompt without it ends before.
    return [asked.strip(), asked + example["continuation"]]


def scored(ids: Sequence[Ids], task: BundleTask) -> Continuations:
    """What of an example's texts, each behind BOS, is scored. ValueError, in words, where nothing can be."""
    if task.type == "language_modeling":
        asked, whole = ids
        if len(asked) >= len(whole) or (asked != whole[: len(asked)]).any():
            raise ValueError("the answer does not begin with a token of its own")
        return Continuations.of([whole], [len(asked)])
    if len(ids) < 2:
        raise ValueError("it has one choice")
    if task.type == "schema":
        alike = common_length([one[::-1] for one in ids])
        starts = [len(one) - alike for one in ids]
    else:
        starts = [common_length(ids)] * len(ids)
    if not all(1 <= start < len(one) for start, one in zip(starts, ids, strict=True)):
        raise ValueError("a choice has no token of its own")
    return Continuations.of(ids, starts)


def prompts(bundle: Bundle, task: BundleTask, tokenizer: Tokenizer, cap: int | None) -> Prompts:
    """The prompts of a task: those that are here, or made now. Other processes wait for the one that makes them."""
    examples = bundle.examples(task)
    order = shuffled(len(examples))
    taken = order[: cap or len(order)]
    facts = [FORMAT, bundle.digest(task), attrs.asdict(task), tokenizer.digest, len(taken)]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    path = data_dir() / "prompts" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        made = _read(path)
        if made is None:
            made = [
                one
                for begin in range(0, len(taken), AT_ONCE)
                for one in _tokenised(range(begin, min(begin + AT_ONCE, len(taken))), examples, order, task, tokenizer)
            ]
            _write(path, made)
    return Prompts(
        task=task,
        golds=[int(examples[number].get("gold", 0)) for number in taken],
        made=made,
        texts=[question(examples[number], task) for number in taken],
    )


def _tokenised(
    indices: range, examples: Sequence[Example], order: Sequence[int], task: BundleTask, tokenizer: Tokenizer
) -> list[Continuations | str]:
    texts: list[list[str]] = []
    for index in indices:
        shown = [examples[order[number]] for number in shots(index, len(order), task.shots)]
        texts.append(rendered(examples[order[index]], shown, task))
    encoded = iter(tokenizer.encode_batch([text for some in texts for text in some]))
    bos = np.array([tokenizer.bos_id], dtype=np.int32)
    return [_scored([np.concatenate((bos, next(encoded)), dtype=np.int32) for _ in some], task) for some in texts]


def _scored(ids: Sequence[Ids], task: BundleTask) -> Continuations | str:
    try:
        return scored(ids, task)
    except ValueError as why:
        return str(why)


def _write(path: Path, made: Sequence[Continuations | str]) -> None:
    pieces: list[Ids] = []
    lengths: list[int] = []
    shape: list[list[int] | str] = []
    for one in made:
        if isinstance(one, str):
            shape.append(one)
            continue
        shape.append([int(start) for start in one.starts])
        own = [np.asarray(ids, dtype=np.int32) for ids in (one.shared, *one.endings)]
        pieces += own
        lengths += map(len, own)
    ids = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
    content = io.BytesIO()
    np.savez(content, ids=ids, lengths=np.array(lengths, dtype=np.int64), shape=np.array(json.dumps(shape)))
    replace_content(path, content.getvalue())


def _read(path: Path) -> list[Continuations | str] | None:
    """What `_write` wrote; None where there is nothing, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            ids, lengths, shape = found["ids"], found["lengths"].tolist(), json.loads(str(found["shape"]))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    if len(ids) != sum(lengths):
        return None
    made: list[Continuations | str] = []
    piece = place = 0
    for one in shape:
        if isinstance(one, str):
            made.append(one)
            continue
        parts = []
        for length in lengths[piece : piece + len(one) + 1]:
            parts.append(ids[place : place + length])
            place += length
        piece += len(one) + 1
        made.append(Continuations(shared=parts[0], endings=parts[1:], starts=one))
    return made
