"""What `nanochat explain` can say of names that stand in no recipe: derivations and hooks.

In: a registry and the catalogue's sections. Out: topics, each with what it is given and what it does.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import attrs

from nanochat import hooks
from nanochat.config import Derivation
from nanochat.errors import InputError
from nanochat.recipe.catalogue import Section
from nanochat.registry import Registry


@attrs.frozen(kw_only=True)
class Topic:
    """One derivation or hook."""

    kind: str
    """derivation or hook."""
    name: str
    doc: str
    """A derivation's sentence or formula; a hook's whole docstring."""
    distribution: str = ""
    signature: str = ""
    """hook: as a plugin defines it."""
    inputs: tuple[str, ...] = ()
    """derivation: the places of what it is given."""
    fills: tuple[str, ...] = ()
    """derivation: the keys whose "auto" it stands behind."""

    @property
    def title(self) -> str:
        """derivation `gpt.dim`."""
        return f"{self.kind} `{self.name}`"

    def answers(self, kind: str, name: str) -> bool:
        """Whether `kind:name`, or a name alone, means it. A kind's own name means all of them."""
        return kind in ("", self.kind) and name in ("", self.name, self.kind)


def derivation_topics(registry: Registry, sections: Sequence[Section]) -> list[Topic]:
    """Every registered rule; a broken one says why."""
    return [_derivation(registry, name, sections) for name in registry.names("derivation")]


def _derivation(registry: Registry, name: str, sections: Sequence[Section]) -> Topic:
    fills = [f"{section.name}.{key.name}" for section in sections for key in section.keys if key.rule == name]
    try:
        owner = registry.entry("derivation", name).distribution
        rule = registry.object("derivation", name)
    except InputError as fault:
        return Topic(kind="derivation", name=name, doc=fault.diagnostics[0].message, fills=tuple(fills))
    if not isinstance(rule, Derivation):
        return Topic(kind="derivation", name=name, doc="it is no Derivation", distribution=owner, fills=tuple(fills))
    places = tuple(place.removesuffix("?") for place in rule.inputs.values())
    return Topic(kind="derivation", name=name, doc=rule.sentence, distribution=owner, inputs=places, fills=tuple(fills))


def hook_topics() -> list[Topic]:
    """Every hook that a plugin can implement, in the order of nanochat/hooks.py."""
    return [
        Topic(kind="hook", name=name, doc=inspect.getdoc(function) or "", signature=f"def {name}{_signature(function)}")
        for name, function in vars(hooks).items()
        if hasattr(function, f"{hooks.PROJECT}_spec")
    ]


def _signature(function: Any) -> str:
    """As the file says it, without the modules of types."""
    return str(inspect.signature(function)).replace("nanochat.hooks.", "").replace("collections.abc.", "")
