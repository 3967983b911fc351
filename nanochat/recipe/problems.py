"""The list of everything wrong with a recipe, gathered in one pass and shown in the order of the file.

In: diagnostics as the passes meet them. Out: one InputError that carries them all, or nothing but warnings.
"""

from collections.abc import Iterable

from nanochat.errors import Diagnostic, InputError, Location, did_you_mean

MOST = 100
"""More than these are counted, not shown."""


class Problems:
    """What is wrong so far."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Location | None, str], Diagnostic] = {}
        self._files: list[str] = []
        self.warnings: list[Diagnostic] = []
        """What is shown and stops nothing, beside what does if anything does."""

    def __len__(self) -> int:
        return len(self._found)

    def file_order(self, paths: Iterable[str]) -> None:
        """The order in which files are shown."""
        self._files = list(paths)

    def add(
        self,
        code: str,
        message: str,
        *,
        at: Location | None,
        subject: str = "",
        label: str = "",
        help: str = "",
    ) -> None:
        """Note one. A table copied by `from` would repeat it: one for each code, place and subject is kept."""
        key = (code, at, subject or (message if at is None else ""))
        self._found.setdefault(key, Diagnostic(code=code, message=message, location=at, label=label, help=help))

    def add_all(self, error: InputError, *, at: Location | None) -> None:
        """Take over what a plugin or another room found; those without a place get this one."""
        for found in error.diagnostics:
            self.add(
                found.code,
                found.message,
                at=found.location or at,
                subject=found.message,
                label=found.label,
                help=found.help,
            )

    def warn(self, code: str, message: str, *, at: Location | None, label: str = "", help: str = "") -> None:
        """Note what may be meant so."""
        found = Diagnostic(code=code, message=message, location=at, label=label, help=help, severity="warning")
        if found not in self.warnings:
            self.warnings.append(found)

    def suggestion(self, name: str, valid: Iterable[str]) -> str:
        """«did you mean …?», at most three; nothing where nothing is close (or too much is wrong already)."""
        return did_you_mean(name, valid) if len(self) <= MOST else ""

    def raise_any(self) -> None:
        """Raise all of them, in file order, if there are any; the warnings too, which may say why."""
        if not self._found:
            return
        ordered = sorted(self._found.values(), key=self._rank)
        if len(ordered) > MOST:
            rest = len(ordered) - MOST
            last = ordered[MOST - 1]
            ordered = [
                *ordered[: MOST - 1],
                Diagnostic(code=last.code, message=last.message, location=last.location, help=f"and {rest} more"),
            ]
        raise InputError([*self.warnings, *ordered])

    def _rank(self, found: Diagnostic) -> tuple[int, str, int, int]:
        where = found.location
        if where is None:
            return (len(self._files) + 1, "", 0, 0)
        order = self._files.index(where.path) if where.path in self._files else len(self._files)
        return (order, where.path, where.line, where.column)
