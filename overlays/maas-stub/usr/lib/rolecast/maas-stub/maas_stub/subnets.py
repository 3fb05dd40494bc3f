"""Subnets, VLANs, ranges and who serves DHCP on them: what the API changes, with the checks that MAAS makes."""

import ipaddress
from typing import Any

from .controllers import BOTH, RACK


class Refused(Exception):
    """A request that MAAS turns down: complaints by field."""

    def __init__(self, field: str, complaint: str) -> None:
        super().__init__(complaint)
        self.complaints = {field: [complaint]}


class Unknown(Exception):
    """There is no such thing."""


def vlan_objects(cursor: Any, fabric: int | None = None, vid: int | None = None) -> list[dict[str, Any]]:
    """VLANs as the API shows them."""
    cursor.execute(
        """
        SELECT v.id, v.vid, v.name, v.mtu, v.dhcp_on, f.id, f.name, p.system_id, s.system_id
        FROM maasserver_vlan v JOIN maasserver_fabric f ON f.id = v.fabric_id
        LEFT JOIN maasserver_node p ON p.id = v.primary_rack_id
        LEFT JOIN maasserver_node s ON s.id = v.secondary_rack_id
        WHERE (%s::int IS NULL OR f.id = %s) AND (%s::int IS NULL OR v.vid = %s) ORDER BY v.id
        """,
        [fabric, fabric, vid, vid],
    )
    return [
        {
            "id": number,
            "vid": own_vid,
            "name": name,
            "mtu": mtu,
            "dhcp_on": dhcp_on,
            "fabric": fabric_name,
            "fabric_id": fabric_number,
            "primary_rack": primary,
            "secondary_rack": secondary,
            "relay_vlan": None,
            "resource_uri": f"/MAAS/api/2.0/vlans/{number}/",
        }
        for number, own_vid, name, mtu, dhcp_on, fabric_number, fabric_name, primary, secondary in cursor.fetchall()
    ]


def vlan_object(cursor: Any, fabric: int, vid: int) -> dict[str, Any]:
    """One VLAN."""
    found = vlan_objects(cursor, fabric, vid)
    if not found:
        raise Unknown
    return found[0]


def subnet_objects(cursor: Any) -> list[dict[str, Any]]:
    """Subnets as the API shows them."""
    vlans = {vlan["id"]: vlan for vlan in vlan_objects(cursor)}
    cursor.execute("SELECT id, name, cidr::text, host(gateway_ip), vlan_id FROM maasserver_subnet ORDER BY cidr")
    return [
        {
            "id": number,
            "name": name,
            "cidr": cidr,
            "gateway_ip": gateway,
            "dns_servers": [],
            "managed": True,
            "vlan": vlans[vlan],
            "resource_uri": f"/MAAS/api/2.0/subnets/{number}/",
        }
        for number, name, cidr, gateway, vlan in cursor.fetchall()
    ]


def range_objects(cursor: Any) -> list[dict[str, Any]]:
    """Ranges as the API shows them."""
    subnets = {subnet["id"]: subnet for subnet in subnet_objects(cursor)}
    cursor.execute(
        "SELECT id, type, host(start_ip), host(end_ip), comment, subnet_id FROM maasserver_iprange ORDER BY id"
    )
    return [
        {
            "id": number,
            "type": kind,
            "start_ip": start,
            "end_ip": end,
            "comment": comment,
            "subnet": subnets[subnet],
            "resource_uri": f"/MAAS/api/2.0/ipranges/{number}/",
        }
        for number, kind, start, end, comment, subnet in cursor.fetchall()
    ]


def create_range(cursor: Any, told: dict[str, str]) -> dict[str, Any]:
    """Adds a range; it may not leave its subnet or overlap another."""
    if told.get("type") not in ("dynamic", "reserved"):
        raise Refused("type", "It has to be dynamic or reserved.")
    ends = []
    for field in ("start_ip", "end_ip"):
        try:
            ends.append(ipaddress.IPv4Address(told.get(field, "")))
        except ValueError:
            raise Refused(field, "Enter an IPv4 address.") from None
    start, end = ends
    if end < start:
        raise Refused("end_ip", "The end is before the start.")
    wanted = told.get("subnet", "")
    cursor.execute("SELECT id, cidr::text FROM maasserver_subnet WHERE cidr >>= %s", [str(start)])
    fitting = [(number, cidr) for number, cidr in cursor.fetchall() if wanted in ("", str(number), cidr)]
    if not fitting:
        raise Refused("subnet", "No such subnet holds the start.")
    number, cidr = fitting[0]
    if end not in ipaddress.IPv4Network(cidr):
        raise Refused("end_ip", "The range leaves its subnet.")
    cursor.execute(
        "SELECT FROM maasserver_iprange WHERE subnet_id = %s AND start_ip <= %s AND end_ip >= %s",
        [number, str(end), str(start)],
    )
    if cursor.fetchone() is not None:
        raise Refused("__all__", "The range overlaps another one.")
    cursor.execute(
        "INSERT INTO maasserver_iprange (type, start_ip, end_ip, comment, subnet_id) VALUES (%s, %s, %s, %s, %s) "
        "RETURNING id",
        [told["type"], str(start), str(end), told.get("comment", "")[:200], number],
    )
    new = cursor.fetchone()[0]
    return next(shown for shown in range_objects(cursor) if shown["id"] == new)


def _rack(cursor: Any, vlan: int, system_id: str, field: str) -> int | None:
    """A rack with a card on the VLAN; none for the empty word, which clears the field."""
    if not system_id:
        return None
    cursor.execute(
        "SELECT n.id FROM maasserver_node n WHERE n.system_id = %s AND n.node_type = ANY (%s) "
        "AND EXISTS (SELECT FROM maasserver_interface i WHERE i.node_id = n.id AND i.vlan_id = %s)",
        [system_id, [RACK, BOTH], vlan],
    )
    row = cursor.fetchone()
    if row is None:
        raise Refused(field, f"{system_id[:41]} is no rack with a card on this VLAN.")
    return int(row[0])


def _runs(cursor: Any, node: int) -> bool:
    cursor.execute("SELECT FROM maasserver_regionrackrpcconnection WHERE rack_controller_id = %s", [node])
    return cursor.fetchone() is not None


def update_vlan(cursor: Any, fabric: int, vid: int, told: dict[str, str]) -> dict[str, Any]:
    """Sets who serves DHCP on a VLAN, and whether anyone does."""
    vlan = vlan_object(cursor, fabric, vid)["id"]
    cursor.execute(
        "SELECT dhcp_on, primary_rack_id, secondary_rack_id FROM maasserver_vlan WHERE id = %s FOR UPDATE", [vlan]
    )
    on, was_primary, was_secondary = cursor.fetchone()
    primary, secondary = was_primary, was_secondary
    if "primary_rack" in told:
        primary = _rack(cursor, vlan, told["primary_rack"], "primary_rack")
    if "secondary_rack" in told:
        secondary = _rack(cursor, vlan, told["secondary_rack"], "secondary_rack")
    if "dhcp_on" in told:
        if told["dhcp_on"].lower() not in ("true", "false", "1", "0", "on", "off"):
            raise Refused("dhcp_on", "It has to be true or false.")
        on = told["dhcp_on"].lower() in ("true", "1", "on")
    if primary is None and secondary is not None and "secondary_rack" not in told:
        primary, secondary = secondary, None
    if secondary is not None:
        if secondary == was_primary and "primary_rack" not in told:
            raise Refused("secondary_rack", "It is the primary rack already.")
        if secondary == primary:
            raise Refused("secondary_rack", "Primary and secondary have to be two racks.")
        if primary is None:
            raise Refused("secondary_rack", "There is no primary rack.")
        if secondary != was_secondary and not _runs(cursor, primary):
            raise Refused("secondary_rack", "The primary rack has to be up and running first.")
    if on:
        if primary is None:
            raise Refused("dhcp_on", "DHCP needs a primary rack.")
        cursor.execute(
            "SELECT FROM maasserver_iprange r JOIN maasserver_subnet s ON s.id = r.subnet_id "
            "WHERE r.type = 'dynamic' AND s.vlan_id = %s",
            [vlan],
        )
        if cursor.fetchone() is None:
            raise Refused("dhcp_on", "DHCP needs a dynamic range in a subnet of this VLAN.")
    cursor.execute(
        "UPDATE maasserver_vlan SET dhcp_on = %s, primary_rack_id = %s, secondary_rack_id = %s WHERE id = %s",
        [on, primary, secondary, vlan],
    )
    return vlan_object(cursor, fabric, vid)


def leave_vlans(cursor: Any, system_id: str, force: bool) -> None:
    """Frees a rack that is to be deleted of its VLANs; the other of a pair serves alone from then on."""
    cursor.execute("SELECT id FROM maasserver_node WHERE system_id = %s", [system_id])
    if (row := cursor.fetchone()) is None:
        raise Unknown
    node = row[0]
    cursor.execute(
        "SELECT FROM maasserver_vlan WHERE dhcp_on AND primary_rack_id = %s AND secondary_rack_id IS NULL", [node]
    )
    if cursor.fetchone() is not None and not force:
        raise Refused("__all__", "It serves DHCP on a VLAN that no other rack serves.")
    cursor.execute("UPDATE maasserver_vlan SET secondary_rack_id = NULL WHERE secondary_rack_id = %s", [node])
    cursor.execute(
        "UPDATE maasserver_vlan SET primary_rack_id = secondary_rack_id, secondary_rack_id = NULL, "
        "dhcp_on = dhcp_on AND secondary_rack_id IS NOT NULL WHERE primary_rack_id = %s",
        [node],
    )


def dhcp_of(cursor: Any, system_id: str) -> dict[str, Any]:
    """What dhcpd on a rack has to serve, in the words in which MAAS tells its racks."""
    cursor.execute(
        """
        SELECT v.id, i.name, host(a.ip), s.cidr, host(s.gateway_ip), r.type IS NOT NULL, host(r.start_ip),
            host(r.end_ip), v.primary_rack_id = n.id, (
                SELECT host(b.ip) FROM maasserver_staticipaddress b JOIN maasserver_interface j ON j.id = b.interface_id
                WHERE b.subnet_id = s.id AND j.node_id = CASE v.primary_rack_id WHEN n.id THEN v.secondary_rack_id
                    ELSE v.primary_rack_id END ORDER BY b.ip LIMIT 1)
        FROM maasserver_node n
        JOIN maasserver_vlan v ON v.dhcp_on AND n.id IN (v.primary_rack_id, v.secondary_rack_id)
        JOIN maasserver_subnet s ON s.vlan_id = v.id
        JOIN maasserver_interface i ON i.node_id = n.id AND i.vlan_id = v.id
        JOIN maasserver_staticipaddress a ON a.interface_id = i.id AND a.subnet_id = s.id
        LEFT JOIN maasserver_iprange r ON r.subnet_id = s.id AND r.type = 'dynamic'
        WHERE n.system_id = %s ORDER BY v.id, s.cidr, a.ip, r.start_ip
        """,
        [system_id],
    )
    peers: dict[str, dict[str, str]] = {}
    networks: dict[int, dict[str, dict[str, Any]]] = {}
    cards: set[str] = set()
    for vlan, card, own, cidr, gateway, has_range, low, high, is_primary, peer in cursor.fetchall():
        cards.add(card)
        network = ipaddress.IPv4Network(cidr)
        name = f"failover-vlan-{vlan}" if peer else None
        if name is not None and name not in peers:
            mode = "primary" if is_primary else "secondary"
            peers[name] = {"name": name, "mode": mode, "address": own, "peer_address": peer}
        subnet = networks.setdefault(vlan, {}).setdefault(
            cidr,
            {
                "subnet": str(network.network_address),
                "subnet_mask": str(network.netmask),
                "broadcast_ip": str(network.broadcast_address),
                "router_ip": gateway,
                "pools": [],
            },
        )
        pool = {"ip_range_low": low, "ip_range_high": high, "failover_peer": name}
        if has_range and pool not in subnet["pools"]:
            subnet["pools"].append(pool)
    return {
        "failover_peers": list(peers.values()),
        "shared_networks": [
            {"name": f"vlan-{vlan}", "subnets": list(subnets.values())} for vlan, subnets in networks.items()
        ],
        "interfaces": sorted(cards),
    }
