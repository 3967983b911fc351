"""How many checkpoints of a stage stay on disk; apart from `nanochat.training.checkpoint`, which imports torch."""

KEEP = 2
"""The newest, and the one before it in case the newest is damaged."""
