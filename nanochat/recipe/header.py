"""The top level of a recipe: what is neither a stage nor hardware, as a config class like any other."""

from typing import Any

from nanochat.config import components, config, option


@config
class Plugins:
    """[plugins]."""

    require: list[str] = option([], execution=True, doc='distributions that must be there: "nanochat-plugins>=0.1"')
    block: list[str] = option([], execution=True, doc="plugins or distributions that are not loaded")


@config
class Header:
    """The keys before the first table, [plugins] and [trackers.NAME]."""

    name: str = option("", execution=True, name=True, doc="what runs are called; without it, the file's name")
    seed: int = option(42, minimum=0, maximum=2**63 - 1, doc="every random number of the recipe follows from it")
    plugins: Plugins = option(Plugins(), doc="which plugins must be there, and which are left out")
    trackers: dict[str, Any] = components(
        "tracker", optional=True, doc="where figures are sent, beside the run's folder"
    )
