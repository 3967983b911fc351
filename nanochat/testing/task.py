"""`check_task`: does a task keep the contract of `nanochat.data.task`?

In: a task, as its builder makes it. Out: an AssertionError that lists what it breaks. Up to a hundred examples, spread
over the task, are looked at. Not here: whether its splits are apart, which only the author can tell.
"""

import copy
from collections.abc import Iterator
from typing import Any

from nanochat.data.task import Conversation, Task
from nanochat.errors import NanochatError
from nanochat.testing.faults import TRACEBACK, Faults, is_number, is_plain, short
from nanochat.testing.tiny import tiny_tokenizer
from nanochat.text.conversation import render_conversation

EXAMPLES = 100
WRONG = ("", "I do not know.", "#### \N{SNOWMAN}", " \n\t", "x" * 5_000)
"""Answers that solve nothing: `evaluate` is given whatever a model writes."""


def check_task(task: Any) -> None:
    """AssertionError where the task breaks its contract."""
    faults = Faults(f"the task `{type(task).__name__}`", "nanochat.data.task")
    size = _size(task, faults)
    kind = _eval_type(task, faults)
    for index in _spread(size):
        example = _example(task, index, faults)
        if example is not None:
            if kind == "categorical":
                _check_letters(example, f"example {index}", faults)
            _check_scores(task, example, index, kind, faults)
    if size:
        _check_end(task, size, faults)
        _check_slices(task, faults)
    faults.raise_any()


def _size(task: Any, faults: Faults) -> int:
    """How many examples the task shows; 0 where it cannot say."""
    contract = "num_examples() gives how many examples there are, and len(task) how many of them are seen"
    mend = "derive from nanochat.data.task.Task, and call super().__init__(start, stop, step) in the constructor"
    with faults.during("len(task)", contract=contract, mend=mend):
        total = task.num_examples()
        counted = isinstance(total, int) and not isinstance(total, bool)
        seen = len(task) if counted else 0
        faults.expect(
            seen > 0,
            f"num_examples() is {short(total)} and len(task) is {seen}",
            contract="num_examples() is a whole number, and there is at least one example to see",
            mend="return a count of 1 or more; check the data's path, and start and stop",
        )
        return seen
    return 0


def _eval_type(task: Any, faults: Faults) -> str:
    kind = getattr(task, "eval_type", None)
    faults.expect(
        kind in ("generative", "categorical"),
        f"eval_type is {short(kind)}",
        contract='eval_type is "generative" or "categorical", a property and no method',
        mend='@property, def eval_type(self) -> Literal["generative"]: return "generative"',
    )
    return str(kind)


def _spread(size: int) -> Iterator[int]:
    """Indices from the first to the last, `EXAMPLES` at most."""
    count = min(size, EXAMPLES)
    return (number * (size - 1) // max(1, count - 1) for number in range(count))


def _example(task: Any, index: int, faults: Faults) -> Conversation | None:
    """The example, if it is one that can be trained on."""
    example: Conversation
    with faults.during(f"task[{index}]", contract="every index below len(task) has an example", mend=TRACEBACK):
        example = task[index]
        if not faults.expect(
            is_plain(example),
            f"task[{index}] is {short(example)}",
            contract="a conversation is plain data: dictionaries, lists, texts, numbers",
            mend="convert what the data set's reader gives: str(…), list(…), int(…)",
        ):
            return None
        faults.expect(
            task[index] == example,
            f"task[{index}] is another conversation the second time",
            contract="an index always gives the same conversation",
            mend='draw from a generator of its own: random.Random(f"{seed}/{index}")',
        )
        return example if _renders(example, index, faults) else None
    return None


def _renders(example: Conversation, index: int, faults: Faults) -> bool:
    shape = 'return {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
    try:
        render_conversation(example, tiny_tokenizer())
    except NanochatError as fault:
        said = fault.diagnostics[0]
        contract = "a conversation renders: users and assistants take turns, content is a text or known parts"
        faults.add(f"example {index}: {said.message}", contract=contract, mend=said.help or shape)
        return False
    last = example["messages"][-1]
    return faults.expect(
        last["role"] == "assistant" and bool(_said(last["content"])),
        f"the last message of example {index} is {short(last)}",
        contract="the last message is the assistant's, the reference answer, and says something",
        mend=shape,
    )


def _said(content: Any) -> str:
    """What `evaluate` is given of an answer: its text, without tool calls and their results."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _check_letters(example: Conversation, where: str, faults: Faults) -> None:
    letters, reference = list(example.get("letters") or ()), _said(example["messages"][-1]["content"])
    sound = all(isinstance(letter, str) and letter for letter in letters) and len(set(letters)) == len(letters) > 1
    faults.expect(
        sound and reference in letters,
        f"{where} has letters {short(letters)} and the reference {short(reference)}",
        contract='a categorical conversation carries "letters", two or more that differ, the reference among them',
        mend='add "letters": ["A", "B", "C", "D"], and let the last message be one of them',
    )


def _check_scores(task: Any, example: Conversation, index: int, kind: str, faults: Faults) -> None:
    reference = _said(example["messages"][-1]["content"])
    before = copy.deepcopy(example)
    right = _score(task, example, reference, f"evaluate(example {index}, its reference {short(reference)})", faults)
    faults.expect(
        right in (None, 1),
        f"evaluate(example {index}, its reference {short(reference)}) is {right}",
        contract="the reference answer scores 1",
        mend="compare what the reference says, without tool calls, with what the completion says",
    )
    letters = example.get("letters") or () if kind == "categorical" else ()
    for completion in (*WRONG, *letters):
        score = _score(task, example, completion, f"evaluate(example {index}, {short(completion)})", faults)
        faults.expect(
            score is None or score < 1 or completion.strip() == reference.strip(),
            f"evaluate(example {index}, {short(completion)}) is {score}, where the reference is {short(reference)}",
            contract="an empty or wrong answer does not score 1",
            mend="look for the answer itself, not for a part that any text has",
        )
        if getattr(task, "reward", None) is not None and score is not None:
            _check_reward(task, example, reference, completion, faults)
    faults.expect(
        example == before,
        f"example {index} is another one after evaluate",
        contract="evaluate leaves the conversation as it is",
        mend="work on a copy of what is changed",
    )


def _score(task: Any, example: Conversation, completion: str, call: str, faults: Faults) -> float | None:
    """The score; None where there is none, which is a fault."""
    contract = "evaluate gives True, False or a number from 0 to 1, for whatever a model writes"
    with faults.during(call, contract=contract, mend="treat what cannot be read as a wrong answer: return False"):
        score = task.evaluate(example, completion)
        again = task.evaluate(example, completion)
        valid = isinstance(score, bool) or (is_number(score) and 0 <= score <= 1)
        faults.expect(valid, f"{call} is {short(score)}", contract=contract, mend="return completion == reference, say")
        faults.expect(
            score == again,
            f"{call} is first {short(score)}, then {short(again)}",
            contract="an answer always has the same score",
            mend="keep chance and state out of evaluate",
        )
        return float(score) if valid else None
    return None


def _check_reward(task: Any, example: Conversation, reference: str, completion: str, faults: Faults) -> None:
    contract = "reward gives a finite number, for the reference no less than for a wrong answer"
    with faults.during("reward", contract=contract, mend="leave `reward` out: then it is the score"):
        best, other = task.reward(example, reference), task.reward(example, completion)
        faults.expect(
            is_number(best) and is_number(other) and best >= other,
            f"reward is {short(best)} for the reference and {short(other)} for {short(completion)}",
            contract=contract,
            mend="return float(self.evaluate(conversation, completion)), say",
        )


def _check_end(task: Any, size: int, faults: Faults) -> None:
    contract, mend = "an index of len(task) or more raises IndexError", "leave indexing to the base class Task"
    try:
        found = task[size]
    except IndexError:
        return
    except Exception as fault:
        faults.add(f"task[{size}] raised {type(fault).__name__}: {fault}", contract=contract, mend=mend)
    else:
        faults.add(f"task[{size}] is {short(found)}, where len(task) is {size}", contract=contract, mend=mend)


def _check_slices(task: Any, faults: Faults) -> None:
    """Look at the task through another start, stop and step."""
    if not isinstance(task, Task):
        return
    contract = "task[i] is get_example(start + i·step), for each i below the number from start to stop"
    mend = "number examples from 0 in get_example, and leave start, stop and step to the base class"
    with faults.during("a slice of the task", contract=contract, mend=mend):
        sliced, total = copy.copy(task), task.num_examples()
        for start, stop, step in ((0, None, 1), (1, total, 2), (0, min(3, total), 1), (total, None, 1)):
            sliced.start, sliced.stop, sliced.step = start, stop, step
            wanted = range(start, total if stop is None else stop, step)
            agrees = len(sliced) == len(wanted) and all(
                sliced[place] == task.get_example(wanted[place]) for place in _spread(len(wanted))
            )
            seen = f"with start={start}, stop={stop}, step={step} of {total} examples the task shows {len(sliced)}"
            faults.expect(agrees, f"{seen}, not those that it should", contract=contract, mend=mend)
