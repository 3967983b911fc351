"""Text up to a stop string: what may be the beginning of one is held back until it is certain.

In: text in pieces. Out: the text that can be shown, and whether a stop string has ended it. What is shown never holds
a stop string, nor any part of the one that ended it.
"""

from collections.abc import Sequence


class StopText:
    """Pieces of one text, watched for stop strings."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""
        """What was not shown: perhaps the beginning of a stop string, or the one that ended the text and its rest."""
        self.ended = False

    def push(self, text: str) -> str:
        """The text that can be shown now."""
        if not self.stops or self.ended:
            return text if not self.ended else ""
        held = self.held + text
        places = [place for stop in self.stops if (place := held.find(stop)) >= 0]
        self.ended = bool(places)
        shown = min(places) if places else len(held) - self._beginning(held)
        self.held = held[shown:]
        return held[:shown]

    def flush(self) -> str:
        """The end of this stretch of text: what was held back begins no stop string."""
        if self.ended:
            return ""
        held, self.held = self.held, ""
        return held

    def _beginning(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = min(len(text), max(map(len, self.stops)) - 1)
        sizes = range(longest, 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self.stops)), 0)
