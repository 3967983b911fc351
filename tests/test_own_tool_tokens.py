"""A tool of someone else's, called by special tokens of its own: from the tokenizer through finetuning to an answer."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_finetune import FLAT, asked, run
from test_training import REGISTRY, Recorder, stage

from nanochat.config import Component
from nanochat.errors import InputError
from nanochat.hooks import Registrar, hookimpl
from nanochat.inference.engine import Engine
from nanochat.inference.grammar import Grammar
from nanochat.inference.sampling import Sampling
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.stages import tokenizer as tokenizer_stage
from nanochat.stages.context import StageContext
from nanochat.stages.slots import SourceSlot
from nanochat.stages.tokenizer_config import TokenizerConfig
from nanochat.testing import check_tool, tiny_model
from nanochat.text.conversation import check_conversation, render_conversation, render_prompt
from nanochat.text.special import SPECIAL_TOKENS
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import load_checkpoint

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
OWN = ("<|search_start|>", "<|search_end|>")


class Search:
    """Knows one thing."""

    name = "search"
    start, end = OWN

    def run(self, code: str) -> str | None:
        return "42" if code == "x" else None


class SearchPlugin:
    """What the tool's distribution registers."""

    @hookimpl
    def register_tools(self, registry: Registrar) -> None:
        registry.add("search", build="test_own_tool_tokens:Search")


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    if "search" not in REGISTRY.names("tool"):
        REGISTRY.register(SearchPlugin(), name="search", distribution="search")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """What the tokenizer stage makes."""
    folder = tmp_path_factory.mktemp("tok")
    part: Any = REGISTRY.config_class("source", "stories")(size=50)
    source = Component(kind="source", name="s", use="stories", revision=1, config=part, slot=SourceSlot())
    config = TokenizerConfig(vocab_size=300, special_tokens=list(OWN), data={"s": source}, max_chars=20_000)
    context = StageContext(
        stage="tok", folder=folder, runtime=local_runtime(), registry=REGISTRY, reporter=Progress(),
        should_stop=lambda: False,
    )  # fmt: skip
    return Tokenizer.load(folder / tokenizer_stage.run(config, context).artifact)


class Progress(Recorder):
    def progress(self, *arguments: Any) -> None: ...


CALL = {"type": "python", "tool": "search", "text": "x"}
TALK = {
    "messages": [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": [CALL, {"type": "python_output", "text": "42"}, {"type": "text", "text": "!"}],
        },
    ]
}


def test_the_vocabulary_has_its_tokens_before_the_nine_which_stay_the_last(tokenizer: Tokenizer) -> None:
    assert tuple(tokenizer.special_tokens) == (*OWN, *SPECIAL_TOKENS)
    assert [tokenizer.special_id(token) for token in tokenizer.special_tokens] == list(range(289, 300))
    assert tokenizer.vocab_size == 300
    assert all(number < 289 for number in tokenizer.encode("".join(OWN)))


def test_a_call_is_rendered_between_its_tokens_and_learnt_its_output_is_not(tokenizer: Tokenizer) -> None:
    rendered = render_conversation(TALK, tokenizer)
    assert tokenizer.decode(rendered.ids) == (
        "<|bos|><|user_start|>q<|user_end|><|assistant_start|><|search_start|>x<|search_end|>"
        "<|output_start|>42<|output_end|>!<|assistant_end|>"
    )
    learnt = [number for number, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    assert tokenizer.decode(learnt) == "<|search_start|>x<|search_end|>!<|assistant_end|>"


def test_a_model_learns_to_call_it_and_the_engine_does(tmp_path: Path, tokenizer: Tokenizer) -> None:
    base = tmp_path / "base"
    checkpoint = base / stage(base, tokenizer, Recorder()).execute().artifact
    tool = Component(
        kind="tool", name="search", use="search", revision=1, config=REGISTRY.config_class("tool", "search")()
    )
    record, _ = run(tmp_path / "sft", checkpoint, TALK, steps=60, schedule=FLAT, tools={"search": tool})
    loaded = load_checkpoint(tmp_path / "sft" / record.artifact, local_runtime(), REGISTRY)
    engine = Engine(loaded.model, loaded.tokenizer, local_runtime(), tools=loaded.tools, rows=1, context=32)
    (done,) = engine.generate([render_prompt(TALK, loaded.tokenizer)], Sampling(temperature=0.0))
    assert done.parts == TALK["messages"][1]["content"]
    assert (done.text, done.finish_reason) == ("!", "stop")
    # What it wrote is what it would be trained on.
    again = {"messages": [TALK["messages"][0], {"role": "assistant", "content": done.parts}]}
    assert render_conversation(again, loaded.tokenizer) == render_conversation(TALK, loaded.tokenizer)


def test_without_the_tool_its_tokens_are_never_written(tokenizer: Tokenizer) -> None:
    engine = Engine(tiny_model(), tokenizer, local_runtime(), rows=4)
    own = {tokenizer.special_id(token) for token in OWN}
    prompt = render_prompt(asked("q", ""), tokenizer)
    done = engine.generate([prompt] * 4, [Sampling(temperature=50.0, seed=seed, max_tokens=50) for seed in range(4)])
    assert own.isdisjoint(number for completion in done for number in completion.ids)


def test_a_tool_whose_tokens_the_tokenizer_lacks_is_refused_before_a_step(tmp_path: Path) -> None:
    plain = Tokenizer.train(["to be or not to be, that is the question " * 20], vocab_size=270)
    with pytest.raises(InputError, match=r"E307.*`search` is called by <\|search_start\|>.*does not have"):
        Grammar(plain, [Search()], vocab_size=270, device=local_runtime().device)
    with pytest.raises(InputError, match=r"E306.*calls the tool 'search', and the tokenizer has no <\|search_start\|>"):
        render_conversation(TALK, plain)
    check_conversation(TALK)


def test_it_is_refused_when_the_recipe_is_planned_and_the_remedy_works() -> None:
    registry = load_registry()
    registry.register(SearchPlugin(), name="search", distribution="search")
    asks = 'stages.sft.tools.search={use = "search"}'
    with pytest.raises(InputError) as caught:
        load_recipe(QUICKSTART, overrides=[asks], registry=registry)
    (found,) = caught.value.diagnostics
    assert found.message == ("the tool `search` of stage `sft` is called by <|search_start|>, which stage:tok lacks")
    remedy = found.help.removeprefix("set ").replace(" = ", "=")
    assert load_recipe(QUICKSTART, overrides=[asks, remedy], registry=registry)


@pytest.mark.parametrize(
    "tokens, said",
    [
        ('["search"]', "a special is written as <|name|>"),
        ('["<|Search|>"]', "a special is written as <|name|>"),
        ('["<|bos|>"]', "the vocabulary has it already"),
        ('["<|a|>", "<|a|>"]', "the vocabulary has it already"),
    ],
)
def test_special_tokens_that_cannot_be_are_named(tokens: str, said: str) -> None:
    with pytest.raises(InputError, match=r"E115") as caught:
        load_recipe(QUICKSTART, overrides=[f"stages.tok.special_tokens={tokens}"])
    assert said in caught.value.diagnostics[0].message


@given(st.sampled_from(["user", "assistant", "output", "text", "python_output"]) | st.integers() | st.lists(st.text()))
def test_no_part_can_name_a_tool_that_would_forge_a_turn_or_a_result(tool: Any) -> None:
    content = [{"type": "python", "tool": tool, "text": "x"}]
    with pytest.raises(InputError, match="E306"):
        check_conversation({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]})


def test_it_keeps_the_contract_of_a_tool() -> None:
    check_tool(Search(), {"x": "42"})

    class Odd(Search):
        start, end = "<|search_start|>", "<|lookup_end|>"

    with pytest.raises(AssertionError, match="your own"):
        check_tool(Odd())
