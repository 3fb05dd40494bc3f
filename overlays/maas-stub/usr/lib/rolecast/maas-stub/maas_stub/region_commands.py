"""`maas-region` and `maas-common`: the commands of a region that the join runs, root's all.

Nothing secret is an argument: a password comes from the terminal, or as the first line of standard input, which is the
stub's own way (MAAS asks at the terminal alone).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import NAME, accounts, commands, configuration, schema
from .configuration import Trouble


def _with_database(work: Callable[[Any], Any]) -> Any:
    from .database import Database, Unavailable

    try:
        return Database(configuration.regiond(), configuration.release().patience).run(work, seconds=20, transaction=True)
    except Unavailable as error:
        raise Trouble(f"the database does not answer: {error}") from error


def _dbupgrade(_: argparse.Namespace) -> None:
    schema.upgrade(configuration.regiond(), configuration.release())


def _password() -> str:
    if sys.stdin.isatty():
        import getpass

        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Again: "):
            raise Trouble("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise Trouble("no password: give it at the terminal, or as the first line of standard input")
    return password


def _createadmin(told: argparse.Namespace) -> None:
    password = _password()
    _with_database(lambda cursor: accounts.create_administrator(cursor, told.username, told.email, password))


def _apikey(told: argparse.Namespace) -> None:
    def work(cursor: Any) -> list[str]:
        user = accounts.user_number(cursor, told.username)
        if told.generate:
            return [accounts.generate_key(cursor, user, "MAAS consumer")]
        return accounts.keys(cursor, user)

    for key in _with_database(work):
        print(key)


def _nothing(told: argparse.Namespace) -> None:
    print(f"{NAME}: nothing to do for {told.command}: no zones are served", file=sys.stderr)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=f"{NAME}: stands in for MAAS's own {program}.")
    parser.add_argument("--version", action="store_true", help="say what this stands for")
    words = parser.add_subparsers(dest="command", metavar="COMMAND")
    if program == "maas-common":
        words.add_parser("setup-dns", help="does nothing here").set_defaults(run=_nothing)
        return parser
    upgrade = words.add_parser("dbupgrade", help="bring the database to this image's version")
    upgrade.add_argument("--database", default="default", choices=["default"])
    upgrade.set_defaults(run=_dbupgrade)
    create = words.add_parser("createadmin", help="create an administrator; the password from standard input")
    create.add_argument("--username", required=True)
    create.add_argument("--email", required=True)
    create.set_defaults(run=_createadmin)
    key = words.add_parser("apikey", help="print a user's API keys")
    key.add_argument("--username", required=True)
    key.add_argument("--generate", action="store_true", help="make a new one, and print that")
    key.set_defaults(run=_apikey)
    words.add_parser("set_up_dns", help="does nothing here").set_defaults(run=_nothing)
    return parser


def main(program: str, arguments: Sequence[str]) -> int:
    """Runs one command; 0 when it did what it says."""
    return commands.main(_parser(program), arguments)


if __name__ == "__main__":
    sys.exit(main("maas-region", sys.argv[1:]))
