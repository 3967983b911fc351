"""HTTP connections with deadlines for the request's head and for the answer's reader: whoever sends headers byte by
byte, or takes nothing of what it asked for, is cut off.

An application never sees a request whose head is not complete, or no HTTP, and while a connection takes nothing it
waits to send, so this lives in uvicorn's protocol. The deadline of a request's body is the application's. Errors have
OpenAI's shape here too.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from nanochat.serving.faults import RequestError, encoded

HEAD_SECONDS = 10.0
"""From the connection, or from the first byte of a further request on it."""
READER_SECONDS = 60.0
"""In which some of what waits to be read has to be taken."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's, with a clock that runs while a head is awaited, and one while a reader holds an answer up."""

    head_seconds = HEAD_SECONDS
    reader_seconds = READER_SECONDS
    _alarm: asyncio.TimerHandle | None = None
    _held_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._read_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self._read_on()
        super().resume_writing()

    def _await_reader(self) -> None:
        """While the connection takes no more, nothing is added: what waits becomes less, or nobody reads."""
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            if self.transport.get_write_buffer_size() < waiting:
                self._await_reader()
            else:
                self.transport.abort()

        self._held_up = self.loop.call_later(self.reader_seconds, look)

    def _read_on(self) -> None:
        if self._held_up is not None:
            self._held_up.cancel()
            self._held_up = None

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
            self._refuse(RequestError(408, "the request took too long to arrive", code="timeout"))

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestError(400, msg))

    def _refuse(self, fault: RequestError) -> None:
        body = encoded(fault.body())
        head = (
            f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\ncontent-type: application/json\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
