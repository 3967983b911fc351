"""The server's application: OpenAI's endpoints for one model or several, the chat page, the page of runs.

In: an engine and its name, or models that are loaded meanwhile. Out: a Starlette application that owns the engines
while it runs. Every error has OpenAI's shape. Not here: sockets and signals (`nanochat.serving.server`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nanochat.serving.engine_thread import EngineThread
from nanochat.serving.faults import HANDLERS
from nanochat.serving.guard import Guard
from nanochat.serving.keys import Keys
from nanochat.serving.metrics import Metrics
from nanochat.serving.models import CAPACITY, Models
from nanochat.serving.runs import NoRuns, Runs, RunService
from nanochat.serving.service import Limits, Service

if TYPE_CHECKING:
    from nanochat.inference.engine import Engine

STATIC = Path(__file__).parent / "static"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def create_app(engine: "Engine", *, model: str, capacity: int = CAPACITY, limits: Limits | None = None) -> Starlette:
    """The application for one model, without keys. The engine belongs to a thread of it from its startup on."""
    models = Models(capacity=capacity)

    def load() -> None:
        models.add(model, [EngineThread(engine)])
        models.ready = True

    return create_server(models, start=load, limits=limits or Limits())


def create_server(
    models: Models,
    *,
    start: Callable[[], None],
    keys: Keys | None = None,
    limits: Limits | None = None,
    origins: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    runs: Runs | None = None,
) -> Starlette:
    """The application for models that `start` begins to load. origins: of pages elsewhere that may ask.

    hosts: the names, in small letters, that it may be asked by beside loopback's; None: any. runs: shown.
    """
    metrics = Metrics(models)
    service = Service(models, metrics, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        start()
        yield
        await asyncio.to_thread(models.stop)

    routes = _routes(service, RunService(runs or NoRuns()))
    middleware = [
        Middleware(
            Guard,
            keys=keys or Keys(),
            metrics=metrics,
            counted={route.path for route in routes},
            origins=origins,
            hosts=hosts,
        )
    ]
    if origins:
        cors = Middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
        middleware.insert(0, cors)
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan, middleware=middleware)
    app.state.end_answers = models.stop
    return app


def _routes(service: Service, runs: RunService) -> list[Route | Mount]:
    return [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/completions", service.complete, methods=["POST"]),
        Route("/v1/tokenize", service.tokenize, methods=["POST"]),
        Route("/v1/models", service.list_models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/runs", runs.list_runs),
        Route("/v1/runs/{name}", runs.run),
        Route("/health", service.health),
        Route("/ready", service.ready),
        Route("/metrics", service.metrics_text),
        Route("/openapi.json", service.openapi),
        Route("/", page("index.html")),
        Route("/runs", page("runs.html")),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one of our pages."""

    async def send(_: Request) -> Response:
        return FileResponse(STATIC / name, headers=PAGE_HEADERS)

    return send
