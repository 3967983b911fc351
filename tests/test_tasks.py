"""The first-party tasks: references score 1 and other answers 0, and nothing that is tested is taught."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config import Artifact, Component
from nanochat.data.task import Conversation, Task
from nanochat.errors import NanochatError
from nanochat.recipe.load import load_recipe, locate
from nanochat.registry import Registry, load_registry
from nanochat.stages.word_list import WordList
from nanochat.text.conversation import render_conversation
from nanochat.text.tokenizer import Tokenizer
from nanochat_plugins.tasks.arithmetic import Arithmetic, ArithmeticConfig
from nanochat_plugins.tasks.custom_json import CustomJSON, CustomJSONConfig
from nanochat_plugins.tasks.generated import final_number, held_out
from nanochat_plugins.tasks.simple_spelling import SimpleSpelling, SimpleSpellingConfig
from nanochat_plugins.tasks.spelling_bee import SpellingBee, SpellingBeeConfig
from nanochat_plugins.tasks.words import ALWAYS_TRAINED, words_of
from nanochat_plugins.tools.calculator import Calculator

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
IDENTITY = RECIPE.parent / "quickstart_identity.jsonl"


@cache
def registry() -> Registry:
    return load_registry()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The text that the quickstart's tokenizer is trained on."""
    config = load_recipe(RECIPE).stages["tok"].config
    sources = [registry().builder("source", part.use)(part.config) for part in config.data.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return [text for s in sources for shard in s.shards("train") for text in s.documents(shard)]


@pytest.fixture(scope="module")
def tokenizer_folder(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tokenizer stage leaves of it, as far as tasks read it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    words = WordList()
    for text in corpus:
        words.add(text)
    words.write(folder)
    return folder


@pytest.fixture(scope="module")
def spelling(tokenizer_folder: Path) -> SpellingBeeConfig:
    artifact = Artifact(reference="stage:tok", kind="tokenizer", path=tokenizer_folder)
    return SpellingBeeConfig(words=artifact, size=2_000)


def quickstart_tasks(folder: Path) -> tuple[dict[str, Task], dict[str, Task]]:
    """What the quickstart finetunes on, and what it is evaluated on, by name."""

    def build(part: Component) -> Task:
        task: Task = registry().builder(part.kind, part.use)(part.config)
        return task

    stages = load_recipe(RECIPE).stages
    folders = {f"stage:{name}": folder for name in stages}
    training, evaluation = (locate(stages[name], folders) for name in ("sft", "eval"))
    evals: Mapping[str, Component] = evaluation.evals
    return (
        {name: build(part) for name, part in training.data.items()},
        {name: build(part.config.task) for name, part in evals.items() if part.use == "task"},
    )


def parts(conversation: Conversation, kind: str) -> list[str]:
    """The texts of a kind in a conversation."""
    found = []
    for message in conversation["messages"]:
        content = message["content"]
        listed = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [part["text"] for part in listed if part["type"] == kind]
    return found


def question(conversation: Conversation) -> str:
    content = conversation["messages"][0]["content"]
    assert isinstance(content, str)
    return content


def answer(conversation: Conversation) -> str:
    """The reference as an engine would give it back: what is written and what the tool said."""
    content = conversation["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def spelt_words(conversation: Conversation) -> Iterator[str]:
    """Every word whose letters stand one by one, or that a tool is called on."""
    for text in parts(conversation, "text"):
        yield from ("".join(run.split()) for run in re.findall(r"\b(?:[a-z] )+[a-z]\b", text))
    for code in parts(conversation, "python"):
        yield from re.findall(r'"([a-z]+)"\.count', code)


def number_pairs(conversation: Conversation) -> Iterator[tuple[int, int]]:
    """Every two numbers that stand next to one another in a question or a call, the smaller first."""
    for text in [question(conversation), *parts(conversation, "python")]:
        numbers = [int(number) for number in re.findall(r"\d+", text)]
        yield from ((min(pair), max(pair)) for pair in pairwise(numbers))


# What the quickstart teaches and tests


def test_no_question_word_or_sum_that_the_quickstart_tests_is_in_what_it_teaches(tokenizer_folder: Path) -> None:
    taught, tested = quickstart_tasks(tokenizer_folder)
    assert {"arithmetic", "spelling_bee"} <= tested.keys() & taught.keys()
    examples = [example for task in tested.values() for example in task]
    questions = {question(example) for example in examples}
    words = {word for example in examples for word in spelt_words(example)}
    sums = {pair for example in tested["arithmetic"] for pair in number_pairs(example)}
    assert len(questions) > 300
    assert len(words) > 20
    assert len(sums) > 100
    for task in taught.values():
        for conversation in task:
            assert questions.isdisjoint(parts(conversation, "text"))
            assert words.isdisjoint(spelt_words(conversation))
            assert sums.isdisjoint(number_pairs(conversation))


def test_every_quickstart_conversation_is_short_once_it_is_tokens(tokenizer_folder: Path, corpus: list[str]) -> None:
    tokenizer = Tokenizer.train(corpus, vocab_size=2_048)
    taught, _ = quickstart_tasks(tokenizer_folder)
    for name, task in taught.items():
        lengths = [len(render_conversation(task[index], tokenizer).ids) for index in range(0, len(task), 40)]
        assert max(lengths) <= (128 if name == "identity" else 90)


def test_the_identity_says_what_is_true_and_asks_nothing_that_is_tested() -> None:
    task = CustomJSON(CustomJSONConfig(path=IDENTITY))
    assert 100 <= len(task) <= 200
    texts = [text for conversation in task for text in parts(conversation, "text")]
    assert len({json.dumps(conversation) for conversation in task}) == len(task)
    assert sum("nanochat" in text for text in texts) > 20
    assert any("MIT" in text for text in texts)
    assert not any(char.isdigit() for text in texts for char in text)
    assert not any(list(spelt_words(conversation)) for conversation in task)


# arithmetic


@pytest.mark.parametrize("split", ["train", "test"])
def test_arithmetic_is_right_and_its_reference_scores_one(split: str) -> None:
    task = Arithmetic(ArithmeticConfig(split=split, size=2_000))
    signs = set()
    for conversation in task:
        (code,), (shown,) = parts(conversation, "python"), parts(conversation, "python_output")
        a, sign, b = re.fullmatch(r"(\d+)([-+*])(\d+)", code).groups()  # type: ignore[union-attr]
        signs.add(sign)
        assert int(shown) == {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
        assert Calculator().run(code) == shown
        assert sorted(re.findall(r"\d+", question(conversation))) == sorted([a, b])
        assert max(int(a), int(b)) < (100 if sign == "*" else 1000)
        assert task.evaluate(conversation, answer(conversation))
        assert not task.evaluate(conversation, answer(conversation).replace(f"#### {shown}", f"#### {int(shown) + 1}"))
        assert not task.evaluate(conversation, f"{shown}")
        assert not task.evaluate(conversation, "")
    assert signs == {"+", "-", "*"}


@given(st.integers(0, 999), st.integers(0, 999))
def test_two_numbers_are_of_one_split_in_either_order_and_under_any_operation(a: int, b: int) -> None:
    tested = held_out(f"{min(a, b)} {max(a, b)}", 0.1)
    for seed in range(2):
        task = Arithmetic(ArithmeticConfig(split="train" if tested else "test", size=50, seed=seed))
        assert all((min(a, b), max(a, b)) not in number_pairs(conversation) for conversation in task)


def test_a_subtraction_from_is_asked_in_the_order_that_is_computed() -> None:
    for conversation in Arithmetic(ArithmeticConfig(size=3_000)):
        if found := re.fullmatch(r"(?:Subtract (\d+) from (\d+)|Take (\d+) away from (\d+))\.", question(conversation)):
            taken, left = (number for number in found.groups() if number is not None)
            assert parts(conversation, "python") == [f"{left}-{taken}"]


# spelling


@pytest.mark.parametrize("split", ["train", "test"])
def test_spelling_bee_is_right_and_its_reference_scores_one(spelling: SpellingBeeConfig, split: str) -> None:
    task = SpellingBee(attrs.evolve(spelling, split=split))
    absent = 0
    for conversation in task:
        (code,), (shown,) = parts(conversation, "python"), parts(conversation, "python_output")
        word, letter = re.fullmatch(r'"([a-z]+)"\.count\("([a-z])"\)', code).groups()  # type: ignore[union-attr]
        assert int(shown) == sum(char == letter for char in word)
        assert Calculator().run(code) == shown
        assert answer(conversation).startswith(" ".join(word) + "\n")
        assert re.search(rf"\b{word}\b", question(conversation))
        assert re.search(rf"\b{letter}\b", question(conversation))
        absent += letter not in word
        assert task.evaluate(conversation, answer(conversation))
        assert not task.evaluate(conversation, answer(conversation).replace(f"#### {shown}", f"#### {int(shown) + 1}"))
        assert not task.evaluate(conversation, " ".join(word))
    assert 0.05 < absent / len(task) < 0.15


def test_the_plain_question_is_the_commonest_of_many_phrasings(spelling: SpellingBeeConfig) -> None:
    task = SpellingBee(spelling)
    plain = [q for q in map(question, task) if re.fullmatch(r"How many [a-z] are in [a-z]+\?", q)]
    assert len(plain) > 0.25 * len(task)
    words = {word for conversation in task for word in spelt_words(conversation)}
    forms = {re.sub(r"\b(?:" + "|".join(words) + r"|[a-z])\b", "_", question(conversation)) for conversation in task}
    assert len(forms) > 20


def test_simple_spelling_gives_the_letters_that_spelling_bee_writes(spelling: SpellingBeeConfig) -> None:
    task = SimpleSpelling(SimpleSpellingConfig(words=spelling.words, size=200))
    for conversation in task:
        (word,) = spelt_words(conversation)
        assert answer(conversation) == " ".join(word)
        assert re.search(rf"\b{word}\b", question(conversation))
        assert task.evaluate(conversation, "-".join(word.upper()))
        assert not task.evaluate(conversation, " ".join(word[::-1] + "x"))
        assert not task.evaluate(conversation, "")


def test_words_are_of_one_split_and_the_commonest_are_for_training(spelling: SpellingBeeConfig) -> None:
    train, test = words_of(spelling), words_of(attrs.evolve(spelling, split="test"))
    assert not set(train) & set(test)
    ranked = sorted([*train, *test])
    assert len(ranked) == len(set(ranked))
    assert 0.05 < len(test) / (len(ranked) - ALWAYS_TRAINED) < 0.15
    fewer = words_of(attrs.evolve(spelling, split="test", max_words=1_500))
    assert set(fewer) <= set(test)


def test_a_word_list_of_the_users_own_serves_instead_of_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("apple\nBanana\npear\t7\nan\nnaïve\nfig3\nextraordinarily\napple\n")
    config = SpellingBeeConfig(word_list=tmp_path / "words.txt")
    assert words_of(config) == ["apple", "pear"]
    before = config.fingerprint()
    (tmp_path / "words.txt").write_text("apple\nplum\n")
    assert config.fingerprint() != before
    assert SpellingBeeConfig(word_list=tmp_path / "words.txt").problems() == []
    assert SpellingBeeConfig().problems()


@pytest.mark.parametrize(
    "content, code", [(None, "E301"), (b"", "E302"), (b"X\n12\n", "E302"), (b"apple\n\xff\n", "E304")]
)
def test_a_word_list_that_cannot_serve_is_named(tmp_path: Path, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(NanochatError) as raised:
        words_of(SpellingBeeConfig(word_list=tmp_path / "mine.txt"))
    assert raised.value.diagnostics[0].code == code
    assert "mine.txt" in raised.value.diagnostics[0].message


# All generated tasks


def test_an_example_depends_on_seed_split_and_index_alone() -> None:
    task = Arithmetic(ArithmeticConfig(size=100))
    assert [task[i] for i in (7, 3)] == [list(Arithmetic(ArithmeticConfig(size=9)))[i] for i in (7, 3)]
    assert list(task) != list(Arithmetic(ArithmeticConfig(size=100, seed=1)))


def test_start_stop_and_step_choose_examples() -> None:
    whole = list(Arithmetic(ArithmeticConfig(size=20)))
    assert list(Arithmetic(ArithmeticConfig(size=20, start=3, stop=15, step=4))) == whole[3:15:4]
    assert ArithmeticConfig(start=5, stop=2).problems()
    assert CustomJSONConfig(path=IDENTITY, start=5, stop=2).problems()


@pytest.mark.parametrize(
    "text, number",
    [
        ("#### 46", "46"),
        ("####46", "46"),
        ("#### -3", "-3"),
        ("#### 1,234.", "1234"),
        ("#### 1\n#### 2", "2"),
        ("46", None),
        ("#### none", None),
        ("", None),
    ],
)
def test_the_final_number_is_behind_the_last_mark(text: str, number: str | None) -> None:
    assert final_number(text) == number


# custom_json


def conversations(folder: Path, *lines: Any) -> CustomJSON:
    path = folder / "mine.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return CustomJSON(CustomJSONConfig(path=path))


USER, ASSISTANT = {"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}


def test_both_shapes_of_a_line_are_read_and_blank_lines_passed_over(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be kind."}
    called = {
        "role": "assistant",
        "content": [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}],
    }
    task = conversations(tmp_path, {"messages": [USER, ASSISTANT]}, "", [system, USER, called])
    assert [example["messages"] for example in task] == [[USER, ASSISTANT], [system, USER, called]]
    assert task.evaluate(task[0], " Hello!\n")
    assert not task.evaluate(task[0], "Hello")


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", "Expecting"),
        ("[]", "no message of a user"),
        ('{"text": "Hi"}', "no list of messages"),
        ("4", "no list of messages"),
        (json.dumps([USER, USER]), "messages[1] has role 'user' where 'assistant' must follow"),
        (json.dumps([ASSISTANT]), "messages[0] has role 'assistant' where 'user' must follow"),
        (json.dumps([USER]), "last message"),
        (json.dumps([USER, ASSISTANT, {"role": "system", "content": "Late."}]), "messages[2] has role 'system'"),
        (json.dumps([USER, {"role": "robot", "content": "Beep"}]), "messages[1] has role 'robot'"),
        (json.dumps([USER, {"role": "assistant"}]), "messages[1] has nothing as content"),
        (json.dumps([{"role": "user", "content": ""}, ASSISTANT]), "messages[0] of the user is empty"),
        (
            json.dumps([{"role": "user", "content": [{"type": "python", "text": "1"}]}, ASSISTANT]),
            "messages[0].content[0]",
        ),
        (json.dumps([USER, {"role": "assistant", "content": "half \ud800"}]), "messages[1] is no valid Unicode"),
        (
            json.dumps([USER, {"role": "assistant", "content": [{"type": "image", "text": ""}]}]),
            "messages[1].content[0] is no part",
        ),
        ("[" * 50_000, "recursion"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str, said: str) -> None:
    task = conversations(tmp_path, [USER, ASSISTANT], "", line)
    (diagnostic,) = task.faults()
    with pytest.raises(NanochatError) as raised:
        task[1]
    assert raised.value.diagnostics == [diagnostic]
    assert task[0]["messages"] == [USER, ASSISTANT]
    assert diagnostic.code == "E306"
    assert str(diagnostic.location).startswith(f"{tmp_path / 'mine.jsonl'}:3:")
    assert said in diagnostic.message


@pytest.mark.parametrize(
    "text, code, place",
    [
        ("Once upon a time there was a fox.\n", "E306", "1:1"),
        ('{"text": "a document"}\n', "E306", "1:1"),
        ('[{"role": "user", "content": "Hi!"}, {"role": "assistant" "content": "?"}]\n', "E306", "1:59"),
        ("\x89PNG\r\n\x1a\n", "E306", "1:1"),
        ("\n\n", "E302", None),
    ],
)
def test_a_file_of_another_kind_is_told_with_its_line_before_anything_runs(
    tmp_path: Path, text: str, code: str, place: str | None
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="latin-1")
    recipe = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
    table = f'stages.sft.data={{mine = {{use = "custom_json", path = "{path}"}}}}'
    with pytest.raises(NanochatError) as raised:
        load_recipe(recipe, overrides=[table])
    diagnostic = raised.value.diagnostics[0]
    assert diagnostic.code == code
    assert diagnostic.message.startswith("stages.sft.data.mine: ")
    assert '{"messages": [{"role": "user"' in diagnostic.help
    assert place is None or str(diagnostic.location) == f"{path}:{place}"


def test_a_plan_reads_three_lines_and_refuses_a_file_where_none_is_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    good = json.dumps([USER, ASSISTANT]) + "\n"
    path.write_text(3 * good + "no JSON\n")
    assert CustomJSONConfig(path=path).fingerprint()
    path.write_text("no JSON\n" + good)
    assert CustomJSONConfig(path=path).fingerprint()
    path.write_text(3 * "no JSON\n" + good)
    with pytest.raises(NanochatError, match="E306"):
        CustomJSONConfig(path=path).fingerprint()


def test_all_bad_lines_of_a_slice_are_known_at_once_and_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    task = conversations(tmp_path, "{", [USER, ASSISTANT], "}")
    assert [fault.location.line for fault in task.faults() if fault.location] == [1, 3]
    task.start = 1
    assert [fault.location.line for fault in task.faults() if fault.location] == [3]
    with pytest.raises(NanochatError, match="E302"):
        conversations(tmp_path)
    with pytest.raises(NanochatError, match="E301"):
        CustomJSONConfig(path=tmp_path / "none.jsonl").fingerprint()
    with pytest.raises(NanochatError, match="E304"):
        CustomJSON(CustomJSONConfig(path=tmp_path))


def test_a_conversation_file_counts_by_its_content(tmp_path: Path) -> None:
    config = CustomJSONConfig(path=tmp_path / "mine.jsonl")
    conversations(tmp_path, [USER, ASSISTANT])
    before = config.fingerprint()
    conversations(tmp_path, [ASSISTANT, USER][::-1])
    assert config.fingerprint() == before
    conversations(tmp_path, [USER, {"role": "assistant", "content": "Good day!"}])
    assert config.fingerprint() != before
