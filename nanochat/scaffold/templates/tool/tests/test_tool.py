"""The tool `newcomer` keeps nanochat's contract, and gives the results that it should."""

from nanochat.testing import check_tool

from nanochat_newcomer.tool import Newcomer


def test_it_keeps_the_contract_and_answers_right() -> None:
    check_tool(Newcomer(longest=8), {"stressed": "desserts", "stressed!": None})
