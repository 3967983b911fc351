"""One fault is one error: recipes with exactly one thing wrong, and the one place that is marked."""

from pathlib import Path

import pytest
from tiny_plugin import TINY, refused, write

STAGE_OF_BASE = '[stages.base]\nuse = "pretrain"'
WEB = '[stages.base.data.web]\nuse = "words"\nweight = 2'
GROUP = '[stages.base.optim.all]\nuse = "sgd"'
SUMS = '[stages.sft.data.sums]\nuse = "sums"'
BATCH = "total_batch_size = 4096"

FAULTS = [
    # A key or a table that is misspelt is not missing as well.
    ("[stages.base.model]", "[stages.base.modl]", "E102", "modl"),
    ("[stages.base.data.web]", "[stages.base.dta.web]", "E102", "dta"),
    ("[stages.base.optim.all]", "[stages.base.optimizer.all]", "E102", "optimizer"),
    ("[stages.base.model]", "[stages.bse.model]", "E105", "bse"),
    ("[stages.tok]", "[stage.tok]", "E102", "stage"),
    ("[hardware]", "[Hardware]", "E102", "Hardware"),
    ('init = "stage:base"', 'int = "stage:base"', "E102", "int"),
    ("depth = 2", "dept = 2", "E102", "dept"),
    ('match = "*"', 'mach = "*"', "E102", "mach"),
    (BATCH, f"{BATCH}\nschedule.warmup_stepz = 3", "E102", "warmup_stepz"),
    # A component that is not there takes nothing else with it.
    ('use = "sgd"', 'use = "sdg"', "E201", '"sdg"'),
    (
        f'{GROUP}\nmatch = "*"',
        f'{GROUP}\nmatch = "wte.*"\n[stages.base.optim.b]\nuse = "sdg"\nmatch = "*"',
        "E201",
        '"sdg"',
    ),
    (WEB, f'{WEB.replace("2", "0")}\n[stages.base.data.b]\nuse = "wrds"', "E201", '"wrds"'),
    ('use = "gpt"', 'use = "gtp"', "E201", '"gtp"'),
    ('use = "tokenizer"', 'use = "tokeniser"', "E201", '"tokeniser"'),
    ('use = "pretrain"', 'use = "pretrian"', "E201", '"pretrian"'),
    (f"{STAGE_OF_BASE}\n", "[stages.base]\n", "E105", "base"),
    ('use = "tokenizer"\n', "", "E105", "tok"),
    (BATCH, f"{BATCH}\nevals.a = {{use = 'score', task = {{use = 'sms'}}}}", "E201", "'sms'"),
    (BATCH, f"{BATCH}\nevals.a = {{use = 'score', task = 'sums'}}", "E103", "'sums'"),
    # A table of names without a name.
    ("[stages.base.data.web]", "[stages.base.data]", "E103", "data"),
    ("[stages.base.optim.all]", "[stages.base.optim]", "E103", "optim"),
    ("[stages.tok]", "[[stages.tok]]", "E103", "tok"),
    ("[stages.base.data.web]", "[[stages.base.data]]", "E103", "data"),
    # A reference that is none makes nothing else underivable.
    ('"stage:tok"', "5", "E103", "5"),
    ('"stage:tok"', '["stage:tok"]', "E103", '["stage:tok"]'),
    ('"stage:tok"', '{stage = "tok"}', "E103", '{stage = "tok"}'),
    ('"stage:tok"', '"tok"', "E110", '"tok"'),
    ('"stage:tok"', '"stage:base"', "E111", '"stage:base"'),
    ('"stage:base"', '"stage:bse"', "E110", '"stage:bse"'),
    ("depth = 2", 'depth = {from = "stages.base.step"}', "E110", '"stages.base.step"'),
    ("depth = 2", 'depth = {from = "name"}', "E103", '"name"'),
    ("depth = 2", 'depth = {form = "stages.base.steps"}', "E103", '{form = "stages.base.steps"}'),
    ("depth = 2", "depth.from.x = 1", "E110", "from"),
    ('from = "stages.base.optim"', 'from = "stages.base.optm"', "E110", '"stages.base.optm"'),
    ('from = "stages.base.optim"', 'from = "stages.base.model"', "E103", "optim"),
    ('from = "stages.base.optim"', 'frm = "stages.base.optim"', "E103", '"stages.base.optim"'),
    # A value that is wrong makes no batch, group or step wrong.
    ("depth = 2", "depth = -2", "E104", "-2"),
    ("depth = 2", 'depth = "2"', "E103", '"2"'),
    ("head_dim = 64", "head_dim = true", "E103", "true"),
    ("vocab_size = 512", "vocab_size = 10", "E104", "10"),
    ('match = "*"', 'match = "blocks"', "E114", '"blocks"'),
    ('match = "*"', 'match = ["*", 1]', "E103", "1"),
    (BATCH, "total_batch_size = 4097", "E115", "4097"),
    (BATCH, "total_batch_size = [4096]", "E103", "[4096]"),
    (BATCH, f"{BATCH}\nschedule = 3", "E103", "3"),
    ("weight = 2", "weight = 0", "E115", "0"),
    ('device = "cpu"', 'device = "gpu"', "E104", '"gpu"'),
    ("[hardware]", "[plugins]\nrequire = ['acme-tiny', 'gone>=2']\n[hardware]", "E204", "'gone>=2'"),
    (
        f"{SUMS}",
        f'{SUMS.replace("sums", "from_file").replace("data.from_file", "data.sums")}\nwords = "no.txt"',
        "E301",
        '"no.txt"',
    ),
    ('[stages.tok.data.web]\nuse = "words"\n', "", "E105", "tok"),
]


@pytest.mark.parametrize("before, after, code, marked", FAULTS)
def test_one_fault_is_one_error_under_what_is_wrong(
    tmp_path: Path, before: str, after: str, code: str, marked: str
) -> None:
    text = TINY.replace(before, after, 1)
    assert text != TINY
    (found,) = refused(write(tmp_path, text))
    assert found.code == code, found.render()
    place = found.location
    assert place is not None
    assert place.text[place.column - 1 :][: place.width] == marked, found.render()
    assert text.split("\n")[place.line - 1] == place.text


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("[stages.base.model]", "[stages.bse.model]", "did you mean `stages.base`?"),
        ('from = "stages.base.optim"', 'from = "stages.base.optm"', "did you mean `stages.base.optim`?"),
        ('from = "stages.base.optim"', 'from = "stages.bse.optim"', "did you mean `stages.base.optim`?"),
        ('from = "stages.base.optim"', 'from = "base.optim"', "did you mean `stages.base.optim`?"),
        ("depth = 2", 'depth = {from = "stages.bas.steps"}', "did you mean `stages.base.steps`?"),
        ('from = "stages.base.optim"', 'frm = "stages.base.optim"', "did you mean `from`?"),
        ("[stages.tok]", "[[stages.tok]]", "write [stages.tok]"),
        ("[stages.base.data.web]", "[[stages.base.data]]", "write [stages.base.data.NAME]"),
        ("[stages.base.data.web]", "[stages.base.data]", "begin it with [stages.base.data.NAME]"),
        ('match = "*"', 'match = "blocks"', "in no group: `resid_lambdas`"),
        ('match = "*"', 'match = ["*", 1]', "holds the integer 1: it is a string or an array of strings"),
    ],
)
def test_and_says_what_was_meant(tmp_path: Path, before: str, after: str, said: str) -> None:
    (found,) = refused(write(tmp_path, TINY.replace(before, after, 1)))
    assert said in found.render()


@pytest.mark.parametrize(
    "written, marked",
    [
        ("items = [1, 2.0]", "2.0"),
        ("items = [\n  1,\n  '2',\n]", "'2'"),
        ("either = ['a', 1]", "1"),
        ("table = {a = 1, b = true}", "true"),
        ("table.b = 'x'", "'x'"),
        ("anything = [1, {x = 1979-05-27}]", "1979-05-27"),
    ],
)
def test_the_item_that_is_wrong_is_marked_and_not_the_array(tmp_path: Path, written: str, marked: str) -> None:
    (found,) = refused(write(tmp_path, TINY.replace(WEB, f'[stages.base.data.web]\nuse = "everything"\n{written}')))
    assert (found.code, found.location is not None) == ("E103", True)
    assert found.location is not None
    assert found.location.text[found.location.column - 1 :][: found.location.width] == marked
