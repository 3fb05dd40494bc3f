"""MAAS's users and their API keys, in MAAS's own tables."""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from .configuration import Trouble

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


@dataclass(frozen=True)
class User:
    """Who asks."""

    number: int
    name: str
    email: str
    administrator: bool


def _word(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _hash(password: str) -> str:
    """As Django keeps it."""
    salt, rounds = _word(22), 260_000
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), rounds)
    return f"pbkdf2_sha256${rounds}${salt}${base64.b64encode(digest).decode()}"


def create_administrator(cursor: Any, name: str, email: str, password: str) -> None:
    """A user who may do everything, with a first API key."""
    cursor.execute(
        "INSERT INTO auth_user (username, password, email, is_superuser) VALUES (%s, %s, %s, true) "
        "ON CONFLICT (username) DO NOTHING RETURNING id",
        [name, _hash(password), email],
    )
    row = cursor.fetchone()
    if row is None:
        raise Trouble(f"a user named '{name}' already exists")
    generate_key(cursor, row[0], "MAAS consumer")


def user_number(cursor: Any, name: str) -> int:
    """The user's number."""
    cursor.execute("SELECT id FROM auth_user WHERE username = %s", [name])
    row = cursor.fetchone()
    if row is None:
        raise Trouble(f"no user is named '{name}'")
    return int(row[0])


def generate_key(cursor: Any, user: int, name: str) -> str:
    """A new API key: `consumer:token:secret`."""
    consumer, token, secret = _word(18), _word(18), _word(32)
    cursor.execute(
        "INSERT INTO piston3_consumer (key, secret, name, user_id) VALUES (%s, '', %s, %s) RETURNING id",
        [consumer, name, user],
    )
    cursor.execute(
        "INSERT INTO piston3_token (key, secret, consumer_id, user_id) VALUES (%s, %s, %s, %s)",
        [token, secret, cursor.fetchone()[0], user],
    )
    return f"{consumer}:{token}:{secret}"


def keys(cursor: Any, user: int) -> list[str]:
    """All API keys of a user."""
    cursor.execute(
        "SELECT c.key, t.key, t.secret FROM piston3_token t JOIN piston3_consumer c ON c.id = t.consumer_id "
        "WHERE t.user_id = %s ORDER BY t.id",
        [user],
    )
    return [":".join(row) for row in cursor.fetchall()]


def authenticate(cursor: Any, header: str | None) -> User | None:
    """Who signed a request with OAuth 1.0's PLAINTEXT method (RFC 5849, 3.4.4); none when nobody known did.

    Nonces are not remembered: the stub's API is for a lab.
    """
    scheme, _, rest = (header or "").partition(" ")
    if scheme.lower() != "oauth":
        return None
    told: dict[str, str] = {}
    for part in rest.split(","):
        word, _, value = part.strip().partition("=")
        told[word] = unquote(value.strip('"'))
    if told.get("oauth_signature_method") != "PLAINTEXT":
        return None
    cursor.execute(
        "SELECT c.secret, t.secret, u.id, u.username, u.email, u.is_superuser FROM piston3_token t "
        "JOIN piston3_consumer c ON c.id = t.consumer_id JOIN auth_user u ON u.id = t.user_id "
        "WHERE c.key = %s AND t.key = %s",
        [told.get("oauth_consumer_key", ""), told.get("oauth_token", "")],
    )
    row = cursor.fetchone()
    if row is None:
        return None
    expected = f"{row[0]}&{row[1]}"
    if not secrets.compare_digest(expected.encode(), told.get("oauth_signature", "").encode()):
        return None
    return User(number=row[2], name=row[3], email=row[4], administrator=row[5])
