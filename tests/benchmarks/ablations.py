"""What each switch of the model is worth: a d4 trained with it and without it, on the same text, tokens and seeds.

    python tests/benchmarks/ablations.py FOLDER [--seeds 3] [--tokens 1000000] [--dtype bfloat16] [--only smear,classic]

Builds the corpus of bpe_corpus.py in FOLDER, writes a recipe for each variant beside it, and runs them one after
another; what is done is not done again. Prints a Markdown table: bpb on held-out documents, and its difference from
the current model, paired by seed, with a 95 % interval of Student's t.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import bpe_corpus

RECIPES = Path(__file__).parent.parent.parent / "recipes"
BATCH = 4096
STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % by degrees of freedom below; 1 is 12.706."""

MODEL = {
    "value_embeddings": "false",
    "residual_lambdas": "false",
    "smear": "false",
    "backout": "false",
    "window_pattern": '"L"',
    "qk_scale": "1.0",
    "rotary_base": "10000.0",
    "logit_softcap": "0.0",
    "tied": "true",
    "init": '"classic"',
}
"""Switch → the value that takes it out, one a variant; `softcap` and `tied` are beside the two models' difference."""
CLASSIC = (
    "value_embeddings",
    "residual_lambdas",
    "smear",
    "backout",
    "window_pattern",
    "qk_scale",
    "rotary_base",
    "init",
)
"""All that the first release's model did not have."""
MUON = {
    "orthogonalization": '"newton_schulz"',
    "row_equilibration": "false",
    "renormalization": "false",
    "variance_reduction": "false",
}
"""The refinements of Muon that came after it; without decay, `cautious` says nothing."""


def variants() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Name → changes of the model, changes of Muon."""
    found: dict[str, tuple[dict[str, str], dict[str, str]]] = {"current": ({}, {})}
    found |= {f"{key} = {value}": ({key: value}, {}) for key, value in MODEL.items()}
    found |= {f"muon {key} = {value}": ({}, {key: value}) for key, value in MUON.items()}
    classic = {key: MODEL[key] for key in CLASSIC}
    return found | {"classic model": (classic, {}), "classic model and Muon": (classic, dict(MUON))}


def recipe(number: int, corpus: Path, steps: int, model: dict[str, str], muon: dict[str, str]) -> str:
    """The variant as a recipe on top of the quickstart's groups, at the size of a d4 of 512 tokens."""
    no_scalars = {"residual_lambdas", "smear", "backout"} <= set(model)
    unset = ["stages.sft", "stages.eval", "stages.tok.data.docs", "stages.tok.data.stories"]
    if no_scalars:
        unset.append("stages.base.optim.scalars")
    if "tied" in model:
        unset.append("stages.base.optim.head")
    return f"""format = 1
name = "ablation-{number}"
extends = "{RECIPES / "quickstart.toml"}"
unset = {json.dumps(unset)}

[stages.tok]
vocab_size = 8192
[stages.tok.data.text]
use = "files"
path = "{corpus}"

[stages.base]
steps = {steps}
total_batch_size = {BATCH}
device_batch_size = 8
[stages.base.schedule]
warmup_steps = {max(1, steps // 16)}
momentum_warmup_steps = {max(1, steps // 4)}
[stages.base.model]
aspect_ratio = 64
sequence_len = 512
{"".join(f"{key} = {value}{chr(10)}" for key, value in model.items())}
[stages.base.optim.matrices]
use = "muon"
match = "blocks.*"
lr = 0.02
weight_decay = 0.0
{"".join(f"{key} = {value}{chr(10)}" for key, value in muon.items())}
[stages.base.evals.bpb]
tokens = 262144
"""


def jsonl(folder: Path) -> Path:
    """The corpus, a document a line."""
    place = folder / "corpus.jsonl"
    if not place.exists():
        partial = folder / "corpus.partial"
        with partial.open("w") as file:
            for text in bpe_corpus.documents(bpe_corpus.corpus(folder)):
                file.write(json.dumps({"text": text}) + "\n")
        partial.rename(place)
    return place


def bpb(recipe: Path, seed: int, dtype: str, home: Path) -> float:
    """Run the recipe with a seed; its bpb."""
    sets = ["--set", f"seed={seed}", "--set", f'hardware.dtype="{dtype}"']
    environment = os.environ | {"NANOCHAT_HOME": str(home)}
    command = [sys.executable, "-m", "nanochat.cli.main"]
    subprocess.run([*command, "run", recipe, *sets], env=environment, check=True)
    said = subprocess.run([*command, "plan", recipe, *sets, "--json"], env=environment, check=True, capture_output=True)
    (folder,) = (Path(stage["folder"]) for stage in json.loads(said.stdout)["stages"] if stage["stage"] == "base")
    figures = json.loads((folder / "record.json").read_text())["figures"]
    return float(figures["bpb.bpb"]["value"])


def interval(differences: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    n = len(differences)
    if n < 2:
        return f"{differences[0]:+.4f}"
    half = STUDENT.get(n - 1, 12.706) * statistics.stdev(differences) / math.sqrt(n)
    return f"{statistics.mean(differences):+.4f} ± {half:.4f}"


def main() -> None:
    """Run what is wanted and print the table, line by line as it comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--only", default="", help="names of variants, or beginnings of them, with commas")
    wanted = parser.parse_args()
    folder = wanted.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    corpus, steps = jsonl(folder), max(1, wanted.tokens // BATCH)
    only = [part for part in wanted.only.split(",") if part]
    rows, current = [], [math.nan] * wanted.seeds
    for number, (name, (model, muon)) in enumerate(variants().items()):
        if name != "current" and only and not any(name.startswith(part) for part in only):
            continue
        file = folder / f"ablation-{number}.toml"
        file.write_text(recipe(number, corpus, steps, model, muon))
        found = [bpb(file, seed, wanted.dtype, folder / "home") for seed in range(wanted.seeds)]
        current = found if name == "current" else current
        differences = [value - base for value, base in zip(found, current, strict=True)]
        changed = "" if name == "current" else interval(differences)
        rows.append(f"| {name} | {statistics.mean(found):.4f} | {changed} |")
        print(rows[-1], file=sys.stderr, flush=True)
    print("| model | bpb | against current |\n| --- | --- | --- |", *rows, sep="\n")


if __name__ == "__main__":
    main()
