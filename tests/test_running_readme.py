"""nanochat/running/README.md: its figures are what its program prints, its tables are hardware tables."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cattrs
import pytest

from nanochat.hardware import Hardware

TEXT = (Path(__file__).parents[1] / "nanochat" / "running" / "README.md").read_text()


def test_what_failures_and_the_order_of_the_data_cost_is_what_the_programs_above_print() -> None:
    programs = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    printed = [subprocess.check_output([sys.executable, "-c", program], text=True) for program in programs]
    assert [len(text.splitlines()) for text in printed] == [16, 4]
    assert all(text in TEXT for text in printed)


@pytest.mark.parametrize("table", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_each_hardware_table_has_keys_that_there_are(table: str) -> None:
    settings = tomllib.loads(table)["hardware"]
    hardware = cattrs.Converter(forbid_extra_keys=True).structure({"dtype": "float32", **settings}, Hardware)
    assert hardware.nproc_per_node == 8
    assert hardware.job.problems() == []
