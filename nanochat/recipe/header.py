"""The top level of a recipe: what is neither a stage nor hardware, as a config class like any other."""

from typing import Any

from nanochat.config import components, config, option


@config
class Plugins:
    """[plugins]."""

    require: list[str] = option([], execution=True, doc='distributions that must be there: "nanochat-plugins>=0.1"')
    block: list[str] = option([], execution=True, doc="plugins or distributions that are not loaded")


@config
class Sweep:
    """[sweep]: what `nanochat sweep` varies. Keys in its tables are paths of the recipe."""

    until: str | None = option(None, execution=True, doc="the last stage of each trial")
    draws: int = option(8, minimum=1, maximum=1_000_000, execution=True, doc="how often the random values are drawn")
    grid: dict[str, Any] = option(
        {}, execution=True, doc="key → the values that it takes, each with each of the others"
    )
    random: dict[str, Any] = option({}, execution=True, doc="key → [low, high], between which it is drawn")
    variants: dict[str, Any] = option(
        {}, execution=True, doc="name → keys with their values, and `unset`: keys that are taken away before"
    )


@config
class Header:
    """The keys before the first table, [plugins], [sweep] and [trackers.NAME]."""

    name: str = option("", execution=True, name=True, doc="what runs are called; without it, the file's name")
    parent: str | None = option(None, execution=True, doc="the run that this recipe was branched from")
    seed: int = option(42, minimum=0, maximum=2**63 - 1, doc="every random number of the recipe follows from it")
    plugins: Plugins = option(Plugins(), doc="which plugins must be there, and which are left out")
    sweep: Sweep | None = option(None, execution=True, doc="in which trials `nanochat sweep` runs the recipe")
    trackers: dict[str, Any] = components(
        "tracker", optional=True, doc="where figures are sent, beside the run's folder"
    )
