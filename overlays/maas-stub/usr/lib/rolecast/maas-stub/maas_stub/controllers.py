"""Controllers in the database: who they are, which regions run, who is connected to whom.

A controller is found again by its system id, its host name or one of its link-layer addresses, as in MAAS; so two
machines that share one of them become one controller. That is logged, and the API shows every address it speaks from.
"""

import ipaddress
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from . import log
from .network import Interface

RACK, REGION, BOTH = 2, 3, 4
"""MAAS's numbers of the types of a node."""

STARTUP_LOCK = 1
"""The advisory lock under which MAAS registers controllers."""

REFRESH = 5.0
"""Seconds between two signs of life of a region. MAAS: 60."""

REMOVE = 30.0
"""Seconds without one after which a region's process is dropped. MAAS: 90."""


def _system_id() -> str:
    """Six characters that are not taken for others, the first a digit as in MAAS."""
    return secrets.choice("4678") + "".join(secrets.choice("abcdefghkmnpqrstwxy34678") for _ in range(5))


def _find(cursor: Any, system_id: str, hostname: str, macs: list[str]) -> tuple[int, str, str, int] | None:
    cursor.execute(
        """
        SELECT n.id, n.system_id, n.hostname, n.node_type FROM maasserver_node n
        WHERE n.system_id = %s OR n.hostname = %s
            OR EXISTS (SELECT FROM maasserver_interface i WHERE i.node_id = n.id AND i.mac_address = ANY (%s))
        ORDER BY n.system_id = %s DESC, n.hostname = %s DESC, n.id LIMIT 1
        """,
        [system_id, hostname, macs, system_id, hostname],
    )
    found: tuple[int, str, str, int] | None = cursor.fetchone()
    return found


def register(
    cursor: Any, kind: int, system_id: str, hostname: str, interfaces: list[Interface], version: str
) -> tuple[int, str]:
    """Finds or creates a controller and takes over what it says of itself. Needs a transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STARTUP_LOCK])
    found = _find(cursor, system_id, hostname, [card["mac"] for card in interfaces])
    if found is None:
        cursor.execute(
            "INSERT INTO maasserver_node (system_id, hostname, node_type) VALUES (%s, %s, %s) RETURNING id, system_id",
            [_system_id(), hostname, kind],
        )
        number, system_id = cursor.fetchone()
    else:
        number, system_id, former, former_kind = found
        if former != hostname:
            log(f"controller '{system_id}' was '{former}' and now calls itself '{hostname}': taken for the same one")
        cursor.execute(
            "UPDATE maasserver_node SET node_type = %s, updated = now() WHERE id = %s",
            [kind if former_kind == kind else BOTH, number],
        )
        cursor.execute(
            "UPDATE maasserver_node SET hostname = %s WHERE id = %s "
            "AND NOT EXISTS (SELECT FROM maasserver_node WHERE hostname = %s AND id <> %s)",
            [hostname, number, hostname, number],
        )
    cursor.execute(
        "INSERT INTO maasserver_controllerinfo VALUES (%s, %s) ON CONFLICT (node_id) DO UPDATE SET version = %s",
        [number, version, version],
    )
    _take_interfaces(cursor, number, interfaces)
    return number, system_id


def _take_interfaces(cursor: Any, node: int, interfaces: list[Interface]) -> None:
    """Cards, addresses and, where one is new, its subnet with a fabric and a VLAN of its own."""
    cursor.execute("DELETE FROM maasserver_interface WHERE node_id = %s", [node])
    for card in interfaces:
        cursor.execute(
            "INSERT INTO maasserver_interface (name, mac_address, node_id) VALUES (%s, %s, %s) RETURNING id",
            [card["name"], card["mac"], node],
        )
        interface = cursor.fetchone()[0]
        for address in card["addresses"]:
            given = ipaddress.IPv4Interface(address)
            subnet, vlan = _subnet(cursor, str(given.network))
            cursor.execute("UPDATE maasserver_interface SET vlan_id = %s WHERE id = %s", [vlan, interface])
            cursor.execute(
                "INSERT INTO maasserver_staticipaddress (ip, subnet_id, interface_id) VALUES (%s, %s, %s)",
                [str(given.ip), subnet, interface],
            )


def _subnet(cursor: Any, cidr: str) -> tuple[int, int]:
    cursor.execute("SELECT id, vlan_id FROM maasserver_subnet WHERE cidr = %s", [cidr])
    if (row := cursor.fetchone()) is not None:
        return row[0], row[1]
    cursor.execute(
        """
        WITH number AS (SELECT count(*) AS n FROM maasserver_fabric),
        fabric AS (INSERT INTO maasserver_fabric (name) SELECT 'fabric-' || n FROM number RETURNING id),
        vlan AS (INSERT INTO maasserver_vlan (name, vid, fabric_id) SELECT 'untagged', 0, id FROM fabric RETURNING id)
        INSERT INTO maasserver_subnet (name, cidr, vlan_id) SELECT %s, %s, id FROM vlan RETURNING id, vlan_id
        """,
        [cidr, cidr],
    )
    row = cursor.fetchone()
    return row[0], row[1]


def refresh(cursor: Any, region: int, addresses: Iterable[str], port: int, racks: Iterable[tuple[str, str]]) -> None:
    """A region process's sign of life: itself, its endpoints and the racks on its lines. Drops what is dead.

    Needs a transaction.
    """
    pid = os.getpid()
    cursor.execute(
        "UPDATE maasserver_regioncontrollerprocess SET updated = now() WHERE region_id = %s AND pid = %s RETURNING id",
        [region, pid],
    )
    if (row := cursor.fetchone()) is None:
        cursor.execute(
            "INSERT INTO maasserver_regioncontrollerprocess (region_id, pid) VALUES (%s, %s) RETURNING id",
            [region, pid],
        )
        row = cursor.fetchone()
    process = row[0]
    cursor.execute("DELETE FROM maasserver_regioncontrollerprocessendpoint WHERE process_id = %s", [process])
    for address in addresses:
        cursor.execute(
            "INSERT INTO maasserver_regioncontrollerprocessendpoint VALUES (%s, %s, %s)", [process, address, port]
        )
    cursor.execute("DELETE FROM maasserver_regionrackrpcconnection WHERE process_id = %s", [process])
    for system_id, address in sorted(set(racks)):
        cursor.execute(
            "INSERT INTO maasserver_regionrackrpcconnection "
            "SELECT %s, id, %s FROM maasserver_node WHERE system_id = %s",
            [process, address, system_id],
        )
    cursor.execute(
        "DELETE FROM maasserver_regioncontrollerprocess WHERE updated < now() - make_interval(secs => %s)", [REMOVE]
    )


def forget_process(cursor: Any, region: int) -> None:
    """Takes this process out, when it ends in order."""
    cursor.execute(
        "DELETE FROM maasserver_regioncontrollerprocess WHERE region_id = %s AND pid = %s", [region, os.getpid()]
    )


def forget_former_processes(cursor: Any, region: int) -> None:
    """Takes out what an earlier run of this region left behind, when it did not end in order."""
    cursor.execute(
        "DELETE FROM maasserver_regioncontrollerprocess WHERE region_id = %s AND pid <> %s", [region, os.getpid()]
    )


def eventloops(cursor: Any) -> dict[str, list[list[object]]]:
    """Where racks find region processes, as `/MAAS/rpc/` tells it.

    An address that two regions claim says nothing about which of them answers there, and is left out, as in MAAS.
    """
    cursor.execute(
        """
        SELECT n.hostname, p.pid, host(e.address), e.port FROM maasserver_regioncontrollerprocess p
        JOIN maasserver_node n ON n.id = p.region_id
        JOIN maasserver_regioncontrollerprocessendpoint e ON e.process_id = p.id
        WHERE NOT EXISTS (
            SELECT FROM maasserver_regioncontrollerprocessendpoint o
            JOIN maasserver_regioncontrollerprocess q ON q.id = o.process_id
            WHERE o.address = e.address AND q.region_id <> p.region_id)
        ORDER BY 1, 2, e.address, 4
        """
    )
    told: dict[str, list[list[object]]] = defaultdict(list)
    for hostname, pid, address, port in cursor.fetchall():
        told[f"{hostname}:pid={pid}"].append([address, port])
    return told


def delete(cursor: Any, system_id: str, kind: int) -> None:
    """Takes a controller out. One that is both region and rack stays as the other."""
    cursor.execute(
        "UPDATE maasserver_node SET node_type = %s WHERE system_id = %s AND node_type = %s",
        [RACK + REGION - kind, system_id, BOTH],
    )
    cursor.execute("DELETE FROM maasserver_node WHERE system_id = %s AND node_type = %s", [system_id, kind])


def described(cursor: Any, kind: int, system_id: str | None = None) -> list[dict[str, object]]:
    """Controllers of a kind as the API shows them."""
    from .subnets import vlan_objects

    cursor.execute(
        """
        SELECT n.id, n.system_id, n.hostname, n.node_type, coalesce(c.version, ''),
            ARRAY(SELECT DISTINCT host(r.stub_address) FROM maasserver_regionrackrpcconnection r
                WHERE r.rack_controller_id = n.id ORDER BY 1),
            EXISTS (SELECT FROM maasserver_regioncontrollerprocess p WHERE p.region_id = n.id)
        FROM maasserver_node n LEFT JOIN maasserver_controllerinfo c ON c.node_id = n.id
        WHERE n.node_type = ANY (%s) AND (%s::text IS NULL OR n.system_id = %s) ORDER BY n.hostname
        """,
        [[kind, BOTH], system_id, system_id],
    )
    nodes = cursor.fetchall()
    cursor.execute(
        """
        SELECT i.node_id, i.id, i.name, i.mac_address, i.vlan_id, host(a.ip), s.id, s.cidr::text
        FROM maasserver_interface i LEFT JOIN maasserver_staticipaddress a ON a.interface_id = i.id
        LEFT JOIN maasserver_subnet s ON s.id = a.subnet_id ORDER BY i.node_id, i.id, a.id
        """
    )
    cards: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    vlans = None
    for node, number, name, mac, vlan, address, subnet, cidr in cursor.fetchall():
        vlans = vlans if vlans is not None else {v["id"]: v for v in vlan_objects(cursor)}
        shown = {"id": number, "name": name, "mac_address": mac, "vlan": vlans.get(vlan), "links": []}
        card = cards[node].setdefault(number, shown)
        if address is not None:
            card["links"].append({"mode": "static", "ip_address": address, "subnet": {"id": subnet, "cidr": cidr}})
    told: list[dict[str, object]] = []
    for number, identity, hostname, node_type, version, connections, runs in nodes:
        alive = bool(connections) if kind == RACK else runs
        own = list(cards[number].values())
        told.append(
            {
                "stub": True,
                "system_id": identity,
                "hostname": hostname,
                "node_type": node_type,
                "version": version,
                "ip_addresses": [link["ip_address"] for card in own for link in card["links"]],
                "interface_set": own,
                "service_set": [
                    {"name": "rackd" if kind == RACK else "regiond", "status": "running" if alive else "dead"}
                ],
                # More than one address of a rack: more than one machine took its name.
                "stub_connected_from": connections,
            }
        )
    return told
