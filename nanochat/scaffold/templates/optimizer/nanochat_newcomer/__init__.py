"""What this distribution offers to nanochat: strings, so that planning a recipe imports none of it."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_optimizers(registry: Registrar) -> None:
    """Optimizers."""
    registry.add(
        "newcomer",
        build="nanochat_newcomer.optimizer:build",
        config="nanochat_newcomer.config:NewcomerConfig",
    )
