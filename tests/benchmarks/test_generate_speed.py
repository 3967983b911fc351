"""How long our engine, transformers' `generate` and the engine in int8 take for the same answers of a classic d4.

`pytest tests/benchmarks/test_generate_speed.py --benchmark-only` prints the table: 64 ids after prompts of 128, to 1
and to 32 rows, vocabulary 8,192. That both compute the same is asked by `tests/test_exchange.py`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from nanochat.benchmarking.subject import endless, engine_of, prompts
from nanochat.exchange import huggingface
from nanochat.exchange.weights import Weights
from nanochat.inference.engine import CHUNK_TOKENS
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


def answered(theirs: Any, asked: list[list[int]]) -> list[list[int]]:
    with torch.no_grad():
        ids = torch.tensor(asked)
        settings = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
        made = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return made[:, PROMPT:].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [1, 32])
@pytest.mark.parametrize("who", ["transformers", "engine", "engine int8"])
def test_generate(benchmark: Any, theirs: Any, who: str, rows: int) -> None:
    asked = prompts(rows, PROMPT, seed=1)
    if who == "transformers":
        run: Any = lambda: answered(theirs, asked)  # noqa: E731
    else:
        model = classic(int8=who.endswith("int8"))
        engine = engine_of(model, local_runtime(), rows=rows, context=512, chunk=CHUNK_TOKENS)
        run = lambda: engine.generate(asked, endless(TOKENS))  # noqa: E731
    benchmark.extra_info["tokens"] = rows * TOKENS
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)
