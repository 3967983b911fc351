"""`nanochat bench`: where the seconds of a step go, by a clock that the test holds; and the command, run for real."""

import json
from pathlib import Path

import pytest
import torch

from nanochat.benchmarking.catalogue import benchmarks
from nanochat.benchmarking.engine_speed import engine_speed
from nanochat.benchmarking.operators import operators
from nanochat.benchmarking.stopwatch import PARTS, Stopwatch, TimedLoader, TimedModel, TimedOptimizer
from nanochat.benchmarking.subject import Subject
from nanochat.cli.growth_plot import WIDTH, axis
from nanochat.cli.main import main
from nanochat.config import Component
from nanochat.model.gpt_config import GPTConfig

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
TINY = [
    *("--set", "stages.base.model.depth=2"),
    *("--set", "stages.base.model.aspect_ratio=32"),
    *("--set", "stages.base.model.head_dim=32"),
    *("--set", "stages.base.total_batch_size=1024"),
    *("--set", "stages.base.device_batch_size=2"),
]


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A loader, a model and an optimizer, each of which takes its own time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def next_batch(self) -> str:
        self.clock.now += 1
        return "batch"

    def __call__(self, rows: str) -> str:
        self.clock.now += 10
        return f"loss of {rows}"

    def step(self) -> None:
        self.clock.now += 1000


def test_each_second_of_a_step_belongs_to_one_part() -> None:
    clock = Clock()
    watch, slow = Stopwatch(torch.device("cpu"), clock), Slow(clock)
    loader, model, optimizer = TimedLoader(slow, watch), TimedModel(slow, watch), TimedOptimizer(slow, watch)
    for _ in range(2):
        clock.now += 0.5  # the loop
        assert loader.next_batch() == "batch"
        for rows in "ab":
            assert model(rows) == f"loss of {rows}"
            clock.now += 100  # its backward pass
        optimizer.step()
        optimizer.step()
    assert watch.seconds == {"data": 2, "forward": 40, "backward": 400, "optimizer": 4000, "loop": 1}
    assert sum(watch.seconds.values()) == clock.now


def test_a_time_that_grows_as_the_flops_do_stands_on_their_mark() -> None:
    assert axis(10.0, 10.0, 1.0, 100.0) == " " * (WIDTH // 2) + "@" + " " * (WIDTH // 2)
    assert axis(100.0, 1.0, 1.0, 100.0) == "o" + " " * (WIDTH - 2) + "*"
    assert axis(5.0, 5.0, 5.0, 5.0)[0] == "@"


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "train", str(RECIPE), *TINY, "--seconds", "0.2", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_speed_is_that_of_the_model_and_batch_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(bench(capsys, "--json"))
    # By hand: dim 64, two blocks of 12·64², a head of 2048·64, gates of 2·12 in the last block; windows of 128 each.
    assert found["flops_per_token"] == 6 * (2 * 12 * 64**2 + 2048 * 64 + 2 * 12) + 2 * 12 * 2 * 32 * 128
    assert found["tokens"] == 1024 and found["rows"] == 2 and found["steps"] >= 2
    assert set(found["parts"]) == set(PARTS) and sum(found["parts"].values()) == pytest.approx(1)
    assert min(found["parts"][part] for part in ("forward", "backward", "optimizer")) > 0
    assert found["fastest_step_seconds"] <= found["step_seconds"]
    assert found["tokens_per_second"] == pytest.approx(1024 / found["step_seconds"])
    assert found["of_peak"] == pytest.approx(
        found["tokens_per_second"] * found["flops_per_token"] / found["peak_flops"]
    )


def test_an_operator_is_told_with_its_calls_its_flops_and_what_it_moves() -> None:
    a, b, batch = torch.randn(30, 40), torch.randn(40, 50), torch.randn(6, 50, 30)

    def take(steps: int) -> None:
        for _ in range(steps):
            product = (a @ b) + (a @ b)  # (30, 50)
            (batch @ batch.mT).exp_()
            torch.zeros(50, 50).addmm_(product.T, product)

    rows = operators(take, 3, torch.device("cpu"), torch.float32)
    assert [row.seconds for row in rows[:-1]] == sorted((row.seconds for row in rows[:-1]), reverse=True)
    by_name = {row.name: row for row in rows}
    mm, add, exp = (by_name[f"aten::{name}"] for name in ("mm", "add", "exp_"))
    assert (mm.calls, mm.flops) == (2, 2 * 2 * 30 * 40 * 50)
    assert by_name["aten::addmm_"].flops == 2 * 50 * 30 * 50
    assert by_name["aten::bmm"].flops == 6 * 2 * 50 * 30 * 50
    assert (add.calls, add.flops, add.moved_bytes) == (1, 0, 4 * 3 * 30 * 50)  # two read, one written
    assert exp.moved_bytes == 4 * 2 * 6 * 50 * 50
    assert mm.least_seconds(peak_flops=1e9, bandwidth=1.0) == mm.flops / 1e9
    assert add.least_seconds(peak_flops=1.0, bandwidth=1e9) == add.moved_bytes / 1e9


def test_operators_are_told_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(bench(capsys, "--json", "--operators"))
    products = [row for row in found["operators"] if row["flops"]]
    # Attention's products are more than the formula's: a band's keys are all multiplied, masked or not.
    assert sum(row["flops"] for row in products) > 0.9 * 1024 * found["flops_per_token"]
    assert found["operators"][-1]["name"] == "between operators" and found["bandwidth"] > 0
    (page, *_) = benchmarks(RECIPE, (), None, cpu=True)
    assert {"train: of the matmul peak", "train: a step's backward"} <= {each.name for each in page.quantities(found)}
    said = bench(capsys, "--operators")
    assert " FLOP/s " in said and " memory " in said and "if every operator reached its limit" in said


@pytest.mark.parametrize(
    "names, dtype, said",
    [
        ([], "float32", "bfloat16 no matrix instructions for it are known of this processor"),
        (["amx_bf16", "avx512_bf16"], "float32", "(amx_bf16, avx512_bf16): --set hardware.dtype=bfloat16 uses them"),
        (["amx_bf16"], "bfloat16", "(amx_bf16): in use"),
    ],
)
def test_what_a_processor_has_for_bfloat16_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, names: list[str], dtype: str, said: str
) -> None:
    monkeypatch.setattr("nanochat.cli.bench.bfloat16_instructions", lambda: names)
    printed = " ".join(bench(capsys, "--set", f"hardware.dtype={dtype}").split())
    assert said in printed
    assert f"threads, {dtype}" in printed


def test_growth_is_told_by_depth_and_by_length(capsys: pytest.CaptureFixture[str]) -> None:
    said = bench(capsys, "--depths", "1,2", "--lengths", "64,128").splitlines()
    titles = [line for line in said if line.startswith("time a token by")]
    assert len(titles) == 2 and "depth" in titles[0] and "sequence_len" in titles[1]
    assert sum("*" in line or "@" in line for line in said if line.startswith("  ")) == 4


def test_what_cannot_be_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, what in (
        (["--stage", "tok"], "stages that train: base, sft"),
        (["--depths", "two"], "no list of numbers"),
        (["--set", 'stages.base.hardware = {device = "xpu", nproc_per_node = 1}'], "E404"),
        (["--set", "stages.base.transforms.fp8.use=fp8"], "fp8 needs a CUDA device"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["bench", "train", str(RECIPE), *arguments])
        assert ended.value.code == 2
        assert what in capsys.readouterr().err


def test_where_the_rows_never_all_write_in_one_step_no_rate_of_decoding_is_told() -> None:
    """A step reads at most 1,024 ids of prompts: of 64 rows with two ids each the first end before the last begin."""
    config = GPTConfig(depth=1, dim=32, head_dim=16, n_head=2, n_kv_head=2, sequence_len=512, vocab_size=512)
    model = Component(kind="model", name="model", use="gpt", revision=1, config=config)
    subject = Subject(model=model, device="cpu", dtype="float32", seed=1, int8=False, compiled=False, threads=None)
    few, many = engine_speed(subject, rows=[2, 64], prompt=128, tokens=2)
    assert few.decode_tokens_per_second and few.of_bandwidth
    assert (many.decode_tokens_per_second, many.bytes_per_second, many.of_bandwidth) == (None, None, None)
    assert many.tokens_per_second > 0
