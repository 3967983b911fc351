"""The runs of this machine as endpoints and a page: what there is, and one run's curves while it goes on.

In: whoever knows the runs, given from outside: this room knows no run folder. Out: /v1/runs, /v1/runs/ID (JSON) and the
page /runs, whose script asks for them. Looking reads files, so it is done off the event loop.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from nanochat.errors import NanochatError
from nanochat.serving.faults import SHOWN, RequestError, json_response


class Runs(Protocol):
    """Who knows the runs; plain data that JSON can hold."""

    def list(self) -> Sequence[Mapping[str, Any]]:
        """Each run in a few words, the newest first: `id`, `state`, `done`, `planned`, `seconds`, `figures`."""

    def run(self, name: str) -> Mapping[str, Any] | None:
        """A run as it is now, with the curves of its stages; None where there is none of this name."""


class NoRuns:
    """Of a server that was not told of any."""

    def list(self) -> Sequence[Mapping[str, Any]]:
        return []

    def run(self, name: str) -> Mapping[str, Any] | None:  # noqa: ARG002 (the protocol's)
        return None


class RunService:
    """The endpoints."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._one_at_a_time = asyncio.Lock()

    async def list_runs(self, _: Request) -> Response:
        """Every run in a few words."""
        async with self._one_at_a_time:
            found = await asyncio.to_thread(self._runs.list)
        return json_response({"object": "list", "data": list(found)})

    async def run(self, request: Request) -> Response:
        """One run as it is now."""
        name = request.path_params["name"]
        async with self._one_at_a_time:
            try:
                found = await asyncio.to_thread(self._runs.run, name)
            except NanochatError:  # removed while it was looked at
                found = None
        if found is None:
            raise RequestError(404, f"there is no run `{name[:SHOWN]}`", code="run_not_found")
        return json_response(found)
