"""The registry: every component by kind and name, from every installed plugin, each isolated from the others.

In: what is installed (nanochat/installed.py). Out: entries, config classes, builders. The only file that calls
pluggy's manager. It imports plugin modules (strings and hooks), never their implementations: those are imported when
`config_class` or `builder` asks for them, so that listing and planning stay free of torch.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import attrs
import pluggy

from nanochat import hooks
from nanochat.config import METADATA, Rules
from nanochat.errors import Diagnostic, InputError, did_you_mean, wrong_input
from nanochat.hooks import GIVES, GROUP, KINDS, PROJECT
from nanochat.installed import installed
from nanochat.plugin_fault import check_hooks, fault_text, is_silent
from nanochat.registrar import Door, Entry, PluginStatus


class Registry:
    """All components, by kind and name."""

    def __init__(self) -> None:
        self.plugins: list[PluginStatus] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hooks)
        self._claims: dict[tuple[str, str], list[Entry]] = {}

    # Filling

    def register(self, plugin: object, *, name: str, distribution: str = "", version: str = "") -> PluginStatus:
        """Register one plugin object. A fault in it marks it broken; the others are unaffected."""
        status = PluginStatus(name=name, distribution=distribution or name, version=version)
        self.plugins.append(status)
        # Two distributions may call their entry points alike; pluggy wants names that differ.
        inner = name if not self._manager.has_plugin(name) else f"{status.distribution}:{name}"
        try:
            check_hooks(plugin)
            self._manager.register(plugin, name=inner)
            with quiet():
                for kind in KINDS:
                    hook = getattr(plugin, f"register_{kind}s", None)
                    if hook is not None:
                        hook(Door(kind, status))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            if self._manager.get_plugin(inner) is plugin:
                self._manager.unregister(name=inner)
            self._mark_broken(status, fault)
            return status
        status.registered_as = inner
        hooks_of = (caller.name for caller in self._manager.get_hookcallers(plugin) or ())
        status.observers = sorted(name for name in hooks_of if not name.startswith("register_"))
        if not status.components and not status.observers:
            why = ": nothing in it is marked with `@hookimpl`" if is_silent(plugin) else ""
            status.reason = f"it offers nothing{why}"
        for entry in status.components:
            self._claims.setdefault((entry.kind, entry.name), []).append(entry)
        return status

    def load_installed(self, *, block: Iterable[str] = ()) -> None:
        """Register every installed plugin."""
        blocked = _normal(*block)
        for found in installed():
            status = PluginStatus(name=found.name, distribution=found.distribution, version=found.version)
            if blocked & _normal(found.name, found.distribution):
                self._list_as(status, "blocked", "by the recipe")
            elif found.group != GROUP:
                self._list_as(status, "other API", f"it is made for {found.group}; this nanochat has {GROUP}")
            else:
                self._load(found.load, status)

    def block(self, names: Iterable[str]) -> None:
        """Forget the components and observers of plugins, by plugin or distribution name."""
        blocked = _normal(*names)
        for status in self.plugins:
            if status.status == "ok" and blocked & _normal(status.name, status.distribution):
                self._manager.unregister(name=status.registered_as)
                self._list_as(status, "blocked", "by the recipe", listed=True)
                gone = {id(entry) for entry in status.components}
                kept = {key: [e for e in entries if id(e) not in gone] for key, entries in self._claims.items()}
                self._claims = {key: entries for key, entries in kept.items() if entries}
                status.components, status.observers = [], []

    def _list_as(self, status: PluginStatus, state: str, reason: str, *, listed: bool = False) -> None:
        status.status, status.reason = state, reason
        if not listed:
            self.plugins.append(status)

    def _load(self, load: Callable[[], object], status: PluginStatus) -> None:
        try:
            with quiet():
                plugin = load()
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # sys.exit() in a module; a panic in an extension written in Rust
            self.plugins.append(status)
            self._mark_broken(status, fault)
        else:
            self.register(plugin, name=status.name, distribution=status.distribution, version=status.version)

    def _mark_broken(self, status: PluginStatus, fault: BaseException) -> None:
        status.status = "broken"
        status.reason = fault_text(fault)
        status.components = []

    # Asking

    def entry(self, kind: str, name: str) -> Entry:
        """The component of that kind and name. InputError where there is none, or two plugins claim it."""
        claims = self._claims.get((kind, name), [])
        if len(claims) > 1:
            owners = [claim.distribution for claim in claims]
            several = "one of them" if len(owners) == 2 else "all of them but one"
            blocked = ", ".join(f'"{owner}"' for owner in owners[1:])
            raise wrong_input(
                "E203",
                f"{kind} `{name}` is claimed by {_listed(owners)}",
                help=f"block {several}: with [plugins] block = [{blocked}] it is that of `{owners[0]}`",
            )
        if claims:
            return claims[0]
        out = {state: ", ".join(p.name for p in self.plugins if p.status == state) for state in ("broken", "blocked")}
        notes = "".join(f"; {state}, and may offer it: {names}" for state, names in out.items() if names)
        raise InputError(
            Diagnostic(
                code="E201",
                message=f"there is no {kind} called `{name}`{notes}",
                label=did_you_mean(name, self.names(kind)),
                help=f"`nanochat plugins` says what is installed, and why a plugin is broken; known: "
                f"{', '.join(self.names(kind)) or 'none'}",
            )
        )

    def collisions(self) -> list[tuple[str, str, list[str]]]:
        """Kind, name and distributions of what several plugins claim."""
        return [
            (kind, name, [entry.distribution for entry in entries])
            for (kind, name), entries in self._claims.items()
            if len(entries) > 1
        ]

    def describe(self, plugins: Iterable[PluginStatus]) -> list[Mapping[str, Any]]:
        """Plugins as plain data, for `nanochat plugins --json` and for a run's provenance."""
        owners = {(kind, name): distributions for kind, name, distributions in self.collisions()}
        return [
            attrs.asdict(plugin, filter=lambda field, _: field.name not in ("components", "registered_as"))
            | {
                "components": [
                    {"kind": entry.kind, "name": entry.name, "build": entry.build, "revision": entry.revision}
                    | {"claimed_by": owners.get((entry.kind, entry.name), [entry.distribution])}
                    for entry in plugin.components
                ]
            }
            for plugin in plugins
        ]

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(name for claimed, name in self._claims if claimed == kind)

    def config_class(self, kind: str, name: str) -> type:
        """The component's config class; one made from the builder's keywords where it declares none."""
        entry = self.entry(kind, name)
        if entry.config is not None:
            found = self._resolve(entry, entry.config)
            if not attrs.has(found):
                raise self._broken(entry, f"{entry.config} is no attrs class")
            return cast(type, found)
        build = self._resolve(entry, entry.build)
        try:
            return _config_from_keywords(build, name)
        except Exception as fault:  # annotations that name nothing, no callable
            raise self._broken(entry, f"{entry.build}: {type(fault).__name__}: {fault}") from fault

    def builder(self, kind: str, name: str) -> Callable[..., Any]:
        """What makes the component. Without a config class, it is called with the config's fields as keywords.

        InputError E202 where it makes something that is none of its kind.
        """
        entry = self.entry(kind, name)
        build: Callable[..., Any] = self._resolve(entry, entry.build)
        if not callable(build):
            raise self._broken(entry, f"{entry.build} is of type {type(build).__name__} and cannot be called")

        def built(config: Any, *rest: Any) -> Any:
            # A launcher's config is the recipe's hardware table, whatever it registers.
            whole = entry.config is not None or kind == "launcher"
            made = build(config, *rest) if whole else build(*rest, **attrs.asdict(config, recurse=False))
            missing = [part for part in GIVES.get(kind, ()) if not hasattr(made, part)]
            if missing:
                reason = f"{entry.build} gave {type(made).__name__} without {', '.join(missing)}"
                raise self._broken(entry, reason)
            return made

        return built

    def object(self, kind: str, name: str) -> Any:
        """The object that `build` names, for kinds that are looked at and not called (derivations)."""
        entry = self.entry(kind, name)
        return self._resolve(entry, entry.build)

    def observe(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call an observer of every plugin. Returns (plugin, result or the exception it raised)."""
        results: list[tuple[str, Any]] = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                # A copy for each, so that none changes what the others see, or what is written down.
                wanted = {name: copy.deepcopy(arguments[name]) for name in implementation.argnames}
                with quiet():
                    results.append((implementation.plugin_name, implementation.function(**wanted)))
            except KeyboardInterrupt:
                raise
            except BaseException as fault:  # an observer's fault never changes a result, nor does its sys.exit()
                results.append((implementation.plugin_name, fault))
        return results

    def _resolve(self, entry: Entry, reference: str) -> Any:
        module_name, _, attribute = reference.partition(":")
        try:
            with quiet():
                found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            raise self._broken(entry, f"{reference}: {type(fault).__name__}: {fault}") from fault
        return found

    def _broken(self, entry: Entry, reason: str) -> InputError:
        return wrong_input(
            "E202",
            f"{entry.kind} `{entry.name}` of `{entry.distribution}` is broken: {reason}",
            help="the plugin's author can mend this; `nanochat plugins` shows its state",
        )


def _listed(names: Sequence[str]) -> str:
    """`a`, `b` and `c`."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}"


def _normal(*names: str) -> set[str]:
    """Names as PEP 503 compares them: case and separators do not count."""
    return {normal_name(name) for name in names}


def normal_name(name: str) -> str:
    """One spelling for all that mean the same distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def load_registry(*, block: Iterable[str] = ()) -> Registry:
    """A registry of everything installed."""
    registry = Registry()
    registry.load_installed(block=block)
    return registry


def quiet() -> contextlib.AbstractContextManager[Any]:
    """While a plugin's code runs: what it prints goes to stderr, since stdout may be a command's JSON."""
    return contextlib.redirect_stdout(sys.stderr)


@functools.cache  # one class for one builder: configs of two registries can be compared
def _config_from_keywords(build: Callable[..., Any], name: str) -> type:
    """A config class out of a builder's keywords: their annotations (or their defaults' types) and defaults."""
    fields: dict[str, Any] = {}
    for parameter in _keywords(build):
        default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
        hint = parameter.annotation
        if hint is parameter.empty:
            hint = Any if default in (attrs.NOTHING, None) else type(default)
        fields[parameter.name] = attrs.field(default=default, type=hint, metadata={METADATA: Rules()})
    return attrs.make_class(f"{name}_config", fields, frozen=True, kw_only=True)


def _keywords(build: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """What a builder can be given by keyword. A class's `**kwargs` are its base's: `super().__init__(**kwargs)`.

    So a task's `start`, `stop` and `step` are options of one whose constructor hands them on.
    """
    makers = [build]
    if isinstance(build, type):
        constructors = [vars(cls)["__init__"] for cls in build.__mro__[:-1] if "__init__" in vars(cls)]
        makers += constructors[1:]
    seen: set[str] = set()
    for depth, maker in enumerate(makers):
        parameters = list(inspect.signature(maker, eval_str=True).parameters.values())[depth > 0 :]  # not self
        for parameter in parameters:
            by_keyword = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if by_keyword and parameter.name not in seen:
                seen.add(parameter.name)
                yield parameter
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
