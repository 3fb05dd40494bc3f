"""The rack controller: `maas-rackd.service`.

Finds the regions by asking every `maas_url`, keeps a line to each region process, registers on it, and has dhcpd serve
what the regions say. A rack that was registered once goes on without them and finds them again.
"""

import json
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

from . import NAME, configuration, dhcpd, listeners, log, network, rpc, shared_secret
from .configuration import Trouble

POLL = 3.0
"""Seconds between two questions for DHCP's configuration, which are signs of life, too."""

DISCOVERY_DISCONNECTED, DISCOVERY_PARTLY, DISCOVERY_CONNECTED = 1.0, 5.0, 30.0
"""Seconds between two looks for regions, as in MAAS."""

TIMEOUT = 5.0
"""Of everything that is asked of a region."""

Endpoint = tuple[str, int]


class Rack:
    """What the daemon's threads share."""

    def __init__(self, release: configuration.Release) -> None:
        self.release = release
        self.hostname = socket.gethostname()
        self.connected: dict[str, Endpoint] = {}
        """Lines on which this rack is registered, by the region process's name."""
        self.trying: set[str] = set()
        self.lock = threading.Lock()
        self.lost = threading.Event()
        """A line has ended: look for regions now."""


def discover(url: str, patience: int) -> dict[str, list[Endpoint]]:
    """Region processes and where they listen, as the region at `url` knows them."""
    import http.client

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT * patience)
    try:
        connection.request("GET", parts.path.rstrip("/") + "/rpc/")
        answer = connection.getresponse()
        body = answer.read(1 << 20)
        if answer.status != 200:
            raise Trouble(f"{url}: {answer.status}, trying again")
        loops = json.loads(body).get("eventloops") or {}
        return {str(name): [(str(ip), int(port)) for ip, port in where] for name, where in loops.items()}
    except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError) as error:
        raise Trouble(f"{url}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def discover_all(patience: int) -> dict[str, list[Endpoint]]:
    """The union over all `maas_url`s; where none answers, over the regions of the last time."""
    found: dict[str, list[Endpoint]] = {}
    troubles: list[str] = []
    remembered = [url for url in (configuration.read(configuration.RPC_STATE) or "").splitlines() if url]
    for urls in (configuration.maas_urls(), remembered):
        threads = [threading.Thread(target=_gather, args=[url, patience, found, troubles], daemon=True) for url in urls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT * 2 * patience)
        if found:
            return dict(found)
    raise Trouble("; ".join(sorted(set(troubles))) or "the regions know no process yet")


def _gather(url: str, patience: int, found: dict[str, list[Endpoint]], troubles: list[str]) -> None:
    try:
        found.update(discover(url, patience))
    except Trouble as trouble:
        troubles.append(str(trouble))


def keep_line(rack: Rack, name: str, endpoints: list[Endpoint]) -> None:
    """One region process's line, until it ends."""
    try:
        for address, port in endpoints:
            try:
                connection = socket.create_connection((address, port), timeout=TIMEOUT * rack.release.patience)
            except OSError as error:
                log(f"region process {name} at {address}:{port} cannot be reached: {error}")
                continue
            with connection:
                _speak(rack, name, (address, port), connection)
            return
    finally:
        with rack.lock:
            rack.trying.discard(name)
            was_connected = rack.connected.pop(name, None)
        if was_connected:
            rack.lost.set()


def _speak(rack: Rack, name: str, endpoint: Endpoint, connection: socket.socket) -> None:
    address, port = endpoint
    line = rpc.Line(connection, TIMEOUT * 2 * rack.release.patience)
    try:
        secret = shared_secret.checked(configuration.read(configuration.SECRET))
        rpc.greet_as_rack(line, secret)
        _register(rack, line, endpoint)
        with rack.lock:
            rack.connected[name] = endpoint
        while True:
            line.send({"command": "dhcp"})
            told = line.receive()
            if "dhcp" in told:
                try:
                    dhcpd.serve(told["dhcp"])
                except (Trouble, OSError) as error:
                    log(f"DHCP cannot be set up: {error}")
            time.sleep(POLL)
    except rpc.NotTrusted:
        log(
            f"region refused the secret (at {address}:{port}): FAILED authentication; dropping connection. Check that "
            f"{configuration.SECRET} holds the regions' secret."
        )
    except (rpc.Broken, Trouble, OSError) as error:
        log(f"line to region process {name} at {address}:{port} ended: {error}")


def _register(rack: Rack, line: rpc.Line, endpoint: Endpoint) -> None:
    system_id = configuration.read(configuration.IDENTITY) or ""
    line.send(
        {
            "command": "register",
            "system_id": system_id,
            "hostname": rack.hostname,
            "interfaces": network.interfaces(),
            "url": next(iter(configuration.maas_urls()), ""),
            "version": rack.release.version,
        }
    )
    told = line.receive()
    now = told.get("system_id")
    if not isinstance(now, str) or not (now.isalnum() and len(now) <= 41):
        raise rpc.Broken(f"not registered: {told.get('error')}")
    with rack.lock:
        if now != configuration.read(configuration.IDENTITY):
            configuration.write(configuration.IDENTITY, now)
        uuid = str(told.get("uuid", ""))[:64]
        if uuid != configuration.read(configuration.UUID):
            configuration.write(configuration.UUID, uuid)
    log(f"rack controller '{now}' registered (via {endpoint[0]}:{endpoint[1]})")


def _remember(rack: Rack) -> None:
    with rack.lock:
        urls = sorted({f"http://{address}:5240/MAAS" for address, _ in rack.connected.values()})
    text = "\n".join(urls)
    if urls and text != configuration.read(configuration.RPC_STATE):
        configuration.write(configuration.RPC_STATE, text + "\n")


def look_for_regions(rack: Rack) -> None:
    """Looks for regions for ever, and starts a line to each process that has none."""
    told = ""
    while True:
        rack.lost.clear()
        pause, now = DISCOVERY_DISCONNECTED, ""
        try:
            found = discover_all(rack.release.patience)
            with rack.lock:
                missing = {name: ends for name, ends in found.items() if name not in rack.trying}
                rack.trying.update(missing)
            for name, endpoints in missing.items():
                threading.Thread(target=keep_line, args=[rack, name, endpoints], daemon=True).start()
            if missing:
                time.sleep(0.5)
            with rack.lock:
                connected = set(rack.connected)
            if connected:
                pause = DISCOVERY_CONNECTED if connected >= set(found) else DISCOVERY_PARTLY
            elif missing:
                pause = DISCOVERY_PARTLY
            _remember(rack)
        except (Trouble, OSError) as error:
            now = f"no region found, looking on: {error}"
        if now and now != told:
            log(now)
        told = now
        if rack.lost.wait(pause):
            time.sleep(DISCOVERY_DISCONNECTED)


def main() -> int:
    """Runs until it is told to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        rack = Rack(configuration.release())
        log(f"{NAME} of rolecast stands in for the rack of MAAS {rack.release.version}")
        listeners.bind([], [listeners.RACK_HTTP])
        dhcpd.resume()
    except (Trouble, OSError) as error:
        log(f"cannot start: {error}")
        return 1
    threading.Thread(target=look_for_regions, args=[rack], name="regions", daemon=True).start()
    stop.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
