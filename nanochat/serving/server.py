"""The server's socket and its life: bind, serve, end in order.

In: host, port, an application. Out: nothing; `serve` returns when a signal ended it. The socket is bound before a model
is loaded, so that a port in use is known at once.
"""

import os
import socket

import uvicorn
from starlette.applications import Starlette

from nanochat.errors import wrong_input

DRAIN_SECONDS = 5
"""How long answers may go on once the server was asked to stop."""


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
        bound.listen()
    except OSError as fault:
        bound.close()
        raise _unusable(host, port, fault) from fault
    return bound


def address(bound: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Starlette) -> uvicorn.Server:
    """The server, not started."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=DRAIN_SECONDS)
    return uvicorn.Server(config)


def serve(app: Starlette, bound: socket.socket) -> None:
    """Answer on the socket until SIGINT or SIGTERM."""
    make_server(app).run(sockets=[bound])


def _unusable(host: str, port: int, fault: OSError) -> Exception:
    return wrong_input(
        "E603",
        f"cannot listen on {host}:{port}: {fault.strerror or fault}",
        help="choose another port with --port (0: any free one), or stop what uses this one",
    )
