"""The region controller: `maas-regiond.service`.

Starts as MAAS does: binds the API at once and answers 503 until it is ready, waits for the database for as long as it
takes, agrees on the secret, registers itself, and then gives signs of life. Owns the order of these and the region's
half of RPC; what is asked over HTTP is `http_api`'s.
"""

import signal
import socket
import threading
import time
from functools import partial
from typing import Any

from . import NAME, configuration, controllers, listeners, log, network, rpc, schema, shared_secret, subnets
from .configuration import Trouble
from .database import Database, Unavailable

RETRY = 3.0
"""Seconds between two tries to start, as in MAAS."""

RPC_PORTS = range(5250, 5260)
"""MAAS takes the first free one."""

MOST_LINES = 64
"""Lines at one time; what is above it is hung up on."""

SILENCE = 20.0
"""Seconds without a word after which a rack's line is dropped."""


class Region:
    """What the daemon's threads share."""

    def __init__(self, settings: configuration.Regiond, release: configuration.Release) -> None:
        self.settings = settings
        self.release = release
        self.hostname = socket.gethostname()
        self.database = Database(settings, release.patience)
        self.ready = False
        """Whether the API may answer."""
        self.node = 0
        self.secret = ""
        self.uuid = ""
        self.rpc_port = 0
        self._racks: dict[object, tuple[str, str]] = {}
        self._racks_lock = threading.Lock()
        self.racks_changed = threading.Event()

    def racks(self) -> list[tuple[str, str]]:
        """System id and address of every rack on a line."""
        with self._racks_lock:
            return list(self._racks.values())

    def rack_came(self, line: object, system_id: str, address: str) -> None:
        """A rack has registered on `line`."""
        with self._racks_lock:
            self._racks[line] = (system_id, address)
        self.racks_changed.set()

    def rack_went(self, line: object) -> None:
        """`line` has ended."""
        with self._racks_lock:
            known = self._racks.pop(line, None)
        if known is not None:
            self.racks_changed.set()


def start(region: Region) -> None:
    """What has to be done before anything is served; for ever, while the database is away."""
    told = ""
    while True:
        try:
            region.database.run(lambda cursor: _start(region, cursor), seconds=10, transaction=True)
            return
        except (Unavailable, Trouble, OSError) as error:
            if str(error) != told:
                log(f"not started yet, trying again every {RETRY:.0f} s: {error}")
                told = str(error)
        time.sleep(RETRY)


def _start(region: Region, cursor: Any) -> None:
    found = schema.installed(cursor)
    if found is None:
        raise Trouble("the database has no schema yet")
    if found != region.release.schema:
        log(f"the database is at {found}, this image brings {region.release.schema}; MAAS would start all the same")
    region.secret = shared_secret.settle(cursor, region.release)
    system_id = configuration.read(configuration.IDENTITY) or ""
    region.node, now = controllers.register(
        cursor, controllers.REGION, system_id, region.hostname, network.interfaces(), region.release.version
    )
    if now != system_id:
        configuration.write(configuration.IDENTITY, now)
    controllers.forget_former_processes(cursor, region.node)
    cursor.execute("SELECT value #>> '{}' FROM maasserver_config WHERE name = 'uuid'")
    region.uuid = cursor.fetchone()[0]
    if configuration.read(configuration.UUID) != region.uuid:
        configuration.write(configuration.UUID, region.uuid)
    # As in MAAS, the region that starts last decides.
    cursor.execute(
        "INSERT INTO maasserver_config VALUES ('maas_url', to_jsonb(%s::text)) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [region.settings.maas_url],
    )
    log(f"region controller '{now}' ({region.hostname}) starts")


def _addresses() -> list[str]:
    return [address.split("/")[0] for card in network.interfaces() for address in card["addresses"]]


def live(region: Region) -> None:
    """Gives signs of life until the region stops."""
    away = ""
    while region.ready:
        region.racks_changed.clear()
        try:
            region.database.run(
                lambda cursor: controllers.refresh(cursor, region.node, _addresses(), region.rpc_port, region.racks()),
                transaction=True,
            )
            if away:
                log("the database answers again")
            away, pause = "", controllers.REFRESH
        except Exception as error:  # Whatever it is: a region that stays alive says so and tries again.
            if not away:
                log(f"the database is away: {error}")
            away, pause = str(error) or "away", 1.0
        if region.racks_changed.wait(pause):
            # Racks come in bunches.
            time.sleep(0.2)


def _serve_rack(region: Region, connection: socket.socket, peer: str) -> None:
    """One rack's line, until it ends."""
    line = rpc.Line(connection, SILENCE * region.release.patience)
    system_id = ""
    try:
        rpc.greet_as_region(line, region.secret)
        while True:
            message = line.receive()
            try:
                if message.get("command") == "register":
                    system_id = _register_rack(region, message)
                    region.rack_came(line, system_id, peer)
                    log(f"rack controller '{system_id}' registered from {peer}")
                    line.send({"system_id": system_id, "uuid": region.uuid, "certificate": None})
                elif message.get("command") == "dhcp" and system_id:
                    wanted = region.database.run(partial(subnets.dhcp_of, system_id=system_id))
                    line.send({"dhcp": wanted})
                else:
                    raise rpc.Broken("an unknown command")
            except (Unavailable, KeyError, TypeError, ValueError) as error:
                line.send({"error": f"{type(error).__name__}: {error}"})
    except rpc.NotTrusted:
        log(
            f"Rack controller FAILED authentication from {peer}; dropping connection. Check that "
            "/var/lib/maas/secret on the controller contains the correct shared key."
        )
    except rpc.Broken as error:
        if system_id:
            log(f"rack controller '{system_id}' is gone: {error}")
    finally:
        region.rack_went(line)
        connection.close()


def _register_rack(region: Region, message: dict[str, Any]) -> str:
    cards = [
        network.Interface(
            name=str(card["name"])[:64], mac=str(card["mac"])[:17], addresses=list(card["addresses"])[:64]
        )
        for card in list(message["interfaces"])[:64]
    ]
    hostname, version = str(message["hostname"])[:64], str(message["version"])[:32]
    if not hostname:
        raise ValueError("a rack has no host name")
    _, system_id = region.database.run(
        lambda cursor: controllers.register(
            cursor, controllers.RACK, str(message["system_id"])[:41], hostname, cards, version
        ),
        transaction=True,
    )
    return system_id


def _listen_for_racks(region: Region) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for port in RPC_PORTS:
        try:
            listener.bind(("", port))
            break
        except OSError:
            continue
    else:
        raise Trouble("no port of 5250 to 5259 is free for RPC")
    listener.listen(32)
    region.rpc_port = listener.getsockname()[1]

    places = threading.BoundedSemaphore(MOST_LINES)

    def serve(connection: socket.socket, peer: str) -> None:
        try:
            _serve_rack(region, connection, peer)
        finally:
            places.release()

    def accept() -> None:
        while True:
            try:
                connection, (peer, _) = listener.accept()
            except OSError:
                time.sleep(0.1)
                continue
            if places.acquire(blocking=False):
                threading.Thread(target=serve, args=[connection, peer], daemon=True).start()
            else:
                connection.close()

    threading.Thread(target=accept, name="rpc", daemon=True).start()


def main() -> int:
    """Runs until it is told to stop."""
    from . import http_api

    stop, failed = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        region = Region(configuration.regiond(), configuration.release())
        log(f"{NAME} of rolecast stands in for the region of MAAS {region.release.version}")
        http_api.serve(region)
        listeners.bind(listeners.of_region(region.release.number))
    except (Trouble, OSError) as error:
        log(f"cannot start: {error}")
        return 1

    def run() -> None:
        try:
            start(region)
            _listen_for_racks(region)
        except Exception as error:  # The service manager starts it anew.
            log(f"failed: {type(error).__name__}: {error}")
            failed.set()
            stop.set()
            return
        region.ready = True
        live(region)

    threading.Thread(target=run, name="region", daemon=True).start()
    stop.wait()
    region.ready = False
    if region.node:
        try:
            region.database.run(lambda cursor: controllers.forget_process(cursor, region.node), seconds=1.5)
        except Unavailable:
            pass  # Others drop it in a while.
    return int(failed.is_set())


if __name__ == "__main__":
    raise SystemExit(main())
