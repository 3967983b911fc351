"""An engine in a process of its own: its steps and the server's event loop do not wait for one another's Python.

In: a function that loads an engine, by which the new process makes it. Out: a `Link` to it, over a pair of sockets. The
process lives as long as its end of them is open: it ends with the server, however that ends. Signals that a terminal or
a supervisor sends to all processes of a group it leaves to the server, which lets answers end.
"""

import logging
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from nanochat.errors import NanochatError, stage_failure
from nanochat.serving.engine_loop import SHUTTING_DOWN, EngineLoop, about
from nanochat.serving.jobs import About, Hear, Order

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine

log = logging.getLogger(__name__)

Load = Callable[[], "Engine"]
"""Importable by its name, with arguments that can be pickled."""

END_SECONDS = 10.0
"""In which the process has to end after it was asked to; then it is killed."""
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EngineProcess:
    """A `Link` to an engine in a process, which is loaded when this returns.

    NanochatError as the loading raised it; StageError E403 where it ended otherwise.
    """

    def __init__(self, load: Load) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = _spawn(theirs.fileno())
        self._pipe = ours
        self._outbox: queue.SimpleQueue[list[Order] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self.pid = self._process.pid
        self._hearing: threading.Thread | None = None
        self._stopping = False
        try:
            self._pipe.send(load)
            told = self._pipe.recv()
        except (OSError, EOFError):
            self._close()
            raise stage_failure("E403", f"the model could not be loaded: {self._how_it_ended()}") from None
        except BaseException:
            self._close()
            raise
        if isinstance(told, BaseException):
            self._close()
            raise told
        self.about: About = told

    def start(self, hear: Hear, ended: Callable[[str], None]) -> None:
        self._hearing = threading.Thread(target=self._hear, args=(hear, ended), name="engine", daemon=True)
        self._hearing.start()
        threading.Thread(target=self._send, name="orders", daemon=True).start()

    def post(self, orders: Sequence[Order]) -> None:
        self._outbox.put(list(orders))

    def stop(self) -> None:
        self._stopping = True
        self._outbox.put(None)
        with self._closing:  # one stop may come while another waits
            self._how_it_ended()
            if self._hearing is not None:
                self._hearing.join()
            self._pipe.close()

    def _send(self) -> None:
        """In a thread, for whoever posts must not wait where the process does not read."""
        try:
            while True:
                orders = self._outbox.get()
                self._pipe.send(orders)
                if orders is None:
                    return
        except OSError:  # it has ended, which whoever hears it is told
            pass

    def _hear(self, hear: Hear, ended: Callable[[str], None]) -> None:
        try:
            while not isinstance(told := self._pipe.recv(), str):
                hear(told)
        except (OSError, EOFError):
            told = SHUTTING_DOWN
            if not self._stopping:
                told = f"the engine has failed: {self._how_it_ended()}"
                log.error(told)
        except Exception as fault:  # a thread has nobody above it to tell
            log.exception("what the engine told could not be handed over")
            told = f"the engine has failed: {fault}"
            self._outbox.put(None)
        ended(told)

    def _close(self) -> None:
        self._pipe.close()
        self._how_it_ended()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed; the machine may have run out of memory"
        return f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _spawn(pipe: int) -> "subprocess.Popen[bytes]":
    """A process that holds its end of the pipe; signals to the group are held back until it leaves them to us."""
    command = [sys.executable, "-P", "-m", __name__, str(pipe)]  # -P: no module of the folder it is called in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        return subprocess.Popen(command, pass_fds=[pipe], stdin=subprocess.DEVNULL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the new process


def _serve(pipe: Connection) -> None:
    os.set_inheritable(pipe.fileno(), False)  # the pipe ends with this process, whatever it has started
    for number in GROUP_SIGNALS:
        signal.signal(number, lambda *_: None)  # not to be ignored: that would go on to the programs that tools run
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    load: Load = pipe.recv()
    waiting = _Orders(pipe)
    try:
        engine = load()
    except (NanochatError, OSError) as fault:  # what the command line tells in words
        pipe.send(fault)
        return
    loop = EngineLoop(engine)
    waiting.go_to(loop)
    pipe.send(about(engine))
    pipe.send(loop.run(pipe.send))


class _Orders:
    """Reads the pipe in a thread, from the beginning: where the server is gone this process ends, loading or not."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._loop: EngineLoop | None = None
        self._ready = threading.Event()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def go_to(self, loop: EngineLoop) -> None:
        self._loop = loop
        self._ready.set()

    def _read(self) -> None:
        while True:
            try:
                orders: Any = self._pipe.recv()
            except (OSError, EOFError):
                os._exit(0)
            except BaseException:  # nothing would be read any more
                log.exception("what the server said was not understood")
                os._exit(1)
            self._ready.wait()
            assert self._loop is not None
            for order in orders if orders is not None else [None]:
                self._loop.inbox.put(order)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
