"""The main job at a reduced size: every stage of recipes/quickstart.toml, as a user runs it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes/quickstart.toml"
BIN = Path(sys.executable).parent
REDUCED = {
    "stages.tok.vocab_size": 512,
    "stages.tok.max_chars": 300_000,
    "stages.base.steps": 6,
    "stages.base.log_every": 1,
    "stages.base.model.depth": 1,
    "stages.base.evals.bpb.tokens": 4096,
    "stages.sft.steps": 6,
    "stages.eval.evals.arithmetic.max_examples": 8,
    "stages.eval.evals.arithmetic.max_tokens": 24,
    "stages.eval.evals.spelling_bee.max_examples": 8,
    "stages.eval.evals.spelling_bee.max_tokens": 24,
}


def command(*arguments: object, **changes: object) -> list[str]:
    sets = [f"--set={key}={value}" for key, value in (REDUCED | changes).items()]
    return [str(BIN / "nanochat-run"), str(RECIPE), *sets, *map(str, arguments)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NANOCHAT")}
    return kept | {"NANOCHAT_HOME": str(home)}


def call(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)


def nanochat(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return call([str(BIN / "nanochat"), *arguments], environment)


@pytest.fixture(scope="module")
def finished(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The reduced recipe, run to its end."""
    ran = call(command(), environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def test_it_ends_with_the_accuracy_table_and_the_command_to_chat(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    assert re.search(r"\| arithmetic +\| +[\d.]+%", finished.stdout)
    assert re.search(r"\| spelling_bee +\| +[\d.]+%", finished.stdout)
    assert "nanochat chat -p" in finished.stdout
    report = next(Path(environment["NANOCHAT_HOME"]).glob("runs/*/report.md")).read_text()
    for part in ("## Accuracy", "## Stages", "## Training", "bpb.unigram_bpb", "## Provenance"):
        assert part in report


def test_a_second_run_does_nothing_and_says_so(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    again = call(command(), environment)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_a_change_of_a_stage_redoes_it_and_what_follows_but_not_the_tokenizer(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    changed = [f"--set={key}={value}" for key, value in (REDUCED | {"stages.base.steps": 7}).items()]
    planned = nanochat(environment, "plan", str(RECIPE), "--json", *changed)
    actions = {stage["stage"]: stage["action"] for stage in json.loads(planned.stdout)["stages"]}
    assert actions == {"tok": "reuse", "base": "run", "sft": "run", "eval": "run"}


def test_an_interrupted_run_goes_on_where_it_stopped(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    longer = command(**{"stages.base.steps": 2000})
    with subprocess.Popen(longer, env=environment, stdout=subprocess.PIPE, text=True) as running:
        store = Path(environment["NANOCHAT_HOME"]) / "store"
        wait_for(lambda: steps_done(store) >= 3)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 75, output
    assert "the same command goes on" in output
    stopped_at = steps_done(store)
    planned = nanochat(environment, "plan", str(RECIPE), "--json", *longer[2:])
    base = next(stage for stage in json.loads(planned.stdout)["stages"] if stage["stage"] == "base")
    assert base["action"] == "resume"
    with subprocess.Popen(longer, env=environment, stdout=subprocess.PIPE, text=True) as running:
        wait_for(lambda: steps_done(store) > stopped_at + 2)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert f"goes on from step {stopped_at}" in output


@pytest.mark.slow
def test_two_processes_train_as_one_does(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str], tmp_path: Path
) -> None:
    alone = losses(Path(environment["NANOCHAT_HOME"]) / "store", steps=6)
    own = environment | {"NANOCHAT_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ran = call(command("--until", "base", **{"hardware.nproc_per_node": 2}), own)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    hint = re.search(r'nanochat (complete) (\S+) (-p) "…"', ran.stdout)  # a base model is no partner in a conversation
    assert hint is not None and nanochat(own, *hint.groups(), "Once", "--max-tokens", "4").stdout.startswith("Once")
    together = losses(tmp_path / "store", steps=6)
    assert together.keys() == alone.keys() != set()
    assert together == pytest.approx(alone, rel=1e-4)


def test_chat_answers_from_the_newest_finished_run(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    answered = nanochat(environment, "chat", "-p", "How many r are in strawberry?", "--max-tokens", "16")
    assert answered.returncode == 0, answered.stderr


def test_serve_answers_a_chat_completion_and_shows_the_page(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([str(BIN / "nanochat"), "serve", "--port", str(port)], env=environment) as server:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/ready"))
        body = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 8}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        page = httpx.get(url).text
        server.terminate()
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert 1 <= answer["usage"]["completion_tokens"] <= 8
    assert "<html" in page


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def losses(store: Path, steps: int) -> dict[int, float]:
    """Step → loss of the finished pretraining stage of that many steps."""
    for folder in store.glob("base-*"):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        if lines[-1]["step"] == steps and (folder / "record.json").exists():
            return {line["step"]: line["loss"] for line in lines if "loss" in line}
    raise AssertionError("no such stage")


def steps_done(store: Path) -> int:
    """The last step that the newest pretraining stage has logged."""
    newest = max(store.glob("base-*/metrics.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
    lines = newest.read_text().splitlines() if newest and not (newest.parent / "record.json").exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_the_recipe_rl_goes_on_from_there_and_is_rewarded(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    reduced = {key: value for key, value in REDUCED.items() if not key.startswith("stages.eval.")} | {
        "stages.before.evals.arithmetic.max_examples": 2,
        "stages.before.evals.arithmetic.max_tokens": 8,
        "stages.rl.steps": 2,
        "stages.rl.problems_per_step": 2,
        "stages.rl.samples": 2,
        "stages.rl.max_tokens": 8,
        "stages.rl.held_out": 3,
        "stages.rl.evals.held_out.every": 1,
        "stages.rl.evals.held_out.max_tokens": 8,
    }
    sets = [f"--set={key}={value}" for key, value in reduced.items()]
    ran = call([str(BIN / "nanochat-run"), str(ROOT / "recipes/rl.toml"), *sets], environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "rl: done" in ran.stdout
    (folder,) = Path(environment["NANOCHAT_HOME"]).glob("store/rl-*")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "reward" in line] == [1, 2]
    assert all(0 < line["rollout_share"] < 1 for line in lines if "reward" in line)
    assert [line["step"] for line in lines if "held_out.pass@4" in line] == [1, 2]
    assert len((folder / "rollouts-0.jsonl").read_text().splitlines()) == 2 * 2 * 2
