"""nanochat.testing: every first-party component passes its check, and each broken promise is named with its remedy."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from core_bundle import tasks, write
from fake_hub import lay_down, parquet
from torch import nn

from nanochat.config import Component
from nanochat.data.remote import State
from nanochat.data.source import Shard
from nanochat.data.task import Conversation, Task
from nanochat.registry import load_registry
from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.testing import (
    TinySource,
    check_eval,
    check_optimizer,
    check_source,
    check_task,
    check_tool,
    tiny_conversation,
    tiny_model,
    tiny_runtime,
    tiny_subject,
    tiny_tokenizer,
)
from nanochat.text.conversation import render_conversation
from nanochat_plugins.evals.chatcore_config import BaselineSlot
from nanochat_plugins.tasks.hub_rows import HubRowsConfig
from nanochat_plugins.tools.calculator import Calculator

IDENTITY = Path(__file__).parent.parent / "recipes" / "quickstart_identity.jsonl"
REGISTRY = load_registry()


def told(check: Callable[..., None], *arguments: Any) -> str:
    """What a check says of something that is broken."""
    with pytest.raises(AssertionError) as caught:
        check(*arguments)
    return str(caught.value)


def configured(kind: str, name: str, **options: Any) -> tuple[Callable[..., Any], Any]:
    """A first-party component's builder and config."""
    return REGISTRY.builder(kind, name), REGISTRY.config_class(kind, name)(**options)


# What is tiny


def test_the_tiny_model_talks_in_the_tiny_tokenizers_ids_and_is_always_the_same() -> None:
    state = torch.get_rng_state()
    ids = torch.tensor([tiny_tokenizer().encode("The small birds")])
    logits = tiny_model()(ids)
    assert logits.shape == (1, ids.shape[1], tiny_tokenizer().vocab_size)
    assert logits.std() > 0.1  # an untrained one's are all zero
    assert torch.equal(logits, tiny_model()(ids))
    assert torch.equal(state, torch.get_rng_state())
    assert tiny_model(depth=3).config.depth == 3


def test_the_tiny_conversation_renders_every_sort_of_part() -> None:
    rendered = render_conversation(tiny_conversation(), tiny_tokenizer())
    assert tiny_tokenizer().decode(rendered.ids) == (
        "<|bos|><|user_start|>What is 12 + 34?<|user_end|><|assistant_start|><|python_start|>12+34<|python_end|>"
        "<|output_start|>46<|output_end|>\n#### 46<|assistant_end|>"
    )
    assert (tiny_runtime().device.type, tiny_runtime().world_size) == ("cpu", 1)


# First-party components keep their contracts


MADE = [name for name in REGISTRY.names("task") if not issubclass(REGISTRY.config_class("task", name), HubRowsConfig)]
"""Those on the hub are checked where their rows are served: test_hub_tasks.py, test_humaneval.py."""


@pytest.mark.parametrize("name", MADE)
def test_every_first_party_task_passes(name: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(map("".join, itertools.islice(itertools.product("abcdefg", repeat=4), 1_500))))
    options = {"custom_json": {"path": IDENTITY}, "simple_spelling": {"word_list": words}}
    options["spelling_bee"] = options["simple_spelling"]
    build, config = configured("task", name, **options.get(name, {}))
    check_task(build(config))


@pytest.mark.parametrize("name", REGISTRY.names("source"))
def test_every_first_party_source_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"document {n}" for n in range(90)]
    (tmp_path / "mine.txt").write_text("\n\n".join(texts))
    options: dict[str, dict[str, Any]] = {"files": {"path": tmp_path / "mine.txt"}, "stories": {"size": 300}}
    if name in ("climbmix", "fineweb_edu", "hub"):
        monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path))
        options[name] = {"shards": 1, "repo": "someone/texts"}
        last = f"shard_{1_822 if name == 'fineweb_edu' else 6_542:05d}.parquet"
        lay_down("someone/texts", {"shard_00000.parquet": parquet(texts[:60]), last: parquet(texts[60:])})
    check_source(*configured("source", name, **options.get(name, {})))


@pytest.mark.parametrize("name", [name for name in REGISTRY.names("optimizer") if not name.startswith("torch:")])
def test_every_first_party_optimizer_passes(name: str) -> None:
    options = {"galore": {"rank": 4}}  # below the sides of the matrices that it is tried on
    check_optimizer(*configured("optimizer", name, weight_decay=0.1, **options.get(name, {})))


@pytest.mark.parametrize("name", REGISTRY.names("eval"))
def test_every_first_party_eval_passes(name: str, tmp_path: Path) -> None:
    sums = Component(
        kind="task", name="sums", use="arithmetic", revision=1, config=configured("task", "arithmetic", size=5)[1]
    )
    options = {
        "bpb": {"tokens": 1_000},
        "task": {"task": sums, "max_tokens": 4},
        "pass_at_k": {"task": sums, "max_tokens": 4, "samples": 2},
        "chatcore": {"tasks": {"sums": attrs.evolve(sums, slot=BaselineSlot())}},
        "core": {"bundle": write(tmp_path, tasks(6))},
    }
    check_eval(*configured("eval", name, **options.get(name, {})))


@pytest.mark.parametrize("name", sorted({*REGISTRY.names("tool")} - {"python"}))  # that one: test_python_tool.py
def test_every_first_party_tool_passes(name: str) -> None:
    check_tool(REGISTRY.builder("tool", name)(REGISTRY.config_class("tool", name)()))


# Tasks


class Colours(Task):
    """A sound task, to break in one place at a time."""

    eval_type: Any = "generative"
    pairs = (("grass", "green"), ("snow", "white"), ("coal", "black"), ("blood", "red"))

    def num_examples(self) -> int:
        return len(self.pairs)

    def get_example(self, index: int) -> Any:
        thing, colour = self.pairs[index]
        question = {"role": "user", "content": f"What colour is {thing}?"}
        return {"messages": [question, {"role": "assistant", "content": colour}]}

    def evaluate(self, conversation: Conversation, completion: str) -> Any:
        return completion == conversation["messages"][-1]["content"]


class Choices(Colours):
    """The same, by letters."""

    eval_type = "categorical"
    letters: Any = ("A", "B")

    def get_example(self, index: int) -> Any:
        messages = [
            {"role": "user", "content": "Which? A: red, B: blue"},
            {"role": "assistant", "content": "AB"[index % 2]},
        ]
        return {"messages": messages, "letters": self.letters}


def broken(base: type[Task], **changes: Any) -> Task:
    """A task with other attributes than its base's."""
    made: Task = type("Broken", (base,), changes)()
    return made


def messages(*content: Any) -> Callable[..., Any]:
    """A get_example that gives these contents to a user and an assistant in turn."""
    roles = itertools.cycle(("user", "assistant"))
    listed = [{"role": role, "content": text} for role, text in zip(roles, content, strict=False)]
    return lambda self, index: {"messages": listed}


def test_sound_tasks_pass() -> None:
    check_task(Colours())
    check_task(Choices())
    check_task(Colours(start=1, stop=3))


@pytest.mark.parametrize(
    "task, fault",
    [
        (broken(Colours, eval_type="essay"), "eval_type is 'essay'"),
        (broken(Colours, eval_type=lambda self: "generative"), "eval_type is <bound method"),
        (broken(Colours, pairs=()), "num_examples() is 0"),
        (broken(Colours, num_examples=lambda self: 4.0), "num_examples() is 4.0"),
        (broken(Colours, __init__=lambda self: None), "call super().__init__(start, stop, step)"),
        (broken(Colours, get_example=lambda self, index: 1 / 0), "task[0] raised ZeroDivisionError"),
        (broken(Colours, get_example=lambda self, index: {"messages": {1, 2}}), "a conversation is plain data"),
        (broken(Colours, get_example=lambda self, index: []), "has no list of messages"),
        (broken(Colours, get_example=messages("Hi", "Ho", "Hi")), "the last message is the assistant's"),
        (broken(Colours, get_example=messages("Hi", "")), "and says something"),
        (broken(Colours, get_example=messages("", "Ho")), "messages[0] of the user is empty"),
        (broken(Colours, get_example=messages("Hi", [{"type": "code", "text": "1"}])), "no part that the role"),
        (
            broken(Colours, get_example=lambda self, index: {"messages": [{"role": "bot", "content": "Hi"}]}),
            "messages[0] has role 'bot'",
        ),
        (
            broken(Colours, get_example=lambda self, index: messages(f"{random.random()}", "x")(self, index)),
            "is another conversation the second time",
        ),
        (broken(Colours, evaluate=lambda self, c, text: False), "the reference answer scores 1"),
        (broken(Colours, evaluate=lambda self, c, text: True), "an empty or wrong answer does not score 1"),
        (broken(Colours, evaluate=lambda self, c, text: 100 * (text == "green")), "is 100"),
        (broken(Colours, evaluate=lambda self, c, text: None), "evaluate gives True, False or a number from 0 to 1"),
        (broken(Colours, evaluate=lambda self, c, text: text[0] == "x"), "raised IndexError"),
        (broken(Colours, evaluate=lambda self, c, text: random.random()), "an answer always has the same score"),
        (
            broken(Colours, evaluate=lambda self, c, text: text == c["messages"][-1].pop("content", None)),
            "evaluate leaves the conversation as it is",
        ),
        (broken(Colours, reward=lambda self, c, text: float("nan")), "reward gives a finite number"),
        (broken(Colours, reward=lambda self, c, text: -(text == "green")), "no less than for a wrong answer"),
        (broken(Choices, letters=None), "has letters []"),
        (broken(Choices, letters=("A", "A", "B")), "two or more that differ"),
        (broken(Choices, letters=("C", "D")), "the reference among them"),
        (broken(Choices, evaluate=lambda self, c, text: text in ("A", "B")), "example 0, 'B') is 1.0"),
        (
            broken(Colours, __getitem__=lambda self, index: self.get_example(index % 4)),
            "an index of len(task) or more raises IndexError",
        ),
        (
            broken(Colours, __getitem__=lambda self, index: [self.get_example(i) for i in range(4)][index]),
            "start + i·step",
        ),
        (broken(Colours, __len__=lambda self: 4), "start + i·step"),
    ],
)
def test_a_broken_task_is_told_what_is_wrong(task: Task, fault: str) -> None:
    assert fault in told(check_task, task)


def test_all_faults_are_told_at_once_each_with_its_contract_and_remedy() -> None:
    said = told(check_task, broken(Colours, eval_type="essay", evaluate=lambda self, c, text: None))
    assert said == (
        "the task `Broken` breaks 2 promises of its contract (nanochat.data.task):\n"
        "\n"
        "1. eval_type is 'essay'\n"
        '   contract: eval_type is "generative" or "categorical", a property and no method\n'
        '   mend: @property, def eval_type(self) -> Literal["generative"]: return "generative"\n'
        "\n"
        "2. evaluate(example 0, its reference 'green') is None (and 23 times more)\n"
        "   contract: evaluate gives True, False or a number from 0 to 1, for whatever a model writes\n"
        "   mend: return completion == reference, say"
    )


# Sources


class Fickle(TinySource):
    """Other documents for each instance."""

    made = itertools.count()

    def __init__(self) -> None:
        super().__init__([f"{next(self.made)} {n}" for n in range(10)])
        self.texts["validation"] = ["held out"]


class Sound(TinySource):
    """A source without a fault."""

    def __init__(self, *_: Any) -> None:
        super().__init__([f"text {n}" for n in range(10)])
        self.texts["validation"] = ["held out"]


class OneReader(Sound):
    """Its place is its own, not its readers'."""

    def documents(self, shard: Shard, start: int = 0) -> Iterator[str]:
        self.place = start
        while self.place < len(self.texts[shard.name]):
            self.place += 1
            yield self.texts[shard.name][self.place - 1]


@attrs.frozen
class Restless:
    """A config whose fingerprint never rests."""

    def fingerprint(self) -> Mapping[str, Any]:
        return {"time": random.random()}


@attrs.frozen
class Opaque:
    """A config whose fingerprint is no data."""

    def fingerprint(self) -> Mapping[str, Any]:
        return {"path": Path("x")}


class Distant(Sound):
    """A source whose shards would come from elsewhere."""

    def pin(self) -> str:
        return "somewhere@1"

    def place(self, shard: Shard) -> Path:
        return Path(__file__)

    def state(self, shard: Shard) -> State:
        return State(here=True, bytes_here=self.place(shard).stat().st_size)

    def fetch(self, shard: Shard, on_bytes: Any) -> None:
        on_bytes(0)

    def check(self, shard: Shard) -> None: ...


def distant(**changes: Any) -> type[Distant]:
    return type("Broken", (Distant,), changes)


def changed(**changes: Any) -> type[Sound]:
    return type("Broken", (Sound,), changes)


def shards_of(**facts: Any) -> Callable[..., Any]:
    return lambda self, split: [Shard(**{"name": split, "size_bytes": 1, "digest": "d", **facts})]


@pytest.mark.parametrize(
    "build, config, fault",
    [
        (TinySource, None, "train and validation share no document"),
        (Fickle, None, "the same config gives the same shards"),
        (type("Fickle", (Fickle,), {"shards": shards_of()}), None, "has other documents in 'train'"),
        (changed(shards=lambda self, split: ["train"]), None, "shards(\"train\") is ['train']"),
        (changed(shards=shards_of(size_bytes=-1)), None, "each with a name, a size in bytes and a digest"),
        (changed(shards=shards_of(digest="")), None, "each with a name, a size in bytes and a digest"),
        (changed(shards=lambda self, split: 1 / 0), None, 'shards("train") raised ZeroDivisionError'),
        (changed(documents=lambda self, shard, start=0: iter(())), None, "the train split has no document"),
        (changed(documents=lambda self, shard, start=0: iter(self.texts[shard.name])), None, "from any place"),
        (changed(documents=lambda self, shard, start=0: iter([b"x"][start:])), None, "among the documents of shard"),
        (changed(documents=lambda self, shard, start=0: iter(["\ud800"][start:])), None, "valid Unicode"),
        (changed(documents=lambda self, shard: iter(self.texts[shard.name])), None, "raised TypeError"),
        (OneReader, None, "two readings of 'train' at once disturb each other"),
        (changed(skipped=lambda self: None), None, "skipped() raised AttributeError"),
        (changed(skipped=lambda self: {"empty": "3"}), None, "skipped() is {'empty': '3'}"),
        (changed(__init__=lambda self: 1 / 0), None, "the builder raised ZeroDivisionError"),
        (distant(pin=lambda self: ""), None, "pin() is ''"),
        (distant(place=lambda self, shard: Path("nowhere")), None, "check() raised FileNotFoundError"),
        (distant(state=lambda self, shard: State(here=True, bytes_here=3)), None, "State(here=True, bytes_here=3)"),
        (distant(check=lambda self, shard: 1 / 0), None, "check() raised ZeroDivisionError"),
        (Sound, Restless(), "the same each time"),
        (Sound, Opaque(), "fingerprint() is {'path': PosixPath('x')}"),
    ],
)
def test_a_broken_source_is_told_what_is_wrong(build: Callable[..., Any], config: Any, fault: str) -> None:
    check_source(Sound)
    check_source(Distant)
    assert fault in told(check_source, build, config)


# Optimizers


class Descent(torch.optim.Optimizer):
    """Momentum, without a fault."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], runtime: Any, lr: float = 0.05) -> None:
        super().__init__(parameters.values(), {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, group["lr"])

    def update(self, parameter: Any, lr: float) -> None:
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        momentum.mul_(0.5).add_(parameter.grad)
        parameter.sub_(momentum, alpha=lr)


MEMORY: dict[int, Any] = {}


def forgetful(self: Any, parameter: Any, lr: float) -> None:
    """Keeps its momentum where no checkpoint finds it."""
    kept = MEMORY.setdefault(id(self), {}).setdefault(id(parameter), torch.zeros_like(parameter))
    parameter.sub_(kept.mul_(0.5).add_(parameter.grad), alpha=lr)


def descent(**changes: Any) -> Any:
    return type("Broken", (Descent,), changes)


def unrated(parameters: Mapping[str, nn.Parameter], runtime: Any) -> Any:
    made = Descent(parameters, runtime)
    del made.param_groups[0]["lr"]
    return made


class Strict(Descent):
    """Bears no parameter without a gradient."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.update(parameter, self.param_groups[0]["lr"])


def first_only(parameters: Mapping[str, nn.Parameter], runtime: Any) -> Any:
    return Descent(dict(itertools.islice(parameters.items(), 1)), runtime)


@pytest.mark.parametrize(
    "build, fault",
    [
        (lambda parameters, runtime: None, "NoneType has no step, zero_grad, state_dict, load_state_dict"),
        (lambda parameters, runtime: 1 / 0, "the builder raised ZeroDivisionError"),
        (first_only, "param_groups hold 1 parameters, of 3 that were given"),
        (unrated, "param_groups is [{"),
        (descent(step=lambda self: None), "step() left a.weight, b.weight, c.weight as it was"),
        (descent(update=lambda self, p, lr: p.add_(p.grad, alpha=lr)), "steps go downhill"),
        (descent(update=lambda self, p, lr: p.fill_(float("nan"))), "steps go downhill"),
        (descent(update=lambda self, p, lr: p.sub_(torch.rand_like(p) * p.grad, alpha=lr)), "bit for bit"),
        (descent(update=lambda self, p, lr: p.sub_(p.grad, alpha=0.05)), "at learning rate 0 step() changed a.weight"),
        (descent(zero_grad=lambda self, set_to_none=True: None), "zero_grad() forgets the gradients"),
        (Strict, "step() bears parameters without a gradient"),
        (descent(update=forgetful), "a run that is resumed from state_dict() goes on bit for bit"),
        (descent(state_dict=lambda self: {"mine": 1}), "saving and loading the state raised KeyError"),
    ],
)
def test_a_broken_optimizer_is_told_what_is_wrong(build: Any, fault: str) -> None:
    check_optimizer(Descent)
    assert fault in told(check_optimizer, build)


# Evaluations


@torch.no_grad()
def loss(subject: Subject) -> Mapping[str, Any]:
    """The mean loss over a few texts: a sound evaluation."""
    texts = [
        text
        for shard in subject.sources["tiny"].shards("validation")
        for text in subject.sources["tiny"].documents(shard)
    ]
    losses = torch.stack([nats(subject, text) for text in texts])
    error = float(losses.std() / len(losses) ** 0.5)
    return {"loss": Figure(value=float(losses.mean()), n=len(losses), standard_error=error)}


def nats(subject: Subject, text: str) -> torch.Tensor:
    ids = torch.tensor([subject.tokenizer.encode(text)])
    found: torch.Tensor = subject.model(ids[:, :-1], ids[:, 1:])
    return found


def with_gradients(subject: Subject) -> Mapping[str, Any]:
    nats(subject, "The small birds").backward()
    return loss(subject)


def in_training(subject: Subject) -> Mapping[str, Any]:
    subject.model.train()
    return loss(subject)


def learning(subject: Subject) -> Mapping[str, Any]:
    with torch.no_grad():
        next(subject.model.parameters()).add_(1)
    return loss(subject)


def gambling(subject: Subject) -> Mapping[str, Any]:
    return {"luck": Figure(value=random.random())}


def hoarding(subject: Subject) -> Mapping[str, Any]:
    subject.keep_example({"logits": torch.zeros(3)})
    return loss(subject)


def gives(**figure: Any) -> Callable[[Subject], Any]:
    return lambda subject: {"it": Figure(**figure)}


@pytest.mark.parametrize(
    "build, fault",
    [
        (lambda subject: None, "gives a mapping of names to nanochat.stages.context.Figure"),
        (lambda subject: {}, "gives a mapping of names"),
        (lambda subject: {"accuracy": 0.5}, "it gave {'accuracy': 0.5}"),
        (lambda subject: 1 / 0, "the evaluation raised ZeroDivisionError"),
        (gives(value=float("nan")), "`it` is nan"),
        (gives(value=1.0, n=-1), "`it` has n = -1"),
        (gives(value=1.0, n=2, standard_error=-1.0), "the standard error -1.0"),
        (gives(value=1.0, n=200), "a mean over examples says its standard error"),
        (gambling, "the same model always has the same figures"),
        (gambling, "an evaluation leaves the global random numbers as they are"),
        (learning, "an evaluation leaves the model's weights as they are"),
        (in_training, "an evaluation leaves the model in eval mode"),
        (with_gradients, "an evaluation leaves the model in eval mode and without gradients"),
        (hoarding, "an example that is kept is plain data"),
    ],
)
def test_a_broken_evaluation_is_told_what_is_wrong(build: Any, fault: str) -> None:
    check_eval(loss)
    assert fault in told(check_eval, build)


def test_an_evaluation_is_tried_on_the_subject_that_the_author_gives() -> None:
    given = tiny_subject(sources={"tiny": TinySource(["one text", "another text"])}, model=tiny_model(depth=1))
    check_eval(lambda config, subject: {"depth": Figure(value=subject.model.config.depth, n=config)}, 1, given)


# Tools


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"name": ""}, "name is ''"),
        ({"start": "<call>"}, "start and end are ['<call>', '<|python_end|>']"),
        ({"run": lambda self, code: code[0]}, "run('') raised IndexError"),
        ({"run": lambda self, code: len(code)}, "run('') is 0"),
        ({"run": lambda self, code: str(random.random())}, "the same for the same code"),
        ({"run": lambda self, code: None}, "run('1+2') is None, not '3'"),
    ],
)
def test_a_broken_tool_is_told_what_is_wrong(changes: dict[str, Any], fault: str) -> None:
    check_tool(Calculator(), {"1+2": "3", "import os": None})
    assert fault in told(check_tool, type("Broken", (Calculator,), changes)(), {"1+2": "3"})
