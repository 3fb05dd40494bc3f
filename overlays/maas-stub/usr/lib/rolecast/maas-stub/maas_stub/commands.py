"""What the commands of region and rack share: the command line, the version, and how a trouble is told."""

import argparse
import sys
from collections.abc import Sequence

from . import NAME, configuration
from .configuration import Trouble


def main(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Runs one command, which its parser names as `run`; 0 when it did what it says."""
    told = parser.parse_args(arguments)
    try:
        if told.version:
            print(f"{NAME}, for MAAS {configuration.release().version}")
        elif told.command is None:
            parser.error("no command")
        else:
            told.run(told)
    except (Trouble, OSError) as trouble:
        print(f"{parser.prog} ({NAME}): {trouble}", file=sys.stderr)
        return 1
    return 0
