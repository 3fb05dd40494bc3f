"""Ports that MAAS binds and of which the stub needs no more than that: they accept and close, or give one page."""

import selectors
import socket
import threading
from collections.abc import Sequence

BEACONS = 5240
INTERNAL_API = 5242
RACK_HTTP = 5248
TEMPORAL = 5271

PAGE = b"HTTP/1.1 200 OK\r\nServer: MAAS-stub\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n"
PAGE += b"Connection: close\r\n\r\nMAAS stub\n"


def of_region(version: tuple[int, int]) -> list[int]:
    """TCP ports beside API and RPC: Temporal since 3.5, the internal API since 3.6."""
    return [TEMPORAL] * (version >= (3, 5)) + [INTERNAL_API] * (version >= (3, 6))


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    if kind is socket.SOCK_STREAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("", port))
    bound.setblocking(False)
    if kind is socket.SOCK_STREAM:
        bound.listen(32)
    return bound


def bind(silent: Sequence[int], pages: Sequence[int] = ()) -> None:
    """Binds beacons and the given ports on all addresses, and serves them in one thread for ever."""
    watched = selectors.DefaultSelector()
    watched.register(_bound(socket.SOCK_DGRAM, BEACONS), selectors.EVENT_READ, "beacons")
    for port in silent:
        watched.register(_bound(socket.SOCK_STREAM, port), selectors.EVENT_READ, "silent")
    for port in pages:
        watched.register(_bound(socket.SOCK_STREAM, port), selectors.EVENT_READ, "page")
    threading.Thread(target=_serve, args=[watched], name="listeners", daemon=True).start()


def _serve(watched: selectors.BaseSelector) -> None:
    while True:
        for key, _ in watched.select():
            bound = key.fileobj
            assert isinstance(bound, socket.socket)
            try:
                if key.data == "beacons":
                    bound.recv(2048)
                    continue
                caller, _ = bound.accept()
                with caller:
                    if key.data == "page":
                        caller.settimeout(1)
                        caller.recv(4096)
                        caller.sendall(PAGE)
            except OSError:
                continue
