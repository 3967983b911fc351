"""`nanochat serve [CHECKPOINT]…`: the chat page and the OpenAI-compatible server."""

import ipaddress
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from nanochat.cli.checkpoint_engine import device_option, load_engine, model_names
from nanochat.errors import wrong_input
from nanochat.running.find import find_checkpoint
from nanochat.running.live import LiveRuns

if TYPE_CHECKING:
    import uvicorn

    from nanochat.serving.models import Models


@click.command("serve")
@click.argument("checkpoints", metavar="[CHECKPOINT]...", nargs=-1)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Answers written at once.")
@click.option("--queue", type=click.IntRange(0), default=224, show_default=True, help="Answers that may wait beside.")
@click.option("--engines", type=click.IntRange(1), default=1, show_default=True, help="Of each model, one a GPU.")
@click.option("--api-keys", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file, a key a line.")
@click.option("--api-key", "listed", envvar="NANOCHAT_API_KEYS", help="Keys, with commas; better in NANOCHAT_API_KEYS.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a minute of each key.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds an answer may take.",
)
@click.option(
    "--drain", type=click.IntRange(0), default=30, show_default=True, help="Seconds to finish answers at the end."
)
@click.option("--cors", "origins", multiple=True, metavar="ORIGIN", help="A page elsewhere that may ask.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name that this server may be asked by, beside loopback's; bound to loopback, it takes no other.",
)
@click.option(
    "--deterministic", is_flag=True, help="One row at a time: a request's numbers are its own, to the last bit; slower."
)
@click.option("--int8", is_flag=True, help="Weights in 8 bits, on a CPU: faster, and a little less exact.")
@click.option(
    "--compile", "compiled", is_flag=True, help="torch.compile: ready later, and faster, on a CPU for one row."
)
@device_option
def command(checkpoints: tuple[str, ...], host: str, port: int, **how: Any) -> None:
    """Serve CHECKPOINT (without one, the newest finished chat model): a chat page, and OpenAI's API under /v1.

    At /runs it shows the runs of this machine, and the curves of one while it goes on.

    CHECKPOINT is a run, RUN/STAGE (quickstart/sft), a tag (d4_w192_h3), a key, NAME@STEP or a folder. Several are
    served by their names, which /v1/models lists: that of the stage's result (sft-6807520b), or of the folder. Where
    two would have one name, it is followed by the step (sft-6807520b@400), or has the folder before it (mine:model).
    """
    if how["deterministic"] and how["compiled"]:
        said = "a compiled step rounds otherwise than its operators, and which of them computes an id depends on others"
        raise wrong_input("E407", f"--deterministic and --compile exclude one another: {said}", help="leave one out")

    # Threads of OpenMP that spin while they wait take the cores that the event loop needs: 190 µs became 8 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    from nanochat.serving.server import address, bind, make_server, serve

    bound = bind(host, port)  # first: a port in use is known before a model is loaded, or torch
    with bound:
        folders = model_names(find_checkpoint(name) for name in checkpoints or (None,))

        from nanochat.serving.app import create_server
        from nanochat.serving.keys import Keys, read_keys
        from nanochat.serving.models import Models
        from nanochat.serving.service import Limits

        keys = Keys(read_keys(how.pop("api_keys"), how.pop("listed")), per_minute=how.pop("rate"))
        local, named = ipaddress.ip_address(bound.getsockname()[0]).is_loopback, how.pop("hosts")
        hosts = [name.lower() for name in (host, *named)] if local or named else None
        limits, drain, origins = Limits(answer_seconds=how.pop("timeout")), how.pop("drain"), how.pop("origins")
        models = Models(capacity=how["rows"] + how.pop("queue"))
        loading = Loading(models, folders, how.pop("engines"), how)
        app = create_server(
            models, start=loading.start, keys=keys, limits=limits, origins=origins, hosts=hosts, runs=LiveRuns()
        )
        loading.server = make_server(app, drain_seconds=drain)
        url, names = address(bound), ", ".join(folders)
        loading.greeting = f"{names} answers at {url} (chat page) and {url}/v1 (OpenAI's API). Ctrl-C ends it."
        if not local and not keys.some:
            said = "Whoever reaches this address can use the model: give keys with --api-keys to prevent it."
            click.secho(said, fg="yellow", err=True)
        try:
            serve(loading.server, bound)
        except KeyboardInterrupt:  # uvicorn ends in order, then raises it again
            click.echo()
    if loading.fault is not None:
        raise loading.fault


@attrs.define
class Loading:
    """Models that are loaded while the server answers already that it is not ready."""

    models: "Models"
    folders: Mapping[str, Path]
    """By the names that they are served by."""
    engines: int
    """Of each, one a GPU."""
    how: dict[str, Any]
    """What each is loaded with."""
    server: "uvicorn.Server | None" = None
    greeting: str = ""
    fault: BaseException | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        import threading

        threading.Thread(target=self._load, name="loading", daemon=True).start()

    def _load(self) -> None:
        from nanochat.serving.engine_process import EngineProcess

        assert self.server is not None
        gpus = range(self.engines) if self.engines > 1 else [None]
        try:
            for name, folder in self.folders.items():
                loads = [partial(load_engine, folder, gpu=gpu, **self.how) for gpu in gpus]
                self.models.add(name, [EngineProcess(load) for load in loads])
        except BaseException as fault:
            self.fault, self.server.should_exit = fault, True
        else:
            self.models.ready = True
            click.echo(self.greeting)
