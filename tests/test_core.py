"""CORE on a made-up bundle: prompts and scores are those of one example at a time in float64, whatever is batched."""

import collections
import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from core_bundle import Result, Task, choices, half_solved, in_float64, reference, tasks, write, zipped

from nanochat.runtime import Runtime
from nanochat.stages.context import Figure
from nanochat.testing import check_eval, tiny_model, tiny_subject, tiny_tokenizer
from nanochat_plugins.evals import core
from nanochat_plugins.evals.core_config import CoreConfig
from nanochat_plugins.evals.core_prompts import shots

LONGEST = 320


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def described() -> dict[str, Task]:
    """The tasks, and one of language modeling of which the model solves half."""
    return {**tasks(), "greedy": half_solved(tiny_model().eval(), tiny_tokenizer())}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, described: dict[str, Task]) -> Path:
    return write(tmp_path_factory.mktemp("bundle"), described)


@pytest.fixture(scope="module")
def expected(described: dict[str, Task]) -> dict[tuple[str, int], Result]:
    model = in_float64(tiny_model().eval())
    found = [
        result
        for label, task in described.items()
        for result in reference(label, task, model, tiny_tokenizer(), longest=LONGEST)
    ]
    return {(result.label, result.index): result for result in found}


def measured(bundle: Path, **options: Any) -> tuple[Mapping[str, Figure], list[dict[str, Any]]]:
    kept: list[dict[str, Any]] = []
    changes = {name: options.pop(name) for name in ("runtime", "note", "model") if name in options}
    given = tiny_subject(keep_example=lambda example: kept.append(dict(example)), **changes)
    config = CoreConfig(bundle=bundle, **{"context": LONGEST, **options})
    return core.evaluate(config, given), kept


def test_prompts_and_scores_are_those_of_one_example_at_a_time_in_float64(
    bundle: Path, described: dict[str, Task], expected: dict[tuple[str, int], Result]
) -> None:
    figures, kept = measured(bundle)
    assert {(line["task"], line["index"]) for line in kept} == set(expected)
    for line in kept:
        wanted = expected[line["task"], line["index"]]
        assert line["nats_per_token"] == pytest.approx(wanted.nats, abs=1e-5), line
        assert bool(line["score"]) == wanted.right, line
    rights: dict[str, list[bool]] = collections.defaultdict(list)
    for (label, _), result in expected.items():
        rights[label].append(result.right)
    baselines = {label: task.baseline / 100 for label, task in described.items()}
    centred = []
    for label, right in rights.items():
        accuracy = sum(right) / len(right)
        assert figures[label].value == pytest.approx(accuracy)
        assert figures[label].n == len(right)
        assert figures[label].standard_error == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / len(right)))
        centred.append((accuracy - baselines[label]) / (1 - baselines[label]))
        assert figures[f"centered.{label}"].value == pytest.approx(centred[-1])
    assert figures["core"].value == pytest.approx(sum(centred) / len(centred))
    assert figures["core"].n == len(expected)
    assert {figure.data for figure in figures.values()} == {CoreConfig(bundle=bundle).fingerprint()["sha256"]}


def test_the_made_up_bundle_decides_something(expected: dict[tuple[str, int], Result]) -> None:
    """Else the test above would pass with an evaluation that is always wrong."""
    by_label: dict[str, set[bool]] = collections.defaultdict(set)
    for (label, _), result in expected.items():
        by_label[label].add(result.right)
    assert all(by_label[label] == {True, False} for label in ("plain", "shown", "tied", "schema", "greedy"))


def test_ids_that_are_scored_are_those_of_the_reference(bundle: Path, expected: dict[tuple[str, int], Result]) -> None:
    made = core.Made.of(CoreConfig(bundle=bundle, context=LONGEST), tiny_subject())
    for item in made.items:
        ids = [sequence.tolist() for part in item.parts for sequence in part.sequences]
        assert ids == expected[item.prompts.task.label, item.number].ids


def test_of_choices_that_are_the_same_the_first_wins(bundle: Path) -> None:
    _, kept = measured(bundle, tasks=["tied"])
    for line in kept:
        assert line["nats_per_token"][0] == line["nats_per_token"][1]
        assert line["choice"] != 1


@pytest.mark.parametrize("tokens", [1, 700, 10**6])
def test_the_size_of_a_batch_changes_nothing(bundle: Path, tokens: int) -> None:
    whole, one = measured(bundle), measured(bundle, tokens=tokens)
    assert one[0] == whole[0]
    wanted = {(line["task"], line["index"]): line["nats_per_token"] for line in whole[1]}
    for line in one[1]:
        assert line["nats_per_token"] == pytest.approx(wanted[line["task"], line["index"]], abs=1e-5)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_ranks_share_the_work_by_cost_and_the_sum_is_what_one_finds(
    bundle: Path, described: dict[str, Task], ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = measured(bundle)
    sums: list[torch.Tensor] = []
    monkeypatch.setattr(Runtime, "sum", lambda _, values: sums.append(values.clone()) or values)
    lines: list[dict[str, Any]] = []
    for rank in range(ranks):
        runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, rank=rank, world_size=ranks)
        lines += measured(bundle, runtime=runtime)[1]
    assert len(lines) == alone["core"].n == len({(line["task"], line["index"]) for line in lines})
    total = torch.stack(sums).sum(dim=0)
    assert int((total % 2).sum()) == round(sum(alone[label].value * alone[label].n for label in described))


def test_the_cap_takes_fewer_examples_and_shows_the_same_ones_before_them(
    bundle: Path, described: dict[str, Task], expected: dict[tuple[str, int], Result]
) -> None:
    """Few-shot examples come from all of a task, so that a cap changes no prompt."""
    _, kept = measured(bundle, max_per_task=4)
    assert len(kept) == 4 * len(described)
    for line in kept:
        assert line["nats_per_token"] == pytest.approx(expected[line["task"], line["index"]].nats, abs=1e-5)


@pytest.mark.parametrize("count", [2, 5, 21, 22, 90, 3000])
def test_shots_are_drawn_as_from_a_list_of_the_others(count: int) -> None:
    for index in {0, 1, count // 2, count - 1}:
        for wanted in {0, 1, min(10, count - 1)}:
            others = [number for number in range(count) if number != index]
            assert shots(index, count, wanted) == random.Random(1234 + index).sample(others, wanted)


def test_a_prompt_longer_than_the_context_keeps_its_end_and_is_counted(bundle: Path) -> None:
    figures, kept = measured(bundle, tasks=["long"])
    cut = sum(line["cut"] for line in kept)
    assert 0 < cut < len(kept)
    assert figures["cut"].value == cut


def test_prompts_are_tokenised_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = measured(bundle)
    from nanochat_plugins.evals import core_prompts

    monkeypatch.setattr(core_prompts, "_tokenised", lambda *_: pytest.fail("they are on the disk"))
    again, _ = measured(bundle)
    assert again == first


def test_prompts_on_the_disk_that_are_damaged_are_made_anew(bundle: Path, tmp_path: Path) -> None:
    first, _ = measured(bundle)
    for number, file in enumerate(sorted((tmp_path / "home" / "data" / "prompts").glob("*.npz"))):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if number % 2 else b"")
    assert measured(bundle)[0] == first


def test_it_keeps_the_contract_of_evaluations(bundle: Path) -> None:
    check_eval(core.evaluate, CoreConfig(bundle=bundle, max_per_task=3))


def test_a_folder_and_the_archive_of_it_give_the_same_figures(bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "eval_bundle.zip"
    archive.write_bytes(zipped(bundle))
    of_folder, of_archive = (measured(place, max_per_task=3)[0] for place in (bundle, archive))
    assert {name: figure.value for name, figure in of_folder.items()} == {
        name: figure.value for name, figure in of_archive.items()
    }


def test_an_example_that_cannot_be_scored_is_left_out_named_and_counted(tmp_path: Path) -> None:
    rows = choices(random.Random(1), 8)
    rows[2] = {"query": "which?", "choices": ["only one"], "gold": 0}
    rows[5] = {"query": "which?", "choices": ["ab", "ab cd"], "gold": 0}  # the first is where the second begins
    notes: list[str] = []
    place = write(tmp_path / "bundle", {"odd": Task(type="multiple_choice", shots=1, examples=rows)})
    figures, kept = measured(place, note=notes.append)
    assert figures["odd"].n == len(kept) == 6
    assert (figures["left_out"].value, figures["left_out"].n) == (2, 8)
    assert any("leaves 1 of 8 examples of `odd` out: it has one choice" in note for note in notes)
    assert any("a choice has no token of its own" in note for note in notes)


def test_an_answer_that_is_longer_than_the_context_is_left_out(tmp_path: Path) -> None:
    rows = [{"context": f"n {n}", "continuation": "a b c " * (40 if n == 3 else 1)} for n in range(6)]
    notes: list[str] = []
    place = write(tmp_path / "bundle", {"say": Task(type="language_modeling", shots=0, examples=rows)})
    figures, _ = measured(place, note=notes.append, context=16)
    assert figures["left_out"].value == 1
    assert any("does not fit into 16 tokens" in note for note in notes)


def test_lines_of_examples_are_plain(bundle: Path) -> None:
    _, kept = measured(bundle, max_per_task=2)
    assert all(json.loads(json.dumps(line)) == line for line in kept)
