"""`nanochat serve [CHECKPOINT]`: the chat page and the OpenAI-compatible server."""

import ipaddress

import click

from nanochat.cli.checkpoint_engine import checkpoint_argument, device_option, open_engine


@click.command("serve")
@checkpoint_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--rows", type=click.IntRange(1), default=32, show_default=True, help="Answers written at once.")
@device_option
def command(checkpoint: str | None, host: str, port: int, rows: int, device: str) -> None:
    """Serve CHECKPOINT (without one, the newest finished chat model): a chat page, and /v1/chat/completions.

    CHECKPOINT is a run, RUN/STAGE (quickstart/sft), a tag (d4_w192_h3), a key, NAME@STEP or a folder.
    """
    from nanochat.serving.server import address, bind

    bound = bind(host, port)  # first: a port in use is known before a model is loaded
    with bound:
        engine, name = open_engine(checkpoint, device=device, rows=rows)

        from nanochat.serving.app import create_app
        from nanochat.serving.server import serve

        url = address(bound)
        click.echo(f"{name} answers at {url} (chat page) and {url}/v1 (OpenAI's API). Ctrl-C ends it.")
        if not ipaddress.ip_address(bound.getsockname()[0]).is_loopback:
            click.secho("Whoever reaches this address can use the model: there are no keys yet.", fg="yellow", err=True)
        try:
            serve(create_app(engine, model=name), bound)
        except KeyboardInterrupt:  # uvicorn ends in order, then raises it again
            click.echo()
