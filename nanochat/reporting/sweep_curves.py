"""The loss curves of a sweep: one line a variant, the mean over its seeds.

In: the trials that are done. Out: blocks. Of many variants the first, the best and the worst are drawn: more are not
told apart. Of curves that are not short the second half is shown: variants differ by less than the loss first falls.
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from nanochat.errors import NanochatError
from nanochat.home import runs_dir
from nanochat.registry import load_registry
from nanochat.reporting.curves import Against, Curve, curve, in_time
from nanochat.reporting.document import Block, Picture, Pictures, Text
from nanochat.reporting.plot import Plot, Series, draw
from nanochat.reporting.subject import Subject, read_subject
from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.results import Row
from nanochat.sweeping.results_text import variant_name

MOST_VARIANTS = 8
"""That are told apart in one plot: as many as there are colours."""
_MOST_TRIALS = 24
"""That are read for it."""
_AXES: tuple[Against, ...] = ("tokens", "time", "FLOPs")
_FEWEST = 12
"""Points of a curve of which half still shows a course; shorter ones are drawn whole."""
_SAME_LENGTH = 0.02
"""The share of their tokens by which variants may differ, for their losses to be subtracted."""


@attrs.frozen(kw_only=True, eq=False)
class MeanCurve:
    """A variant's loss at each number of tokens."""

    name: str
    number: int
    """Its colour's."""
    tokens: np.ndarray
    losses: np.ndarray
    """The mean over seeds."""
    by_seed: Mapping[str, np.ndarray]
    """The loss of each seed at the same tokens."""
    places: Mapping[Against, np.ndarray]
    """Where these tokens lie on each axis that is known, seconds for the time: the mean over seeds."""

    @property
    def late(self) -> np.ndarray:
        """Which of the points are of the second half."""
        return np.asarray(self.tokens >= self.tokens[-1] / 2)


def curve_blocks(done: Sequence[Row], figure: str | None) -> list[Block]:
    """Plots of each stage that trained. figure: that variants are chosen by where there are too many."""
    groups: dict[str, list[Row]] = {}
    for row in done:
        groups.setdefault(variant_name(row.settings), []).append(row)
    chosen, how = chosen_variants(groups, figure)
    seeds = max(1, _MOST_TRIALS // max(1, len(chosen)))
    drawn = {name: groups[name][:seeds] for name in chosen}
    subjects = _subjects([row for its in drawn.values() for row in its])
    blocks: list[Block] = []
    fewer = any(len(groups[name]) > len(its) for name, its in drawn.items())
    for stage in dict.fromkeys(s.name for subject in subjects.values() for s in subject.stages if s.metrics):
        of_seeds = {name: _of_stage(its, subjects, stage) for name, its in drawn.items()}
        found = [_mean(name, i, curves) for i, (name, curves) in enumerate(of_seeds.items())]
        curves = [one for one in found if one is not None]
        if curves:
            said = [
                f"Stage {stage}: one line a variant, the mean over {f'the first {seeds}' if fewer else 'its'} seeds",
                *_lacking(drawn, of_seeds),
                *(["in the second half of training"] if _are_long(curves) else []),
                *([how] if how else []),
            ]
            blocks += [Text(text=f"{'; '.join(said)}."), Pictures(pictures=_pictures(stage, curves))]
    gone = [row.runs[0] for its in drawn.values() for row in its if row.runs[0] not in subjects]
    if gone:
        blocks.append(Text(text=f"No curves of runs that were removed: {', '.join(gone)}."))
    return blocks


def _lacking(drawn: Mapping[str, Sequence[Row]], of_seeds: Mapping[str, Mapping[str, Curve]]) -> list[str]:
    """Of variants some of whose seeds have no curve: of how many the mean is."""
    found = []
    for name, its in drawn.items():
        seeds, there = {row.settings.get(SEED, "") for row in its}, len(of_seeds[name])
        if there < len(seeds):
            curves = f"{there} of its {len(seeds)} seeds {'has a curve' if there == 1 else 'have curves'}"
            found.append(f"of {name} {curves}")
    return found


def chosen_variants(groups: Mapping[str, Sequence[Row]], figure: str | None) -> tuple[list[str], str]:
    """At most MOST_VARIANTS of them, in their order, and which they are; an empty text where they are all."""
    names = list(groups)
    if len(names) <= MOST_VARIANTS:
        return names, ""
    values = {
        name: float(np.mean([row.figures[figure] for row in its if figure in row.figures]))
        for name, its in groups.items()
        if figure is not None and any(figure in row.figures for row in its)
    }
    ranked = sorted((name for name in names[1:] if name in values), key=lambda name: values[name])
    if len(ranked) < MOST_VARIANTS:
        return names[:MOST_VARIANTS], f"the first {MOST_VARIANTS} of {len(names)} variants"
    low, high = MOST_VARIANTS // 2, MOST_VARIANTS - 1 - MOST_VARIANTS // 2
    kept = {names[0], *ranked[:low], *ranked[-high:]}
    how = f"{MOST_VARIANTS} of {len(names)} variants: the first, the {low} of the lowest {figure} and the {high} of "
    return [name for name in names if name in kept], how + "the highest"


def _subjects(chosen: Sequence[Row]) -> dict[str, Subject]:
    """Run → what was read of it. A run that was removed is not there, and its trial keeps its row."""
    registry = None
    found: dict[str, Subject] = {}
    for name in dict.fromkeys(row.runs[0] for row in chosen):
        run = RunFolder(runs_dir() / name)
        if run.plan:
            try:
                registry = registry or load_registry()
                found[name] = read_subject(run, registry=registry)
            except NanochatError:
                continue
    return found


def _of_stage(its: Sequence[Row], subjects: Mapping[str, Subject], stage: str) -> dict[str, Curve]:
    """Seed → curve of the stage."""
    found = {}
    for row in its:
        subject = subjects.get(row.runs[0])
        planned = next((s for s in subject.stages if s.name == stage), None) if subject is not None else None
        made = curve(planned.metrics, planned.flops_per_token) if planned is not None else None
        if made is not None and np.isfinite(made.losses).any() and np.isfinite(made.tokens).all():
            found[row.settings.get(SEED, "")] = made
    return found


def _mean(name: str, number: int, curves: Mapping[str, Curve]) -> MeanCurve | None:
    """Over the seeds, at those places of the first that all of them reach."""
    if not curves:
        return None
    first, end = next(iter(curves.values())), min(made.tokens[-1] for made in curves.values())
    tokens = np.array([t for t in first.tokens if t <= end])
    if not tokens.size:
        return None
    by_seed = {seed: _at(tokens, made.tokens, made.losses) for seed, made in curves.items()}
    places = {}
    for axis in _AXES:
        along = [list(made.seconds) if axis == "time" else _along(made, axis) for made in curves.values()]
        if all(its and its[-1] > 0 for its in along):
            at = [_at(tokens, made.tokens, its) for made, its in zip(curves.values(), along, strict=True)]
            places[axis] = np.mean(at, axis=0)
    losses = np.mean(list(by_seed.values()), axis=0)
    return MeanCurve(name=name, number=number, tokens=tokens, losses=losses, by_seed=by_seed, places=places)


def _along(made: Curve, axis: Against) -> list[float]:
    along = made.along(axis)
    return along[0] if along is not None else []


def _at(tokens: np.ndarray, places: Sequence[float], values: Sequence[float]) -> np.ndarray:
    """Values between those that are finite."""
    x, y = np.array(places), np.array(values)
    return np.asarray(np.interp(tokens, x[np.isfinite(y)], y[np.isfinite(y)]))


def _pictures(stage: str, found: Sequence[MeanCurve]) -> list[Picture]:
    plots = [_against(axis, [one for one in found if axis in one.places]) for axis in _AXES]
    plots.insert(1, _differences(found))
    titled = [attrs.evolve(plot, title=f"{stage}: {plot.title}") for plot in plots if plot is not None]
    return [Picture(svg=draw(plot), caption=plot.title) for plot in titled]


def _against(axis: Against, found: Sequence[MeanCurve]) -> Plot | None:
    if not found:
        return None
    scale, label = 1.0, str(axis)
    if axis == "time":  # all of them in one unit
        longest = max((one.places[axis] for one in found), key=lambda places: places[-1])
        shown, label = in_time(list(longest))
        scale = shown[-1] / longest[-1]
    lines = [(one, scale * one.places[axis], one.losses) for one in found]
    return _late(f"losses of the trials against {axis}", lines, label, "loss (nats a token)")


def _differences(found: Sequence[MeanCurve]) -> Plot | None:
    """From the first variant at as many tokens, seed by seed: what the seed and the batch do to both cancels."""
    first, *others = found
    lines = [(first, first.tokens, np.zeros_like(first.tokens))]
    for one in others:
        shared = [seed for seed in one.by_seed if seed in first.by_seed]
        if shared and abs(one.tokens[-1] / first.tokens[-1] - 1) < _SAME_LENGTH:
            apart = [one.by_seed[seed] - np.interp(one.tokens, first.tokens, first.by_seed[seed]) for seed in shared]
            lines.append((one, one.tokens, np.mean(apart, axis=0)))
    if len(lines) < 2:
        return None
    title = f"difference of the loss from {first.name} against tokens, seed by seed"
    return _late(title, lines, "tokens", "difference of the loss")


def _are_long(found: Sequence[MeanCurve]) -> bool:
    return all(len(one.tokens) >= _FEWEST for one in found)


def _late(title: str, lines: Sequence[tuple[MeanCurve, np.ndarray, np.ndarray]], x_label: str, y_label: str) -> Plot:
    """Of long curves the axes reach over every second half, and show what else lies there."""
    series = [Series(x=list(x), y=list(y), label=one.name, colour=one.number) for one, x, y in lines]
    x_range = y_range = None
    if _are_long([one for one, _, _ in lines]):
        late_x = np.concatenate([x[one.late] for one, x, _ in lines])
        late_y = np.concatenate([y[one.late] for one, _, y in lines])
        margin = 0.05 * float(late_y.max() - late_y.min())
        x_range = (float(late_x.min()), float(late_x.max()))
        y_range = (float(late_y.min()) - margin, float(late_y.max()) + margin) if margin else None
    return Plot(title=title, series=series, x_label=x_label, y_label=y_label, x_range=x_range, y_range=y_range)
