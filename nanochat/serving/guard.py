"""Who gets in: a pure ASGI middleware in front of the endpoints.

In: requests. Out: those that may pass, with the salt of their key in `scope["state"]`; errors for the others. Counts
every answer by its status. A page of another host cannot ask: its Origin is not this server's. Nor can one whose name
was made to mean this machine (DNS rebinding): where `hosts` are given, a request has to name one of them, or loopback.
"""

import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.serving.faults import RequestError
from nanochat.serving.keys import Keys
from nanochat.serving.metrics import Metrics


class Guard:
    """Keys for /v1 and /metrics, and the host and the origin of what a browser sends. hosts: None, whatever it is.

    counted: paths that are counted by name; all others as one, so that nobody can fill the memory with names.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        metrics: Metrics,
        counted: Collection[str],
        origins: Sequence[str] = (),
        hosts: Sequence[str] | None = None,
    ) -> None:
        self.app, self.keys, self.metrics, self.counted = app, keys, metrics, counted
        self.origins, self.hosts = origins, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        path = scope["path"] if scope["path"] in self.counted else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            self._admit(scope)
        except RequestError as fault:
            await fault.response()(scope, receive, counting)
            return
        await self.app(scope, receive, counting)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and host and not is_loopback(host) and host_name(host) not in self.hosts:
            raise RequestError(
                403, f"this server is not asked by the name {host_name(host)!r}; --allow-host lets one", code="host"
            )
        origin = headers.get("origin")
        if origin and origin not in self.origins and urlsplit_host(origin) != host:
            raise RequestError(403, "pages of other hosts may not ask this server; --cors lets one", code="origin")
        salt = ""
        if scope["path"].startswith("/v1/") or scope["path"] == "/metrics":
            salt = self.keys.admit(headers.get("authorization", ""))
        scope.setdefault("state", {})["salt"] = salt


def host_name(host: str) -> str:
    """The name or address of a Host header, without its port and in small letters; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a Host header means this machine, whoever is asked what it means."""
    name = host_name(host)
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def urlsplit_host(origin: str) -> str:
    """Host and port of an origin; nothing where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
