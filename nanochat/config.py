"""The vocabulary in which a component declares its configuration.

In: attrs fields made by `option`, `component`, `components` and `artifact`. Out: metadata that the recipe room reads to
check types and ranges, to fill `"auto"` values, and to tell identity from execution. Nothing here reads a recipe.

    @config
    class GPTConfig:
        depth: int = option(minimum=1, doc="transformer blocks")
        dim: int = option(AUTO, derive="gpt.dim", minimum=1)
        compile: bool = option(False, execution=True)
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, dataclass_transform

import attrs

AUTO: Final[Any] = "auto"
"""Default of an option that a derivation fills. Typed Any, so that `dim: int = option(AUTO, …)` checks."""

METADATA = "nanochat"
T = TypeVar("T")
Problem = str | tuple[str, str]
"""What a config class's `problems()` says of values that do not fit together, each a sentence that says how to mend it;
in a pair behind the key that it is shown at, or several, `"dim n_head"`: at the first of them that is written."""


@attrs.frozen(kw_only=True)
class Rules:
    """What is known of a field beside its type and default."""

    role: Literal["option", "component", "components", "artifact"] = "option"
    doc: str = ""
    execution: bool = False
    """True: never part of a stage's key (process counts, logging, paths, compilation)."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    finite: bool = True
    name: bool = False
    """The text is a name: letters, digits, `_` and `-`."""
    derive: str = ""
    """The derivation that fills "auto"."""
    kind: str = ""
    """component, components: the plugin kind. artifact: its type."""
    slot: type | None = None
    """components: an attrs class of the keys that the table holds beside the component's own."""
    optional: bool = False


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
def config(cls: type[T]) -> type[T]:
    """Make a class a config class: frozen, keyword-only attrs. Its own fields come before those that it inherits."""
    return attrs.frozen(kw_only=True, field_transformer=_nearest_first)(cls)


def _nearest_first(cls: type, fields: "list[attrs.Attribute[Any]]") -> "list[attrs.Attribute[Any]]":
    declared = [vars(each).get("__annotations__", {}) for each in cls.__mro__]
    return sorted(fields, key=lambda field: next(i for i, names in enumerate(declared) if field.name in names))


def option(
    default: Any = attrs.NOTHING,
    *,
    doc: str = "",
    execution: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    finite: bool = True,
    name: bool = False,
    derive: str = "",
) -> Any:
    """A plain value. Without a default the recipe must give it; with `derive` the default is "auto"."""
    if derive and default is attrs.NOTHING:
        default = AUTO
    rules = Rules(
        doc=doc,
        execution=execution,
        minimum=minimum,
        maximum=maximum,
        choices=choices,
        finite=finite,
        name=name,
        derive=derive,
    )
    if isinstance(default, dict | list):
        made = default
        return attrs.field(factory=lambda: type(made)(made), metadata={METADATA: rules})
    return attrs.field(default=default, metadata={METADATA: rules})


def component(kind: str, *, optional: bool = False, doc: str = "") -> Any:
    """A table with a `use` key, resolved to one component of `kind`. Optional: None when absent."""
    rules = Rules(role="component", kind=kind, doc=doc, optional=optional)
    return attrs.field(default=None if optional else attrs.NOTHING, metadata={METADATA: rules})


def components(kind: str, *, slot: type | None = None, optional: bool = False, doc: str = "") -> Any:
    """A table of named tables, each with a `use` key of `kind`; `slot` holds keys of the table that are not its own."""
    rules = Rules(role="components", kind=kind, slot=slot, doc=doc, optional=optional)
    return attrs.field(default=attrs.Factory(dict) if optional else attrs.NOTHING, metadata={METADATA: rules})


def artifact(kind: str, *, optional: bool = False, doc: str = "") -> Any:
    """What another stage made: `stage:NAME`, `path:…` or `store:KEY`; `kind` is tokenizer, checkpoint or figures."""
    rules = Rules(role="artifact", kind=kind, doc=doc, optional=optional)
    return attrs.field(default=None if optional else attrs.NOTHING, metadata={METADATA: rules})


def rules_of(attribute: "attrs.Attribute[Any]") -> Rules:
    """The rules a field was declared with; a bare attrs field is a plain option."""
    found = attribute.metadata.get(METADATA)
    return found if isinstance(found, Rules) else Rules()


@attrs.frozen(kw_only=True)
class Artifact:
    """A reference to what a stage made. `path` is set once a store is known, that is in a worker."""

    reference: str
    kind: str
    path: Path | None = None

    def folder(self) -> Path:
        """Where the artifact lies."""
        assert self.path is not None, f"{self.reference} was not located"
        return self.path


@attrs.frozen(kw_only=True)
class Component:
    """A resolved `use`: which plugin, its config, and its slot's keys."""

    kind: str
    name: str
    """The table's own name in the recipe: `web` in [stages.base.data.web]."""
    use: str
    revision: int
    config: Any
    slot: Any = None


def revived(cls: type[T], values: Mapping[str, Any]) -> T:
    """The config whose values an artifact records; an option that it lacks is as it was before there was that option.

    A class says so in BEFORE: the options whose default is another today → their old value. ValueError, which says
    what is wrong, for an option that is not known, for one that was always there and is missing, and for values that
    do not fit together.
    """
    options = attrs.fields_dict(cls)  # type: ignore[arg-type]
    complete: dict[str, Any] = {**getattr(cls, "BEFORE", {}), **values}
    if unknown := [name for name in complete if name not in options]:
        raise ValueError(f"it has the option `{unknown[0]}`, which this version does not know")
    for name, attribute in options.items():
        if name not in complete and (attribute.default is attrs.NOTHING or rules_of(attribute).derive):
            raise ValueError(f"it lacks the option `{name}`")
    made = cls(**complete)
    if found := list(getattr(made, "problems", list)()):
        raise ValueError(sentence(found[0]))
    return made


def sentence(problem: Problem) -> str:
    """What a problem says."""
    return problem if isinstance(problem, str) else problem[1]


@attrs.frozen(kw_only=True)
class Derivation:
    """A named rule that fills an "auto" value: a pure function of other values of the recipe.

    inputs: parameter name → where its value stands: `depth` (a sibling key), `stage.tokens_per_param` (a key or a
    component of the enclosing stage), `stage.tokenizer.vocab_size` (across an artifact reference, into the stage that
    makes it), `recipe.seed`, `hardware.device`. A component arrives as its resolved config object.
    """

    inputs: Mapping[str, str]
    compute: Callable[..., Any]
    sentence: str


class Fingerprinted:
    """A config class may say what data it stands for: the answer is part of the key of every stage that uses it.

    `fingerprint()` must be quick (digests are cached by size and time), touch no network and import no torch. It raises
    an `InputError` where the data is not there, or where a quick look (a schema, a few lines) shows it to be of another
    kind: it is asked when a recipe is planned, before anything runs.
    """

    __slots__ = ()

    def fingerprint(self) -> Mapping[str, Any]:
        raise NotImplementedError
