"""Places on disk: where data, runs and results are kept.

In: environment variables, the only thing they decide. Out: paths; nothing is created or checked here
(`nanochat.running.home` does that before a run).
"""

import os
from pathlib import Path

HOME = "NANOCHAT_HOME"
OLDER_HOME = "NANOCHAT_BASE_DIR"
DATA_DIR = "NANOCHAT_DATA_DIR"
RUN_DIR = "NANOCHAT_RUN_DIR"


def home() -> Path:
    """The folder that holds data/, runs/ and store/ unless they are moved: NANOCHAT_HOME, or ~/.cache/nanochat."""
    return _folder(HOME) or _folder(OLDER_HOME) or Path.home() / ".cache" / "nanochat"


def data_dir() -> Path:
    """Downloaded shards, tokenised caches, evaluation bundles: NANOCHAT_DATA_DIR, or home's data/."""
    return _folder(DATA_DIR) or home() / "data"


def runs_dir() -> Path:
    """One folder a run: below NANOCHAT_RUN_DIR, or home."""
    return (_folder(RUN_DIR) or home()) / "runs"


def store_dir() -> Path:
    """One folder a stage's result: below NANOCHAT_RUN_DIR, or home."""
    return (_folder(RUN_DIR) or home()) / "store"


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return expanded(value).absolute() if value else None


def expanded(text: str) -> Path:
    """A path with its ~ resolved; as it stands where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
