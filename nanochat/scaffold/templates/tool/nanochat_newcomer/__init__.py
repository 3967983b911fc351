"""What this distribution offers to nanochat: strings, so that planning a recipe imports none of it."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_tools(registry: Registrar) -> None:
    """What a model can call while it answers."""
    registry.add("newcomer", build="nanochat_newcomer.tool:Newcomer")
