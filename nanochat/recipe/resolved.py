"""A resolved recipe: every stage with its frozen config, and every value with where it came from.

Made by `nanochat.recipe.load.load_recipe`; read by the runner (keys, lock, plan), by `show` and by `diff`. Plain
data: no torch, no files, no network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from nanochat.config import Component
from nanochat.errors import Diagnostic, Location
from nanochat.hardware import Hardware

KeyPath = tuple[str, ...]
"""("stages", "base", "model", "depth")"""


@attrs.frozen(kw_only=True)
class Origin:
    """Where a value came from."""

    kind: Literal["file", "set", "default", "derived"]
    location: Location | None = None
    rule: str = ""
    """derived: the name of the derivation."""
    inputs: Mapping[str, Any] = attrs.field(factory=dict)
    """derived: what the rule was given, as plain values."""
    sentence: str = ""

    def __str__(self) -> str:
        if self.location is not None:
            return str(self.location)
        return f"derived by {self.rule}" if self.kind == "derived" else self.kind


@attrs.frozen(kw_only=True)
class Value:
    """One leaf of the resolved recipe."""

    value: Any
    """As TOML has it: str, int, float, bool, a list or an inline table of these."""
    origin: Origin
    identity: bool
    """False: an execution value, never part of a key."""
    default: bool = False
    """Equal to the field's own default (left out of the key)."""
    usual: Any = None
    """The field's own default; None where it has none, or where a rule gives it."""
    reference: bool = False
    """Names an artifact, whose own key stands for it in the key."""


@attrs.frozen(kw_only=True)
class Stage:
    """One stage, ready to be keyed and run."""

    name: str
    use: str
    revision: int
    config: Any
    """The stage's config: components resolved, artifacts by reference (located only in a worker)."""
    produces: str
    """The kind of artifact it makes: tokenizer, checkpoint or figures."""
    seeded: bool = True
    """Whether the recipe's seed decides its result."""
    hardware: Hardware
    inputs: Mapping[str, str]
    """Artifact references in it that name a stage of this recipe → that stage's name, in file order."""
    values: Mapping[KeyPath, Value]
    """Every leaf below [stages.NAME], by its full path."""
    components: Mapping[KeyPath, tuple[str, str, int, str]]
    """Each component in it: path of its table → (kind, use, revision, distribution)."""
    fingerprints: Mapping[KeyPath, Mapping[str, Any]]
    """What the data-bearing components in it stand for (file digests, the interpreter's version, …)."""
    groups: Mapping[KeyPath, Mapping[str, Sequence[int]]] = attrs.field(factory=dict)
    """Optimizer groups whose parameters are known: path of the table → parameter → shape."""
    distribution: str = ""
    """Whose stage it is."""
    location: Location | None = None

    def identity(self, *, seed: int) -> dict[str, Any]:
        """What decides the stage's results beside its inputs, as canonical plain data.

        Left out: execution values, values equal to their default, and artifact references (their keys stand for them).
        Paths are relative to the stage, so that a renamed stage keeps its key.
        """
        kept = {
            ".".join(path[2:]): leaf.value
            for path, leaf in self.values.items()
            if leaf.identity and not leaf.default and not leaf.reference
        }
        owner = {"distribution": self.distribution} if self.distribution else {}
        return {
            "use": self.use,
            **owner,
            "revision": self.revision,
            **({"seed": seed} if self.seeded else {}),
            "values": kept,
            "components": {".".join(path[2:]): list(found) for path, found in self.components.items()},
            "data": {".".join(path[2:]): dict(found) for path, found in self.fingerprints.items()},
        }


@attrs.frozen(kw_only=True)
class Recipe:
    """A whole recipe, checked and filled in."""

    name: str
    path: Path
    seed: int
    stages: Mapping[str, Stage]
    """In an order in which each stage comes after its inputs; otherwise as in the file."""
    values: Mapping[KeyPath, Value]
    """Every leaf of the recipe, the stages' included."""
    plugins: Sequence[str]
    """The distributions whose components it uses."""
    files: Mapping[str, bytes]
    """The recipe files as read: path → content, for the run's sources/."""
    block: Sequence[str] = ()
    """Plugins that the recipe blocks."""
    warnings: Sequence[Diagnostic] = ()
    """What is odd and stops nothing: an observer that failed, a plugin of another version than the lock's."""
    derived: Mapping[str, Any] = attrs.field(factory=dict)
    """Of a lock that was loaded as it is: what it says of the values that a rule once gave, by key."""
    trackers: Mapping[str, Component] = attrs.field(factory=dict)
    """[trackers.NAME]: who else is told the run's figures."""
