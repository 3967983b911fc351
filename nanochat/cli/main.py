"""`nanochat` and `nanochat-run`: which command there is, and how every command ends.

In: the command line. Out: an exit code: 0 done, 1 a stage failed (or `diff` found differences), 2 wrong input, 75
stopped in order, 130 interrupted. A command's module is imported when it is invoked, so that `--help` answers at
once.
"""

import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nanochat.errors import Diagnostic  # at run time only where there is an error: --help does without attrs

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("nanochat.cli.run:command", "Run a recipe: what is done is reused, what was cut off is resumed."),
    "plan": ("nanochat.cli.plan:command", "What a run would do, and why."),
    "runs": ("nanochat.cli.runs:command", "List runs; show one, remove old ones, clear up."),
    "watch": ("nanochat.cli.watch:command", "A run or a sweep while it goes on: curves, speed, data, memory."),
    "report": ("nanochat.cli.report:command", "The report of a run."),
    "show": ("nanochat.cli.show:command", "The resolved recipe; --origin: where each value comes from."),
    "new": ("nanochat.cli.new:command", "Write a recipe: a few questions, a budget, a file."),
    "estimate": ("nanochat.cli.estimate:command", "What a run takes: parameters, memory, FLOPs, time, cost."),
    "bench": ("nanochat.cli.bench:command", "How fast this machine trains a recipe's model, and answers by it."),
    "data": (
        "nanochat.cli.data:command",
        "What a recipe reads: list, get, verify, stats, overlap, tokenize, pack, show; synth.",
    ),
    "sweep": ("nanochat.cli.sweep:command", "A recipe in many variants, one after another."),
    "sweeps": ("nanochat.cli.sweeps:command", "What came out of sweeps; pause, reorder, try again."),
    "diff": ("nanochat.cli.diff:command", "What differs between two recipes or runs."),
    "plugins": ("nanochat.cli.plugins:command", "The installed plugins and what they offer."),
    "explain": ("nanochat.cli.explain:command", "What an error code, a key, a component, a hook means."),
    "schema": ("nanochat.cli.schema:command", "JSON Schema of recipes, for editors."),
    "tokenizer": ("nanochat.cli.tokenizer:command", "A tokenizer to or from tiktoken's and Hugging Face's files."),
    "export": ("nanochat.cli.export_model:command", "A trained model for Hugging Face, or as plain safetensors."),
    "import": ("nanochat.cli.import_model:command", "A model from Hugging Face, or the public nanochat's files."),
    "eval": ("nanochat.cli.evaluate:command", "Measure a trained model by any evaluations."),
    "chat": ("nanochat.cli.chat:command", "Talk to a trained model in the terminal."),
    "complete": ("nanochat.cli.complete:command", "Let a model continue a text."),
    "serve": ("nanochat.cli.serve:command", "A chat page and an OpenAI-compatible server."),
}
"""Command → where its click command stands, and its line in `nanochat --help`."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from nanochat.errors import did_you_mean

            near = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"there is no command `{args[0]}`{'; ' + near if near else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nanochat-run", prog_name="nanochat")
def nanochat() -> None:
    """Train your own small ChatGPT, end to end, from one TOML file: nanochat run recipes/quickstart.toml"""


def main(arguments: Sequence[str] | None = None) -> None:
    """`nanochat`: run a command and exit."""
    sys.exit(_finish(list(sys.argv[1:] if arguments is None else arguments)))


def run_main(arguments: Sequence[str] | None = None) -> None:
    """`nanochat-run RECIPE`: the same as `nanochat run RECIPE`."""
    main(["run", *(sys.argv[1:] if arguments is None else arguments)])


def _finish(arguments: list[str]) -> int:
    """The exit code of a command line; errors are printed here and nowhere else."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign gets a question mark
    try:
        code = nanochat.main(args=arguments, prog_name="nanochat", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as fault:
        fault.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more when it ends; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except Exception as fault:
        return _known(fault, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0


def _known(fault: Exception, *, as_json: bool) -> int:
    """Print an error that a user can mend; anything else is a fault of ours and goes on with its traceback.

    as_json: whoever reads the command's JSON finds the diagnostics there too.
    """
    from nanochat.errors import EXIT_STOPPED, NanochatError, Stopped, wrong_input

    if isinstance(fault, Stopped):
        return EXIT_STOPPED
    if isinstance(fault, OSError) and fault.filename is not None:
        said = f"{fault.strerror or fault}: {fault.filename}"
        fault = wrong_input("E401", said, help="check the path and its permissions; NANOCHAT_HOME moves the home")
    if not isinstance(fault, NanochatError):
        raise fault
    if as_json:
        import attrs

        click.echo(json.dumps({"errors": [attrs.asdict(found) for found in fault.diagnostics]}, indent=2))
    click.echo("\n\n".join(_coloured(diagnostic) for diagnostic in fault.diagnostics), err=True)
    errors = [found for found in fault.diagnostics if found.severity == "error"]
    if len(errors) > 1:
        click.echo(f"\n{len(errors)} errors; `nanochat explain {errors[0].code}` says more", err=True)
    return fault.exit_code


def _coloured(diagnostic: "Diagnostic") -> str:
    """The diagnostic with its head in colour; click takes the colours out where the output is no terminal."""
    head, newline, rest = diagnostic.render().partition("\n")
    colour = "yellow" if diagnostic.severity == "warning" else "red"
    return click.style(head, fg=colour, bold=True) + newline + rest


if __name__ == "__main__":
    main()
