"""What this distribution offers to nanochat: strings, so that planning a recipe imports none of it."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_tasks(registry: Registrar) -> None:
    """Conversations."""
    registry.add("newcomer", build="nanochat_newcomer.task:Newcomer")
