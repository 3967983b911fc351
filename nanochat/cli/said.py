"""What a log was told last, so that only what is new is told again."""

import attrs


@attrs.define
class Said:
    """Of each thing, by its name, what was said last."""

    _said: dict[str, str] = attrs.field(factory=dict)

    def is_new(self, name: str, text: str) -> bool:
        """Whether it is other than what was said of it before; it is said now."""
        new, self._said[name] = self._said.get(name) != text, text
        return new
