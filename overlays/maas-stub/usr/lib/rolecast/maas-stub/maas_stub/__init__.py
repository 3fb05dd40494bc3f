"""A stub of MAAS: the part of its HTTP, command and file contract that rolecast's join and lab depend on.

It is no MAAS. It takes MAAS's place in images for a distribution that has no MAAS package, keeps its state in the same
PostgreSQL database, and calls itself a stub wherever it says anything. What it does and leaves out: docs/stub.md.
"""

import sys

NAME = "MAAS stub"


def log(text: str) -> None:
    """One line for the journal."""
    print(f"[{NAME}] {text}", file=sys.stderr, flush=True)
