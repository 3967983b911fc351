"""What a person sees when a recipe is wrong: code, place, what was found, what is valid."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from tiny_plugin import CPU, TINY, SgdConfig, load, write

from nanochat.cli.explanations import EXPLANATIONS
from nanochat.cli.main import main
from nanochat.errors import CODES, Diagnostic, InputError, Location
from nanochat.recipe.load import load_recipe
from nanochat.running.keys import stage_keys

RECIPES = Path(__file__).parents[1] / "recipes"
README, QUICKSTART = RECIPES / "README.md", RECIPES / "quickstart.toml"


def refused(path: Path, *overrides: str) -> list[Diagnostic]:
    with pytest.raises(InputError) as caught:
        load(path, *overrides)
    return list(caught.value.diagnostics)


def places(found: list[Diagnostic]) -> list[tuple[str, str]]:
    """Code and file:line:col of each, the file by its name alone."""
    return [(d.code, str(d.location).rpartition("/")[2] if d.location else "") for d in found]


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
        ("head_dim = 64", "head_dim = 63", "E115", "[stages.base.model]", 14, "must be even"),
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


# Files


@pytest.mark.parametrize(
    "content, code, said",
    [
        (b"x" * (2**20 + 1), "E101", "larger than 1 MiB"),
        (b'name = "\xff"', "E101", "not UTF-8: line 1 holds the byte 0xff"),
        (b"a = 1\nb\0 = 2", "E101", "line 2 holds a NUL byte"),
        (b"x = [" + b"[" * 50_000, "E106", "nested too deep"),
        (b"a" + b".a" * 5_000 + b" = 1", "E106", "nested too deep"),
        (b"x = " + b"9" * 5_000, "E106", "beyond 64 bits"),
        (b"x = 0x" + b"f" * 5_000, "E106", "beyond 64 bits"),
        (b"x = 9223372036854775808", "E106", "beyond 64 bits"),
        (b"a = 1\na = 2\n", "E106", "`a` is set twice"),
        (b"", "E105", "format = 1"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_at_once(tmp_path: Path, content: bytes, code: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    found = refused(path)[0]
    assert found.code == code
    assert said in found.render()


def test_a_missing_file_names_the_recipes_beside_it(tmp_path: Path) -> None:
    write(tmp_path, TINY, "there.toml")
    (found,) = refused(tmp_path / "gone.toml")
    assert found.code == "E101"
    assert "there.toml" in found.help


def test_a_folder_that_is_gone_and_a_name_that_is_no_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, TINY)
    (tmp_path / "\udcff.toml").write_bytes(path.read_bytes())
    for name in ("\udcff.toml", "gone\udcff.toml", "a\0b.toml"):
        (found,) = refused(tmp_path / name)
        assert found.code == "E101"
        assert found.render().encode()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load(path).name == "tiny"
    assert "current folder is gone" in refused(Path("recipe.toml"))[0].message
    assert "current folder is gone" in refused(path, "seed=1")[0].message


KEY = "ab" * 32
OTHER = "ab" * 8 + "cd" * 24


def finished(home: Path, key: str, produces: str) -> None:
    folder = home / "store" / f"any-{key[:20]}"
    (folder / "made").mkdir(parents=True)
    record = {"key": key, "produces": produces, "artifact": "made"}
    (folder / "record.json").write_text(json.dumps(record))


def test_a_key_of_the_store_is_looked_up_and_its_kind_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    path = write(
        tmp_path, TINY.replace('"stage:tok"', f'"store:{KEY[:20]}"').replace("depth = 2", "depth = 2\nvocab_size = 512")
    )
    assert refused(path)[0].code == "E110"
    finished(tmp_path, OTHER, "checkpoint")
    assert refused(path, f"stages.base.tokenizer=store:{OTHER}")[0].code == "E111"
    finished(tmp_path, KEY, "tokenizer")
    recipe = load(path, f"stages.base.tokenizer=store:{KEY}")
    assert stage_keys(load(path)) == stage_keys(recipe)
    assert load(path).values["stages", "base", "tokenizer"].value == f"store:{KEY}"
    assert recipe.stages["base"].config.tokenizer.path == tmp_path / "store" / f"any-{KEY[:20]}" / "made"
    (several,) = refused(path, f"stages.base.tokenizer=store:{KEY[:12]}")
    assert several.code == "E110"
    assert OTHER in several.help


def test_a_key_of_the_store_and_the_stage_that_made_it_give_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    path = write(tmp_path, TINY.replace("depth = 2", "depth = 2\nvocab_size = 512"))
    keys = stage_keys(load(path))
    finished(tmp_path, keys["tok"], "tokenizer")
    assert stage_keys(load(path, f"stages.base.tokenizer=store:{keys['tok'][:8]}"))["base"] == keys["base"]


def test_a_folder_and_a_pipe_are_no_recipes(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)[0].message
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")[0].message


def test_a_byte_order_mark_and_crlf_shift_no_place(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").replace("steps = 5", "steps = 5.5").encode())
    (found,) = refused(path)
    assert found.location is not None
    assert (found.location.line, found.location.column, found.location.text) == (16, 9, "steps = 5.5")


def test_bad_toml_is_shown_at_its_line_and_column(tmp_path: Path) -> None:
    assert places(refused(write(tmp_path, "format = 1\nname = \n"))) == [("E106", "recipe.toml:2:8")]


def test_every_line_that_is_wrong_by_itself_is_shown_and_what_follows_from_it_is_not(tmp_path: Path) -> None:
    text = "format = 1\nname = 'tiny\nseed = \n[stages.base]\nsteps = many\nlist = [\n  1,\n"
    found = refused(write(tmp_path, text))
    assert places(found) == [("E106", f"recipe.toml:{line}") for line in ("2:13", "3:8", "5:9", "7:5")]


def test_a_wrong_sign_in_a_key_has_its_own_column(tmp_path: Path) -> None:
    assert places(refused(write(tmp_path, "format = 1\nwéight = 2\n"))) == [("E106", "recipe.toml:2:2")]


@pytest.mark.parametrize(
    "text, message, column, first",
    [
        ("[stages.base]\nx = 1\n\n[stages.base]", "[stages.base] is declared twice", 1, 1),
        ("seed = 1\n# again\n\nseed = 2\n", "`seed` is set twice", 1, 1),
        ("[a]\nb = 1\nc = 2\nb . d = 3\n", "`a.b` is set twice", 1, 2),
        ("[t]\nx = {y = 1}\n\n[t.x]\nz = 2\n", "[t.x] is declared twice", 1, 2),
    ],
)
def test_what_is_said_twice_names_the_place_of_the_first(
    tmp_path: Path, text: str, message: str, column: int, first: int
) -> None:
    (found,) = refused(write(tmp_path, text))
    assert places([found]) == [("E106", f"recipe.toml:4:{column}")]
    assert (found.message, found.label) == (message, f"the first is in line {first}")


# Parents, unset, --set


def test_what_is_wrong_with_several_files_and_arguments_is_shown_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "seed = \n", "torn.toml")
    write(tmp_path, TINY, "base.toml")
    write(tmp_path, 'extends = ["base.toml", "gone.toml", "torn.toml"]\nunset = ["stages.sfd"]\n', "mine.toml")
    found = refused(Path("mine.toml"), "seed", "seed=1")
    assert places(found) == [("E107", "mine.toml:1:25"), ("E106", "torn.toml:1:8"), ("E109", "--set 1:1")]


def test_a_bad_unset_and_a_bad_argument_do_not_hide_the_errors_of_the_keys(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    text = 'extends = "base.toml"\nunset = ["stages.sfd", "a b"]\n[stages.base]\nstepz = 3\n'
    found = refused(write(tmp_path, text), "seed", "seed=x")
    assert [d.code for d in found] == ["E108", "E108", "E102", "E109", "E103"]


def test_parents_in_a_circle_show_the_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, 'extends = ["b.toml"]\n', "a.toml")
    write(tmp_path, 'extends = "a.toml"\n', "b.toml")
    (found,) = refused(Path("a.toml"))
    assert (found.code, str(found.location)) == ("E107", "b.toml:1:11")
    assert "a.toml → b.toml → a.toml" in found.message


def test_a_missing_parent_stands_at_its_place_in_the_list(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    found = refused(write(tmp_path, 'extends = ["base.toml", "gone.toml"]\n'))
    assert places(found) == [("E107", "recipe.toml:1:25")]


def test_unset_of_what_no_parent_has_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, TINY, "base.toml")
    (found,) = refused(write(tmp_path, 'extends = "base.toml"\nunset = ["stages.sfd"]\n'))
    assert (found.code, found.label) == ("E108", "did you mean `sft`?")


@pytest.mark.parametrize(
    "argument, code, said",
    [
        ("stages.base.steps", "E109", "no `=`"),
        ("stages.base.steps=1 2", "E109", "no TOML value"),
        ("stages.base.steps=[1", "E109", "no TOML value"),
        ("=3", "E109", "no key"),
        ("a b=3", "E109", "no key"),
        ("extends=base.toml", "E109", "belongs to a file"),
        ("seed=1\nname='x'", "E109", "one line"),
        ("seed=\udcff", "E109", "readable"),
        ("stages.base.step=1", "E102", "did you mean `steps`"),
        ("stages.base.steps=x", "E103", 'the string "x"'),
        ("stages.base=3", "E103", "a table"),
    ],
)
def test_a_bad_set_argument_is_shown_with_its_number(tmp_path: Path, argument: str, code: str, said: str) -> None:
    found = refused(write(tmp_path, TINY), "seed=1", argument)
    (of_argument,) = [d for d in found if d.location and d.location.path == "--set 2"]
    assert of_argument.code == code
    assert said in of_argument.render()


def test_the_carets_of_a_set_argument_stand_under_its_value(tmp_path: Path) -> None:
    (found,) = refused(write(tmp_path, TINY), "stages.base.steps=many")
    assert found.render().splitlines()[1:] == [
        "--> --set 1:19",
        " |",
        " | stages.base.steps=many",
        " |                   ^^^^",
    ]


# How a diagnostic is drawn


def test_carets_stand_under_wide_characters_and_tabs() -> None:
    where = Location(path="f", line=1, column=5, width=2, text="\t漢字 ab")
    shown = Diagnostic(code="E102", message="m", location=where).render().splitlines()
    assert shown[-1] == "  | \t" + " " * 5 + "^^"


def test_a_long_line_is_shown_around_its_place_and_control_characters_are_not_obeyed() -> None:
    text = "x" * 5_000 + "\x1b[31mhere" + "y" * 5_000
    where = Location(path="f", line=1, column=5_006, width=4, text=text)
    *_, line, carets = Diagnostic(code="E102", message="m", location=where).render().splitlines()
    assert len(line) < 200
    assert "\x1b" not in line
    start = carets.index("^")
    assert line[start : start + 4] == "here"


# The list of codes


def test_the_readme_lists_every_code_with_its_meaning_and_each_can_be_explained() -> None:
    listed = dict(re.findall(r"^\| (E\d{3}) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == CODES
    assert set(EXPLANATIONS) == set(CODES)


def examples(language: str = "toml") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", range(len(examples()) if README.exists() else 0))
def test_the_examples_of_the_readme_load(tmp_path: Path, example: int) -> None:
    """Each is a whole recipe, or is added to the first one, which is saved as base.toml beside it."""
    whole, *_ = examples()
    text = examples()[example]
    write(tmp_path, whole, "base.toml")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("Once upon a time.")
    load_recipe(write(tmp_path, text if text.startswith(("format", "extends")) else f'extends = "base.toml"\n{text}'))


@pytest.mark.parametrize("transcript", examples("console"), ids=lambda transcript: transcript.split()[2])
def test_the_screens_of_the_readme_are_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], transcript: str
) -> None:
    """All but the digits of keys, which follow the interpreter's own documentation, and the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    monkeypatch.setattr("nanochat.cli.plan.probe_machine", lambda: CPU)
    for name, text in zip(("base.toml", "deeper.toml"), examples(), strict=False):
        write(tmp_path, text, name)
    command, _, expected = transcript.removeprefix("$ nanochat ").partition("\n")
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    shown = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    assert without_keys(shown) == without_keys(expected)


def without_keys(screen: str) -> str:
    return re.sub(r"\b[0-9a-f]{8}\b", "KEY", screen)
