"""dhcpd of ISC, the real one, with a configuration of MAAS's shape: two racks that share a VLAN's pool.

The fail-over part follows what MAAS renders: a peer named after its VLAN, `mclt 3600` and `split 255` on the primary,
so that it answers everyone it can, and the secondary answers who has waited for three seconds.
"""

import ipaddress
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from . import NAME, log
from .configuration import DHCPD, DHCPD_INTERFACES, Trouble, read, write

UNIT = "maas-dhcpd.service"

LEASE_SECONDS = 600

_lock = threading.Lock()


def render(told: Mapping[str, Any]) -> str:
    """The configuration's text. Everything in it is an address, a number or a word that was checked."""
    lines = [
        f"# Written by the {NAME}. Changes are written over.",
        "authoritative;",
        "ddns-update-style none;",
        "ignore-client-uids true;",
        f"default-lease-time {LEASE_SECONDS};",
        f"max-lease-time {LEASE_SECONDS};",
    ]
    for peer in told["failover_peers"]:
        primary = peer["mode"] == "primary"
        lines += [
            "",
            f'failover peer "{_word(peer["name"])}" {{',
            f"    {'primary' if primary else 'secondary'};",
            f"    address {_address(peer['address'])};",
            f"    peer address {_address(peer['peer_address'])};",
            "    max-response-delay 60;",
            "    max-unacked-updates 10;",
            "    load balance max seconds 3;",
        ]
        lines += ["    mclt 3600;", "    split 255;"] if primary else []
        lines.append("}")
    for network in told["shared_networks"]:
        lines += ["", f"shared-network {_word(network['name'])} {{"]
        for subnet in network["subnets"]:
            lines += [
                f"    subnet {_address(subnet['subnet'])} netmask {_address(subnet['subnet_mask'])} {{",
                f"        option subnet-mask {_address(subnet['subnet_mask'])};",
                f"        option broadcast-address {_address(subnet['broadcast_ip'])};",
            ]
            if subnet["router_ip"]:
                lines.append(f"        option routers {_address(subnet['router_ip'])};")
            for pool in subnet["pools"]:
                lines.append("        pool {")
                if pool["failover_peer"]:
                    lines.append(f'            failover peer "{_word(pool["failover_peer"])}";')
                low, high = _address(pool["ip_range_low"]), _address(pool["ip_range_high"])
                lines += [f"            range {low} {high};", "        }"]
            lines.append("    }")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _address(told: object) -> str:
    return str(ipaddress.IPv4Address(str(told)))


def _word(told: object) -> str:
    word = str(told)
    if not word.replace("-", "").replace(".", "").isalnum() or len(word) > 64:
        raise ValueError(f"no name: {word[:64]!r}")
    return word


def serve(told: Mapping[str, Any]) -> None:
    """Has dhcpd serve this, if it does not already; stops it when there is nothing to serve."""
    try:
        interfaces = " ".join(_word(card) for card in told["interfaces"])
        wanted = render(told) if interfaces else None
    except (KeyError, TypeError, ValueError) as error:
        raise Trouble(f"the region's DHCP configuration makes no sense: {error!r}") from error
    with _lock:
        now = DHCPD.read_text() if DHCPD.exists() else None
        if wanted is None:
            if now is not None:
                log("DHCP is off on every VLAN of this rack")
                _systemctl("stop")
                DHCPD.unlink()
            return
        if wanted == now and interfaces == (read(DHCPD_INTERFACES) or ""):
            return
        write(DHCPD_INTERFACES, interfaces + "\n")
        write(DHCPD, wanted)
        log("DHCP has a new configuration: starting dhcpd with it")
        _systemctl("restart")


def resume() -> None:
    """Starts dhcpd with what it served before, if anything: leases do not wait for a region."""
    if DHCPD.exists():
        _systemctl("start")


def _systemctl(word: str) -> None:
    done = subprocess.run(
        ["systemctl", "--no-block", word, UNIT], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    if done.returncode != 0:
        log(f"systemctl {word} {UNIT} failed: {done.stderr.decode(errors='replace').strip()}")
