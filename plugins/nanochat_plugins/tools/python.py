"""The tool `python`: what a model wrote is run as a Python program, in the sandbox.

In: code. Out: what it printed; of a last line that is an expression also the value, as in a notebook:

    <|python_start|>n = 12
    n * 34<|python_end|><|output_start|>408<|output_end|>

An exception is its last line, `ZeroDivisionError: division by zero`; a run that was stopped says so. None where there
is nothing to tell. Each call is a new process that knows nothing of the others, and costs tens of milliseconds. Not
here: what holds the code, `nanochat.inference.sandbox`, and what that promises.
"""

from nanochat.config import config, option
from nanochat.errors import NanochatError
from nanochat.inference.sandbox.policy import SandboxConfig
from nanochat.inference.sandbox.run import Outcome, run
from nanochat.text.special import PYTHON_END, PYTHON_START

NOTEBOOK = """
import ast
tree = ast.parse(CODE, "<python>")
last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
exec(compile(tree, "<python>", "exec"))
if last is not None and (value := eval(compile(last, "<python>", "eval"))) is not None:
    print(repr(value))
"""


@config
class PythonConfig(SandboxConfig):
    """Runs Python that a model writes, with the standard library, without network or files, in the sandbox. Take it
    where a model has learnt to compute with programs; `calculator` is far quicker, and enough for sums.
    """

    longest: int = option(1_000, minimum=1, maximum=1_000_000, doc="characters of a result; the rest is cut off")


class Python:
    """Runs programs. InputError E604 where it is made and the sandbox cannot be had."""

    name = "python"
    start = PYTHON_START
    end = PYTHON_END

    def __init__(self, config: PythonConfig) -> None:
        self._config = config
        run("pass", limits=config)

    def run(self, code: str) -> str | None:
        """What the program printed, or why it was stopped; None for nothing."""
        try:
            outcome = run(f"CODE = {code!r}", NOTEBOOK, limits=self._config)
        except (NanochatError, OSError):  # no process, no descriptor: this call has no result
            return None
        text = "\n".join(filter(None, (outcome.stdout.rstrip("\n"), _why(outcome, self._config))))
        return (text if len(text) <= self._config.longest else f"{text[: self._config.longest - 1]}…") or None


def _why(outcome: Outcome, limits: SandboxConfig) -> str:
    """Why a run did not complete; "" where it did, or chose to exit."""
    if outcome.ended == "exited":
        return (outcome.stderr.rstrip().splitlines() or [""])[-1] if outcome.code else ""
    return {
        "completed": "",
        "killed": "the program crashed",
        "time": f"stopped after {limits.seconds:g} s",
        "threads": "stopped: too many threads",
        "disk": "stopped: too many files, or too large ones",
    }[outcome.ended]
