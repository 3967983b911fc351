"""`nanochat data synth FILE`: conversations that a model writes behind any endpoint of OpenAI's form."""

import json
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from nanochat.data.synthesis import Brief, Synthesis, fingerprint
from nanochat.errors import stage_failure, wrong_input
from nanochat.given_file import given_text

PERSONA = "It is called nanochat: a small language model, trained by its owner. It is friendly, honest and brief."
AT_ONCE = 32
"""Conversations between two looks at how it goes."""


@click.command("synth")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--endpoint", default="http://127.0.0.1:8000/v1", show_default=True, help="Before /chat/completions.")
@click.option("--model", default="default", help="What the endpoint calls the model that writes.")
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Conversations in the end.")
@click.option("--persona", type=click.Path(path_type=Path), help="A file that says who the assistant is.")
@click.option("--topics", type=click.Path(path_type=Path), help="A file with a topic a line; without: the assistant.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Which users, manners and topics are drawn.")
@click.option("--temperature", type=click.FloatRange(0.0, 2.0), default=1.0, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=1_024, show_default=True, help="Of one conversation.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests at a time.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="A file that holds the endpoint's key.")
def synth(file: Path, count: int, workers: int, **options: Any) -> None:
    """Have a model write conversations into FILE, one JSON a line, for the task custom_json.

    What comes back is checked; what is no conversation is asked for again. The same command goes on where it stopped.
    """
    topics = [line.strip() for line in _read(options["topics"]).splitlines() if line.strip()]
    brief = Brief(persona=_read(options["persona"]) or PERSONA, topics=topics, seed=options["seed"])
    endpoint = Endpoint(options)
    numbers, seen = _written(file)
    synthesis = Synthesis(brief=brief, write=endpoint.complete, seen=seen)
    wanted = [number for number in range(count) if number not in numbers]
    if numbers:
        click.echo(f"{file} has {len(numbers):,} already")
    reasons: Counter[str] = Counter()
    written = 0
    with file.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            for number, found in zip(some, pool.map(synthesis.conversation, some), strict=True):
                if isinstance(found, str):
                    reasons[found] += 1
                    continue
                lines.write(json.dumps({**found, "synth": {"number": number}}, ensure_ascii=False) + "\n")
                lines.flush()
                written += 1
            click.echo(f"{written:,} written, {sum(reasons.values()):,} given up, {len(wanted):,} wanted")
            if not written:
                break
    if reasons and not written:
        raise stage_failure(
            "E306",
            f"`{options['model']}` writes no conversations: {reasons.most_common(1)[0][0]}",
            help="take a model that follows instructions, or raise --max-tokens",
        )


def _read(path: Path | None) -> str:
    return "" if path is None else given_text(path, help="name a file of text")


def _written(file: Path) -> tuple[set[int], set[str]]:
    """The numbers and fingerprints of what a file has. A last line that was cut off is taken away."""
    if not file.exists():
        return set(), set()
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        file.write_bytes(whole)
    numbers, seen = set[int](), set[str]()
    for place, line in enumerate(whole.splitlines(), 1):
        try:
            found = json.loads(line)
            numbers.add(int(found["synth"]["number"]))
            seen.add(fingerprint(found))
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise wrong_input(
                "E407", f"{file}:{place} was not written by this command", help="name another file"
            ) from fault
    return numbers, seen


class Endpoint:
    """An address of OpenAI's form, asked for one completion at a time."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._address = options["endpoint"].rstrip("/") + "/chat/completions"
        if not self._address.startswith(("http://", "https://")):
            raise wrong_input(
                "E407", f"{options['endpoint']} is no address", help="--endpoint http://127.0.0.1:8000/v1"
            )
        self._asked = {name: options[name] for name in ("model", "temperature", "max_tokens")}
        key = _read(options["api_key_file"]).strip()
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def complete(self, prompt: str, seed: int) -> str:
        """What the model answers. StageError E602 where the endpoint refuses, E301 where it does not answer."""
        asked = self._asked | {"messages": [{"role": "user", "content": prompt}], "seed": seed}
        request = urllib.request.Request(self._address, json.dumps(asked).encode(), self._headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                said = json.load(answer)["choices"][0]["message"]["content"]
                return said if isinstance(said, str) else ""
        except urllib.error.HTTPError as fault:
            reason = fault.read(500).decode(errors="replace")
            raise stage_failure("E602", f"{self._address} says {fault.code}: {reason}", help="check --model") from fault
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as fault:
            raise stage_failure(
                "E301",
                f"{self._address} gives no completion: {fault}",
                help="is the server running? what was written stays, and the same command goes on",
            ) from fault
