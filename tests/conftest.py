"""What tests and benchmarks share: fifty plugins beside those that are installed."""

from pathlib import Path

import pytest
from plugin_site import install_many


@pytest.fixture(scope="session")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fifty distributions, for PYTHONPATH."""
    site = tmp_path_factory.mktemp("fifty")
    install_many(site)
    return site
