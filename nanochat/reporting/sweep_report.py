"""The report of a sweep: its variants with means over seeds, their differences from the first, and all curves together.

In: a sweep. Out: a document. A variant is what its trials have in common but the seed. Its interval of 95 % is that of
a mean of few: mean ± t × s / √n, t of Student's distribution with n − 1 degrees of freedom. Where variants have seeds
in common with the first, differences are taken seed by seed, and the interval is that of their mean.
"""

from collections.abc import Mapping, Sequence

import attrs

from nanochat.errors import wrong_input
from nanochat.quantity import counted, duration
from nanochat.recipe.sweep_table import VARIANT
from nanochat.reporting.document import Block, Document, Facts, Failure, Picture, Pictures, State, Table, Text, sections
from nanochat.reporting.plot import Interval, draw_intervals
from nanochat.reporting.sweep_lines import line_blocks
from nanochat.sweeping.axes import SEED, in_short
from nanochat.sweeping.results import Row, best, compared, figure_names, main_figure, over_seeds, rows, total_seconds
from nanochat.sweeping.results_text import MEANS_NOTE, RowsTable, rows_table, told_apart, variant_name
from nanochat.sweeping.student import LEVEL, quantile
from nanochat.sweeping.sweep import Sweep, in_words

COSTS = ("training_memory_bytes", "tokens_per_second", "tokens_per_cpu_second")
"""Figures that are shown along the numbers of a sweep beside the one that is compared."""


def sweep_document(sweep: Sweep, figure: str | None = None) -> Document:
    """All of a sweep; figure: the one that is compared, by default the first that its trials have.

    InputError E407 where no trial that is done has it.
    """
    # Both import NumPy, which `nanochat report --help` does without.
    from nanochat.reporting.laws_report import laws_blocks
    from nanochat.reporting.sweep_curves import curve_blocks

    found = rows(sweep)
    done, failed = [row for row in found if row.state == "done"], [row for row in found if row.state == "failed"]
    names = figure_names(done)
    if figure is not None and figure not in names:
        known = f"figures: {', '.join(names)}" if names else "no trial is done yet"
        raise wrong_input("E407", f"--figure {figure}: no trial of `{sweep.path.name}` that is done has it", help=known)
    chosen = figure or main_figure(names)
    shown, same = told_apart(done)
    state: State = "finished" if len(done) == len(found) else "failed" if failed else "unfinished"
    return Document(
        title=sweep.path.name,
        kind="Sweep",
        name=str(sweep.about.get("recipe", "")).rpartition("/")[2],
        state=state,
        summary=_summary(found),
        headlines=_headlines(found, chosen),
        sections=sections(
            ("Failures", [_failure(row, sweep.path.name) for row in failed]),
            ("Variants", _variants(found, shown, same)),
            (f"{chosen} by variant", _comparison(done, chosen) if chosen else []),
            ("Along its numbers", line_blocks(done, _along(chosen, shown))),
            ("Scaling laws", laws_blocks(sweep)),
            ("Curves", curve_blocks(done, chosen)),
            ("Trials", [_table(rows_table(found, shown, runs=True))] if found else []),
            ("Of the sweep", _facts(sweep)),
        ),
    )


def _along(chosen: str | None, shown: Sequence[str]) -> list[str]:
    """The figure that is compared, and what the trials cost."""
    return list(dict.fromkeys([*([chosen] if chosen else []), *(name for name in COSTS if name in shown)]))


def _summary(found: Sequence[Row]) -> str:
    states = in_words([row.state for row in found])
    return f"{counted(len(found), 'trial')}: {states}." if found else "no trials."


def _headlines(found: Sequence[Row], chosen: str | None) -> list[tuple[str, str]]:
    seconds, variants = total_seconds(found), over_seeds(found)
    shown = [
        ("trials", str(len(found))),
        ("variants done", str(len(variants))),
        ("time of all trials", duration(seconds)),
    ]
    leader = best(found)
    if leader is not None and leader[0] == chosen and len(variants) > 1:
        figure, row = leader
        shown.insert(0, (f"best {figure}: {variant_name(row.settings)}", row.text(figure)))
    return shown


def _failure(row: Row, sweep: str) -> Failure:
    return Failure(
        title=f"The trial {in_short(row.settings.items())} failed",
        message=row.error or "it left no word",
        help=f"When it is mended: nanochat sweeps retry {sweep}, then nanochat sweeps go {sweep}",
        facts=[("its run", ", ".join(row.runs))],
    )


def _variants(found: Sequence[Row], shown: Sequence[str], same: Mapping[str, str]) -> list[Block]:
    means = over_seeds(found)
    if not means:
        return [Text(text="No trial is done yet.")]
    alike = ", ".join(f"{name} {text}" for name, text in same.items())
    note = f"{MEANS_NOTE}{f' The same in all trials: {alike}.' if alike else ''}"
    return [Text(text=note), _table(rows_table(means, shown))]


def _table(found: RowsTable) -> Table:
    return Table(titles=found.titles, rows=found.cells, words=found.words)


def _comparison(done: Sequence[Row], figure: str) -> list[Block]:
    """Means with their intervals; then the differences from the first variant, where seeds are shared."""
    named = [_named(row) for row in done if figure in row.figures]
    if not named:
        return []
    first = named[0].settings[VARIANT]
    means, differences = [], []
    for row in compared(named, (VARIANT, first)):
        name, difference = row.settings[VARIANT], row.differences.get(figure)
        if figure in row.errors:
            half = quantile(LEVEL, len(row.runs) - 1) * row.errors[figure]
            means.append(_interval(name, row.figures[figure], half))
        if difference is not None and difference.half is not None:
            differences.append(_interval(name, difference.mean, difference.half))
    pictures, blocks = [], list[Block]()
    if means:
        title = f"{figure}: means over seeds with intervals of 95 %"
        pictures.append(Picture(svg=draw_intervals(title, means, figure), caption=title))
    if differences:
        title = f"{figure}: difference from {first}, seed by seed, with intervals of 95 %"
        pictures.append(
            Picture(svg=draw_intervals(title, differences, f"difference of {figure}", zero=True), caption=title)
        )
        cells = [[d.label, f"{d.value:+.4g}", f"{d.low:+.4g} … {d.high:+.4g}", _says(d)] for d in differences]
        titles = ("variant", f"difference of {figure}", "95 % interval", "it is")
        blocks.append(Table(titles=titles, rows=cells))
    if not means:
        blocks.append(Text(text="An interval needs two seeds at least: --grid seed=1,2,3"))
    return [*([Pictures(pictures=pictures)] if pictures else []), *blocks]


def _named(row: Row) -> Row:
    """Under one key for all that sets its variant apart: the first variant is what all others are compared with."""
    return attrs.evolve(row, settings={VARIANT: variant_name(row.settings), SEED: row.settings.get(SEED, "")})


def _interval(name: str, value: float, half: float) -> Interval:
    return Interval(label=name, value=value, low=value - half, high=value + half)


def _says(found: Interval) -> str:
    if found.low > 0:
        return "higher"
    return "lower" if found.high < 0 else "not told apart"


def _facts(sweep: Sweep) -> list[Block]:
    about = sweep.about
    pairs = [
        ("recipe", str(about.get("recipe", ""))),
        ("for all variants", " ".join(about.get("overrides", []))),
        ("until", str(about.get("until") or "the last stage")),
        ("folder", str(sweep.path)),
    ]
    return [Facts(pairs=[(what, said) for what, said in pairs if said])]
