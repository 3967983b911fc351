"""Which run of a tracker a stage belongs to: kept in the stage's own folder, so that a stage that goes on goes on with
its curves, and one that is done afresh, in a folder of its own, begins others.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ID_BYTES = 4


def identity(record: Mapping[str, Any], tracker: str) -> str:
    """The id of a stage's run: as it was given before, else a new one, written down first."""
    path = Path(record["folder"]) / f"{tracker}.json"
    try:
        return str(json.loads(path.read_bytes())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        made = secrets.token_hex(ID_BYTES)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"id": made}))
    temporary.replace(path)
    return made


def described(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a tracker shows of a run beside its curves: names, and the stage's settings."""
    return {name: record[name] for name in ("run", "recipe", "stage")} | dict(record["settings"])
