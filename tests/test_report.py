"""Reports of runs, stages and sweeps: what is printed and written, of whole runs and of those that met with a fault.

The runs are written as the runner and its workers leave them, without training anything.
"""

import json
import math
import re
import shutil
import sys
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner, Result

from nanochat.cli.report import command
from nanochat.errors import InputError
from nanochat.hardware import Machine
from nanochat.recipe.diff import Difference
from nanochat.recipe.load import load_recipe
from nanochat.registry import Registry, load_registry
from nanochat.reporting.as_markdown import safe
from nanochat.reporting.as_page import as_page, escaped
from nanochat.reporting.costs import energy, power_of
from nanochat.reporting.curves import curve
from nanochat.reporting.document import Document, Failure, Sample, Section, Table
from nanochat.reporting.file_reports import FileReports
from nanochat.reporting.origin import _row
from nanochat.reporting.subject import read_metrics, read_subject
from nanochat.running.changes import description_of
from nanochat.running.code_size import code_size
from nanochat.running.json_file import append_line, write_text
from nanochat.running.lease import lease
from nanochat.running.plan import make_plan
from nanochat.running.provenance import gpus
from nanochat.running.run_folder import RunFolder
from nanochat.running.store import Store

RECIPE = (Path(__file__).parent.parent / "recipes" / "quickstart.toml").read_text(encoding="utf-8")
MACHINE = Machine(cuda_devices=0, mps=False, cpu_cores=2, memory_bytes=2**34, name="test")
STEPS = 6
BATCH = 4096
NASTY = '<script>alert(1)</script> [a](http://evil.example) | `x` <img src="http://evil.example/x.png"> & "q"'


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@attrs.frozen
class Home:
    """A home folder with runs that never ran."""

    path: Path
    registry: Registry

    def run(self, *overrides: str, until: str = "eval", quality: float = 1.0) -> RunFolder:
        """A run whose stages are finished as far as `until`."""
        recipe_file = self.path / "quickstart.toml"
        recipe_file.write_text(RECIPE, encoding="utf-8")
        shutil.copy(Path(__file__).parent.parent / "recipes" / "quickstart_identity.jsonl", self.path)
        recipe = load_recipe(recipe_file, overrides=overrides, registry=self.registry, machine=MACHINE)
        plan = make_plan(recipe, MACHINE, Store(), self.registry)
        run = RunFolder(plan.run_folder)
        run.open(plan, MACHINE, self.registry)
        keys = {planned.name: planned.key for planned in plan.stages}
        for planned in plan.stages:
            planned.folder.open(description_of(planned.stage, recipe, keys))
            run.event("stage_started", stage=planned.name)
            figures = _figures(planned.name, planned.folder.path, quality)
            record = {"stage": planned.name, "use": planned.stage.use, "produces": planned.stage.produces}
            where = {"run": run.path.name, "seconds": 60.0, "device": "cpu", "world_size": 1}
            run.event("stage_done", stage=planned.name, key=planned.key, seconds=60.0)
            planned.folder.write_record(
                {**record, **where, "finished": "2026-11-28T10:00:00+00:00", "figures": figures}
            )
            if planned.name == until:
                break
        return run

    def report(self, *arguments: str) -> Result:
        return CliRunner().invoke(command, arguments)


def _figures(name: str, folder: Path, quality: float) -> Mapping[str, Any]:
    """What a stage of the quickstart leaves: its metrics, its examples, its figures."""

    def figure(value: float, n: int = 0, error: float | None = None) -> dict[str, Any]:
        return {"value": value, "n": n, "standard_error": error}

    if name in ("base", "sft"):
        for step in range(1, STEPS + 1):
            line = {"step": step, "time": 1e9 + step, "loss": 7.0 / step, "tokens": float(step * BATCH)}
            line |= {"tokens_per_second": 1024.0, "lr.matrices": 0.02 / step, "data.docs.documents": 10.0 * step}
            append_line(folder / "metrics.jsonl", line)
            if step % 3 == 0:
                append_line(folder / "metrics.jsonl", {"step": step, "bpb.bpb": 3.0 / step, "bpb.unigram_bpb": 2.8})
        counts = {"steps": figure(STEPS), "tokens": figure(STEPS * BATCH), "parameters": figure(3_342_442)}
        return {"bpb.bpb": figure(1.25 * quality, 411, 0.04)} | counts if name == "base" else counts
    if name == "eval":
        (folder / "examples").mkdir(exist_ok=True)
        asked = [{"role": "user", "content": NASTY}, {"role": "assistant", "content": "#### 5"}]
        for score in (1.0, 0.0):
            line = {"messages": asked, "completion": [{"type": "python", "text": "2+3"}], "score": score}
            append_line(folder / "examples" / "arithmetic-0.jsonl", line)
        append_line(folder / "examples" / "samples-0.jsonl", {"prompt": "To be", "completion": f"or not\n\n{NASTY}"})
        return {"arithmetic.accuracy": figure(0.98, 200, 0.0099), "bad": figure(math.pi)}
    return {"vocab_size": figure(2048)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Home:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    return Home(tmp_path, registry)


class Page(HTMLParser):
    """What a browser would make of a page: tags that were opened, addresses in them, text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


# A whole run


def test_a_run_is_reported_from_loss_to_provenance_in_both_forms_and_the_page_needs_no_other_file(home: Home) -> None:
    run = home.run()
    result = home.report()
    assert result.exit_code == 0, result.output
    text = run.report.read_text(encoding="utf-8")
    assert result.stdout == text and f"with plots: {run.page}" in result.stderr
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    for title in ("Accuracy", "Conversations", "Samples", "Stages", "Training", "Data", "Time, energy and cost"):
        assert title in titles
    assert titles[-2:] == ["Provenance", "All metrics by stage"]
    for part in ("98.0%", "± 1.0%", "7.000 → 1.167", "| pydocs", "Size of the code", "Total wall time: 4 min", "1.25"):
        assert part in text
    page = Page(run.page)
    for axis in ("tokens", "time", "FLOPs"):
        assert f"base: loss against {axis}" in page.text and f"base: bits per byte against {axis}" in page.text
    assert "sft: learning rates against tokens" in page.text and "sft: throughput against tokens" in page.text
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)


def test_a_report_that_says_nothing_new_leaves_its_files_alone(home: Home) -> None:
    run = home.run()
    home.report()
    before = [path.stat().st_mtime_ns for path in (run.report, run.page)]
    assert home.report().exit_code == 0
    assert [path.stat().st_mtime_ns for path in (run.report, run.page)] == before


def test_flops_are_the_estimates_for_a_token_times_the_tokens_and_time_is_tokens_over_their_rate(home: Home) -> None:
    base = next(stage for stage in read_subject(home.run(), registry=home.registry).stages if stage.name == "base")
    assert base.flops_per_token is not None
    # Two passes over 1.77 M weights of blocks and 0.39 M of the head, the backward one twice as dear, and attention.
    assert 6 * (1_769_544 + 393_216) < base.flops_per_token < 1.3 * 6 * (1_769_544 + 393_216)
    made = curve(base.metrics, base.flops_per_token)
    assert made is not None
    assert made.seconds == pytest.approx([BATCH / 1024.0 * step for step in range(1, STEPS + 1)])
    along = made.along("FLOPs")
    assert along is not None and along[0][-1] == STEPS * BATCH * base.flops_per_token
    assert made.place(4.5, made.tokens) == 4.5 * BATCH


def test_a_second_run_of_a_recipe_says_what_it_changed(home: Home) -> None:
    first = home.run()
    write_text(first.path / "env.json", first.path.joinpath("env.json").read_text().replace("2026-", "2025-"))
    home.run("stages.base.steps=7", quality=0.9)
    text = home.report().stdout
    assert f"Compared with {first.path.name}" in text
    assert re.search(r"\| identity +\| stages.base.steps +\| 150 +\| 7 ", text)
    assert re.search(r"\| metrics +\| base.bpb.bpb +\| 1.25 +\| 1.125 +\| 2.2 standard errors", text)


def test_values_that_differ_read_differently_and_a_ratio_of_one_is_not_told() -> None:
    def parameters(before: float, now: float) -> list[str]:
        return _row(Difference(group="metrics", key="base.parameters", values=(before, now), errors=(None, None)))

    assert parameters(5_243_010.0, 5_243_002.0) == ["metrics", "base.parameters", "5,243,010", "5,243,002", ""]
    assert parameters(5_243_010.0, 4_194_338.0)[2:] == ["5,243,010", "4,194,338", "× 0.8"]
    close = _row(Difference(group="identity", key="lr", values=(0.1 + 0.2, 0.3)))
    assert close[2] != close[3] and close[4] == ""


# What is written by models and by people is text and nothing else


def test_no_sample_becomes_markup_in_either_form(home: Home) -> None:
    run = home.run()
    text = home.report().stdout
    for line in text.splitlines():
        if "evil" in line:
            assert line.startswith("    "), line  # code: nothing in it means anything
    page = Page(run.page)
    assert not {"script", "img"} & set(page.tags)
    assert not any("evil" in address for address in page.addresses)
    assert page.text.count(NASTY) >= 2


def test_any_text_in_any_block_is_escaped() -> None:
    blocks = [
        Table(titles=(NASTY,), rows=[[NASTY]]),
        Sample(prompt=NASTY, completion=NASTY),
        Failure(title=NASTY, message=NASTY, help=NASTY, facts=[(NASTY, NASTY)]),
    ]
    made = Document(
        title=NASTY, kind="Run", name=NASTY, state="failed", summary=NASTY, headlines=[(NASTY, NASTY)],
        sections=[Section(title=NASTY, blocks=blocks)],
    )  # fmt: skip
    page = as_page(made)
    assert "<script" not in page and "<img" not in page
    assert escaped("\x00\x1b[31m\ud800") == "[31m"
    assert safe("a\n# b [c](d) <e> `f`") == r"a # b \[c\](d) \<e> \`f\`"


# On a terminal


@pytest.mark.parametrize("columns", [80, 60])
def test_on_a_terminal_no_line_but_a_longer_word_is_wider_and_the_file_is_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    run = home.run()
    text = home.report().stdout
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    command.main(args=[], standalone_mode=False)
    printed = click.unstyle(capsys.readouterr().out)
    assert run.report.read_text(encoding="utf-8") == text
    assert [line for line in printed.splitlines() if len(line) > columns and len(line.split()) > 1] == []
    bare = re.sub(r"\|.*\n\| ---.*\n", "", text)  # a row that has a paragraph names those columns alone that it has
    assert set(re.findall(r"[\w.%±→]+", bare)) <= set(re.findall(r"[\w.%±→]+", printed)), "all that it says is there"


# What happens to runs


def test_a_metrics_file_cut_off_in_the_middle_gives_its_whole_lines_and_says_so(home: Home) -> None:
    run = home.run()
    metrics = run.stages[1].folder.path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-100])
    text = home.report().stdout
    assert "base: 1 line of metrics.jsonl cannot be read (cut off in the middle, mostly) and is left out." in text
    assert "7.000 → 1.167" in text


def test_a_line_of_metrics_with_a_word_for_a_number_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for line in ({"step": 1, "loss": 2.0}, {"step": 2, "loss": "abc"}):
        append_line(path, line)
    assert read_metrics(path) == ([{"step": 1, "loss": 2.0}], 1)


def test_a_run_without_any_metrics_has_a_report_without_curves(home: Home) -> None:
    run = home.run()
    for stage in run.stages:
        (stage.folder.path / "metrics.jsonl").unlink(missing_ok=True)
    result = home.report()
    assert result.exit_code == 0 and "## Accuracy" in result.stdout
    said = "it trained, and its metrics.jsonl is not there, so it has no row and no curves here."
    assert result.stdout.count(said) == 2 and f"## Training\n\nbase: {said}\n\nsft: {said}\n\n" in result.stdout
    metrics = run.stages[1].folder.path / "metrics.jsonl"
    append_line(metrics, {"step": 3, "bpb.bpb": 1.0})
    assert "base: it trained, and its metrics.jsonl has no line of a loss" in home.report().stdout


def test_a_failed_run_says_what_failed_where_and_what_to_do(home: Home) -> None:
    run = home.run(until="tok")
    errors = [{"code": "E302", "message": "the corpus is empty\n  | <b>line</b>", "help": "give it a document"}]
    run.event("stage_failed", stage="base", key=run.stages[1].folder.key, seconds=3.0, errors=errors)
    text = home.report().stdout
    assert "failed; not finished: base, sft, eval." in text
    assert "Stage base (pretrain) failed\n\n    the corpus is empty\n      | <b>line</b>\n\nWhat to do:" in text
    assert "    give it a document\n    Then the same command goes on with this stage." in text
    assert f"- the log: {run.stages[1].folder.path / 'logs/worker.log'}" in text
    page = Page(run.page)
    assert "the corpus is empty\n  | <b>line</b>" in page.text, "of which a browser makes text, and no tag"
    run.event("run_started")
    assert "## Failure" in home.report().stdout, "until the stage is on again"
    run.event("stage_started", stage="base")
    assert "## Failure" not in home.report().stdout


def test_a_run_that_goes_on_has_a_report_that_reads_itself_again_until_it_ends(home: Home) -> None:
    run = home.run(until="tok")
    run.event("stage_started", stage="base")
    with lease(run.path, what="the run"), lease(run.stages[1].folder.path, what="the stage"):
        assert "going on; not finished: base, sft, eval." in home.report().stdout
        assert 'http-equiv="refresh"' in run.page.read_text()
    assert "Run quickstart" in home.report().stdout
    assert 'http-equiv="refresh"' not in run.page.read_text()


def test_the_runner_has_the_report_refreshed_by_a_process_of_its_own(home: Home) -> None:
    run = home.run()
    reports = FileReports(pause=0.0)
    reports.refresh(run)
    started = time.monotonic()
    while not run.page.exists() and time.monotonic() - started < 120:
        reports.refresh(run)
        time.sleep(0.05)
    assert "7.000 → 1.167" in run.report.read_text()
    while not reports.idle and time.monotonic() - started < 120:
        reports.refresh(run)
        time.sleep(0.05)
    run.report.unlink()
    reports.refresh(run)
    assert reports.idle and not run.report.exists(), "the next one is not due yet"


def test_a_run_whose_recipe_no_longer_loads_is_reported_without_what_needs_it(home: Home) -> None:
    run = home.run()
    lock = run.path / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace('use = "pydocs"', 'use = "gone"'))
    text = home.report().stdout
    assert (
        "cannot be read now, so FLOPs and data are not told: unknown" in text or "FLOPs and data are not told" in text
    )
    assert "## Accuracy" in text and "## Data" not in text and "loss against FLOPs" not in text


# Stages


def test_a_stage_is_reported_by_run_and_name_or_by_folder_also_when_its_run_is_gone(home: Home) -> None:
    run = home.run()
    folder = run.stages[1].folder.path
    result = home.report("quickstart/base")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"# base: pretrain\n\nStage {folder.name}, finished in the run {run.path.name}.")
    assert "base: loss against FLOPs" in result.stdout and "sft" not in result.stdout
    assert (folder / "report.html").exists()
    shutil.rmtree(run.path)
    for name in (str(folder), folder.name):
        text = home.report(name).stdout
        assert "finished; the run that made it is gone." in text and "7.000 → 1.167" in text


# Costs, code


def test_a_price_is_remembered_and_energy_is_power_times_time(home: Home) -> None:
    run = home.run()
    text = home.report("--price", "3.60", "--watts", "100", "quickstart").stdout
    # Four stages of a minute: 1/15 h at 100 W, and at $3.60.
    assert re.search(r"\| total +\| 4 min +\| [\d.]+ \w +\| 6.67 Wh +\| \$0.24 ", text)
    assert home.report().stdout == text
    assert json.loads((run.path / "report.json").read_text()) == {"price": 3.6, "watts": 100.0}


def test_the_power_of_a_gpu_is_found_by_the_drivers_name_and_is_not_guessed(home: Home, tmp_path: Path) -> None:
    stage = read_subject(home.run(), registry=home.registry).stages[1]
    on_gpu = attrs.evolve(stage, record={**stage.record, "device": "cuda"})
    named = power_of(on_gpu, {"gpus": ["NVIDIA H100 80GB HBM3"]}, None)
    assert named is not None and named.watts == 700
    assert power_of(on_gpu, {"gpus": ["Some GPU"]}, None) is None
    assert energy(3600 * 1500) == "1.5 kWh"
    driver = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    driver.mkdir(parents=True)
    (driver / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   42\n")
    assert gpus(tmp_path) == ["NVIDIA H100 80GB HBM3"]


def test_the_size_of_the_code_is_that_of_its_files() -> None:
    (core, *_) = code_size([])
    root = Path(__file__).parent.parent / "nanochat"
    files = list(root.rglob("*.py"))
    assert core["files"] == len(files)
    assert core["lines"] == sum(len([x for x in path.read_text().splitlines() if x.strip()]) for path in files)
    assert core["dependencies"] > 10


# A wrong command line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nothing"], "there is no run `nothing`"),
        (["quickstart/bas"], "has no stage `bas`"),
        (["--sweep", "nothing"], "there is no sweep `nothing`"),
        (["--sweep"], "--sweep needs a name"),
        (["--figure", "bpb.bpb"], "--figure is of sweeps"),
        (["quickstart/base", "--price", "1"], "--price and --watts are of runs"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(home: Home, arguments: list[str], said: str) -> None:
    home.run()
    fault = home.report(*arguments).exception
    assert isinstance(fault, InputError) and said in str(fault)


def test_without_any_run_the_first_is_proposed(home: Home) -> None:
    fault = home.report().exception
    assert isinstance(fault, InputError) and "there is no run yet" in str(fault)
    assert home.report("--price", "nan").exit_code == 2
