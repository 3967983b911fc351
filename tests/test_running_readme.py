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


def test_the_table_of_what_failures_cost_is_what_the_program_above_it_prints() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 12
    assert done.stdout in TEXT


@pytest.mark.parametrize("table", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_each_hardware_table_has_keys_that_there_are(table: str) -> None:
    settings = tomllib.loads(table)["hardware"]
    hardware = cattrs.Converter(forbid_extra_keys=True).structure({"dtype": "float32", **settings}, Hardware)
    assert hardware.nproc_per_node == 8
    assert hardware.job.problems() == []
