"""The tree read against the config classes that the registry names: which key is what, and which keys are nobody's.

In: a tree without references, the registry. Out: drafts, each key in its cell, component or link, and the problems:
unknown keys, missing tables, unknown plugins, values where tables belong. Types and ranges of values are checked when
they are filled in, by `nanochat.recipe.derive`.
"""

from collections.abc import Iterable, Mapping

import attrs

from nanochat.config import AUTO
from nanochat.errors import InputError, Location, close_names
from nanochat.hardware import Hardware
from nanochat.recipe.declared import BrokenClass, Declared, declared_fields, of_kind
from nanochat.recipe.draft import Cell, Draft, Field, Link, Part, RecipeDraft, StageDraft
from nanochat.recipe.header import Header
from nanochat.recipe.misspelling import STAGES, every_path, near_path, stray_paths, whole_stages, within
from nanochat.recipe.notation import LONGEST_NAME, article, described, is_name, key_text, shown_key
from nanochat.recipe.problems import Problems
from nanochat.recipe.resolved import KeyPath
from nanochat.recipe.strict import config_in
from nanochat.recipe.tree import Later, Leaf, Node, Table, as_plain, merge, places_in
from nanochat.registry import Registry

OUTSIDE_HEADER = ("format", "stages", "hardware", "lock")


class Schema:
    """Reads tables; every problem goes to one list."""

    def __init__(self, registry: Registry, problems: Problems) -> None:
        self._registry, self._problems = registry, problems
        self._stages, self._nameless = list[KeyPath](), set[Location]()
        self._meant: set[KeyPath] = set()
        """What misspelt keys, or tables where another value stands, would have filled: it is not said to be missing."""
        self._dangling: list[tuple[Leaf, KeyPath, str]] = []
        """`from`s of what is not there, their targets and what is said of them."""

    def recipe(self, tree: Table, *, name: str, start: Location | None = None) -> RecipeDraft:
        """The draft of a whole recipe; `name` is what it is called where it does not say, `start` where it begins."""
        self._meant.update(stray_paths(tree))
        self._stages = [(STAGES, name) for name in whole_stages(tree)]
        recipe = self._recipe(tree, name, start)
        for leaf, target, message in self._dangling:
            if not within(target, self._meant):  # else the misspelling of what it names was reported
                label = near_path(target, every_path((), tree))
                self._problems.add("E110", message, at=leaf.place, label=label)
        return recipe

    def _recipe(self, tree: Table, name: str, start: Location | None) -> RecipeDraft:
        items = dict(tree.items)
        stages, hardware = items.pop("stages", None), items.pop("hardware", None)
        items.pop("format", None)
        self._table_or_none(items.pop("lock", None), ("lock",), "the table that nanochat writes")
        header = Draft(path=(), cls=Header, location=None)
        self._fill(header, items, also=OUTSIDE_HEADER)
        cell = header.fields["name"]
        assert isinstance(cell, Cell)
        cell.default = name
        common = self._table_or_none(hardware, ("hardware",), "a table")
        drafted = self._hardware(common, ("hardware",))
        recipe = RecipeDraft(header=header, hardware=drafted, stages={}, meant=self._meant)
        self._launcher(recipe.hardware)
        table = self._table_or_none(stages, (STAGES,), "a table of named stages")
        if table is None or not table.items:
            if (table is not None or stages is None) and (STAGES,) not in self._meant:
                at = table.location if table is not None else start
                self._problems.add("E105", "the recipe has no stages", at=at, help="a stage is a table: [stages.base]")
            return recipe
        for stage_name, node in table.items.items():
            stage = self._stage(node, stage_name, common)
            if stage is None:
                recipe.lost.append(stage_name)
            else:
                recipe.stages[stage_name] = stage
        return recipe

    # Stages and hardware

    def _stage(self, node: Node, name: str, common: Table | None) -> StageDraft | None:
        path = (STAGES, name)
        table = self._table_or_none(node, path, "a table with `use`")
        if table is None:
            return None
        items = dict(table.items)
        hardware = self._table_or_none(items.pop("hardware", None), (*path, "hardware"), "a table")
        part = self._component(attrs.evolve(table, items=items), path, "stage", None, also=("hardware",))
        merged = merge(common, hardware) if common and hardware else hardware or common
        drafted = self._hardware(merged, (*path, "hardware"))
        if part is None:
            return None
        stage = StageDraft(
            name=name,
            use=part.use,
            use_leaf=part.use_leaf,
            revision=part.revision,
            distribution=part.distribution,
            produces=str(getattr(part.config.cls, "produces", "")),
            numeric=bool(getattr(part.config.cls, "numeric", True)),
            seeded=bool(getattr(part.config.cls, "seeded", True)),
            launcher=self._launcher(drafted),
            location=table.location,
            config=part.config,
            hardware=drafted,
        )
        for draft in [*stage.config.drafts(), *stage.hardware.drafts()]:
            draft.stage = stage
        stage.config.part = None
        return stage

    def _hardware(self, table: Table | None, path: KeyPath) -> Draft:
        draft = Draft(path=path, cls=Hardware, location=table.location if table else None)
        self._fill(draft, dict(table.items) if table else {})
        return draft

    def _launcher(self, hardware: Draft) -> str:
        """The distribution of the launcher that a [hardware] table names; empty where it names none that is there."""
        cell = hardware.fields["launcher"]
        assert isinstance(cell, Cell)
        name = cell.default if cell.leaf is None else cell.leaf.value
        if not isinstance(name, str):
            return ""  # of the wrong type, or taken from what is filled in later
        try:  # auto is torchrun, or local, which comes with it
            return self._registry.entry("launcher", "torchrun" if name == AUTO else name).distribution
        except InputError as fault:
            self._problems.add_all(fault, at=cell.place)
            return ""

    # Tables

    def _fill(self, draft: Draft, items: Mapping[str, Node], *, also: Iterable[str] = ()) -> None:
        """Give each key of a table to its field; report keys that are nobody's and fields that lack theirs."""
        fields = self._fields(draft)
        known = not draft.failed  # a broken class has no fields to compare with
        for name in items:
            if name not in fields and known:
                self._unknown(draft, name, items[name], [*fields, *also])
        for name, declared in fields.items():
            draft.fields[name] = self._field(draft, declared, items.get(name))

    def _fields(self, draft: Draft) -> Mapping[str, Declared]:
        try:
            return declared_fields(draft.cls)
        except BrokenClass as fault:
            self._problems.add("E202", str(fault), at=draft.location)
            draft.failed = True
            return {}

    def _unknown(self, draft: Draft, name: str, node: Node, valid: Iterable[str]) -> None:
        draft.failed = True
        place = node.key if isinstance(node, Leaf) else node.location
        where = key_text(draft.path) if draft.path else "the recipe"
        valid = sorted(valid)
        for meant in close_names(name, valid)[:1]:
            self._meant.update(every_path((*draft.path, meant), node))
        label = self._problems.suggestion(name, valid)
        self._problems.add(
            "E102",
            f"unknown key `{shown_key(name)}` in {where}",
            at=place,
            subject=name,
            label=label,
            help="" if label else f"known here: {', '.join(valid) or 'no keys'}",
        )

    def _field(self, draft: Draft, declared: Declared, node: Node | None) -> Field:
        path = (*draft.path, declared.name)
        rules = declared.rules
        if rules.role == "component":
            return self._one(draft, declared, path, node)
        if rules.role == "components":
            return self._many(draft, declared, path, node)
        if rules.role == "artifact":
            return self._link(draft, declared, path, node)
        nested = config_in(declared.kind)
        if nested is not None and (isinstance(node, Table) or attrs.has(type(declared.default))):
            return self._nested(draft, declared, nested, path, node)
        leaf = self._leaf(node, path) if isinstance(node, Table) else node
        return Cell(path=path, kind=declared.kind, rules=rules, default=declared.default, leaf=leaf, owner=draft)

    def _leaf(self, table: Table, path: KeyPath) -> Leaf:
        """A table where an option stands: its value is a plain table."""
        assert table.location is not None, key_text(path)
        written = table.location
        inner = dict(places_in(table))
        return Leaf(value=as_plain(table), location=table.place or written, key=written, base=table.base, inner=inner)

    def _nested(self, draft: Draft, declared: Declared, cls: type, path: KeyPath, node: Node | None) -> Draft:
        """A config class as an option's type: a table whose defaults come from the option's default instance."""
        table = self._table_or_none(node, path, "a table")
        nested = Draft(path=path, cls=cls, location=(table or draft).location, part=draft.part)
        nested.failed = node is not None and table is None
        self._fill(nested, table.items if table else {})
        if isinstance(declared.default, cls):
            for name, field in nested.fields.items():
                if isinstance(field, Cell):
                    field.default = of_kind(field.kind, getattr(declared.default, name))
        return nested

    # Components and artifacts

    def _one(self, draft: Draft, declared: Declared, path: KeyPath, node: Node | None) -> Part | None:
        if node is None:
            if not declared.rules.optional:
                self._missing(draft, declared, f"a table [{key_text(path)}] with `use`")
            return None
        part = self._component(node, path, declared.rules.kind, declared.rules.slot)
        draft.failed |= part is None
        return part

    def _many(self, draft: Draft, declared: Declared, path: KeyPath, node: Node | None) -> dict[str, Part]:
        kind = declared.rules.kind
        table = self._table_or_none(node, path, f"a table of named {kind}s")
        if table is None or not table.items:
            if not declared.rules.optional and (node is None or table is not None):
                self._missing(draft, declared, f"at least one table [{key_text(path)}.NAME] with `use`")
            return {} if table is not None or node is None else self._lose(draft, declared)
        if isinstance(use := table.items.get("use"), Leaf):
            what = f"{key_text(path)} holds {kind}s by name, and is none itself"
            if use.key not in self._nameless:  # a copy of one that was told
                self._problems.add("E103", what, at=table.location, help=f"begin it with [{key_text(path)}.NAME]")
            self._nameless.add(use.key)
            return self._lose(draft, declared)
        found: dict[str, Part] = {}
        # By name, not by place: the order of keys in a file decides no result.
        for name in sorted(table.items):
            part = self._component(table.items[name], (*path, name), kind, declared.rules.slot)
            if part is not None:
                found[name] = part
            else:
                self._lose(draft, declared)
        return found

    def _lose(self, draft: Draft, declared: Declared) -> dict[str, Part]:
        draft.failed = True
        draft.lost.add(declared.name)
        return {}

    def _component(
        self, node: Node, path: KeyPath, kind: str, slot: type | None, *, also: Iterable[str] = ()
    ) -> Part | None:
        table = self._table_or_none(node, path, f"a table with `use`, the name of {article(kind)}")
        if table is None or not self._good_name(path[-1], kind, table.location):
            return None
        items = dict(table.items)
        use = items.pop("use", None)
        if not isinstance(use, Leaf) or not isinstance(use.value, str):
            self._bad_use(use, path, kind, table.location)
            return None
        try:
            entry = self._registry.entry(kind, use.value)
            cls = self._registry.config_class(kind, use.value)
        except InputError as fault:
            self._problems.add_all(fault, at=use.place)
            return None
        draft = Draft(path=path, cls=cls, location=table.location)
        part = Part(
            path=path,
            kind=kind,
            name=path[-1],
            use=use.value,
            use_leaf=use,
            revision=entry.revision,
            distribution=entry.distribution,
            location=table.location,
            config=draft,
        )
        draft.part = part
        taken: Mapping[str, Declared] = {}
        if slot is not None:
            part.slot = Draft(path=path, cls=slot, location=table.location, part=part)
            taken = self._fields(part.slot)
            self._fill(part.slot, {name: items.pop(name) for name in taken if name in items})
        self._fill(draft, items, also=["use", *taken, *also])
        return part

    def _good_name(self, name: str, kind: str, at: Location | None) -> bool:
        if is_name(name):
            return True
        message = f"{shown_key(name)} cannot be the name of {article(kind)}"
        label = f"letters, digits, `_` and `-`, at most {LONGEST_NAME}"
        self._problems.add("E104", message, at=at, subject=name, label=label)
        return False

    def _bad_use(self, use: Node | None, path: KeyPath, kind: str, at: Location | None) -> None:
        known = ", ".join(self._registry.names(kind)) or "none is installed"
        where = key_text(path)
        if use is None and (*path, "use") in self._meant:
            return
        if use is None:
            message = f"{where} lacks `use`, the name of {article(kind)}"
            label = near_path(path, self._stages) if kind == "stage" else ""
            self._problems.add("E105", message, at=at, subject="use", label=label, help=f"known: {known}")
        else:
            self._no_string(use, (*path, "use"), label=f"the name of {article(kind)}: {known}")

    def _no_string(self, node: Node, path: KeyPath, *, label: str) -> None:
        """Report what stands where only a written string can."""
        if isinstance(node, Leaf) and isinstance(node.value, Later):
            message = f"{key_text(node.value.target)} names no value that is written in the recipe"
            self._note_dangling(node, node.value, message)
            return
        found, place = (described(node.value), node.place) if isinstance(node, Leaf) else ("a table", node.place)
        message = f"{key_text(path)} is {found}, not a string"
        self._problems.add("E103", message, at=place, subject=path[-1], label=label)

    def _link(self, draft: Draft, declared: Declared, path: KeyPath, node: Node | None) -> Link:
        link = Link(path=path, kind=declared.rules.kind, leaf=None, reference=None)
        if node is None:
            if not declared.rules.optional:
                self._missing(draft, declared, f'`{declared.name}`, a {link.kind}: "stage:NAME" or "path:…"')
            return link
        if isinstance(node, Leaf) and isinstance(node.value, str):
            link.leaf, link.reference = node, node.value
            return link
        draft.failed = link.failed = True
        label = f'a {link.kind}: "stage:NAME", "path:…" or "store:KEY"'
        self._no_string(node, path, label=label)
        return link

    # What is said of tables

    def _table_or_none(self, node: Node | None, path: KeyPath, wanted: str) -> Table | None:
        if node is None or isinstance(node, Table):
            return node
        if isinstance(node.value, Later):
            message = f"{key_text(node.value.target)} names no table, and {key_text(path)} is one"
            self._note_dangling(node, node.value, message)
        else:
            tables = isinstance(node.value, list) and any(isinstance(item, dict) for item in node.value)
            found = "an array of tables" if tables else described(node.value)
            name = f"{key_text(path)}.NAME" if "named" in wanted else key_text(path)
            remedy = f"write [{name}]: one pair of brackets, a name for each table" if tables else ""
            label = self._problems.suggestion(path[-1], ["from", "use"]) if isinstance(node.value, str) else ""
            message = f"{key_text(path)} is {found}, not {wanted}"
            self._meant.add(path)
            self._problems.add("E103", message, at=node.place, subject=path[-1], label=label, help=remedy)
        return None

    def _note_dangling(self, node: Leaf, later: Later, message: str) -> None:
        """Said once the whole tree was read: what it names may be misspelt further down."""
        if later.target:
            self._dangling.append((node, later.target, message))

    def _missing(self, draft: Draft, declared: Declared, what: str) -> None:
        draft.failed = True
        if (*draft.path, declared.name) in self._meant:
            return
        message = f"{key_text(draft.path)} lacks {what}" + (f" ({declared.rules.doc})" if declared.rules.doc else "")
        self._problems.add("E105", message, at=draft.location, subject=declared.name)
