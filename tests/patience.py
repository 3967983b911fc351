"""How long a test waits for what must happen. No bound on speed: where twenty processes want one core, importing torch
takes one of them a minute.
"""

PATIENCE = 600.0
"""Seconds until a test gives up."""
