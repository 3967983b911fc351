"""The server's socket and its life: bind, serve, end in order.

In: host, port, an application. Out: nothing; `serve` returns when a signal ended it. The socket is bound before a model
is loaded, so that a port in use is known at once.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from nanochat.errors import wrong_input
from nanochat.serving.protocol import DeadlineProtocol

DRAIN_SECONDS = 30
"""How long answers may go on once the server was asked to stop."""
LEAVING_SECONDS = 5
"""How long clients may then take to read that they were ended, before their connections are cut."""
CONNECTIONS = 2048
"""Waiting to be accepted."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. InputError E603 where the address cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as fault:
        raise _unusable(host, port, fault) from fault
    try:
        if os.name == "posix":  # a port that the last server has just left can be used again
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(CONNECTIONS)
    except OSError as fault:
        bound.close()
        raise _unusable(host, port, fault) from fault
    return bound


def address(bound: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn's; answers that are still being written when the time for them is over are ended with a reason."""

    def __init__(self, config: uvicorn.Config, end_answers: Callable[[], None], drain_seconds: int) -> None:
        super().__init__(config)
        self.end_answers, self.drain_seconds = end_answers, drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        late = loop.call_later(self.drain_seconds, loop.run_in_executor, None, self.end_answers)
        try:
            await super().shutdown(sockets)
        finally:
            late.cancel()


def make_server(app: Starlette, *, drain_seconds: int = DRAIN_SECONDS) -> Server:
    """The server of an application that `create_server` made, not started."""
    config = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=drain_seconds + LEAVING_SECONDS,
        backlog=CONNECTIONS,
        server_header=False,
    )
    return Server(config, app.state.end_answers, drain_seconds)


def serve(server: uvicorn.Server, bound: socket.socket) -> None:
    """Answer on the socket until SIGINT or SIGTERM, then finish what is being answered."""
    if threading.current_thread() is threading.main_thread():
        # uvicorn drains, then raises the signal once more: that is the end, and no failure.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.run(sockets=[bound])


def _unusable(host: str, port: int, fault: OSError) -> Exception:
    return wrong_input(
        "E603",
        f"cannot listen on {host}:{port}: {fault.strerror or fault}",
        help="choose another port with --port (0: any free one), or stop what uses this one",
    )
