"""This machine's cards and addresses, as `ip` tells them."""

import json
import subprocess
from typing import TypedDict


class Interface(TypedDict):
    """A card, as a controller reports it to a region."""

    name: str
    mac: str
    addresses: list[str]
    """`address/prefix`, IPv4 only."""


def interfaces() -> list[Interface]:
    """All cards with a link-layer address but the loopback.

    An address with prefix 32 is left out: it is the virtual one, and names no machine.
    """
    told = subprocess.run(["ip", "-json", "-4", "address"], check=True, capture_output=True, timeout=10).stdout
    cards: dict[str, Interface] = {}
    # `-4` leaves out what has no IPv4 address; the links tell the rest.
    links = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, timeout=10).stdout
    for link in json.loads(links):
        if link.get("link_type") == "ether":
            cards[link["ifname"]] = Interface(name=link["ifname"], mac=link["address"], addresses=[])
    for card in json.loads(told):
        if card.get("ifname") in cards:
            cards[card["ifname"]]["addresses"] = [
                f"{address['local']}/{address['prefixlen']}"
                for address in card["addr_info"]
                if address.get("family") == "inet" and address["prefixlen"] < 32
            ]
    return list(cards.values())
