"""Train your own small ChatGPT, end to end, from one TOML file."""

__version__ = "0.1.0"
