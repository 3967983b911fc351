"""A bundle in the layout of CORE's, made up: all types of tasks, and what is awkward in them.

`write(folder, TASKS)` lays it down, `zipped` packs it as the public one is. `reference` scores one example at a time in
float64, from templates, as arXiv 2406.11794's public implementations do: no batch, no cache, all logits.
"""

import copy
import io
import json
import random
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import torch
from jinja2 import Template

from nanochat.model.gpt import GPT
from nanochat.text.tokenizer import Tokenizer

TEXT = "The small birds sat on a wall and flew away when it rained café Ünï 10 100 , . é—ü 9 81"
WORDS = TEXT.split()
LETTERS = "abcdefghijk"


@attrs.frozen(kw_only=True)
class Task:
    type: str
    shots: int
    examples: Sequence[Mapping[str, Any]]
    baseline: float = 25.0
    delimiter: str | None = None


def phrase(rng: random.Random, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def choices(rng: random.Random, n: int, *, most: int = 4, length: int = 12) -> list[dict[str, Any]]:
    """Two to `most` choices, different ones; some questions end in a space or a line."""
    found = []
    for number in range(n):
        options = list(dict.fromkeys(f"{phrase(rng, 4)} {letter}" for letter in LETTERS[: rng.randint(2, most)]))
        query = phrase(rng, length) + rng.choice(["", " ", "\n"])
        found.append({"query": query, "choices": options, "gold": rng.randrange(len(options)), "number": number})
    return found


def schemas(rng: random.Random, n: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(n):
        begin = phrase(rng, 5)
        options = [f"{begin} {one}" for one in ("Anna", "Berta the second")]
        found.append({"context_options": options, "continuation": phrase(rng, 6), "gold": rng.randrange(2)})
    return found


def answers(rng: random.Random, n: int) -> list[dict[str, Any]]:
    """Contexts with spaces around them."""
    return [{"context": f" {phrase(rng, 10)} \n", "continuation": phrase(rng, 2)} for _ in range(n)]


def tasks(n: int = 12) -> dict[str, Task]:
    """All types, delimiters and numbers of shots; ties; one prompt that is long."""
    rng = random.Random(8)
    ties = [{"query": phrase(rng, 5), "choices": ["yes, so", "yes, so", "no"], "gold": i % 3} for i in range(n)]
    long = [*choices(rng, n - 1), {"query": "so long " * 150, "choices": ["a b", "c d e f"], "gold": 1}]
    return {
        "plain": Task(type="multiple_choice", shots=0, examples=choices(rng, n)),
        "shown": Task(type="multiple_choice", shots=3, examples=choices(rng, n), delimiter="\nAnswer: ", baseline=50.0),
        "tied": Task(type="multiple_choice", shots=1, examples=ties, delimiter=""),
        "long": Task(type="multiple_choice", shots=2, examples=long),
        "schema": Task(type="schema", shots=0, examples=schemas(rng, n), baseline=50.0),
        "schema_shown": Task(type="schema", shots=2, examples=schemas(rng, n), baseline=50.0),
        "answer": Task(type="language_modeling", shots=0, examples=answers(rng, n), baseline=0.0),
        "answer_shown": Task(type="language_modeling", shots=4, examples=answers(rng, n), delimiter="\n", baseline=0.0),
    }


def half_solved(model: GPT, tokenizer: Tokenizer) -> Task:
    """Some contexts of many: behind them the likeliest id is a text that is tokenised as this very id."""
    rng, found = random.Random(4), list[dict[str, str]]()
    while len(found) < 10:
        context = phrase(rng, 8)
        ids = tokenizer.encode(context)
        likely = int(model(torch.tensor([[tokenizer.bos_id, *ids]]))[0, -1].argmax())
        text = tokenizer.decode([likely])
        if likely < tokenizer.bos_id and tokenizer.encode(context + text) == [*ids, likely]:
            found.append({"context": f" {context}\n", "continuation": text if len(found) % 2 else "zz"})
    return Task(type="language_modeling", shots=0, examples=found, delimiter="", baseline=0.0)


def write(folder: Path, described: Mapping[str, Task]) -> Path:
    """The bundle as a folder."""
    (folder / "eval_data" / "some").mkdir(parents=True)
    lines = ["icl_tasks:"]
    rows = ["Eval Task,Task Category,Random baseline"]
    for label, task in described.items():
        lines += [f"- label: {label}", f"  dataset_uri: some/{label}.jsonl", f"  num_fewshot: [{task.shots}]"]
        lines.append(f"  icl_task_type: {task.type}")
        if task.delimiter is not None:
            lines.append(f"  continuation_delimiter: {json.dumps(task.delimiter)}")
        rows.append(f"{label},made up,{task.baseline}")
        content = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in task.examples)
        (folder / "eval_data" / "some" / f"{label}.jsonl").write_text(content, encoding="utf-8")
    (folder / "core.yaml").write_text("\n".join(lines) + "\n")
    (folder / "eval_meta_data.csv").write_text("\n".join(rows) + "\n")
    return folder


def zipped(folder: Path) -> bytes:
    """The bundle as the public one is packed: everything in eval_bundle/."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.writestr(zipfile.ZipInfo(f"eval_bundle/{file.relative_to(folder)}"), file.read_bytes())
    return content.getvalue()


@attrs.frozen(kw_only=True)
class Result:
    label: str
    index: int
    right: bool
    nats: list[float]
    """Per token, of each choice."""
    ids: list[list[int]]


TEMPLATES = {
    "multiple_choice": (
        "{% for e in shown %}{{ e.query }}{{ d }}{{ e.choices[e.gold] }}\n\n{% endfor %}",
        "{{ item.query }}{{ d }}{{ choice }}",
    ),
    "schema": (
        "{% for e in shown %}{{ e.context_options[e.gold] }}{{ d }}{{ e.continuation }}\n\n{% endfor %}",
        "{{ choice }}{{ d }}{{ item.continuation }}",
    ),
    "language_modeling": (
        "{% for e in shown %}{{ e.context | trim }}{{ d }}{{ e.continuation }}\n\n{% endfor %}",
        "{{ item.context | trim }}{{ d }}{{ choice }}",
    ),
}


def reference(
    label: str, task: Task, model: GPT, tokenizer: Tokenizer, *, cap: int | None = None, longest: int | None = None
) -> list[Result]:
    """Every example's result, one at a time. model: in the precision that is wanted."""
    data = list(task.examples)
    random.Random(1337).shuffle(data)
    return [
        one_result(label, task, data, index, model, tokenizer, longest) for index in range(min(len(data), cap or 10**9))
    ]


def texts_of(task: Task, data: Sequence[Any], index: int, tokenizer: Tokenizer) -> tuple[list[list[int]], list[int]]:
    """The ids of each choice of an example, and where what is scored begins."""
    others = [example for number, example in enumerate(data) if number != index]
    item, shown = data[index], random.Random(1234 + index).sample(others, task.shots)
    template = _compiled(task.type)
    options = {"multiple_choice": "choices", "schema": "context_options"}
    offered = item[options[task.type]] if task.type in options else ["", item["continuation"]]
    delimiter = " " if task.delimiter is None else task.delimiter
    texts = [template.render(item=item, shown=shown, d=delimiter, choice=choice) for choice in offered]
    if task.type == "language_modeling":
        texts[0] = texts[0].strip()
    ids = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts]
    if task.type == "multiple_choice":
        return ids, [alike(ids)] * len(ids)
    if task.type == "schema":
        return ids, [len(one) - alike([one[::-1] for one in ids]) for one in ids]
    return [ids[1]], [len(ids[0])]


@cache
def _compiled(kind: str) -> Template:
    return Template("".join(TEMPLATES[kind]), keep_trailing_newline=True)


def one_result(
    label: str, task: Task, data: Sequence[Any], index: int, model: GPT, tokenizer: Tokenizer, longest: int | None
) -> Result:
    ids, starts = texts_of(task, data, index, tokenizer)
    if longest is not None:
        starts = [start - max(0, len(one) - longest) for start, one in zip(starts, ids, strict=True)]
        ids = [one[-longest:] for one in ids]
    nats, greedy = [], []
    for one, start in zip(ids, starts, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([one]))[0, start - 1 : -1]
        wanted = torch.tensor(one[start:])
        nats.append(float(-logits.log_softmax(-1)[torch.arange(len(wanted)), wanted].mean()))
        greedy.append(bool((logits.argmax(-1) == wanted).all()))
    right = greedy[0] if task.type == "language_modeling" else nats.index(min(nats)) == data[index]["gold"]
    return Result(label=label, index=index, right=right, nats=nats, ids=ids)


def alike(sequences: Sequence[Sequence[int]]) -> int:
    count = 0
    for ids in zip(*sequences, strict=False):
        if len(set(ids)) > 1:
            break
        count += 1
    return count


def in_float64(model: GPT) -> GPT:
    """The same model, computing in float64."""
    made = copy.deepcopy(model).double()
    made.dtype = torch.float64
    return made
