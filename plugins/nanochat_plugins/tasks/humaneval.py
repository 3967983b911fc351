"""The task `humaneval`: complete a Python function, whose tests are then run in the sandbox (arXiv 2107.03374).

In: the 164 problems of openai/openai_humaneval. Out: conversations such as

    user       def add(x: int, y: int):
                   \"\"\"Add two numbers x and y\"\"\"
    assistant  def add(x: int, y: int):
                   \"\"\"Add two numbers x and y\"\"\"
                   return x + y

An answer may be the whole function or its body alone, may stand in a ``` fence, and may have text around the fence;
what the prompt has before the function, imports and helpers, need not be repeated. It is right when the tests behind it
run to their end: an exit is no pass. `nanochat.inference.sandbox.run` says what the sandbox promises, and what not.
"""

import re
import textwrap

from nanochat.config import config, option
from nanochat.data.task import Conversation
from nanochat.inference.sandbox.policy import SandboxConfig
from nanochat.inference.sandbox.run import run
from nanochat_plugins.tasks.hub_rows import HubRowsConfig, HubTask

REPO = "openai/openai_humaneval"
FILES = "openai_humaneval/test-*.parquet"
COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


@config
class HumanEvalConfig(HubRowsConfig):
    """Python functions to be completed, 164 with tests: a measure of a model that has seen code. Take it in an
    evaluation; it has no training split, and runs what the model writes in the sandbox.
    """

    sandbox: str = option(
        "strict",
        choices=("strict", "best-effort"),
        execution=True,
        doc="strict: refuse to run code where a layer of the sandbox cannot be had; best-effort: with those that can",
    )
    seconds: float = option(5.0, minimum=0.01, maximum=3600.0, doc="that an answer and its tests may take")
    memory_mib: int = option(512, minimum=64, maximum=1 << 20, doc="address space that they may take")

    def limits(self) -> SandboxConfig:
        """How an answer is run."""
        return SandboxConfig(sandbox=self.sandbox, seconds=self.seconds, memory_mib=self.memory_mib)


class HumanEval(HubTask):
    """The problems. InputError E604 where it is made and the sandbox cannot be had."""

    concurrent = True

    def __init__(self, config: HumanEvalConfig) -> None:
        super().__init__(config, REPO, FILES, COLUMNS)
        self._limits = config.limits()
        self.conditions = {"sandbox": list(run("pass", limits=self._limits).achieved)}

    def get_example(self, index: int) -> Conversation:
        row = self.rows[index]
        answer = row["prompt"] + row["canonical_solution"]
        return {
            "messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": answer}],
            "entry_point": row["entry_point"],
            "test": row["test"],
        }

    def evaluate(self, conversation: Conversation, completion: str) -> bool:
        """Whether the tests behind the answer run to their end. In any thread."""
        name = conversation["entry_point"]
        program = function(conversation["messages"][0]["content"], name, completion)
        return run(program, f"{conversation['test']}\ncheck({name})", limits=self._limits).ended == "completed"


def function(prompt: str, name: str, completion: str) -> str:
    """The program that an answer means: what the prompt has before the function, and the function."""
    defines = re.compile(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", re.MULTILINE)
    code = _code(completion, defines)
    if defines.search(code):
        heads = list(defines.finditer(prompt))
        return f"{prompt[: heads[-1].start()] if heads else prompt}\n{code}"
    first = next((line for line in code.splitlines() if line.strip()), "")
    body = code if first[:1].isspace() else textwrap.indent(code, "    ")
    return prompt.rstrip(" \t") + body


def _code(completion: str, defines: "re.Pattern[str]") -> str:
    """The fenced part that defines the function, else the first one; all of it where there is none."""
    fenced: list[str] = _FENCE.findall(completion)
    whole = (part for part in map(textwrap.dedent, fenced) if defines.search(part))
    return next(whole, fenced[0] if fenced else completion)
