"""Reports of sweeps and of their trials: what is compared, what is drawn of many variants, what the README shows.

The runs are written as the runner and its workers leave them, without training anything.
"""

import re
import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
from test_report import MACHINE, Home, Page, home, registry

from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe
from nanochat.reporting.curves import Curve, curve
from nanochat.reporting.document import Table, Text
from nanochat.reporting.origin import parent_blocks
from nanochat.reporting.subject import read_subject
from nanochat.reporting.sweep_curves import _differences, _mean, chosen_variants
from nanochat.running.plan import make_plan
from nanochat.running.run_folder import RunFolder
from nanochat.running.store import Store
from nanochat.sweeping.laws import absent, points_of
from nanochat.sweeping.results import Row
from nanochat.sweeping.sweep import Sweep, Trial, make_sweep

__all__ = ["home", "registry"]


@pytest.fixture
def sweep(home: Home) -> Sweep:
    """Two batch sizes, three seeds each, one more that failed."""
    made = make_sweep("batches", recipe="quickstart.toml", until="base", overrides=[])
    better = {"1": 0.9, "2": 0.92, "3": 0.88}
    for batch in ("2048", "4096"):
        for seed in ("1", "2", "3"):
            settings = (f"stages.base.total_batch_size={batch}", f"seed={seed}")
            quality = (1 + 0.1 * int(seed)) * (better[seed] if batch == "4096" else 1.0)
            run = home.run(*settings, until="base", quality=quality)
            recipe = load_recipe(
                home.path / "quickstart.toml", overrides=settings, registry=home.registry, machine=MACHINE
            )
            (trial,) = made.add([(settings, make_plan(recipe, MACHINE, Store(), home.registry))])
            assert trial.run == run.path.name
            trial.end("done", seconds=120.0)
    failing = ("stages.base.total_batch_size=8192", "seed=1")
    recipe = load_recipe(home.path / "quickstart.toml", overrides=failing, registry=home.registry, machine=MACHINE)
    (trial,) = made.add([(failing, make_plan(recipe, MACHINE, Store(), home.registry))])
    trial.end("failed", seconds=1.0, code="E403", error="out of <memory>")
    return made


def test_a_sweep_is_compared_over_seeds_and_seed_by_seed_and_its_failures_are_told(home: Home, sweep: Sweep) -> None:
    result = home.report("batches")
    assert result.exit_code == 0, result.output
    text = result.stdout
    # The qualities 1.1, 1.2, 1.3 times 1.25 have the mean 1.5, and 0.125 / √3 for its error.
    assert re.search(r"\| 2048 +\| 3 seeds +\| 1.5 ± 0.072", text)
    # Paired: 1.25 × (−0.11, −0.096, −0.156) has the mean −0.1508 and s = 0.03924; t for two degrees is 4.30265.
    assert re.search(r"\| total_batch_size=4096 +\| -0.1508 +\| -0.2483 … -0.05336 +\| lower", text)
    assert "The trial total_batch_size=8192 seed=1 failed\n\n    out of <memory>" in text
    assert "7 trials: 6 done, 1 failed." in text
    page = Page(sweep.path / "report.html")
    assert "base: losses of the trials against FLOPs" in page.text and "memory" not in page.tags


def test_a_figure_that_no_trial_has_is_refused_with_those_there_are_and_nothing_is_written(
    home: Home, sweep: Sweep
) -> None:
    assert home.report("--sweep", "batches", "--figure", "bpb.bpb").exit_code == 0
    before = [(sweep.path / name).read_bytes() for name in ("report.md", "report.html")]
    fault = home.report("--sweep", "batches", "--figure", "nope").exception
    assert isinstance(fault, InputError) and "--figure nope" in str(fault)
    (found,) = fault.diagnostics
    assert found.code == "E407" and "bpb.bpb" in found.help
    assert [(sweep.path / name).read_bytes() for name in ("report.md", "report.html")] == before


def test_a_sweep_of_which_a_run_was_removed_keeps_the_row_and_says_that_the_curve_is_gone(
    home: Home, sweep: Sweep
) -> None:
    gone = sweep.trials()[0].run
    shutil.rmtree(home.path / "runs" / gone)
    result = home.report("--sweep", "batches")
    assert result.exit_code == 0, result.output
    assert f"No curves of runs that were removed: {gone}." in result.stdout
    assert re.search(rf"\| 2048 +\| 1 +\| done; its run was removed +\|.*{gone}", result.stdout)


def test_a_sweeps_folders_are_points_of_size_tokens_flops_and_loss(home: Home, sweep: Sweep) -> None:
    """N: 12·L·D² of the blocks, V·D of the head, and 12 a head of the gates in every second block. FLOPs a token:
    6·N + 12·L·D·T (PaLM, arXiv 2204.02311, appendix B); the short windows are no shorter than T here.
    """
    words = ("stages.base.model.depth=2", "stages.base.model.dim=128", "seed=1")
    home.run(*words, until="base")
    recipe = load_recipe(home.path / "quickstart.toml", overrides=words, registry=home.registry, machine=MACHINE)
    (small,) = sweep.add([(words, make_plan(recipe, MACHINE, Store(), home.registry))])
    small.end("done", seconds=1.0)
    shutil.rmtree(home.path / "runs" / sweep.trials()[1].run)
    points = points_of(sweep, "bpb.bpb", home.registry, MACHINE)

    def size(depth: int, dim: int) -> int:
        return 12 * depth * dim**2 + 2048 * dim + depth // 2 * 12 * (dim // 64)

    def flops(depth: int, dim: int) -> int:
        return 6 * size(depth, dim) + 12 * depth * dim * 128

    whole = [(size(4, 192), 150 * batch, flops(4, 192) * 150 * batch) for batch in [2048] * 2 + [4096] * 3]
    expected = [*whole, (size(2, 128), 150 * 4096, flops(2, 128) * 150 * 4096)]
    assert [(point.parameters, point.tokens, point.flops) for point in points] == expected
    losses = [1.25 * 1.1, 1.25 * 1.3, 1.25 * 1.1 * 0.9, 1.25 * 1.2 * 0.92, 1.25 * 1.3 * 0.88, 1.25]
    assert [point.loss for point in points] == pytest.approx(losses)
    assert absent(sweep) == "2 of 8 trials: 1 failed, 1 removed"
    with pytest.raises(InputError, match="no trial of `batches` that is done has nope") as caught:
        points_of(sweep, "nope", home.registry, MACHINE)
    assert "figures: bpb.bpb, steps, tokens, parameters" in caught.value.diagnostics[0].help


def test_a_mean_of_curves_says_of_how_many_seeds_it_is_where_some_have_none(home: Home, sweep: Sweep) -> None:
    assert "seeds have curves" not in home.report("--sweep", "batches").stdout
    runs = [RunFolder(home.path / "runs" / trial.run) for trial in sweep.trials()]

    def lose(number: int) -> str:
        (base,) = (stage for stage in runs[number].stages if stage.name == "base")
        (base.folder.path / "metrics.jsonl").unlink()
        return home.report("--sweep", "batches").stdout

    said = (
        "Stage base: one line a variant, the mean over its seeds; of total_batch_size=2048 2 of its 3 seeds have curves"
    )
    assert said in lose(0)
    assert "of total_batch_size=2048 1 of its 3 seeds has a curve; of total" not in lose(1)
    assert "1 of its 3 seeds has a curve; of total_batch_size=4096 2 of its 3 seeds have curves" in lose(3)


@pytest.fixture
def many(home: Home) -> Sweep:
    """Seventeen variants of long names, two seeds each, which all of them share: one run a seed."""
    made = make_sweep("many", recipe="quickstart.toml", until="base", overrides=[])
    for seed in ("1", "2"):
        settings = (f"seed={seed}",)
        home.run(*settings, until="base", quality=1 + 0.1 * int(seed))
        recipe = load_recipe(home.path / "quickstart.toml", overrides=settings, registry=home.registry, machine=MACHINE)
        plan = make_plan(recipe, MACHINE, Store(), home.registry)
        named = [(f"variant=muon orthogonalization = newton_schulz {i}", *settings) for i in range(17)]
        for trial in made.add([(each, plan) for each in named]):
            trial.end("done", seconds=60.0)
    return made


def test_a_page_of_many_variants_draws_as_many_as_can_be_told_apart_and_says_which(home: Home, many: Sweep) -> None:
    result = home.report("many")
    assert result.exit_code == 0, result.output
    assert "8 of 17 variants: the first, the 4 of the lowest bpb.bpb and the 3 of the highest." in result.stdout
    page = Page(many.path / "report.html")
    assert "base: losses of the trials against tokens" in page.text
    assert "difference of the loss from muon orthogonalization = newton_schulz 0" in page.text
    assert "variant=" not in page.text


def test_the_drawn_variants_are_the_first_the_best_and_the_worst() -> None:
    losses = [5.0, 9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.5]
    groups = {
        f"v{i}": [Row(settings={}, state="done", runs=["a"], seconds=1.0, figures={"bpb.bpb": loss}, errors={})]
        for i, loss in enumerate(losses)
    }
    names, how = chosen_variants(groups, "bpb.bpb")
    assert names == ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v8"] and how.startswith("8 of 10 variants")
    assert chosen_variants(dict(list(groups.items())[:8]), "bpb.bpb") == ([f"v{i}" for i in range(8)], "")
    assert chosen_variants(groups, None)[0] == [f"v{i}" for i in range(8)]


def test_curves_of_a_variant_are_averaged_at_the_same_tokens_and_subtracted_seed_by_seed() -> None:
    def made(losses: list[float], rate: float) -> Curve:
        lines = [
            {"step": i, "loss": loss, "tokens": 100.0 * i, "tokens_per_second": rate}
            for i, loss in enumerate(losses, 1)
        ]
        found = curve(lines, 10)
        assert found is not None
        return found

    first = _mean("a", 0, {"1": made([4, 3, 2, 1], 100), "2": made([8, 6, 4, 2], 50)})
    # Its second seed was cut off: what only the other has is no mean of the variant.
    second = _mean("b", 1, {"1": made([5, 4, 3, 2], 100), "2": made([6, 4, 2], 50)})
    assert first is not None and second is not None
    assert list(first.losses) == [6, 4.5, 3, 1.5] and list(second.losses) == [5.5, 4, 2.5]
    assert list(first.places["time"]) == [1.5, 3, 4.5, 6] and list(first.places["FLOPs"]) == [1e3, 2e3, 3e3, 4e3]
    assert list(first.late) == [False, True, True, True]
    assert _differences([first, second]) is None, "they did not train for as long"
    plot = _differences([first, attrs.evolve(second, by_seed={"2": np.array([9.0, 6, 5, 4])}, tokens=first.tokens)])
    assert plot is not None and list(plot.series[1].y) == [1, 0, 1, 2]


def test_the_readmes_gallery_has_the_names_of_plots_that_its_commands_write(
    home: Home, sweep: Sweep, tmp_path: Path
) -> None:
    def bare(name: str) -> str:
        """Without the variant that a sweep's differences are from, which stands in the name of the plot."""
        return re.sub(r"(difference-from)-.*?-seed.*", r"\1", name)

    root = Path(__file__).parent.parent
    shown = re.findall(r"\(recipes/gallery/(\S+)\.svg\)", (root / "README.md").read_text(encoding="utf-8"))
    home.run()
    for what in (["quickstart"], ["--sweep", "batches"]):
        assert home.report(*what, "--plots", str(tmp_path / "plots")).exit_code == 0
    written = {bare(path.stem) for path in (tmp_path / "plots").glob("*.svg")}
    assert len(shown) >= 4 and all((root / "recipes" / "gallery" / f"{name}.svg").is_file() for name in shown)
    assert {bare(name) for name in shown} <= written


def test_a_trial_is_compared_with_the_sweeps_first_variant_of_its_seed_and_says_so(home: Home, sweep: Sweep) -> None:
    trials = {trial.name: trial for trial in sweep.trials()}
    first, second, other = (
        trials[f"total_batch_size={batch} seed={seed}"] for batch, seed in ((2048, 2), (4096, 2), (4096, 3))
    )

    def said(trial: Trial) -> tuple[str, dict[str, list[str]]]:
        blocks = parent_blocks(read_subject(RunFolder(home.path / "runs" / trial.run), registry=home.registry))
        rows = [list(row) for block in blocks if isinstance(block, Table) for row in block.rows]
        return " ".join(block.text for block in blocks if isinstance(block, Text)), {row[1]: row[2:] for row in rows}

    text, changed = said(second)
    assert f"Compared with {first.run}, the sweep's first variant with the same seed: {first.name}." in text
    assert changed["stages.base.total_batch_size"] == ["2048", "4096", "× 2"] and "seed" not in changed
    assert "The sweep's other variants are compared with this one." in said(first)[0]
    shutil.rmtree(home.path / "runs" / trials["total_batch_size=2048 seed=3"].run)
    assert "the trial total_batch_size=2048 seed=3 is not done, or was removed." in said(other)[0]
    sweep.drop(first.number)
    assert "the sweep's first variant has no trial of this seed." in said(second)[0]
