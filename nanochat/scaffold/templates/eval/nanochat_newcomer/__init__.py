"""What this distribution offers to nanochat: strings, so that planning a recipe imports none of it."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_evals(registry: Registrar) -> None:
    """Measurements of a checkpoint."""
    registry.add(
        "newcomer",
        build="nanochat_newcomer.eval:evaluate",
        config="nanochat_newcomer.config:NewcomerConfig",
    )
