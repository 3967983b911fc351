"""An option's list of numbers: 4,8,12."""

import click


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int]:
    """For click's `callback`."""
    try:
        return [int(part) for part in (value or "").split(",") if part]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 2,4,8", context, parameter) from None
