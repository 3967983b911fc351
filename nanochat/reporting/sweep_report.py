"""The report of a sweep: its variants with means over seeds, their differences from the first, and all curves together.

In: a sweep. Out: a document. A variant is what its trials have in common but the seed. Its interval of 95 % is that of
a mean of few: mean ± t × s / √n, t of Student's distribution with n − 1 degrees of freedom. Where variants have seeds
in common with the first, differences are taken seed by seed, and the interval is that of their mean.
"""

import statistics
from collections.abc import Mapping, Sequence

import attrs

from nanochat.errors import NanochatError
from nanochat.home import runs_dir
from nanochat.quantity import duration
from nanochat.registry import load_registry
from nanochat.reporting.curves import Against, curve, in_time
from nanochat.reporting.document import Block, Document, Facts, Failure, Picture, Pictures, State, Table, Text, sections
from nanochat.reporting.plot import Interval, Plot, Series, draw, draw_intervals
from nanochat.reporting.subject import Subject, read_subject
from nanochat.reporting.sweep_lines import line_blocks
from nanochat.running.figures import value_text
from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.results import Row, figure_names, main_figure, over_seeds, rows
from nanochat.sweeping.student import half_width
from nanochat.sweeping.sweep import Sweep, in_words

COSTS = ("training_memory_bytes", "tokens_per_second", "tokens_per_cpu_second")
"""Figures that are shown along the numbers of a sweep beside the one that is compared."""
_MOST_CURVES = 24
"""Trials whose curves are drawn."""


@attrs.frozen(kw_only=True)
class Variant:
    """Trials that differ in the seed alone."""

    name: str
    by_seed: Mapping[str, Row]

    def values(self, figure: str) -> dict[str, float]:
        """Seed → figure."""
        return {seed: row.figures[figure] for seed, row in self.by_seed.items() if figure in row.figures}


def sweep_document(sweep: Sweep, figure: str | None = None) -> Document:
    """All of a sweep; figure: the one that is compared, by default the first that its trials have."""
    from nanochat.reporting.laws_report import laws_blocks  # imports NumPy, which `nanochat report --help` does without

    found = rows(sweep)
    done, failed = [row for row in found if row.state == "done"], [row for row in found if row.state == "failed"]
    names = figure_names(done)
    chosen = figure or main_figure(names)
    shown = [name for name in names if _differs(name, done)]
    variants = variants_of(done)
    subjects = _subjects(done)
    state: State = "finished" if len(done) == len(found) else "failed" if failed else "unfinished"
    return Document(
        title=sweep.path.name,
        kind="Sweep",
        name=str(sweep.about.get("recipe", "")).rpartition("/")[2],
        state=state,
        summary=_summary(found),
        headlines=_headlines(found, variants, chosen),
        sections=sections(
            ("Failures", [_failure(row, sweep.path.name) for row in failed]),
            ("Variants", _table(over_seeds(found), shown)),
            (f"{chosen} by variant", _comparison(variants, chosen) if chosen else []),
            ("Along its numbers", line_blocks(done, _along(chosen, shown))),
            ("Scaling laws", laws_blocks(sweep)),
            ("Curves", _curves(done, subjects)),
            ("Trials", _trials(found, shown)),
            ("Of the sweep", _facts(sweep)),
        ),
    )


def variants_of(done: Sequence[Row]) -> list[Variant]:
    """In the order of their first trials."""
    groups: dict[str, dict[str, Row]] = {}
    for row in done:
        groups.setdefault(_name(row), {})[row.settings.get(SEED, "")] = row
    return [Variant(name=name, by_seed=by_seed) for name, by_seed in groups.items()]


def _name(row: Row) -> str:
    """depth=4 lr=0.02: what sets it apart, without the seed."""
    parts = [f"{key.rpartition('.')[2]}={value}" for key, value in row.settings.items() if key != SEED]
    return " ".join(parts) or "all"


def _differs(name: str, done: Sequence[Row]) -> bool:
    """Whether it is not the same in all trials: how many steps they took says nothing then."""
    return len(done) < 2 or len({row.figures.get(name) for row in done}) > 1


def _along(chosen: str | None, shown: Sequence[str]) -> list[str]:
    """The figure that is compared, and what the trials cost."""
    return list(dict.fromkeys([*([chosen] if chosen else []), *(name for name in COSTS if name in shown)]))


def _summary(found: Sequence[Row]) -> str:
    states = in_words([row.state for row in found])
    return f"{len(found)} trials: {states}." if found else "no trials."


def _headlines(found: Sequence[Row], variants: Sequence[Variant], chosen: str | None) -> list[tuple[str, str]]:
    seconds = sum(row.seconds or 0.0 for row in found)
    shown = [("trials", str(len(found))), ("variants", str(len(variants))), ("wall time", duration(seconds))]
    values = [(statistics.fmean(v.values(chosen).values()), v.name) for v in variants if chosen and v.values(chosen)]
    if chosen and len(values) > 1:
        shown.insert(0, (f"lowest {chosen}", f"{min(values)[0]:.4g} ({min(values)[1]})"))
    return shown


def _failure(row: Row, sweep: str) -> Failure:
    name = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in row.settings.items())
    return Failure(
        title=f"The trial {name} failed",
        message=row.error or "it left no word",
        help=f"When it is mended: nanochat sweeps retry {sweep}, then nanochat sweeps go {sweep}",
        facts=[("its run", ", ".join(row.runs))],
    )


def _table(found: Sequence[Row], names: Sequence[str]) -> list[Block]:
    keys = list(dict.fromkeys(key for row in found for key in row.settings))
    if not found:
        return [Text(text="No trial is done yet.")]
    cells = [
        [*(row.settings.get(key, "") for key in keys), row.state, *(_figure(row, name) for name in names), _time(row)]
        for row in found
    ]
    titles = [*(key.rpartition(".")[2] for key in keys), "trials", *names, "time"]
    note = "Means over seeds, ± the standard error of the mean (s / √n); a single seed has none."
    return [Text(text=note), Table(titles=titles, rows=cells, words=len(keys) + 1)]


def _figure(row: Row, name: str) -> str:
    if name not in row.figures:
        return ""
    error = f" ± {row.errors[name]:.2g}" if row.errors.get(name) else ""
    return f"{value_text('', row.figures[name])}{error}"


def _time(row: Row) -> str:
    return "" if row.seconds is None else duration(row.seconds)


def _comparison(variants: Sequence[Variant], figure: str) -> list[Block]:
    """Means with their intervals; then the differences from the first variant, where seeds are shared."""
    means, differences = [], []
    first = variants[0].values(figure) if variants else {}
    for variant in variants:
        values = variant.values(figure)
        half = half_width(list(values.values()))
        if half is not None:
            means.append(_interval(variant.name, statistics.fmean(values.values()), half))
        paired = [values[seed] - first[seed] for seed in values if seed in first]
        half = half_width(paired)
        if half is not None and variant is not variants[0]:
            differences.append(_interval(variant.name, statistics.fmean(paired), half))
    pictures, blocks = [], list[Block]()
    if means:
        title = f"{figure}: means over seeds with intervals of 95 %"
        pictures.append(Picture(svg=draw_intervals(title, means, figure), caption=title))
    if differences:
        title = f"{figure}: difference from {variants[0].name}, seed by seed, with intervals of 95 %"
        pictures.append(
            Picture(svg=draw_intervals(title, differences, f"difference of {figure}", zero=True), caption=title)
        )
        rows_ = [[d.label, f"{d.value:+.4g}", f"{d.low:+.4g} … {d.high:+.4g}", _says(d)] for d in differences]
        titles = ("variant", f"difference of {figure}", "95 % interval", "it is")
        blocks.append(Table(titles=titles, rows=rows_))
    if not means and variants:
        blocks.append(Text(text="An interval needs two seeds at least: --grid seed=1,2,3"))
    return [*([Pictures(pictures=pictures)] if pictures else []), *blocks]


def _interval(name: str, value: float, half: float) -> Interval:
    return Interval(label=name, value=value, low=value - half, high=value + half)


def _says(found: Interval) -> str:
    if found.low > 0:
        return "higher"
    return "lower" if found.high < 0 else "not told apart"


def _subjects(done: Sequence[Row]) -> dict[str, Subject]:
    """Run → what was read of it. A run that was removed is not there, and its trial keeps its row."""
    registry = None
    found: dict[str, Subject] = {}
    for row in done[:_MOST_CURVES]:
        run = RunFolder(runs_dir() / row.runs[0])
        if run.plan:
            try:
                registry = registry or load_registry()
                found[row.runs[0]] = read_subject(run, registry=registry)
            except NanochatError:
                continue
    return found


def _curves(done: Sequence[Row], subjects: Mapping[str, Subject]) -> list[Block]:
    """The loss of each trial, one colour a variant, for each stage that trained."""
    stages = dict.fromkeys(s.name for subject in subjects.values() for s in subject.stages if s.metrics)
    blocks: list[Block] = []
    for stage in stages:
        drawn = [_overlaid(done, subjects, stage, axis) for axis in ("tokens", "time", "FLOPs")]
        found = [picture for picture in drawn if picture is not None]
        if found:
            blocks += [Text(text=f"Stage {stage}: one line a trial, one colour a variant."), Pictures(pictures=found)]
    gone = [row.runs[0] for row in done[:_MOST_CURVES] if row.runs[0] not in subjects]
    if gone:
        blocks.append(Text(text=f"No curves of runs that were removed: {', '.join(gone)}."))
    if len(done) > _MOST_CURVES:
        blocks.append(Text(text=f"The first {_MOST_CURVES} of {len(done)} trials are drawn."))
    return blocks


def _overlaid(done: Sequence[Row], subjects: Mapping[str, Subject], name: str, against: Against) -> Picture | None:
    series, label, colours = list[Series](), "", dict[str, int]()
    for row in done:
        stage = (
            next((s for s in subjects[row.runs[0]].stages if s.name == name), None) if row.runs[0] in subjects else None
        )
        made = curve(stage.metrics, stage.flops_per_token) if stage is not None else None
        axis = made.along(against) if made is not None else None
        if made is None or axis is None or not axis[0]:
            continue
        places = list(made.seconds) if against == "time" else axis[0]
        variant = _name(row)
        shown = "" if variant in colours else variant
        colour = colours.setdefault(variant, len(colours))
        label = axis[1]
        series.append(Series(x=places, y=made.losses, label=shown, colour=colour))
    if not series:
        return None
    if against == "time":  # all of them in one unit
        longest = max(series, key=lambda one: max(one.x))
        shown_in, label = in_time(longest.x)
        scale = shown_in[-1] / longest.x[-1]
        series = [attrs.evolve(one, x=[scale * x for x in one.x]) for one in series]
    title = f"{name}: losses of the trials against {against}"
    plot = Plot(title=title, series=series, x_label=label, y_label="loss (nats a token)")
    return Picture(svg=draw(plot), caption=title)


def _trials(found: Sequence[Row], names: Sequence[str]) -> list[Block]:
    keys = list(dict.fromkeys(key for row in found for key in row.settings))
    cells = [
        [
            *(row.settings.get(k, "") for k in keys),
            row.state,
            *(_figure(row, n) for n in names),
            _time(row),
            row.runs[0],
        ]
        for row in found
    ]
    titles = [*(key.rpartition(".")[2] for key in keys), "state", *names, "time", "run"]
    return [Table(titles=titles, rows=cells, words=len(keys) + 1)] if cells else []


def _facts(sweep: Sweep) -> list[Block]:
    about = sweep.about
    pairs = [
        ("recipe", str(about.get("recipe", ""))),
        ("for all variants", " ".join(about.get("overrides", []))),
        ("until", str(about.get("until") or "the last stage")),
        ("folder", str(sweep.path)),
    ]
    return [Facts(pairs=[(what, said) for what, said in pairs if said])]
