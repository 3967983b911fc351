"""What to do when the hub does not answer as it should: ask again for a while, or say what is wrong.

In: something to try. Out: its result, or a StageError: E301 it cannot be had, E304 what came is something else, E401
the disk is full. Not here: what is tried.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nanochat.errors import NanochatError, Stopped, stage_failure
from nanochat.running.home import disk_failure, is_disk_fault

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSES_SECONDS: tuple[float, ...] = (1, 4, 16, 60)
"""Before each attempt but the first."""
LOOK_SECONDS = 0.2
"""Between two looks, during a pause, at whether anyone still waits for it."""
SAID_FROM_SECONDS = 10
"""A longer pause is a warning; a shorter one passes unnoticed."""
ENOUGH_BYTES = 1 << 20
"""An attempt that brought so much more than those before it was no failure: the pauses begin anew."""
ASK_AGAIN = (408, 416, 425, 429)
"""Refusals that pass."""
GONE, REFUSED = (404, 410), (401, 403)
"""Refusals that stay. The hub does not tell whether what one may not read is there."""


class Damaged(Exception):
    """What came is not what the manifest describes."""


def insist(
    what: str,
    folder: Path,
    attempt: Callable[[], T],
    *,
    received: Callable[[], int] = lambda: 0,
    on_pause: Callable[[], None] = lambda: None,
) -> T:
    """Try until it succeeds. `what` begins an error's message; `received`: bytes that are here and will not be lost.

    `on_pause` is called several times a second between attempts; what it raises ends them.
    """
    pauses, most = iter(PAUSES_SECONDS), received()
    while True:
        try:
            return attempt()
        except (NanochatError, Stopped):
            raise
        except Exception as fault:  # the client raises its own, its HTTP library's and the system's errors
            if isinstance(fault, OSError) and is_disk_fault(fault):
                raise disk_failure(folder, fault) from fault
            if received() >= most + ENOUGH_BYTES:
                pauses, most = iter(PAUSES_SECONDS), received()
            pause = next(pauses, None)
            reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            if pause is None or _is_final(fault):
                raise stage_failure(
                    "E304" if isinstance(fault, Damaged) else "E301",
                    f"{what}: {reason}",
                    help=_advice(fault),
                ) from fault
            level = logging.WARNING if pause >= SAID_FROM_SECONDS else logging.INFO
            log.log(level, "%s: %s; trying again in %g s", what, reason, pause)
            _pause(pause, on_pause)


def _pause(seconds: float, on_pause: Callable[[], None]) -> None:
    while seconds > 0:
        on_pause()
        time.sleep(min(seconds, LOOK_SECONDS))
        seconds -= LOOK_SECONDS


def _is_final(fault: Exception) -> bool:
    """Whether asking again cannot help: it is not there, or not for us, or the client was told to stay offline."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(fault, OfflineModeIsEnabled | HFValidationError):
        return True
    return 400 <= _status(fault) < 500 and _status(fault) not in ASK_AGAIN


def _advice(fault: Exception) -> str:
    """What to do about it."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(fault, OfflineModeIsEnabled):
        return "the hub's client was told to stay offline: unset HF_HUB_OFFLINE"
    if isinstance(fault, HFValidationError):
        return "check the name of the repository: OWNER/NAME"
    if _status(fault) in GONE:
        return (
            "the hub has no such repository, revision or file: check `repo` and `revision`; if they are right, it was "
            "removed there"
        )
    if _status(fault) in REFUSED:
        return "it is not there, or not for you: check `repo`, and that the account of HF_TOKEN may read it"
    return "check the network, and HF_ENDPOINT if it is set; then the same command goes on with what is here"


def _status(fault: Exception) -> int:
    """Of an answer over HTTP; 0 where there was none."""
    from huggingface_hub.errors import HfHubHTTPError

    return fault.response.status_code if isinstance(fault, HfHubHTTPError) else 0
