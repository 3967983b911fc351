"""How long our engine and transformers' `generate` take for the same answers of a classic d4, in one run.

`pytest tests/benchmarks/test_generate_speed.py --benchmark-only --benchmark-enable -n 0` prints the table: 64 ids after
prompts of 128, to 1 and to 32 rows, vocabulary 8,192; and 32 clients who want different things. That both compute the
same is asked by `tests/test_exchange.py`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nanochat.benchmarking.subject import endless, engine_of, prompts
from nanochat.exchange import huggingface
from nanochat.exchange.weights import Weights
from nanochat.inference.engine import CHUNK_TOKENS, Engine
from nanochat.inference.int8 import quantised
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.runtime import local_runtime
from nanochat.text.tokenizer import Tokenizer

PROMPT, TOKENS = 128, 64


@cache
def classic(*, int8: bool = False) -> GPT:
    torch.manual_seed(0)
    shape = {"depth": 4, "dim": 256, "head_dim": 64, "n_head": 4, "n_kv_head": 4, "sequence_len": 512}
    model = GPT(GPTConfig(**(dict(GPTConfig.BEFORE) | shape | {"vocab_size": 8192}))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return quantised(model) if int8 else model


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("d4") / "hf"
    model = classic()
    letters = bytes(token for prompt in prompts(4000, 8, seed=0) for token in [*prompt, 32]).decode()
    tokenizer = Tokenizer.train([letters], vocab_size=8192)
    weights = Weights(config=model.config, tensors=model.state_dict(), tokenizer=tokenizer)
    huggingface.write(weights, Path(folder))
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def answered(
    theirs: Any, asked: list[list[int]], seen: list[list[int]] | None = None, tokens: int = TOKENS
) -> list[list[int]]:
    with torch.no_grad():
        ids = torch.tensor(asked)
        settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        mask = torch.ones_like(ids) if seen is None else torch.tensor(seen)
        made = theirs.generate(ids, attention_mask=mask, **settings)
    return made[:, len(asked[0]) :].tolist()  # type: ignore[no-any-return]


def measure(benchmark: Any, run: Callable[[], object], engine: Engine | None, tokens: int) -> None:
    """Each round's prompts are new to the engine: it would else find them in its cache."""
    benchmark.extra_info["tokens"] = tokens
    benchmark.pedantic(run, setup=engine.forget if engine else None, rounds=7, warmup_rounds=1)


def engine_for(rows: int, who: str) -> Engine:
    model = classic(int8="int8" in who)
    return engine_of(model, local_runtime(), rows=rows, context=512, chunk=CHUNK_TOKENS, compiled="compiled" in who)


@pytest.mark.parametrize("rows", [1, 32])
@pytest.mark.parametrize("who", ["transformers", "engine", "engine int8", "engine compiled", "engine int8 compiled"])
def test_generate(benchmark: Any, theirs: Any, who: str, rows: int) -> None:
    if rows > 1 and "compiled" in who:
        pytest.skip("on a CPU steps of one row are compiled")
    asked = prompts(rows, PROMPT, seed=1)
    if who == "transformers":
        measure(benchmark, lambda: answered(theirs, asked), None, rows * TOKENS)
    else:
        engine = engine_for(rows, who)
        measure(benchmark, lambda: engine.generate(asked, endless(TOKENS)), engine, rows * TOKENS)


@pytest.mark.parametrize("who", ["transformers, one batch", "transformers, one by one", "engine", "engine int8"])
def test_clients_that_want_different_things(benchmark: Any, theirs: Any, who: str) -> None:
    """32 of them, with prompts of 16 to 240 ids, who want 8 to 120: on average as above. `generate` goes on until the
    last row of a batch is done, and takes no row in meanwhile.
    """
    shuffled = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    asked = [prompts(1, length, seed=length)[0] for length in torch.linspace(16, 240, 32).int().tolist()]
    wanted = torch.linspace(8, 120, 32).int()[shuffled].tolist()
    if who == "transformers, one batch":
        longest = max(map(len, asked))
        padded = [[0] * (longest - len(prompt)) + prompt for prompt in asked]
        seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in asked]
        measure(benchmark, lambda: answered(theirs, padded, seen, max(wanted)), None, sum(wanted))
    elif who == "transformers, one by one":
        each = list(zip(asked, wanted, strict=True))
        measure(benchmark, lambda: [answered(theirs, [one], tokens=tokens) for one, tokens in each], None, sum(wanted))
    else:
        engine = engine_for(32, who)
        measure(benchmark, lambda: engine.generate(asked, [endless(tokens) for tokens in wanted]), engine, sum(wanted))
