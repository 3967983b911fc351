"""The feature table names tests that there are."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
README = TESTS.parent / "nanochat" / "serving" / "README.md"


def test_every_row_of_the_feature_tables_has_a_test_that_exists() -> None:
    named = set()
    tables = re.findall(r"^\| feature \| test \|\n\| --- \| --- \|\n((?:\|.+\n)+)", README.read_text(), re.MULTILINE)
    for row in "".join(tables).splitlines():
        tests = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert tests, f"no test: {row}"
        named |= set(tests)
    assert len(named) > 60
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (TESTS / file).read_text()]
    assert missing == []
