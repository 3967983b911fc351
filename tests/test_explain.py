"""`nanochat explain` and recipes/KEYS.md: what is said of every key, from the same fields that the engine checks."""

import json
import re
from pathlib import Path

import pytest
from test_json_schema import first_party

from nanochat.cli.key_reference import markdown_text
from nanochat.cli.main import main
from nanochat.cli.topic import hook_topics
from nanochat.errors import CODES
from nanochat.recipe.catalogue import COMPONENT_KINDS, Catalogue, Key, Section

ROOT = Path(__file__).parent.parent
SECTIONS = Catalogue(first_party()).sections()


def explained(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as done:
        main(["explain", *arguments])
    assert done.value.code == code
    out, err = capsys.readouterr()
    return err if code else out


def key(kind: str, component: str, name: str) -> Key:
    (section,) = [section for section in SECTIONS if (section.kind, section.name) == (kind, component)]
    (found,) = [key for key in section.keys if key.name == name]
    return found


# What is known of a key


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_every_first_party_component_and_key_says_what_it_means(section: Section) -> None:
    assert section.doc
    assert [found.name for found in section.keys if not found.doc] == []


def test_a_key_knows_its_type_range_default_and_role() -> None:
    assert key("model", "gpt", "depth").facts == "an integer, at least 1, at most 1024 · required · identity"
    assert (
        key("stage", "pretrain", "log_every").facts
        == "an integer, at least 1, at most 1000000000 · default 10 · execution"
    )
    assert key("source", "files", "path").facts == "a path, written as a string · required · identity by its content"
    assert key("stage", "finetune", "steps").facts == "an integer, at least 1, at most 1000000000 · optional · identity"


def test_a_nested_key_has_the_default_of_the_stage_that_it_stands_in() -> None:
    assert key("stage", "pretrain", "schedule.warmdown_ratio").default == "0.65"
    assert key("stage", "finetune", "schedule.warmdown_ratio").default == "0.5"


def test_a_derived_key_says_the_rule_and_what_it_is_given() -> None:
    found = key("model", "gpt", "dim")
    assert found.rule == "gpt.dim"
    assert found.inputs == ("depth", "aspect_ratio", "head_dim")
    assert found.derivation == (
        '"auto": aspect_ratio × depth, rounded up to a multiple of head_dim (from depth, aspect_ratio, head_dim)'
    )


def test_a_component_knows_every_place_where_it_may_stand() -> None:
    (section,) = [section for section in SECTIONS if section.title == "task `arithmetic`"]
    assert section.places == (
        "[stages.NAME.data.NAME]",
        "[stages.NAME.evals.NAME.tasks.NAME]",
        "[stages.NAME.evals.NAME.task]",
    )


def test_each_component_of_ours_says_what_it_does_and_when_to_take_it() -> None:
    ours = [section for section in SECTIONS if section.kind in (*COMPONENT_KINDS, "launcher")]
    assert {section.name for section in ours} >= {"muon", "simple_spelling", "pretrain", "torchrun"}
    for section in ours:
        assert len(section.doc) > 80, section.title
        assert re.search(r"[.;:] ", section.doc), section.title
    assert len({section.doc for section in ours}) == len(ours)


def test_every_number_of_ours_has_a_least_and_a_most() -> None:
    """Without both, a slip of the hand (lr = 1e30) would be taken for a wish."""
    numbers = [
        (section.title, key.name, key.range)
        for section in SECTIONS
        for key in section.keys
        if key.type in ("an integer", "a number")
    ]
    assert len(numbers) > 80
    assert [where for *where, limits in numbers if "at least" not in limits or "at most" not in limits] == []


# The command


def test_a_component_is_shown_with_all_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "gpt")
    assert shown.startswith("model `gpt` (nanochat-run): The transformer of nanochat.")
    assert 'In [stages.NAME.model] with use = "gpt".' in shown
    assert (
        "\n  depth\n      transformer blocks\n      an integer, at least 1, at most 1024 · required · identity\n"
        in shown
    )


@pytest.mark.parametrize("word", ["muon.weight_decay", "optimizer:muon.weight_decay"])
def test_a_key_is_shown_alone(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, word)
    assert "0.28 · √(total_batch_size / 2^19)" in shown
    assert "nesterov" not in shown
    assert "adamw" not in shown


def test_a_name_of_several_kinds_shows_all_and_a_kind_before_it_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    both = explained(capsys, "tokenizer")
    assert "stage `tokenizer`" in both
    assert "what cuts the documents into tokens" in both  # the key of the stage pretrain
    one = explained(capsys, "stage:tokenizer")
    assert one.count("stage `") == 1


def test_a_name_with_a_colon_of_its_own_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("torch:SGD", "optimizer:torch:SGD"):
        assert explained(capsys, word).startswith("optimizer `torch:SGD`")
    assert "dampening" not in explained(capsys, "torch:SGD.nesterov")


def test_a_kind_shows_its_components_and_the_keys_that_all_of_them_have(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "optimizer")
    assert all(title in shown for title in ("every optimizer", "optimizer `adamw`", "optimizer `muon`"))


def test_a_miss_suggests_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean `muon`" in explained(capsys, "muom", code=2)
    assert "`stage:finetune`" in explained(capsys, "eval:finetune", code=2)
    assert "E407" in explained(capsys, "E999", code=2)


def test_it_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    section, rule = json.loads(explained(capsys, "muon.weight_decay", "--json"))
    assert (rule["kind"], rule["fills"]) == ("derivation", ["muon.weight_decay"])
    (found,) = section["keys"]
    assert (section["kind"], section["name"], found["default"]) == ("optimizer", "muon", '"auto"')
    assert json.loads(explained(capsys, "e102", "--json"))["E102"].startswith("unknown key")


def test_lines_fit_into_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, explained(capsys, "muon").splitlines())) <= 50


def test_a_derivation_is_told_by_its_formula_its_inputs_and_the_keys_that_it_fills(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert explained(capsys, "derivation:gpt.dim").splitlines() == [
        "derivation `gpt.dim` (nanochat-run)",
        "  aspect_ratio × depth, rounded up to a multiple of head_dim",
        "  from depth, aspect_ratio, head_dim",
        '  fills "auto" in gpt.dim',
    ]
    both = explained(capsys, "gpt.dim")
    assert "width of the residual stream" in both
    assert "derivation `gpt.dim`" in both


def test_a_hook_is_told_by_its_signature_and_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "on_step")
    assert "  def on_step(stage: str, step: int, figures: Mapping[str, float]) -> None\n" in shown
    assert "A training step was logged." in shown
    assert explained(capsys, "hook").count("hook `") == len(hook_topics()) == 16


def test_a_misspelt_hook_or_derivation_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "`register_optimizers`" in explained(capsys, "register_optimizer", code=2)
    assert "`optim.lr_factor`" in explained(capsys, "optim.lrfactor", code=2)


def test_alone_it_lists_all_that_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys)
    assert "E102  unknown key\n" in shown
    for line in ("optimizer: adamw, galore, muon", "derivation: gpt.dim, ", "hook: register_stages, "):
        assert f"\n{line}" in shown
    listed = json.loads(explained(capsys, "--json"))
    assert listed["codes"] == CODES
    for name in (name for kind, names in listed.items() if kind != "codes" for name in names):
        assert name in shown


def test_a_word_that_means_nothing_is_no_empty_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert "E407" in explained(capsys, "muom", "--markdown", code=2)


# The reference


def test_the_committed_reference_of_keys_is_what_explain_prints() -> None:
    committed = (ROOT / "recipes/KEYS.md").read_text(encoding="utf-8")
    assert committed == markdown_text(SECTIONS), "nanochat explain --markdown > recipes/KEYS.md"


def test_a_path_as_errors_print_it_is_explained_by_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for word in ("stages.base.optim.matrices.weight_decay", "weight_decay"):
        with pytest.raises(SystemExit):
            main(["explain", word])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "optimizer `muon`" in shown[0]
