"""The tasks that are data sets on the hub: what becomes of a row, and how an answer to it is scored.

The rows are of the real data sets' schema, and served by a hub on this machine; where the real files are here, in
NANOCHAT_HOME or NANOCHAT_DATA_DIR, each task is tried on them too.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, in_this_process, serving, table

from nanochat.data.task import Task
from nanochat.home import DATA_DIR, HOME, data_dir
from nanochat.registry import load_registry
from nanochat.testing import check_task, tiny_tokenizer
from nanochat.text.conversation import render_conversation
from nanochat_plugins.sources.hub_manifest import known
from nanochat_plugins.tasks import arc, gsm8k, humaneval, mmlu, smoltalk
from nanochat_plugins.tasks.arc import ARC, ARCConfig
from nanochat_plugins.tasks.gsm8k import GSM8K, GSM8KConfig, final_number, parts
from nanochat_plugins.tasks.mmlu import MMLU, MMLUConfig
from nanochat_plugins.tasks.smoltalk import SmolTalk, SmolTalkConfig

HERE = {name: os.environ[name] for name in (HOME, DATA_DIR) if name in os.environ}
"""Where the real files may lie, as the environment says before a test changes it."""
SOLUTION = "A box holds 3*4=<<3*4=12>>12 eggs, and a hundred boxes <<12*100=1200>>1,200.\n#### 1,200"
CHOICES = {"text": ["a feather", "a stone", "a leaf"], "label": ["A", "B", "C"]}
NUMBERED = {"text": ["ice", "steam"], "label": ["1", "2"]}
QUESTION = {
    "question": "What is 2 + 3 in Z_4?",
    "subject": "abstract_algebra",
    "choices": ["0", "1", "2", "3"],
    "answer": 1,
}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello there!"},
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    with serving() as hub, in_this_process(hub):
        sums = [{"question": f"How many, {n}?", "answer": SOLUTION} for n in range(4)]
        hub.publish(gsm8k.REPO, {f"{s}/train-00000-of-00001.parquet": table(sums) for s in ("main", "socratic")})
        easy = [
            {"id": "1", "question": "Which is heaviest?", "choices": CHOICES, "answerKey": "B"},
            {"id": "2", "question": "Which is cold?", "choices": NUMBERED, "answerKey": "1"},
        ]
        hub.publish(arc.REPO, {"ARC-Easy/test-00000-of-00001.parquet": table(easy)})
        hub.publish(
            mmlu.REPO,
            {
                "all/test-00000-of-00001.parquet": table([QUESTION] * 2),
                "abstract_algebra/test-00000-of-00001.parquet": table([QUESTION]),
                "auxiliary_train/train-00000-of-00001.parquet": table([{"train": QUESTION | {"subject": ""}}] * 3),
            },
        )
        hub.publish(
            smoltalk.REPO, {f"data/train-0000{n}-of-00002.parquet": table([{"messages": TALK}]) for n in range(2)}
        )
        yield hub


def text(task: Task, index: int = 0) -> Any:
    return task[index]["messages"][-1]["content"]


def test_sums_become_calls_of_the_tool() -> None:
    assert parts(SOLUTION) == [
        {"type": "text", "text": "A box holds 3*4="},
        {"type": "python", "text": "3*4"},
        {"type": "python_output", "text": "12"},
        {"type": "text", "text": "12 eggs, and a hundred boxes "},
        {"type": "python", "text": "12*100"},
        {"type": "python_output", "text": "1200"},
        {"type": "text", "text": "1,200.\n#### 1,200"},
    ]


def test_a_mark_that_holds_no_sum_is_left_out() -> None:
    assert parts("a<<12>>b<<1+1==2>>c") == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "python", "text": "1+1="},
        {"type": "python_output", "text": "2"},
        {"type": "text", "text": "c"},
    ]


@pytest.mark.parametrize(
    "answer, number",
    [
        ("#### 72", "72"),
        ("so #### 1,200", "1200"),
        ("#### $1,200.50", "1200.5"),
        ("#### -5", "-5"),
        ("#### −5", "-5"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### +5", "5"),
        ("####5.0", "5"),
        ("#### 007", "7"),
        ("#### 0", "0"),
        ("#### -0", "0"),
        ("#### .5", "0.5"),
        ("#### 50%", "50"),
        ("#### 100", "100"),
        ("#### 1\n#### 2", "2"),
        ("72", None),
        ("#### none", None),
        ("", None),
    ],
)
def test_the_answer_is_the_number_behind_the_last_mark(answer: str, number: str | None) -> None:
    assert final_number(answer) == number


def test_gsm8k_rewards_the_right_number_with_one_and_any_other_with_nothing(hub: FakeHub) -> None:
    task = GSM8K(GSM8KConfig())
    assert len(task) == 4
    answers = ["#### 1200", "#### 1,200", "it is\n#### 1200.00", "#### -1200", "#### 120", "1200", ""]
    assert [task.reward(task[0], answer) for answer in answers] == [1, 1, 1, 0, 0, 0, 0]
    check_task(task)


def test_a_reference_without_a_number_is_never_right(hub: FakeHub) -> None:
    conversation = {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "none"}]}]}
    assert not GSM8K(GSM8KConfig()).evaluate(conversation, "none")


def test_slices_are_those_of_every_task(hub: FakeHub) -> None:
    task = GSM8K(GSM8KConfig(subset="socratic", start=1, step=2))
    assert [example["messages"][0]["content"] for example in task] == ["How many, 1?", "How many, 3?"]


def test_arc_asks_for_a_letter_whatever_the_labels(hub: FakeHub) -> None:
    task = ARC(ARCConfig(split="test"))
    assert task[0]["messages"][0]["content"] == (
        "Multiple Choice question: Which is heaviest?\n- a feather=A\n- a stone=B\n- a leaf=C\n\n"
        "Respond only with the letter of the correct answer."
    )
    assert (text(task), task[0]["letters"]) == ("B", ["A", "B", "C"])
    assert (text(task, 1), task[1]["letters"]) == ("1", ["1", "2"])
    assert [task.evaluate(task[0], letter) for letter in ("B", " B", "A", "")] == [True, True, False, False]
    check_task(task)


def test_mmlu_has_subjects_and_questions_to_learn_from(hub: FakeHub) -> None:
    assert len(MMLU(MMLUConfig())) == 3
    assert (text(MMLU(MMLUConfig())), MMLU(MMLUConfig())[0]["subject"]) == ("B", "")
    assert len(MMLU(MMLUConfig(split="test"))) == 2
    one = MMLU(MMLUConfig(split="test", subject="abstract_algebra"))
    assert (len(one), one[0]["subject"], one[0]["letters"]) == (1, "abstract_algebra", ["A", "B", "C", "D"])
    for task in (MMLU(MMLUConfig()), one):
        check_task(task)


def test_a_subject_of_what_has_none_is_refused() -> None:
    assert MMLUConfig(subject="anatomy").problems()[0][0] == "subject"
    assert MMLUConfig(subject="anatomy", split="test").problems() == []
    assert MMLUConfig(start=3, stop=2).problems()[0][0] == "stop"


def test_smoltalk_is_conversations_as_they_are(hub: FakeHub) -> None:
    task = SmolTalk(SmolTalkConfig())
    assert len(task) == 2
    assert task[1] == {"messages": TALK}
    check_task(task)


@pytest.mark.parametrize("name", ["arc", "gsm8k", "humaneval", "mmlu", "smoltalk"])
def test_each_is_registered_with_its_config(name: str) -> None:
    assert callable(load_registry().builder("task", name))


@pytest.mark.parametrize(
    "name, repo",
    [(module.__name__.rpartition(".")[2], module.REPO) for module in (arc, gsm8k, humaneval, mmlu, smoltalk)],
)
def test_the_real_files_render_and_their_references_are_right(
    name: str, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, place in HERE.items():
        monkeypatch.setenv(variable, place)
    if known(repo, "main") is None:
        pytest.skip(f"{repo} is not in {data_dir()}")
    configs = {"arc": ARCConfig, "gsm8k": GSM8KConfig, "mmlu": MMLUConfig, "smoltalk": SmolTalkConfig}
    config = configs.get(name, humaneval.HumanEvalConfig)()
    task: Task = load_registry().builder("task", name)(config)
    for index in range(0, len(task), len(task) // 50 or 1):
        render_conversation(task[index], tiny_tokenizer())
        content = text(task, index)
        said = content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")
        assert task.evaluate(task[index], said)
