"""The bundle of CORE's tasks, in the layout of the public one, as a folder or a .zip, which is read as it lies.

    core.yaml            icl_tasks: label, icl_task_type, dataset_uri, num_fewshot, perhaps continuation_delimiter
    eval_meta_data.csv   Eval Task, Random baseline (in percent), and columns that are not read
    eval_data/…          a .jsonl for each task, whose path below eval_data/ is its dataset_uri

In: the place. Out: tasks and their examples. InputError E301 where something is not there, E302 for a task without
examples, E303 for one without a field, E304 for what is of another kind or has another digest, each with its file and
line. Not here: prompts.
"""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from nanochat.errors import InputError, did_you_mean, wrong_input
from nanochat_plugins.sources.digest_cache import file_digest

CONFIG, BASELINES, DATA = "core.yaml", "eval_meta_data.csv", "eval_data"
FIELDS: Mapping[str, Mapping[str, type]] = {
    "multiple_choice": {"query": str, "choices": list, "gold": int},
    "schema": {"context_options": list, "continuation": str, "gold": int},
    "language_modeling": {"context": str, "continuation": str},
}
"""Type of a task → what an example of it has."""
OPTIONS = {"multiple_choice": "choices", "schema": "context_options"}
"""Type of a task → the field that holds what is chosen from."""

Example = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class BundleTask:
    """One of the tasks."""

    label: str
    type: str
    """One of FIELDS."""
    data: str
    """Where its examples are, below eval_data/."""
    shots: int
    delimiter: str
    """Between a question and its answer."""
    baseline: float
    """What guessing scores, 0 to 1."""


class Bundle:
    """A bundle that is here."""

    def __init__(self, place: Path) -> None:
        self._files = _Files(place)

    def tasks(self, labels: Sequence[str] = ()) -> list[BundleTask]:
        """All tasks, or those of these labels, in the bundle's order."""
        baselines, listed = self._baselines(), self._listed()
        unknown = [label for label in labels if label not in {str(entry["label"]) for entry in listed}]
        if unknown:
            known = [str(entry["label"]) for entry in listed]
            message = f"the bundle {self._files.place} has no task `{unknown[0]}`"
            near = did_you_mean(unknown[0], known)
            raise wrong_input("E301", message, help=near or f"it has {', '.join(known)}")
        wanted = [entry for entry in listed if not labels or entry["label"] in labels]
        return [self._task(entry, baselines) for entry in wanted]

    def examples(self, task: BundleTask) -> list[Example]:
        """All examples of a task, in the file's order."""
        name = f"{DATA}/{task.data}"
        lines = self._files.read(name, f"the task `{task.label}`").split(b"\n")
        found = [self._example(line, number, name, task) for number, line in enumerate(lines, 1) if line.strip()]
        if not found:
            raise wrong_input("E302", f"the task `{task.label}` is empty: {self._files.named(name)} has no line")
        if task.shots >= len(found):
            message = f"the task `{task.label}` shows {task.shots} other examples before each, and has {len(found)}"
            raise wrong_input(
                "E302", message, help=f"{self._files.named(name)} is not whole, or num_fewshot is too high"
            )
        return found

    def digest(self, task: BundleTask) -> str:
        """The sha256 of a task's file."""
        return hashlib.sha256(self._files.read(f"{DATA}/{task.data}", f"the task `{task.label}`")).hexdigest()

    def _listed(self) -> list[Mapping[str, Any]]:
        import yaml  # type: ignore[import-untyped]

        try:
            found = yaml.safe_load(self._files.read(CONFIG, "the list of tasks"))
            entries = found["icl_tasks"]
            needed = {"label", "icl_task_type", "dataset_uri", "num_fewshot"}
            for number, entry in enumerate(entries, 1):
                if missing := needed - set(entry):
                    raise self._files.wrong("E303", CONFIG, f"its task number {number} has no `{sorted(missing)[0]}`")
        except (yaml.YAMLError, KeyError, TypeError) as fault:
            raise self._files.wrong("E304", CONFIG, f"it has no list `icl_tasks`: {fault}") from fault
        if not entries:
            raise self._files.wrong("E302", CONFIG, "its list `icl_tasks` is empty")
        return list(entries)

    def _baselines(self) -> dict[str, float]:
        text = self._files.read(BASELINES, "what guessing scores").decode("utf-8-sig", "replace")
        rows = csv.DictReader(io.StringIO(text))
        try:
            return {str(row["Eval Task"]): float(row["Random baseline"]) / 100 for row in rows}
        except (KeyError, TypeError, ValueError) as fault:
            message = f"its columns `Eval Task` and `Random baseline` cannot be read: {fault}"
            raise self._files.wrong("E304", BASELINES, message, line=rows.line_num) from fault

    def _task(self, entry: Mapping[str, Any], baselines: Mapping[str, float]) -> BundleTask:
        label, kind, shots = str(entry["label"]), entry["icl_task_type"], entry["num_fewshot"]
        if kind not in FIELDS:
            raise self._files.wrong("E304", CONFIG, f"`{label}` is of the type {kind!r}; there are {', '.join(FIELDS)}")
        if label not in baselines:
            raise self._files.wrong("E303", BASELINES, f"it has no line for the task `{label}`")
        if not baselines[label] < 1:
            raise self._files.wrong("E304", BASELINES, f"guessing solves all of `{label}`, so it says nothing")
        shots = shots[0] if isinstance(shots, list) and shots else shots
        if not isinstance(shots, int) or shots < 0:
            raise self._files.wrong("E304", CONFIG, f"num_fewshot of `{label}` is no count: {shots!r}")
        return BundleTask(
            label=label,
            type=str(kind),
            data=str(entry["dataset_uri"]),
            shots=shots,
            delimiter=str(entry.get("continuation_delimiter", " ")),
            baseline=baselines[label],
        )

    def _example(self, line: bytes, number: int, name: str, task: BundleTask) -> Example:
        try:
            found = json.loads(line)
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as fault:
            raise self._files.wrong(
                "E304", name, "it holds half of a surrogate pair, which is no text", line=number
            ) from fault
        except ValueError as fault:
            raise self._files.wrong("E304", name, f"it is no JSON: {fault}", line=number) from fault
        for field, kind in FIELDS[task.type].items():
            value = found.get(field) if isinstance(found, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                message = f"it has no `{field}`, {'a number' if kind is int else 'a text' if kind is str else 'a list'}"
                raise self._files.wrong("E303", name, f"{message}, as a task of type {task.type} needs", line=number)
        options = OPTIONS.get(task.type)
        if options and not all(isinstance(text, str) for text in found[options]):
            raise self._files.wrong("E303", name, f"`{options}` is no list of texts", line=number)
        if options and not 0 <= found["gold"] < len(found[options]):
            message = f"gold is {found['gold']}, and there are {len(found[options])} {options}"
            raise self._files.wrong("E304", name, message, line=number)
        return dict(found)


def question(example: Example, task: BundleTask) -> str:
    """What is asked, without what is shown before, and what may be answered: to be read and compared."""
    if task.type in OPTIONS:
        options = " | ".join(example[OPTIONS[task.type]])
        return f"{example['query']} → {options}" if task.type == "multiple_choice" else options
    return f"{example['context'].strip()} → {example['continuation']}"


class _Files:
    """The files of a folder or an archive, by their names in the layout."""

    def __init__(self, place: Path) -> None:
        self.place = place
        if not place.exists():
            help_ = "`bundle` is a folder or a .zip, relative to the recipe; leave it out to download the public one"
            raise wrong_input("E301", f"there is no evaluation bundle at {place}", help=help_)
        if not place.is_dir() and not zipfile.is_zipfile(place):
            raise wrong_input("E304", f"the evaluation bundle {place} is neither a folder nor a .zip")
        self._top = self._find_top()

    def read(self, name: str, what: str) -> bytes:
        """A file's content; `what` it holds is said where it is not there."""
        try:
            if self.place.is_dir():
                return (self.place / self._top / name).read_bytes()
            with zipfile.ZipFile(self.place) as archive:
                return archive.read(self._top + name)
        except (FileNotFoundError, KeyError, NotADirectoryError):
            raise wrong_input("E301", f"{what} is not in the bundle: there is no {self.named(name)}") from None
        except (OSError, zipfile.BadZipFile) as fault:
            raise wrong_input("E304", f"{self.named(name)} cannot be read: {fault}") from fault

    def names(self) -> list[str]:
        """All files that belong to the layout."""
        if self.place.is_dir():
            top = self.place / self._top
            found = [CONFIG, BASELINES, *(p.relative_to(top).as_posix() for p in (top / DATA).rglob("*.jsonl"))]
            return sorted(found)
        return []

    def named(self, name: str) -> str:
        """A file as a person finds it."""
        return f"{self.place}/{self._top}{name}"

    def wrong(self, code: str, name: str, message: str, *, line: int | None = None) -> InputError:
        """What is wrong in a file."""
        where = self.named(name) + (f", line {line}" if line is not None else "")
        return wrong_input(code, f"{where}: {message}")

    def _find_top(self) -> str:
        """The folder that holds core.yaml: the public archive has everything in eval_bundle/."""
        if self.place.is_dir():
            found = [path.relative_to(self.place).as_posix() for path in self.place.glob(f"*/{CONFIG}")]
            found += [CONFIG] if (self.place / CONFIG).is_file() else []
        else:
            with zipfile.ZipFile(self.place) as archive:
                found = [name for name in archive.namelist() if name.rpartition("/")[2] == CONFIG]
        return min(found, key=len).removesuffix(CONFIG) if found else ""

    @cached_property
    def digest(self) -> str:
        """The archive's sha256, or that of the names and digests of a folder's files."""
        try:
            if not self.place.is_dir():
                return file_digest(self.place)
            top = self.place / self._top
            lines = [f"{name}\0{file_digest(top / name)}\n" for name in self.names()]
        except OSError as fault:
            raise wrong_input("E301", f"the bundle {self.place} has no {Path(str(fault.filename)).name}") from fault
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def bundle_digest(place: Path, expected: str = "") -> str:
    """What stands for a bundle's content. InputError E304 where it is not what was expected."""
    found = _Files(place).digest
    if expected and found != expected:
        message = f"the evaluation bundle {place} has the sha256 {found}, and {expected} is wanted"
        raise wrong_input("E304", message, help="it is another bundle, or damaged; or `sha256` is wrong")
    return found
