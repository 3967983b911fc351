"""What this distribution offers to nanochat."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_tasks(registry: Registrar) -> None:
    """Conversations."""
    registry.add("opposites", build="nanochat_acme.opposites:Opposites")


@hookimpl
def register_optimizers(registry: Registrar) -> None:
    """Optimizers."""
    registry.add("lion", build="nanochat_acme.lion:build", config="nanochat_acme.lion_config:LionConfig")
