"""HTTP connections with a deadline for the request's head: whoever sends headers byte by byte is cut off.

An application never sees a request whose head is not complete, so this lives in uvicorn's protocol. The deadline of a
request's body is the application's.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the connection, or from the first byte of a further request on it."""
SAID = b'{"error": {"message": "the request took too long to arrive", "type": "invalid_request_error", ' + (
    b'"param": null, "code": "timeout"}}'
)
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)


class DeadlineProtocol(H11Protocol):
    """uvicorn's, with a clock that runs while a head is awaited."""

    head_seconds = HEAD_SECONDS
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """The clock runs from the first byte of a head to its last."""
        if self._answering:
            self._disarm()
        elif self._alarm is None:
            self._alarm = self.loop.call_later(self.head_seconds, self._cut_off)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _cut_off(self) -> None:
        self._alarm = None
        if not self._answering and not self.transport.is_closing():
            self.transport.write(TOO_SLOW % (len(SAID), SAID))
            self.transport.close()
