"""`nanochat bench all` and `bench diff`: one page of all benchmarks, whatever one of them does; two pages compared."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_running import wait_for
from test_supervision import lives

from nanochat.benchmarking.catalogue import Benchmark, Quantity, benchmarks
from nanochat.benchmarking.page import Outcome, Page, improvement, parse, run, shown
from nanochat.cli import bench_all
from nanochat.cli.main import main
from nanochat.hardware import processors

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
SAID = {"rate": 120.0, "bytes": 3_000_000}


def read(found: Mapping[str, float]) -> Iterator[Quantity]:
    yield Quantity("rate", found["rate"], "tokens/s", "more")
    yield Quantity("memory", found["bytes"], "bytes", "less")


def benchmark(name: str, code: str, **more: bool) -> Benchmark:
    return Benchmark(name=name, arguments=["-c", code], read=read, **more)


def nanochat(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


GOOD = benchmark("good", f"print('''{json.dumps(SAID)}''')")
TO_A_FILE = benchmark("filed", f"import sys; open(sys.argv[1], 'w').write('''{json.dumps(SAID)}''')", file=True)
RAISES = benchmark("raises", "raise ValueError('no such operator')")
MUTE = benchmark("mute", "import sys; sys.exit(0)")
OTHER = benchmark("other", "print('{\"speed\": 1}')")
FAILS_AFTER = benchmark("fails", f"print('''{json.dumps(SAID)}'''); import sys; sys.exit(3)")


def test_a_benchmark_is_run_and_read() -> None:
    for each in (GOOD, TO_A_FILE):
        outcome = run(each)
        assert not outcome.error and outcome.seconds > 0
        assert [(q.name, q.value) for q in outcome.quantities] == [
            (f"{each.name}: rate", 120.0),
            (f"{each.name}: memory", 3_000_000),
        ]


@pytest.mark.parametrize(
    ("broken", "what"),
    [(RAISES, "no such operator"), (MUTE, "exit code 0"), (OTHER, "exit code 0"), (FAILS_AFTER, "exit code 3")],
    ids=lambda value: value.name if isinstance(value, Benchmark) else "",
)
def test_one_that_fails_or_says_something_else_leaves_its_error(broken: Benchmark, what: str) -> None:
    outcome = run(broken)
    assert what in outcome.error and not outcome.quantities


ENDLESS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


def test_one_that_does_not_end_is_stopped_with_all_that_it_started_and_says_so() -> None:
    told: list[float] = []
    outcome = run(benchmark("endless", ENDLESS), limit=5.0, waiting=told.append)
    pid, end = outcome.error.splitlines()
    assert not outcome.finished and end == "stopped after 5 s, its limit"
    assert told == sorted(told) and len(told) >= 2 and told[-1] < 5
    wait_for(lambda: not lives(int(pid)))
    page = Page(facts={}, cores=2, outcomes=[outcome])
    assert "It did not finish:" in page.markdown()


def test_an_interrupt_leaves_no_benchmark_running() -> None:
    pids: list[int] = []

    def interrupt(spent: float) -> None:
        pids.extend(each.pid for each in psutil.Process().children() if "sleep(601)" in " ".join(each.cmdline()))
        if pids:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(benchmark("interrupted", "import time; time.sleep(601)"), waiting=interrupt)
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(*there: Benchmark) -> None:
        monkeypatch.setattr(bench_all, "benchmarks", lambda *_, **__: list(there))

    return put


def test_the_page_holds_what_failed_beside_what_did_not(
    faked: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(RAISES, GOOD)
    page = tmp_path / "page.md"
    code, out, err = nanochat(capsys, "bench", "all", str(QUICKSTART), "--output", str(page))
    assert code == 1 and "raises … failed" in err and "good … done" in err
    assert page.read_text() == out
    assert "no such operator" in out and "| rate | 120 |" in out and "| memory | 3 MB |" in out
    assert "- processors: " in out and "- nanochat: " in out and "- recipe: quickstart" in out
    code, out, _ = nanochat(capsys, "bench", "all", str(QUICKSTART), "--only", "good", "--output", str(page))
    assert code == 0 and "raises" not in out


def test_after_one_that_reached_its_limit_the_rest_goes_on(
    faked: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(benchmark("endless", "import time; time.sleep(600)"), benchmark("quick", "print(1)"))
    page = tmp_path / "page.md"
    words = ["--limit", "0.05", "--output", str(page)]
    code, out, err = nanochat(capsys, "bench", "all", str(QUICKSTART), *words)
    assert code == 1 and "[1/2] endless … not finished in " in err and "[2/2] quick … " in err
    assert "stopped after 3 s, its limit" in out and "## quick" in out


def test_the_page_is_written_after_each(
    faked: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(GOOD, benchmark("stopped", ""))
    page = tmp_path / "page.md"

    def stopped_in_the_second(each: Benchmark, **more: Any) -> Outcome:
        if each.name == "stopped":
            raise KeyboardInterrupt
        return run(each, **more)

    monkeypatch.setattr(bench_all, "run", stopped_in_the_second)
    with pytest.raises(SystemExit):
        main(["bench", "all", str(QUICKSTART), "--output", str(page)])
    assert "good: rate" in parse(page.with_suffix(".json")).quantities


def test_an_unknown_name_has_a_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = nanochat(capsys, "bench", "all", str(QUICKSTART), "--only", "trian")
    assert code == 2 and "did you mean" in err and "train" in err


def test_all_that_there_is_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = nanochat(capsys, "bench", "all", str(QUICKSTART), "--list")
    files = {path.stem for path in (Path(__file__).parent / "benchmarks").glob("test_*.py")}
    assert code == 0
    assert {f"test_{name.replace('-', '_')}" for name in out.split()} >= files
    assert {"train", "infer", "infer-int8", "serve", "resume"} <= set(out.split())


def page_of(rate: float, memory: float, *more: Quantity) -> Page:
    quantities = [Quantity("good: rate", rate, "tokens/s", "more"), Quantity("good: memory", memory, "bytes", "less")]
    outcome = Outcome(name="good", command="c", seconds=1.0, load=0.0, quantities=[*quantities, *more])
    return Page(facts={"machine": f"of {rate}"}, cores=2, outcomes=[outcome])


def test_two_pages_are_compared_by_what_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peak = Quantity("good: matmul peak", 2e11, "FLOP/s")
    before, after = page_of(100.0, 4e6, peak), page_of(150.0, 8e6, peak, Quantity("new: x", 1.0, "s", "less"))
    places = [tmp_path / "a.json", tmp_path / "b.json"]
    for place, page in zip(places, (before, after), strict=True):
        place.write_text(page.json())
        assert parse(place) == page
    code, out, _ = nanochat(capsys, "bench", "diff", *map(str, places), "--json")
    found = json.loads(out)
    assert code == 0 and found["only_after"] == ["new: x"]
    assert found["quantities"]["good: rate"]["times_as_good"] == 1.5
    assert found["quantities"]["good: memory"]["times_as_good"] == 0.5
    assert found["quantities"]["good: matmul peak"]["times_as_good"] is None
    assert found["overall"] == pytest.approx((1.5 * 0.5) ** 0.5)
    code, out, _ = nanochat(capsys, "bench", "diff", str(tmp_path / "a.md"), str(tmp_path / "b.md"))
    assert code == 0 and "machine: of 100.0 → of 150.0" in out and "only after: new: x" in out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("good: ")] == ["1.50", "0.50", "GFLOP/s"]


def test_what_is_no_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.json"
    good.write_text(page_of(1.0, 1.0).json())
    for content in ("", "{}", "[]", "\0", json.dumps({"format": 99})):
        broken = tmp_path / "broken.json"
        broken.write_text(content)
        code, _, err = nanochat(capsys, "bench", "diff", str(good), str(broken))
        assert code == 2 and "broken.json" in err, content
    code, _, err = nanochat(capsys, "bench", "diff", str(good), str(tmp_path / "none.json"))
    assert code == 2 and "none.json" in err


def test_a_ratio_says_how_many_times_as_good() -> None:
    slow, fast = Quantity("t", 2.0, "s", "less"), Quantity("t", 0.5, "s", "less")
    assert improvement(slow, fast) == 4.0 and improvement(fast, slow) == 0.25
    assert improvement(slow, Quantity("t", 0.0, "s", "less")) is None


def test_quantities_read_as_people_write_them() -> None:
    assert [shown(Quantity("", *each)) for each in ((0.25, "s"), (2e-6, "s"), (3.0, "s"), (0.5, "share"))] == [
        "250.0 ms",
        "2.0 µs",
        "3.00 s",
        "50.0%",
    ]
    assert shown(Quantity("", 1.5e11, "FLOP/s")) == "150 GFLOP/s" and shown(Quantity("", 12e9, "bytes/s")) == "12 GB/s"


def test_the_processors_tell_their_models(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    cores = "".join(f"processor: {i}\nmodel\t\t: 85\nmodel name\t: Fast CPU\n\n" for i in range(2))
    (tmp_path / "proc/cpuinfo").write_text(cores)
    for number in range(2):
        gpu = tmp_path / f"proc/driver/nvidia/gpus/{number}"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    assert processors(tmp_path) == ["Fast CPU", "NVIDIA H200"]
    assert processors(tmp_path / "nowhere") == []


def test_what_pytest_benchmark_writes_is_read() -> None:
    found = {"benchmarks": [{"name": "test_a_b[x]", "stats": {"median": 0.5}, "extra_info": {"MB/s": 3, "who": "me"}}]}
    (each,) = (
        b for b in benchmarks(QUICKSTART, [], Path(__file__).parent / "benchmarks", cpu=True) if b.name == "startup"
    )
    assert each.quantities(found) == [
        Quantity("startup: a b[x]", 0.5, "s", "less"),
        Quantity("startup: a b[x], MB/s", 3, "times"),
    ]


@pytest.mark.slow
def test_the_commands_say_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [
        *("--set", "stages.base.model.depth=1"),
        *("--set", "stages.base.model.aspect_ratio=64"),
        *("--set", "stages.base.total_batch_size=1024"),
    ]
    page = tmp_path / "page.md"
    chosen = ["--only", "train,infer,infer-int8,serve"]
    code, out, err = nanochat(capsys, "bench", "all", str(QUICKSTART), *tiny, *chosen, "--output", str(page))
    assert code == 0, out + err
    names = parse(page.with_suffix(".json")).quantities
    for wanted in (
        "train: of the matmul peak",
        "infer: of the bandwidth at 32",
        "infer-int8: first token, p99, at 8",
        "serve: /health, p50, at 1",
    ):
        assert names[wanted].value > 0
