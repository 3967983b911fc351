"""What is wrong with a bundle of CORE is said: the file, the line, the task; nothing is scored without a word."""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from core_bundle import Task, choices, tasks, write, zipped
from fake_hub import Answer, FakeHub, in_this_process, serving

from nanochat.errors import NanochatError
from nanochat.home import data_dir
from nanochat.recipe.load import load_recipe
from nanochat.testing import tiny_subject
from nanochat_plugins.evals import core
from nanochat_plugins.evals.core_bundle import Bundle
from nanochat_plugins.evals.core_config import CoreConfig
from nanochat_plugins.sources import hub_fault


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    described = tasks(6)
    return write(tmp_path / "bundle", {label: described[label] for label in ("plain", "schema", "answer")})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(hub_fault, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as hub, in_this_process(hub):
        yield hub


def data_file(bundle: Path, label: str = "plain") -> Path:
    return bundle / "eval_data" / "some" / f"{label}.jsonl"


def scored(bundle: Path) -> None:
    core.evaluate(CoreConfig(bundle=bundle), tiny_subject())


def damage(bundle: Path, number: int, line: str, label: str = "plain") -> None:
    lines = data_file(bundle, label).read_text().splitlines()
    lines[number - 1] = line
    data_file(bundle, label).write_text("\n".join(lines) + "\n")


FAULTS = [
    ("nonsense", "E304", "plain.jsonl, line 3: it is no JSON"),
    ('{"query": "a", "gold": 0}', "E303", "plain.jsonl, line 3: it has no `choices`, a list"),
    ('{"query": "a", "choices": ["b", "c"], "gold": true}', "E303", "line 3: it has no `gold`, a number"),
    ('{"query": "a", "choices": ["b", 1], "gold": 0}', "E303", "line 3: `choices` is no list of texts"),
    ('{"query": "a", "choices": ["b", "c"], "gold": 2}', "E304", "line 3: gold is 2, and there are 2 choices"),
    ('{"query": "\\ud800", "choices": ["b", "c"], "gold": 1}', "E304", "line 3: it holds half of a surrogate pair"),
    ('["query"]', "E303", "line 3: it has no `query`"),
]


@pytest.mark.parametrize("line, code, message", FAULTS)
def test_a_line_that_is_no_example_is_named(bundle: Path, line: str, code: str, message: str) -> None:
    damage(bundle, 3, line)
    with pytest.raises(NanochatError, match=code) as found:
        scored(bundle)
    assert message in str(found.value)


def test_a_task_without_its_data_is_named(bundle: Path) -> None:
    data_file(bundle, "schema").unlink()
    with pytest.raises(NanochatError, match="E301") as found:
        scored(bundle)
    assert "the task `schema` is not in the bundle" in str(found.value)
    assert "some/schema.jsonl" in str(found.value)


def test_an_empty_task_is_named(bundle: Path) -> None:
    data_file(bundle).write_text("\n")
    with pytest.raises(NanochatError, match=r"E302.*the task `plain` is empty"):
        scored(bundle)


def test_a_task_of_which_nothing_can_be_scored_is_no_result(tmp_path: Path) -> None:
    rows = [{"query": "which?", "choices": ["one"], "gold": 0} for _ in range(4)]
    place = write(tmp_path / "bundle", {"odd": Task(type="multiple_choice", shots=0, examples=rows)})
    with pytest.raises(NanochatError, match=r"E302.*no example of the task `odd` can be scored: it has one choice"):
        scored(place)


def test_a_task_with_too_few_examples_to_show_is_named(tmp_path: Path) -> None:
    described = {"few": Task(type="multiple_choice", shots=5, examples=choices(random.Random(0), 5))}
    with pytest.raises(NanochatError, match=r"E302.*the task `few` shows 5 other examples before each, and has 5"):
        scored(write(tmp_path / "bundle", described))


def test_lists_that_are_none_are_named(bundle: Path) -> None:
    for text, message in [
        ("- a\n", "it has no list `icl_tasks`"),
        ("icl_tasks: [", "it has no list `icl_tasks`"),
        ("icl_tasks: []\n", "its list `icl_tasks` is empty"),
        (
            "icl_tasks:\n- label: a\n  icl_task_type: schema\n  num_fewshot: [0]\n",
            "its task number 1 has no `dataset_uri`",
        ),
        (
            "icl_tasks:\n- {label: plain, icl_task_type: riddle, num_fewshot: [0], dataset_uri: a}\n",
            "`plain` is of the type 'riddle'",
        ),
        (
            "icl_tasks:\n- {label: new, icl_task_type: schema, num_fewshot: [0], dataset_uri: a}\n",
            "it has no line for the task `new`",
        ),
    ]:
        (bundle / "core.yaml").write_text(text)
        with pytest.raises(NanochatError) as found:
            Bundle(bundle).tasks()
        assert message in str(found.value)


def test_baselines_that_are_no_numbers_are_named(bundle: Path) -> None:
    (bundle / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nplain,none\n")
    with pytest.raises(NanochatError, match=r"E304.*eval_meta_data.csv, line 2"):
        scored(bundle)


def test_a_label_that_is_none_is_answered_by_those_there_are(bundle: Path) -> None:
    with pytest.raises(NanochatError, match="has no task `plane`"):
        core.evaluate(CoreConfig(bundle=bundle, tasks=["plane"]), tiny_subject())


RECIPE = """
format = 1
[stages.measure]
use = "evaluate"
checkpoint = "path:checkpoint"
[stages.measure.evals.core]
use = "core"
"""


def planned(folder: Path, more: str) -> str:
    """What a plan says of an evaluation stage."""
    (folder / "r.toml").write_text(RECIPE + more)
    try:
        recipe = load_recipe(folder / "r.toml")
    except NanochatError as fault:
        return "\n".join(found.render() for found in fault.diagnostics if "checkpoint" not in found.message)
    return json.dumps(list(recipe.stages["measure"].fingerprints.values()))


def test_a_missing_bundle_is_named_where_the_recipe_says_it_when_it_is_planned(tmp_path: Path) -> None:
    said = planned(tmp_path, 'bundle = "nowhere"\n')
    assert "E301" in said
    assert "there is no evaluation bundle at" in said
    assert "r.toml:8" in said


def test_another_digest_is_refused_when_it_is_planned(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "b.zip").write_bytes(zipped(bundle))
    said = planned(tmp_path, f'bundle = "b.zip"\nsha256 = "{"0" * 64}"\n')
    assert "E304" in said
    assert hashlib.sha256(zipped(bundle)).hexdigest() in said


def test_what_is_no_archive_is_named_when_it_is_planned(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(b"PK no")
    assert "is neither a folder nor a .zip" in planned(tmp_path, 'bundle = "b.zip"\n')


def test_a_bundle_is_downloaded_past_a_broken_connection_and_once(hub: FakeHub, bundle: Path) -> None:
    content = zipped(bundle)
    url, digest = published(hub, content)
    hub.next("eval_bundle.zip", Answer(), Answer(drop_after=900), Answer(status=503))
    config = CoreConfig(url=url, sha256=digest, max_per_task=2)
    figures = core.evaluate(config, tiny_subject())
    assert figures == core.evaluate(config, tiny_subject())
    assert figures["core"].data == digest == hashlib.sha256(content).hexdigest()
    gets = [request for request in hub.requests if request.method == "GET" and request.name == "eval_bundle.zip"]
    assert [request.range for request in gets] == [None, "bytes=900-", "bytes=900-"]


def test_a_downloaded_bundle_of_another_digest_is_refused(hub: FakeHub, bundle: Path) -> None:
    url, _ = published(hub, zipped(bundle))
    with pytest.raises(NanochatError, match=r"E304.*the digest sha256:"):
        core.evaluate(CoreConfig(url=url, sha256="0" * 64), tiny_subject())


def test_an_address_without_a_digest_means_what_it_first_gave(hub: FakeHub, bundle: Path) -> None:
    content = zipped(bundle)
    url, digest = published(hub, content)
    assert core.evaluate(CoreConfig(url=url, max_per_task=2), tiny_subject())["core"].data == digest
    (file,) = (data_dir() / "downloads").glob("*/eval_bundle.zip")
    file.write_bytes(content + b"more")
    with pytest.raises(NanochatError, match=r"E304.*is damaged"):
        core.evaluate(CoreConfig(url=url, max_per_task=2), tiny_subject())


def test_an_address_that_is_gone_is_named(hub: FakeHub) -> None:
    with pytest.raises(NanochatError, match=r"E301.*nothing.zip was not downloaded"):
        core.evaluate(CoreConfig(url=f"{hub.endpoint}/nothing.zip"), tiny_subject())


def published(hub: FakeHub, content: bytes) -> tuple[str, str]:
    """An address of a file, and its digest."""
    commit = hub.publish("some/bundle", {"eval_bundle.zip": content})
    shutil.rmtree(data_dir() / "downloads", ignore_errors=True)
    return f"{hub.endpoint}/cdn/some/bundle/{commit}/eval_bundle.zip", hashlib.sha256(content).hexdigest()
