"""Work for which the end of the process does not wait: a network that does not answer must hold nobody up."""

import threading
from collections.abc import Callable
from concurrent import futures


def in_background(work: Callable[[], object]) -> futures.Future[None]:
    """Call `work` in a thread of its own; the future has what it raised. No pool: Python waits for a pool's threads."""
    ended: futures.Future[None] = futures.Future()

    def run() -> None:
        try:
            work()
        except BaseException as fault:
            ended.set_exception(fault)
        else:
            ended.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return ended
