"""The region's HTTP on 5240: discovery, the API as far as the join uses it, and the lab's rows.

Every answer is JSON, names the stub, and comes within about five seconds: 503 when the database does not.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import psycopg2

from . import accounts, controllers, log, rows, subnets
from .database import Unavailable

if TYPE_CHECKING:
    from .region import Region

PORT = 5240
LARGEST_BODY = 64 * 1024
MOST_REQUESTS = 128


@dataclass(frozen=True)
class Request:
    """What a route is given."""

    region: "Region"
    words: tuple[str, ...]
    """What the path's pattern caught."""
    query: dict[str, str]
    body: dict[str, Any]
    user: accounts.User | None


class Bad(Exception):
    """The request makes no sense: 400."""


Answer = Any
Route = Callable[[Any, Request], Answer]


def _rpc(cursor: Any, _: Request) -> Answer:
    return {"stub": True, "eventloops": controllers.eventloops(cursor)}


def _version(cursor: Any, request: Request) -> Answer:
    # Real MAAS of 3.x reads the database for this; a region that cannot is not to answer.
    cursor.execute("SELECT version_num FROM alembic_version")
    version = {"version": request.region.release.version, "subversion": "stub", "capabilities": []}
    return {"stub": True, "schema": (cursor.fetchone() or [None])[0], **version}


def _whoami(_: Any, request: Request) -> Answer:
    if request.query.get("op") != "whoami" or request.user is None:
        raise Bad("only op=whoami is known")
    user = request.user
    return {"stub": True, "username": user.name, "email": user.email, "is_superuser": user.administrator}


def _controllers(kind: int) -> Route:
    return lambda cursor, _: controllers.described(cursor, kind)


def _controller(kind: int) -> Route:
    def route(cursor: Any, request: Request) -> Answer:
        found = controllers.described(cursor, kind, request.words[0])
        if not found:
            raise subnets.Unknown
        return found[0]

    return route


def _delete_controller(kind: int) -> Route:
    def route(cursor: Any, request: Request) -> Answer:
        _controller(kind)(cursor, request)
        if kind == controllers.RACK:
            force = request.query.get("force", "").lower() in ("true", "1")
            subnets.leave_vlans(cursor, request.words[0], force)
        controllers.delete(cursor, request.words[0], kind)
        return None

    return route


def _vlan(cursor: Any, request: Request) -> Answer:
    return subnets.vlan_object(cursor, *_numbers(request))


def _update_vlan(cursor: Any, request: Request) -> Answer:
    told = {word: str(value) for word, value in request.body.items() if value is not None}
    return subnets.update_vlan(cursor, *_numbers(request), told)


def _numbers(request: Request) -> tuple[int, int]:
    fabric, vid = (int(word) for word in request.words)
    return fabric, vid


def _create_range(cursor: Any, request: Request) -> Answer:
    return subnets.create_range(cursor, {word: str(value) for word, value in request.body.items()})


def _insert_row(cursor: Any, request: Request) -> Answer:
    n, client = request.body.get("n"), request.body.get("client")
    if type(n) is not int or not 0 <= n < 2**63 or not isinstance(client, str) or not 0 < len(client) <= 64:
        raise Bad("n has to be a number and client a short name")
    rows.insert(cursor, client, n)
    return {"stub": True, "n": n, "region": request.region.hostname}


def _rows(cursor: Any, request: Request) -> Answer:
    client = request.query.get("client", "")
    return {"stub": True, "client": client, "ranges": rows.ranges(cursor, client)}


def _count(cursor: Any, _: Request) -> Answer:
    return {"stub": True, "count": rows.count(cursor)}


@dataclass(frozen=True)
class Entry:
    """A line of the table of routes."""

    method: str
    path: re.Pattern[str]
    route: Route
    status: int = 200
    signed: bool = False
    """Whether a user has to have signed it; an administrator for what changes anything."""
    transaction: bool = False
    seconds: float = 4.0


def _table() -> list[Entry]:
    def api(method: str, path: str, route: Route, status: int = 200) -> Entry:
        pattern = re.compile(f"/MAAS/api/2.0/{path}/")
        return Entry(method, pattern, route, status, signed=True, transaction=method != "GET")

    table = [
        # Asked by balancers, which give up after two or three seconds.
        Entry("GET", re.compile("/MAAS/rpc/?"), _rpc, seconds=1.5),
        Entry("GET", re.compile("/MAAS/api/2.0/version/"), _version, seconds=1.5),
        api("GET", "users", _whoami),
        api("GET", "subnets", lambda cursor, _: subnets.subnet_objects(cursor)),
        api("GET", r"fabrics/(\d{1,9})/vlans/(\d{1,9})", _vlan),
        api("PUT", r"fabrics/(\d{1,9})/vlans/(\d{1,9})", _update_vlan),
        api("GET", "ipranges", lambda cursor, _: subnets.range_objects(cursor)),
        api("POST", "ipranges", _create_range),
        # The stub's own, for the lab's client.
        Entry("POST", re.compile("/MAAS/stub/rows/"), _insert_row, status=201),
        Entry("GET", re.compile("/MAAS/stub/rows/"), _rows),
        Entry("GET", re.compile("/MAAS/stub/rows/count/?"), _count),
    ]
    for word, kind in (("rackcontrollers", controllers.RACK), ("regioncontrollers", controllers.REGION)):
        table.append(api("GET", word, _controllers(kind)))
        table.append(api("GET", rf"{word}/(\w{{1,41}})", _controller(kind)))
        table.append(api("DELETE", rf"{word}/(\w{{1,41}})", _delete_controller(kind), status=204))
    return table


TABLE = _table()


def answer(
    region: "Region", method: str, target: str, header: str | None, kind: str, body: bytes
) -> tuple[int, Answer]:
    """Status and JSON of one request."""
    parts = urlsplit(target)
    fitting = [(entry, match) for entry in TABLE if (match := entry.path.fullmatch(parts.path)) is not None]
    if not fitting:
        return 404, _error("no such page in the stub")
    if not region.ready:
        return 503, _error("MAAS is starting")
    chosen = [(entry, match) for entry, match in fitting if entry.method == method]
    if not chosen:
        return 405, _error("no such method here")
    entry, match = chosen[0]
    try:
        told = _body(kind, body)

        def work(cursor: Any) -> tuple[int, Answer]:
            user = None
            if entry.signed:
                user = accounts.authenticate(cursor, header)
                if user is None:
                    return 401, _error("no valid signature of a user")
                if method != "GET" and not user.administrator:
                    return 403, _error("only administrators may do this")
            request = Request(region, match.groups(), dict(parse_qsl(parts.query)), told, user)
            return entry.status, entry.route(cursor, request)

        return region.database.run(work, seconds=entry.seconds, transaction=entry.transaction)
    except Unavailable as error:
        return 503, _error(f"the database is away: {error}")
    except subnets.Refused as refused:
        return 400, refused.complaints
    except (Bad, psycopg2.IntegrityError) as error:
        return 400, _error(str(error))
    except ValueError:
        return 400, _error("a database keeps no such text")
    except subnets.Unknown:
        return 404, _error("there is no such thing")


def _error(text: str) -> dict[str, object]:
    return {"stub": True, "error": text}


def _body(kind: str, body: bytes) -> dict[str, Any]:
    try:
        if kind.startswith("application/json"):
            told = json.loads(body or b"{}")
            if not isinstance(told, dict):
                raise ValueError
            return told
        if kind.startswith("multipart/form-data"):
            # What MAAS's own client sends.
            from email import message_from_bytes

            whole = message_from_bytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + body)
            parts: Any = whole.get_payload() if whole.is_multipart() else []
            named = ((part.get_param("name", header="content-disposition"), part) for part in parts)
            return {str(name): part.get_payload(decode=True).decode() for name, part in named}
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    except (ValueError, AttributeError, RecursionError):
        raise Bad("the body is not what its type says") from None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "MAAS-stub"
    sys_version = ""
    timeout = 15  # Seconds that a connection may be silent.
    disable_nagle_algorithm = True
    region: "Region"

    def _do(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return self._reply(413, _error("the body is too large, or of unknown length"))
        body = self.rfile.read(int(length)) if int(length) else b""
        try:
            kind = self.headers.get("Content-Type", "")
            status, told = answer(self.region, self.command, self.path, self.headers.get("Authorization"), kind, body)
        except Exception as error:  # A mistake of ours is one answer's trouble, not the daemon's.
            log(f"{self.command} {self.path[:200]}: {type(error).__name__}: {error}")
            status, told = 500, _error("the stub made a mistake; see its journal")
        return self._reply(status, told)

    do_GET = do_POST = do_PUT = do_DELETE = _do

    def _reply(self, status: int, told: Answer) -> None:
        payload = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("X-MAAS-Stub", "true")
        if status == 503:
            self.send_header("Retry-After", "5")
        if self.close_connection:
            self.send_header("Connection", "close")
        # One packet, so that nobody waits for an acknowledgement.
        self._headers_buffer.extend((b"\r\n", payload))  # type: ignore[attr-defined]
        self.flush_headers()

    def log_message(self, *_: object) -> None:
        """Balancers ask every second; nobody wants to read it."""


class Server(ThreadingHTTPServer):
    """A thread a connection, up to a number; what is above it is hung up on."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        super().__init__(address, handler)
        self._places = threading.BoundedSemaphore(MOST_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no error of ours."""

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this machine's name, which may take its time.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "stub", PORT


def serve(region: "Region") -> None:
    """Binds, and answers in threads of its own."""
    handler = type("BoundHandler", (Handler,), {"region": region})
    server = Server(("", PORT), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 3600}, name="http", daemon=True).start()
