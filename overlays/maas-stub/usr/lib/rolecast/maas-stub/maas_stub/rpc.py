"""The stub's line between rack and region: JSON lines over TCP, after both have proved that they know the secret.

Each side sends a challenge; the other answers with HMAC-SHA256, keyed with the shared secret, over who answers, the
challenge, and a salt of its own. The idea is that of MAAS's handshake; the form is the stub's, and no MAAS speaks it.

    region: {"stub": true, "challenge": HEX}
    rack:   {"challenge": HEX, "salt": HEX, "answer": HEX}
    region: {"salt": HEX, "answer": HEX}   or   {"error": "authentication"}
    rack:   {"command": "register", ...}   region: {"system_id": ..., ...}
    rack:   {"command": "dhcp"}            region: {"dhcp": {...}}          every few seconds
"""

import hashlib
import hmac
import json
import secrets
import socket
import time
from typing import Any

LONGEST = 256 * 1024
"""Most bytes of a line. A rack's cards and a VLAN's ranges are far below."""


class Broken(Exception):
    """The line is gone, silent, or speaks something else."""


class NotTrusted(Exception):
    """The other side does not know the secret."""


class Line:
    """A connection that carries JSON objects."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._rest = b""
        connection.settimeout(seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: dict[str, Any]) -> None:
        """Sends one object."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Broken(f"cannot send: {error}") from error

    def receive(self) -> dict[str, Any]:
        """Waits for one object."""
        until = time.monotonic() + self._seconds
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > LONGEST or time.monotonic() > until:
                raise Broken("an endless line")
            try:
                piece = self._connection.recv(65536)
            except OSError as error:
                raise Broken(f"nothing came: {error}") from error
            if not piece:
                raise Broken("the other side hung up")
            self._rest += piece
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Broken("no JSON") from error
        if not isinstance(message, dict):
            raise Broken("no JSON object")
        return message


def _answer(secret: str, who: str, challenge: object, salt: str) -> str:
    text = f"{who}\0{challenge}\0{salt}".encode()
    return hmac.new(bytes.fromhex(secret), text, hashlib.sha256).hexdigest()


def _check(secret: str, who: str, challenge: str, message: dict[str, Any]) -> bool:
    answer, salt = message.get("answer"), message.get("salt")
    if not isinstance(answer, str) or not isinstance(salt, str):
        return False
    return hmac.compare_digest(answer.encode(), _answer(secret, who, challenge, salt).encode())


def greet_as_region(line: Line, secret: str) -> None:
    """The region's half of the handshake."""
    own = secrets.token_hex(16)
    line.send({"stub": True, "challenge": own})
    message = line.receive()
    if not _check(secret, "rack", own, message):
        line.send({"error": "authentication"})
        raise NotTrusted
    salt = secrets.token_hex(16)
    line.send({"salt": salt, "answer": _answer(secret, "region", message.get("challenge"), salt)})


def greet_as_rack(line: Line, secret: str) -> None:
    """The rack's half of the handshake."""
    theirs = line.receive().get("challenge")
    own, salt = secrets.token_hex(16), secrets.token_hex(16)
    line.send({"challenge": own, "salt": salt, "answer": _answer(secret, "rack", theirs, salt)})
    message = line.receive()
    if message.get("error") == "authentication" or not _check(secret, "region", own, message):
        raise NotTrusted
