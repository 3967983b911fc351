"""Clients that others wrote, each in an environment of its own, against a server on loopback: litellm, llm, lm-eval,
schemathesis. They are many packages, so they are installed only for this, and skipped where they cannot be had.
"""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import core_bundle
import pytest
from test_engine import TOKENIZER
from test_scoring import CLASSIC
from test_serving import make_app, running

from nanochat.exchange import huggingface
from nanochat.exchange.weights import Weights
from nanochat.inference.engine import Engine
from nanochat.runtime import local_runtime
from nanochat.serving.app import create_app
from nanochat.testing import tiny_model, tiny_subject, tiny_tokenizer
from nanochat_plugins.evals import core
from nanochat_plugins.evals.core_config import CoreConfig
from nanochat_plugins.evals.core_prompts import shuffled

pytestmark = pytest.mark.slow
INSTALL_SECONDS = 600


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that answers "So: …" to whatever it is asked."""
    with running(make_app(TOKENIZER.encode("The cat sat."), rows=4)) as found:
        yield found


def run(packages: str, *command: str, folder: Path, **environment: str) -> str:
    """What a command of some packages says. Skips where these cannot be had."""
    uv = ["uv", "run", "--no-project", *(word for package in packages.split() for word in ("--with", package))]
    tried = subprocess.run(
        [*uv, "python", "-c", ""], cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS
    )
    if tried.returncode:
        pytest.skip(f"{packages} cannot be had: {tried.stderr[-300:]}")
    clean = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | environment
    done = subprocess.run([*uv, *command], cwd=folder, capture_output=True, text=True, timeout=600, env=clean)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def test_litellm_answers_whole_and_streamed(url: str, tmp_path: Path) -> None:
    code = f"""
import litellm
ask = dict(model="openai/tiny", api_base="{url}/v1", api_key="unused", messages=[dict(role="user", content="Hi")])
print(litellm.completion(**ask).choices[0].message.content)
print("".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(stream=True, **ask)))
"""
    said = run("litellm==1.110.2", "python", "-c", code, folder=tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert said.split("\n")[-3:-1] == ["The cat sat.", "The cat sat."]


def test_llm_answers_by_its_own_configuration(url: str, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: tiny\n  api_base: {url}/v1\n  api_key_name: ours\n"
    )
    for extra in ((), ("--no-stream",)):
        said = run(
            "llm==0.36",
            "llm",
            "-m",
            "ours",
            "--key",
            "unused",
            *extra,
            "Hi",
            folder=tmp_path,
            LLM_USER_PATH=str(tmp_path),
        )
        assert said.strip() == "The cat sat."


def test_schemathesis_finds_nothing_that_the_document_does_not_say(url: str, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = ["schemathesis", "run", f"{url}/openapi.json", "--checks", checks, "--max-examples", "30"]
    run("schemathesis==4.32.5", *command, "--request-timeout", "60", folder=tmp_path)


EQUAL = ["bird", "birds", "flew", "when", "it", "on"]
CHOICES = """
task: choices
dataset_path: json
dataset_kwargs: {data_files: {validation: choices.jsonl}}
validation_split: validation
output_type: multiple_choice
doc_to_text: query
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}]
"""
WORDS = """
task: words
dataset_path: json
dataset_kwargs: {data_files: {validation: words.jsonl}}
validation_split: validation
output_type: loglikelihood
doc_to_text: context
doc_to_target: continuation
target_delimiter: ""
metric_list: [{metric: acc}]
"""


def bundle_of(choices: list[Any], words: list[Any], folder: Path) -> Path:
    """The same items as tasks of CORE, without examples before them."""
    described = {
        "choices": core_bundle.Task(type="multiple_choice", shots=0, examples=choices),
        "words": core_bundle.Task(type="language_modeling", shots=0, examples=words, delimiter="", baseline=0.0),
    }
    return core_bundle.write(folder, described)


def test_lm_eval_finds_the_accuracies_and_likelihoods_that_our_own_scorer_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    model, tokenizer, rng = tiny_model(**CLASSIC).eval(), tiny_tokenizer(), random.Random(3)
    solved = core_bundle.half_solved(model, tokenizer).examples
    words = [{**example, "context": example["context"].strip()} for example in solved]
    # Of equally many tokens, so that the likeliest is the same by the mean (ours) and by the sum (theirs).
    choices = [
        {"query": f"{core_bundle.phrase(rng, 9)} {number}", "choices": rng.sample(EQUAL, 3), "gold": rng.randrange(3)}
        for number in range(40)
    ]
    assert len({len(tokenizer.encode(f" {choice}")) for choice in EQUAL}) == 1
    kept: list[dict[str, Any]] = []
    subject = tiny_subject(model=model, keep_example=lambda line: kept.append(dict(line)))
    figures = core.evaluate(CoreConfig(bundle=bundle_of(choices, words, tmp_path / "bundle")), subject)

    for name, rows, task in (("choices", choices, CHOICES), ("words", words, WORDS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.yaml").write_text(task)
    weights = Weights(config=model.config, tensors=model.state_dict(), tokenizer=tokenizer)
    huggingface.write(weights, tmp_path / "hf")
    engine = Engine(model, tokenizer, local_runtime(), rows=4)
    with running(create_app(engine, model="tiny")) as url:
        settings = {
            "model": "tiny", "base_url": f"{url}/v1/completions", "tokenizer": str(tmp_path / "hf"),
            "tokenizer_backend": "huggingface", "max_length": model.config.sequence_len - 1,
        }  # fmt: skip
        run(
            "lm-eval[api]==0.4.13 transformers==5.24.0",
            *("lm_eval", "--model", "local-completions", "--tasks", "choices,words", "--include_path", "."),
            *("--model_args", ",".join(f"{key}={value}" for key, value in settings.items())),
            *("--output_path", "out", "--log_samples"),
            folder=tmp_path,
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_OFFLINE="1",
        )
    (found,) = (json.loads(path.read_text())["results"] for path in (tmp_path / "out").rglob("results_*.json"))
    ours = {(line["task"], line["index"]): line for line in kept}
    for name, asked, rows in (("choices", "query", choices), ("words", "context", words)):
        assert found[name]["acc,none"] == figures[name].value
        assert 0 < figures[name].value < 1
        (path,) = (tmp_path / "out").rglob(f"samples_{name}_*.jsonl")
        for sample in map(json.loads, path.read_text().splitlines()):
            line = ours[name, shuffled(len(rows)).index(sample["doc_id"])]
            assert sample["acc"] == line["score"]
            context, item = sample["doc"][asked], sample["doc"]
            texts = [f" {choice}" for choice in item.get("choices", [])] or [item["continuation"]]
            counts = [len(tokenizer.encode(context + text)) - len(tokenizer.encode(context)) for text in texts]
            sums = [-mean * count for mean, count in zip(line["nats_per_token"], counts, strict=True)]
            assert [float(likelihood) for likelihood, _ in sample["filtered_resps"]] == pytest.approx(sums, abs=1e-4)
