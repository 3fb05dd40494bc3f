"""`maas-rack`: the command of a rack that the join runs, root's."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from . import NAME, commands, configuration, log, shared_secret
from .configuration import Trouble

UNIT = "maas-rackd.service"


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words, UNIT], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=90)
    if done.returncode != 0:
        raise Trouble(f"systemctl {' '.join(words)} {UNIT} failed: {done.stderr.decode(errors='replace').strip()}")


def _secret() -> str:
    """From the terminal, or the first line of standard input; never an argument, where anyone could read it."""
    if sys.stdin.isatty():
        import getpass

        return shared_secret.checked(getpass.getpass("Secret: ").strip())
    return shared_secret.checked(sys.stdin.readline().strip())


def _register(told: argparse.Namespace) -> None:
    """As MAAS does it: the rack stops, forgets who it was, learns address and secret, and starts."""
    secret = _secret()
    _systemctl("stop")
    configuration.IDENTITY.unlink(missing_ok=True)
    configuration.set_maas_url(told.url)
    configuration.write(configuration.SECRET, secret + "\n")
    _systemctl("enable")
    _systemctl("start")
    log(f"this rack will register with {told.url}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maas-rack", description=f"{NAME}: stands in for MAAS's own maas-rack.")
    parser.add_argument("--version", action="store_true", help="say what this stands for")
    words = parser.add_subparsers(dest="command", metavar="COMMAND")
    register = words.add_parser("register", help="join a region; the secret from standard input")
    register.add_argument("--url", required=True)
    register.set_defaults(run=_register)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs one command; 0 when it did what it says."""
    return commands.main(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
