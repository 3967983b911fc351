"""The tool `python`: what a program says is its result, whatever the program, and in any thread."""

import threading

import attrs
import pytest
from test_sandbox import strict, take_away

from nanochat.config import Component
from nanochat.errors import NanochatError
from nanochat.inference.tool import Tool
from nanochat.registry import load_registry
from nanochat.testing import check_tool
from nanochat_plugins.tools.python import Python, PythonConfig

pytestmark = strict
CONFIG = PythonConfig(seconds=2.0, memory_mib=256, longest=200)


@pytest.fixture(scope="module")
def tool() -> Python:
    return Python(CONFIG)


@pytest.mark.parametrize(
    "code, result",
    [
        ("12 * 34", "408"),
        ("n = 12\nn * 34", "408"),
        ("print('a')\nprint('b')", "a\nb"),
        ("print('a')\n1 + 1", "a\n2"),
        ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nf(12)", "144"),
        ("x = 1", None),
        ("None", None),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("print('so far')\nassert 1 == 2, 'no'", "so far\nAssertionError: no"),
        ("import sys\nsys.exit(0)", None),
        ("(", "SyntaxError: '(' was never closed"),
        ("open('/etc/passwd')", "PermissionError: [Errno 13] Permission denied: '/etc/passwd'"),
        ("import socket\nsocket.socket()", "PermissionError: [Errno 1] Operation not permitted"),
        ("'x' * 10**10", "MemoryError"),
        ("import ctypes\nctypes.string_at(0)", "the program crashed"),
    ],
)
def test_a_result_is_what_the_program_says(tool: Python, code: str, result: str | None) -> None:
    assert tool.run(code) == result


def test_an_endless_program_is_stopped_and_says_so() -> None:
    assert Python(attrs.evolve(CONFIG, seconds=0.3)).run("print(1)\nwhile True:\n    pass") == "stopped after 0.3 s"
    assert Python(attrs.evolve(CONFIG, seconds=0.3)).run("print(1, flush=True)\nwhile True: 1") == (
        "1\nstopped after 0.3 s"
    )


def test_a_long_result_is_cut_off(tool: Python) -> None:
    result = tool.run("print('x' * 10**6)")
    assert result == "x" * 199 + "…"


def test_it_keeps_the_contract_of_a_tool() -> None:
    check_tool(Python(attrs.evolve(CONFIG, seconds=0.5)), {"6 * 7": "42", "x = 1": None})


def test_several_threads_use_one_tool_at_once(tool: Python) -> None:
    seen: dict[int, str | None] = {}
    threads = [
        threading.Thread(target=lambda number=number: seen.update({number: tool.run(f"{number} + 1")}))  # type: ignore[misc]
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: str(number + 1) for number in range(8)}


def test_it_is_not_made_where_the_sandbox_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away("landlock", monkeypatch)
    with pytest.raises(NanochatError, match="layer `landlock` cannot be had"):
        Python(CONFIG)
    assert Python(attrs.evolve(CONFIG, sandbox="best-effort")).run("6 * 7") == "42"


def test_it_is_registered() -> None:
    use = Component(kind="tool", name="python", use="python", revision=1, config=CONFIG)
    tool: Tool = load_registry().builder("tool", use.use)(use.config)
    assert tool.run("2 + 2") == "4"
