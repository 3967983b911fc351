"""The door through which a plugin offers components: what it is given is checked here, and written down.

In: what a `register_…` hook adds. Out: entries in the plugin's status. Who may claim which name is the registry's.
"""

import re

import attrs

_OBJECT_REFERENCE = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
_WORD = "[A-Za-z0-9_][A-Za-z0-9_-]*"
_NAME = re.compile(rf"(?:{_WORD}:)?{_WORD}\Z")
"""torch:SGD: of a family of components that one builder makes, the family's name first."""
_RULE_NAME = re.compile(rf"{_WORD}(?:\.{_WORD})*\Z")
"""A derivation is named in code alone, as its component's words and the key that it fills: gpt.dim."""


@attrs.frozen(kw_only=True)
class Entry:
    """One registered component."""

    kind: str
    name: str
    build: str
    config: str | None
    revision: int
    plugin: str
    distribution: str


@attrs.define(kw_only=True)
class PluginStatus:
    """What is known of one installed plugin."""

    name: str
    distribution: str
    version: str
    status: str = "ok"
    """ok · broken · blocked · other API"""
    reason: str = ""
    components: list[Entry] = attrs.field(factory=list)
    observers: list[str] = attrs.field(factory=list)
    """The hooks through which it watches runs."""
    registered_as: str = attrs.field(default="", repr=False)
    """Its name in pluggy's manager."""


class Door:
    """The registrar given to one hook of one plugin: collects entries of one kind, checks what it is given."""

    def __init__(self, kind: str, plugin: PluginStatus) -> None:
        self.kind, self.plugin = kind, plugin

    def add(self, name: str, *, build: str, config: str | None = None, revision: int = 1) -> None:
        """As `nanochat.hooks.Registrar` says. TypeError, ValueError."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"{self.kind}: a component's name is a string, not {name!r}")
        if not (_RULE_NAME if self.kind == "derivation" else _NAME).match(name):
            raise ValueError(f"{self.kind} {name!r}: a name is letters, digits, `_` and `-`, and begins with no `-`")
        if any(entry.kind == self.kind and entry.name == name for entry in self.plugin.components):
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        for what, value in (("build", build), ("config", config)):
            if value is not None and not (isinstance(value, str) and _OBJECT_REFERENCE.match(value)):
                raise TypeError(f'{self.kind} {name!r}: {what} must be a string "module:attribute", not {value!r}')
        if isinstance(revision, bool) or not isinstance(revision, int) or revision < 1:
            raise TypeError(f"{self.kind} {name!r}: revision must be an integer of at least 1, not {revision!r}")
        self.plugin.components.append(
            Entry(
                kind=self.kind,
                name=name,
                build=build,
                config=config,
                revision=revision,
                plugin=self.plugin.name,
                distribution=self.plugin.distribution,
            )
        )
