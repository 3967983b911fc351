"""What scaling laws are asked where nobody says otherwise; apart from the laws, whose NumPy no `--help` needs."""

FIGURE = "bpb.bpb"
"""What is fitted."""

FURTHER = 10.0
"""Times the largest budget: where the laws are asked what comes next."""
