"""The optimizers' state in a checkpoint: by parameter, so that any number of processes can take it up.

    optim-RANK.safetensors   what the rank's optimizers remember: "group/parameter@row/slot"
    optim-RANK.json          the same by group and parameter: its rows, its tensors, its plain values; param groups

A rank writes what it updates. Read are the files of all ranks, or of those that have what this rank goes on with, and
of each just that: rows are cut and joined anew. A tensor with as many numbers as its parameter's rows has such rows;
any other belongs to all.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nanochat.training.manifest import broken, files_of_ranks
from nanochat.training.optimizer import Optimizer


@attrs.frozen(kw_only=True)
class Part:
    """A parameter, or rows of one, as an optimizer updates it."""

    parameter: nn.Parameter
    start: int
    stop: int
    """Its rows are [start, stop) of the whole parameter's."""
    saved_here: bool = True
    """This rank is the one that writes its state."""


@attrs.frozen(kw_only=True)
class Updater:
    """One optimizer with what it updates."""

    group: str
    optimizer: Optimizer
    parts: Mapping[str, Part]


@attrs.frozen(kw_only=True)
class SavedPart:
    """The state of some rows of a parameter, as a file has it."""

    start: int
    stop: int
    tensors: Mapping[str, Callable[[], Tensor]]
    """Slot → what reads it."""
    plain: Mapping[str, Any]


@attrs.frozen
class SavedState:
    """What the files of a checkpoint say of the optimizers."""

    parts: Mapping[tuple[str, str], Sequence[SavedPart]]
    """Group and parameter → its rows, in their order."""
    options: Mapping[tuple[str, str], Mapping[str, Any]]
    """Group and parameter → the options of the param group that it was in."""


def state_of(updaters: Sequence[Updater]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON that a rank writes."""
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for updater in updaters:
        saved = updater.optimizer.state_dict()
        written = groups.setdefault(updater.group, {"parameters": {}, "param_groups": []})
        for name, slots in zip(_names(updater), (saved["state"].get(i, {}) for i in _indices(saved)), strict=True):
            part = updater.parts[name]
            if not part.saved_here:
                continue
            keys = {slot: f"{updater.group}/{name}@{part.start}/{slot}" for slot, v in slots.items() if _is_tensor(v)}
            tensors |= {key: slots[slot] for slot, key in keys.items()}
            plain = {slot: value for slot, value in slots.items() if slot not in keys}
            written["parameters"][name] = {"rows": [part.start, part.stop], "tensors": keys, "plain": plain}
        names = iter(_names(updater))
        for group in saved["param_groups"]:
            options = {key: value for key, value in group.items() if key != "params"}
            written["param_groups"].append({"params": [next(names) for _ in group["params"]], "options": options})
    return tensors, groups


def read_states(folder: Path, device: torch.device, ranks: Collection[int] | None = None) -> SavedState:
    """The state that ranks wrote into a checkpoint, by default all. StageError E406 where it has none by parameter."""
    found = []
    for path in files_of_ranks(folder, "optim", ranks):
        tensors = safe_open(path.with_suffix(".safetensors"), framework="pt", device=str(device))
        found.append((json.loads(path.read_text()), tensors.get_tensor))
    if not found:
        raise broken(folder, "it has no optimizer state by parameter; an earlier version made it")
    return joined_states(found)


def joined_states(found: Sequence[tuple[Mapping[str, Any], Callable[[str], Tensor]]]) -> SavedState:
    """The state of all ranks out of each one's JSON and of what reads a tensor of it."""
    parts: dict[tuple[str, str], list[SavedPart]] = {}
    options: dict[tuple[str, str], Mapping[str, Any]] = {}
    for groups, read in found:
        for group, written in groups.items():
            for name, said in written["parameters"].items():
                readers = {slot: lambda key=key, read=read: read(key) for slot, key in said["tensors"].items()}
                start, stop = said["rows"]
                part = SavedPart(start=start, stop=stop, tensors=readers, plain=said["plain"])
                parts.setdefault((group, name), []).append(part)
            for param_group in written["param_groups"]:
                options |= {(group, name): param_group["options"] for name in param_group["params"]}
    ordered = {key: sorted(its, key=lambda part: part.start) for key, its in parts.items()}
    return SavedState(ordered, options)


def restore(updaters: Sequence[Updater], saved: SavedState) -> None:
    """Give each optimizer what was saved of what it updates. KeyError, ValueError where the state is not all there."""
    for updater in updaters:
        state_dict = updater.optimizer.state_dict()
        names = _names(updater)
        state = {}
        for index, name in zip(_indices(state_dict), names, strict=True):
            if slots := _slots(saved.parts[updater.group, name], updater.parts[name]):
                state[index] = slots
        left = iter(names)
        groups = []
        for group in state_dict["param_groups"]:
            its = [next(left) for _ in group["params"]]
            groups.append({**group, **saved.options[updater.group, its[0]], "params": group["params"]})
        updater.optimizer.load_state_dict({"state": state, "param_groups": groups})


def take_over(updaters: Sequence[Updater], saved: SavedState) -> None:
    """Give each optimizer what another run's remembered of the same parameters, whatever their groups were called.

    Learning rates and all other options stay its own. KeyError, ValueError where a parameter had no such optimizer.
    """
    groups_then = {name: group for group, name in saved.options}
    for updater in updaters:
        state_dict = updater.optimizer.state_dict()
        state = {}
        names = iter(_names(updater))
        for param_group in state_dict["param_groups"]:
            for index, name in zip(param_group["params"], names, strict=False):
                if name not in groups_then:
                    raise ValueError(f"it has nothing of `{name}`")
                key = groups_then[name], name
                if saved.options[key].keys() != param_group.keys() - {"params"}:
                    raise ValueError(f"`{name}` was updated by another optimizer than that of group `{updater.group}`")
                if slots := _slots(saved.parts[key], updater.parts[name]):
                    state[index] = slots
        updater.optimizer.load_state_dict({"state": state, "param_groups": state_dict["param_groups"]})


def _slots(saved: Sequence[SavedPart], wanted: Part) -> dict[str, Any]:
    """The state of the wanted rows out of parts that have all of them."""
    used = [part for part in saved if part.start < wanted.stop and wanted.start < part.stop]
    covered = [(max(part.start, wanted.start), min(part.stop, wanted.stop)) for part in used]
    if sum(stop - start for start, stop in covered) != wanted.stop - wanted.start:
        raise ValueError(f"the rows {wanted.start} to {wanted.stop} of a parameter are not all there")
    slots: dict[str, Any] = dict(used[0].plain)
    for slot in used[0].tensors:
        read = [part.tensors[slot]() for part in used]
        shape = wanted.parameter.shape
        if len(shape) > 0 and all(_has_rows(t, part, shape) for t, part in zip(read, used, strict=True)):
            cut = [t[a - part.start : b - part.start] for t, part, (a, b) in zip(read, used, covered, strict=True)]
            slots[slot] = cut[0] if len(cut) == 1 else torch.cat(cut)
        else:
            slots[slot] = read[0]
    return slots


def _has_rows(tensor: Tensor, part: SavedPart, shape: torch.Size) -> bool:
    return tensor.shape == (part.stop - part.start, *shape[1:])


def _names(updater: Updater) -> list[str]:
    """The names of an optimizer's parameters in the order of its param groups."""
    names = {id(part.parameter): name for name, part in updater.parts.items()}
    return [names[id(parameter)] for group in updater.optimizer.param_groups for parameter in group["params"]]


def _indices(state_dict: Mapping[str, Any]) -> list[int]:
    """torch's numbers of the parameters, in the same order."""
    return [index for group in state_dict["param_groups"] for index in group["params"]]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
