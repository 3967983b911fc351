"""The defaults of every first-party component's identity fields, written down with its revision.

A value equal to its default is left out of a key, so that a new field changes no key. The price: whoever changes a
default must raise the component's revision, or old results pass for new ones. tests/test_identity.py holds the
defaults to this snapshot; `uv run python tests/identity_snapshot.py` writes it anew, and refuses where a revision was
not raised.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from nanochat.hooks import KINDS
from nanochat.recipe.declared import declared_fields
from nanochat.recipe.notation import plain
from nanochat.recipe.strict import config_in
from nanochat.registry import Registry, load_registry

PATH = Path(__file__).parent / "snapshots" / "identity.json"
FIRST_PARTY = ("nanochat-run", "nanochat-plugins")
WITHOUT_CONFIG = ("derivation", "launcher", "tracker")
"""Kinds that are part of no stage's identity."""


def current(registry: Registry) -> dict[str, dict[str, Any]]:
    """kind:name → its revision and defaults, of the components of this repository."""
    found = {}
    for kind in KINDS:
        for name in registry.names(kind) if kind not in WITHOUT_CONFIG else ():
            entry = registry.entry(kind, name)
            if entry.distribution in FIRST_PARTY:
                fields = dict(_defaults(registry.config_class(kind, name)))
                found[f"{kind}:{name}"] = {"revision": entry.revision, "defaults": fields}
    return found


def _defaults(cls: type) -> Iterator[tuple[str, Any]]:
    for name, declared in declared_fields(cls).items():
        rules = declared.rules
        if rules.slot is not None:
            yield from ((f"{name}.*.{key}", value) for key, value in _defaults(rules.slot))
        if rules.role != "option" or rules.execution:
            continue
        default = declared.default
        nested = config_in(declared.kind)
        if nested is not None and isinstance(default, nested):
            identity = {key for key, inner in declared_fields(nested).items() if not inner.rules.execution}
            yield from ((f"{name}.{key}", plain(getattr(default, key))) for key in sorted(identity))
        elif rules.derive:
            yield name, f"auto: {rules.derive}"
        elif default is not attrs.NOTHING:
            yield name, plain(default)


def unraised(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed in a way that old keys do not notice, by component: a default that is another, or gone."""
    found = []
    for component, old in before.items():
        new = now.get(component)
        if new is None or new["revision"] > old["revision"]:
            continue
        for field, default in old["defaults"].items():
            if field not in new["defaults"] or new["defaults"][field] != default:
                became = new["defaults"].get(field, "no default")
                found.append(f"{component}: the default of `{field}` was {default!r} and is {became!r}")
    return found


def main() -> None:
    """Write the snapshot, unless a revision is to be raised first."""
    now = current(load_registry())
    if PATH.exists():
        faults = unraised(json.loads(PATH.read_text()), now)
        if faults:
            sys.exit("\n".join([*faults, "raise the component's revision where it is registered, then run this again"]))
    PATH.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
