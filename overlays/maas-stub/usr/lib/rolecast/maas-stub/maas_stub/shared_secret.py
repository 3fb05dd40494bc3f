"""MAAS's shared secret: the database has it, every controller has it in a file."""

import json
import secrets
from typing import Any

from . import log
from .configuration import SECRET, Release, Trouble, read, write

PATH = "global/rpc-shared"


def settle(cursor: Any, release: Release) -> str:
    """Agrees file and database as the version does, and returns the secret.

    3.x: the database decides, and the file is written over. 2.4: either brings the other where it is missing, and a
    region does not start while they differ.
    """
    in_file = read(SECRET)
    if release.number < (3, 0):
        secret = _settle_two(cursor, in_file)
    else:
        secret = _of_database(cursor)
        if in_file not in (None, secret):
            log(f"{SECRET} differs from the database's secret: writing the database's")
    if in_file != secret:
        write(SECRET, secret)
    return secret


def _of_database(cursor: Any) -> str:
    cursor.execute(
        "INSERT INTO maasserver_secret (path, created, updated, value) VALUES (%s, now(), now(), %s) "
        "ON CONFLICT (path) DO NOTHING",
        [PATH, json.dumps({"secret": secrets.token_hex(16)})],
    )
    cursor.execute("SELECT value->>'secret' FROM maasserver_secret WHERE path = %s", [PATH])
    return checked(cursor.fetchone()[0])


def _settle_two(cursor: Any, in_file: str | None) -> str:
    cursor.execute(
        "INSERT INTO maasserver_config (name, value) VALUES ('rpc_shared_secret', to_jsonb(%s::text)) "
        "ON CONFLICT (name) DO NOTHING",
        [in_file or secrets.token_hex(16)],
    )
    cursor.execute("SELECT value #>> '{}' FROM maasserver_config WHERE name = 'rpc_shared_secret'")
    secret = checked(cursor.fetchone()[0])
    if in_file not in (None, secret):
        raise Trouble(f"{SECRET} differs from the secret in the database, and 2.4 does not start so")
    return secret


def checked(secret: str | None) -> str:
    """The secret, if it is one: pairs of hexadecimal digits."""
    try:
        if not bytes.fromhex(secret or ""):
            raise ValueError
    except ValueError:
        raise Trouble("the shared secret is not made of hexadecimal digits") from None
    return str(secret)
