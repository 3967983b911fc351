"""What a person sees when the keys or values of a recipe are wrong: code, place, what was found, what is valid."""

from pathlib import Path

import pytest
from tiny_plugin import CPU, TINY, SgdConfig, refused, write

from nanochat.errors import InputError
from nanochat.recipe.load import load_recipe

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"


def line_of(text: str, line: str) -> int:
    return text.split("\n").index(line) + 1


def test_an_error_shows_the_line_the_place_and_the_nearest_valid_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TINY.replace("weight = 2", "weigth = 2")
    (found,) = refused(write(tmp_path, text))
    number = line_of(text, "weigth = 2")
    assert found.render() == (
        "error[E102]: unknown key `weigth` in stages.base.data.web\n"
        f"  --> recipe.toml:{number}:1\n"
        "   |\n"
        f"{number} | weigth = 2\n"
        "   | ^^^^^^ did you mean `weight`?"
    )


def test_all_errors_are_shown_in_one_pass_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        TINY.replace("vocab_size = 512", "vocab_size = 2")
        .replace('tokenizer = "stage:tok"', 'tokenizer = "stage:tokk"')
        .replace("depth = 2", 'depth = "2"')
        .replace('use = "sgd"', 'use = "sdg"')
        .replace('use = "sums"', 'use = "sums"\nsizes = 3')
    )
    found = refused(write(tmp_path, text))
    assert [d.code for d in found] == ["E104", "E110", "E103", "E201", "E102"]
    lines = [d.location.line for d in found if d.location]
    assert lines == sorted(lines)


def test_every_unknown_key_of_a_table_is_shown(tmp_path: Path) -> None:
    found = refused(write(tmp_path, TINY.replace("depth = 2", "dept = 2\nheads = 3\ndepth = 2")), "sed=1", "nam=x")
    assert [(d.code, d.label) for d in found] == [
        ("E102", "did you mean `depth`?"),
        ("E102", "did you mean `n_head` or `head_dim`?"),
        ("E102", "did you mean `seed`?"),
        ("E102", "did you mean `name`?"),
    ]


def test_a_stage_whose_use_is_misspelt_is_not_said_to_be_missing_as_well(tmp_path: Path) -> None:
    (found,) = refused(write(tmp_path, TINY.replace('use = "tokenizer"', 'use = "tokeniser"')))
    assert (found.code, found.label) == ("E201", "did you mean `tokenizer`?")
    several = refused(
        write(tmp_path, TINY.replace('use = "tokenizer"', 'use = "tokeniser"').replace(':tok"', ':tokk"'))
    )
    assert [(d.code, d.label) for d in several] == [
        ("E201", "did you mean `tokenizer`?"),
        ("E110", "did you mean `tok`?"),
    ]


def test_what_cannot_be_shared_out_is_known_before_a_stage_starts(tmp_path: Path) -> None:
    found = refused(write(tmp_path, TINY), "stages.base.total_batch_size=4100", "stages.base.data.web.weight=0")
    assert [(d.code, str(d.location)) for d in found] == [("E115", "--set 1:30"), ("E115", "--set 2:29")]
    assert found[0].help == "use a multiple of 2,048"
    (for_two,) = refused(write(tmp_path, TINY), "stages.base.total_batch_size=6144", "hardware.nproc_per_node=2")
    assert "2,048 tokens a row × 2 processes" in for_two.message


@pytest.mark.parametrize(
    "before, after, code, line, column, said",
    [
        ("steps = 5", "steps = 5.0", "E103", "steps = 5.0", 9, "did you mean 5?"),
        ("steps = 5", 'steps = "5"', "E103", 'steps = "5"', 9, "without the quotes: 5"),
        ("steps = 5", "steps = 0", "E104", "steps = 0", 9, "at least 1"),
        ("steps = 5", "steps = {a = 1}", "E103", "steps = {a = 1}", 9, "a table"),
        ("depth = 2", "head_dim = 32\nneck = 1", "E106", "head_dim = 64", 1, "the first is in line 20"),
        ("depth = 2\n", "", "E105", "[stages.base.model]", 14, "`depth`, an integer (transformer blocks)"),
        ("head_dim = 64", "head_dim = 63", "E115", "head_dim = 63", 12, "must be even"),
        ('use = "gpt"', 'use = "gtp"', "E201", 'use = "gtp"', 7, "`gpt`"),
        ('use = "gpt"\n', "", "E105", "[stages.base.model]", 14, "`use`"),
        ('use = "gpt"', "use = 1", "E103", "use = 1", 7, "not a string"),
        ("format = 1", "format = {a = 1}", "E103", "format = {a = 1}", 1, "not the integer 1"),
        ("format = 1", "format = 1\nlock = 5", "E103", "lock = 5", 8, "not the table that nanochat writes"),
        ('tokenizer = "stage:tok"\n', "", "E105", "[stages.base]", 9, "a tokenizer"),
        ('"stage:tok"', '"stage:sft"', "E111", 'tokenizer = "stage:sft"', 13, "makes a checkpoint"),
        ('"stage:tok"', '"stage:tox"', "E110", 'tokenizer = "stage:tox"', 13, "did you mean `tok`?"),
        ('"stage:tok"', '"tok"', "E110", 'tokenizer = "tok"', 13, 'did you mean "stage:tok"?'),
        ('"stage:tok"', '"path:nowhere"', "E110", 'tokenizer = "path:nowhere"', 13, "there is nothing at"),
        ('"stage:tok"', '"path:."', "E111", 'tokenizer = "path:."', 13, "no tokenizer"),
        ('"stage:tok"', '"store:xyz"', "E110", 'tokenizer = "store:xyz"', 13, "hex digits"),
        ('"stage:base"', '"stage:sft"', "E112", 'init = "stage:sft"', 8, "sft → sft"),
        ('match = "*"', 'match = "blocks.*"', "E114", "[stages.base.optim.all]", 20, "`smear_lambda`"),
        ('from = "stages.base.optim"', 'from = "stages.base.opt"', "E110", 'from = "stages.base.opt"', 8, "no table"),
        ('from = "stages.base.optim"', "from = 3", "E110", "from = 3", 8, "not the integer 3"),
        ('from = "stages.base.optim"', 'from = "stages.sft"', "E110", 'from = "stages.sft"', 8, "circle"),
        ('name = "tiny"', 'name = "a/b"', "E104", 'name = "a/b"', 8, "letters, digits"),
        ("format = 1", "format = 2", "E104", "format = 2", 10, "format 1, not 2"),
        ("format = 1", "format = 1.0", "E104", "format = 1.0", 10, "format 1, not 1.0"),
        ("format = 1\n", "", "E105", 'name = "tiny"', 1, "format = 1"),
        ("[stages.tok]", "[stages.'t k']", "E104", "[stages.'t k']", 9, "letters, digits"),
        ("[hardware]", "[hardwear]", "E102", "[hardwear]", 2, "`hardware`"),
        (
            "[hardware]",
            "[plugins]\nrequire = ['gone>=2']\n[hardware]",
            "E204",
            "require = ['gone>=2']",
            12,
            "pip install",
        ),
        (
            "[hardware]",
            "[plugins]\nrequire = ['acme-tiny>=9']\n[hardware]",
            "E204",
            "require = ['acme-tiny>=9']",
            12,
            "1.2",
        ),
        ("[hardware]", "[plugins]\nblock = ['acme-tiny']\n[hardware]", "E201", "[hardware]", 2, "no launcher called"),
        ("[hardware]", "[hardware]\njob.time = 12:00:00", "E103", "job.time = 12:00:00", 12, 'in quotes: "12:00:00"'),
        (
            "[hardware]",
            "[hardware]\ntimeout_seconds = 00:10:00",
            "E103",
            "timeout_seconds = 00:10:00",
            19,
            "in seconds: 600",
        ),
        ("[hardware]", "[hardware]\nlauncher = 'torchrum'", "E201", "launcher = 'torchrum'", 12, "mean `torchrun`?"),
    ],
)
def test_an_error_stands_where_it_is_mended(
    tmp_path: Path, before: str, after: str, code: str, line: str, column: int, said: str
) -> None:
    text = TINY.replace(before, after, 1)
    assert text != TINY
    found = refused(write(tmp_path, text))[0]
    assert found.code == code, found.render()
    assert found.location is not None
    assert (found.location.text, found.location.column) == (line, column), found.render()
    assert said in found.render()


def test_stages_in_a_circle_are_named_once(tmp_path: Path) -> None:
    text = TINY.replace('"stage:base"', '"stage:more"')
    text += '[stages.more]\nuse = "finetune"\ninit = "stage:sft"\n'
    text += '[stages.more.data]\nfrom = "stages.sft.data"\n[stages.more.optim]\nfrom = "stages.sft.optim"\n'
    (found,) = refused(write(tmp_path, text))
    assert (found.code, "sft → more → sft" in found.message) == ("E112", True)


def test_values_derived_from_each_other_in_a_circle_are_named(tmp_path: Path) -> None:
    text = TINY.replace("vocab_size = 512", 'vocab_size = {from = "stages.base.model.vocab_size"}')
    (found,) = refused(write(tmp_path, text))
    assert found.code == "E113"
    assert "stages.tok.vocab_size → stages.base.model.vocab_size → stages.tok.vocab_size" in found.message


def test_a_value_that_no_rule_can_give_says_to_set_it(tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "meta.json").write_text("{}")
    text = TINY.replace('"stage:base"', '"path:ckpt"') + '[stages.sft.optim.all]\nscale_lr = ["width"]\n'
    (found,) = refused(write(tmp_path, text))
    assert found.code == "E113"
    assert "set `lr_factor`" in found.help


def test_groups_are_checked_against_the_model_that_finetuning_starts_from(tmp_path: Path) -> None:
    text = TINY.replace(
        '[stages.sft.optim]\nfrom = "stages.base.optim"\n',
        '[stages.sft.optim.a]\nuse = "sgd"\nmatch = "*"\n'
        '[stages.sft.optim.b]\nuse = "sgd"\nmatch = ["wte.*", "he*"]\n'
        '[stages.sft.optim.c]\nuse = "sgd"\nmatch = "lm_head"\n',
    )
    doubled, empty = refused(write(tmp_path, text))
    assert "`wte.weight`, `head.weight` are in several groups of stages.sft.optim: a, b" in doubled.message
    assert doubled.location is not None
    assert doubled.location.text == 'match = ["wte.*", "he*"]'
    assert "stages.sft.optim.c matches no parameter" in empty.message
    assert "blocks.*, head.*" in empty.help


def test_settings_that_do_not_fit_together_stand_at_their_table(tmp_path: Path) -> None:
    text = TINY.replace('use = "sgd"', 'use = "fussy"\nlow = 3')
    (found,) = refused(write(tmp_path, text))  # once, though stages.sft.optim is a copy
    assert (found.code, "low (3) must be below high (2)" in found.message) == ("E115", True)


SCALARS = 'use = "adamw"\nmatch = ["*_lambdas", "*_lambda", "smear_gate.*"]'


def test_an_optimizer_refuses_before_any_work_the_parameters_that_it_cannot_update(tmp_path: Path) -> None:
    text = QUICKSTART.read_text(encoding="utf-8").replace(SCALARS, SCALARS.replace("adamw", "muon"))
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text), machine=CPU)
    (found,) = (d for d in caught.value.diagnostics if d.code == "E115")  # once, though stages.sft.optim is a copy
    assert found.location is not None
    assert found.location.text == SCALARS.splitlines()[1]
    assert "muon was given `resid_lambdas` of shape (4,), which is no matrix: match it by a group" in found.message


def test_an_optimizer_whose_refusal_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SgdConfig, "refuses", lambda self, shapes: shapes["gone"], raising=False)
    (found,) = refused(write(tmp_path, TINY))
    assert (found.code, found.message) == ("E202", "refuses() of the optimizer `sgd` failed: KeyError: 'gone'")


def test_data_that_is_not_there_stands_at_the_path_that_names_it(tmp_path: Path) -> None:
    text = TINY.replace(
        '[stages.base.data.web]\nuse = "words"', '[stages.base.data.web]\nuse = "text"\npath = "gone.txt"'
    )
    (found,) = refused(write(tmp_path, text))
    assert found.code == "E301"
    assert found.location is not None
    assert (found.location.text, found.location.column) == ('path = "gone.txt"', 8)


def test_a_copied_table_reports_its_fault_once_and_at_the_original(tmp_path: Path) -> None:
    text = TINY.replace('match = "*"', 'match = "*"\nlr = -1')
    (found,) = refused(write(tmp_path, text))
    assert found.location is not None
    assert (found.code, found.location.text) == ("E104", "lr = -1")
