"""Whether a stage that failed is started again, and after how long.

In: how an attempt ended, and the newest checkpoint by then. Out: a pause in seconds, or None. Only lost processes and
lost connections (E410) are tried again: what a worker said of itself (a recipe's fault, a loss that is not finite, no
room in memory or on the disk, bad data, a bug) would come again.
"""

import attrs

from nanochat.errors import NanochatError

LOST = "E410"
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


@attrs.define(kw_only=True)
class Restarts:
    """The count of a stage's attempts. One after which there is a newer checkpoint begins it anew."""

    allowed: int
    """How often a stage is started again without getting any further."""
    reached: int
    """The step of the newest checkpoint when the first attempt begins; -1 where there is none."""
    used: int = 0

    def pause(self, error: NanochatError | None, reached: int) -> float | None:
        """The seconds to wait before the next attempt; None: there is none. reached: the newest checkpoint's step."""
        if error is None or error.diagnostics[0].code != LOST:
            return None
        if reached > self.reached:
            self.reached, self.used = reached, 0
        if self.used >= self.allowed:
            return None
        self.used += 1
        # The exponent is bounded: a float overflows at 2**1024.
        return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self.used - 1, 10)))
