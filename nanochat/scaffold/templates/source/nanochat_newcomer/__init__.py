"""What this distribution offers to nanochat: strings, so that planning a recipe imports none of it."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_sources(registry: Registrar) -> None:
    """Documents to pretrain on."""
    registry.add(
        "newcomer",
        build="nanochat_newcomer.source:Newcomer",
        config="nanochat_newcomer.source:NewcomerConfig",
    )
