"""The stub's rack controller and its dhcpd, against regions and a real PostgreSQL."""

import re
import signal
import socket
import stat
import subprocess
import threading
import time
import unittest
from functools import partial

from machines import PREFIX, SECRET, Answer, Machine, Process, World, eventually

RANGE = {"type": "dynamic", "start_ip": "10.78.0.100", "end_ip": "10.78.0.200", "subnet": "10.78.0.0/24"}
VLAN = "/MAAS/api/2.0/fabrics/1/vlans/0/"
RACKS = "/MAAS/api/2.0/rackcontrollers/"


class Rack(unittest.TestCase):
    """`maas-rackd`, two machines, two regions."""

    world: World
    key: str
    regions: list[Machine]
    racks: list[Machine]

    @classmethod
    def setUpClass(cls) -> None:
        cls.world = World()
        cls.addClassCleanup(cls.world.end)
        cls.world.start_database()
        cls.regions = [cls.world.region(f"region-{n}", f"10.78.0.1{n}") for n in (1, 2)]
        cls.racks = [cls.world.rack(f"rack-{n}", f"10.78.0.2{n}", cls.regions) for n in (1, 2)]
        cls.key = cls.world.install(cls.regions[0])
        cls.world.plug(f"{PREFIX}-client", None)

    def setUp(self) -> None:
        self.world.sql("TRUNCATE maasserver_node, maasserver_fabric RESTART IDENTITY CASCADE")
        for machine in self.racks:
            for file in [*machine.file("var/lib/maas").rglob("*"), machine.file("systemctl.log")]:
                if file.is_file():
                    file.unlink()
            machine.file("var/lib/maas/secret").write_text(SECRET + "\n")
        for region in self.regions:
            region.daemon("region")
        for region in self.regions:
            eventually("both regions", partial(self.both_regions, region))

    def both_regions(self, region: Machine) -> bool:
        return len(region.event_loops() or {}) == 2

    def tearDown(self) -> None:
        for machine in self.regions + self.racks:
            machine.end()

    def api(self, method: str, path: str, body: dict[str, str] | None = None) -> Answer:
        answer = self.regions[0].ask(method, path, body, key=self.key)
        if answer is None:
            raise AssertionError(f"{method} {path}: no answer")
        return answer

    def running(self) -> dict[str, str]:
        """System ids of racks that are connected, by host name."""
        known = self.api("GET", RACKS).json
        return {rack["hostname"]: rack["system_id"] for rack in known if rack["service_set"][0]["status"] == "running"}

    def start_rack(self, rack: Machine, lines: int = 2) -> Process:
        daemon = rack.daemon("rack")
        eventually(f"{rack.name} is registered", lambda: daemon.said().count("registered (via") >= lines)
        return daemon

    def identity(self, rack: Machine) -> str:
        return rack.file("var/lib/maas/maas_id").read_text()

    def test_register_drops_the_identity_and_keeps_a_list_that_has_the_url(self) -> None:
        rack = self.racks[0]
        conf, before = rack.file("etc/maas/rackd.conf"), rack.file("etc/maas/rackd.conf").read_text()
        self.addCleanup(conf.write_text, before)
        rack.file("var/lib/maas/maas_id").write_text("old")
        known, other = "http://10.78.0.12:5240/MAAS", "http://10.78.0.99/MAAS"
        done = rack.command("rack_commands", "register", "--url", known, stdin=SECRET + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(rack.file("var/lib/maas/maas_id").exists())
        self.assertEqual(rack.file("var/lib/maas/secret").read_text(), SECRET + "\n")
        self.assertEqual(stat.S_IMODE(rack.file("var/lib/maas/secret").stat().st_mode), 0o640)
        self.assertEqual(conf.read_text(), before)
        self.assertEqual(rack.file("systemctl.log").read_text().split("\n")[:3],
                         [f"{word} maas-rackd.service" for word in ("stop", "enable", "start")])  # fmt: skip
        rack.command("rack_commands", "register", "--url", other, stdin=SECRET + "\n")
        self.assertIn(f"maas_url: {other}\n", conf.read_text())
        self.assertIn("tftp_port: 69", conf.read_text())

    def test_register_takes_no_secret_that_is_none(self) -> None:
        for secret in ("", "no hexadecimal digits"):
            done = self.racks[0].command("rack_commands", "register", "--url", "http://10.78.0.11/MAAS", stdin=secret)
            self.assertEqual(done.returncode, 1)
            self.assertNotIn("Traceback", done.stderr)
            self.assertFalse(self.racks[0].file("systemctl.log").exists())

    def test_a_rack_is_registered_with_every_region_and_stays_who_it_is(self) -> None:
        rack = self.racks[0]
        daemon = self.start_rack(rack)
        identity = self.identity(rack)
        for region in self.regions:
            self.assertIn(f"rack controller '{identity}' registered (via {region.address}:5250)", daemon.said())
        self.assertIn("MAAS stub", daemon.said())
        eventually("it runs", self.running)
        shown = self.api("GET", RACKS).json[0]
        self.assertEqual((shown["hostname"], shown["system_id"], shown["ip_addresses"]),
                         ("rack-1", identity, ["10.78.0.21"]))  # fmt: skip
        state = rack.file("var/lib/maas/rpc.state")
        eventually("the regions are remembered", lambda: state.exists() and len(state.read_text().split()) == 2, 10)
        rack.end()
        self.start_rack(rack)
        self.assertEqual(self.identity(rack), identity)
        # Wiped, the same machine is the same controller.
        rack.end()
        rack.file("var/lib/maas/maas_id").unlink()
        self.start_rack(rack)
        self.assertEqual(self.identity(rack), identity)

    def test_a_wrong_secret_never_registers_and_both_sides_say_so(self) -> None:
        rack = self.racks[0]
        rack.file("var/lib/maas/secret").write_text("ff" * 16)
        daemon = rack.daemon("rack")
        eventually("the rack says so", lambda: "region refused the secret" in daemon.said())
        self.assertIn("FAILED authentication", daemon.said())
        region = self.regions[0].processes[0]
        eventually("the region says so", lambda: "Rack controller FAILED authentication" in region.said())
        self.assertIn("/var/lib/maas/secret", region.said())
        self.assertEqual(self.api("GET", RACKS).json, [])
        self.assertFalse(rack.file("var/lib/maas/maas_id").exists())
        rack.file("var/lib/maas/secret").write_text(SECRET)
        eventually("put right, it registers", lambda: "registered (via" in daemon.said())

    def test_a_rack_trusts_no_region_that_does_not_know_the_secret(self) -> None:
        rack = self.racks[0]
        fake = socket.create_server(("10.78.0.1", 5250))
        self.addCleanup(fake.close)

        def pretend() -> None:
            while True:
                try:
                    line, _ = fake.accept()
                except OSError:
                    return
                with line:
                    line.sendall(b'{"stub": true, "challenge": "00"}\n')
                    line.recv(4096)
                    line.sendall(b'{"salt": "00", "answer": "00"}\n')
                    line.recv(4096)

        threading.Thread(target=pretend, daemon=True).start()
        self.world.sql(
            "WITH fake AS (INSERT INTO maasserver_regioncontrollerprocess (region_id, pid, updated) "
            "SELECT id, 1, now() + interval '1 hour' FROM maasserver_node LIMIT 1 RETURNING id) "
            "INSERT INTO maasserver_regioncontrollerprocessendpoint SELECT id, '10.78.0.1', 5250 FROM fake"
        )
        daemon = self.start_rack(rack)
        eventually("it is refused", lambda: "refused the secret (at 10.78.0.1:5250)" in daemon.said())
        self.assertNotIn("registered (via 10.78.0.1:5250)", daemon.said())

    def test_a_rack_waits_for_the_first_region_and_finds_them_again(self) -> None:
        rack = self.racks[0]
        for region in self.regions:
            region.end()
        daemon = rack.daemon("rack")
        eventually("it looks on", lambda: "no region found, looking on" in daemon.said())
        for region in self.regions:
            region.daemon("region")
        eventually("registered", lambda: daemon.said().count("registered (via") == 2)
        for times in (3, 4):
            region = self.regions[times % 2]
            region.end()
            self.counts(daemon, "ended", times - 2)
            region.daemon("region")
            self.counts(daemon, "registered (via", times)
        self.assertEqual(len({*re.findall(r"controller '(\w+)' registered", daemon.said())}), 1)

    def counts(self, daemon: Process, words: str, times: int) -> None:
        eventually(f"{words} {times} times", lambda: daemon.said().count(words) >= times)

    def test_two_racks_of_one_host_name_are_one_and_the_api_shows_it(self) -> None:
        self.racks[1].hostname = "rack-1"
        self.addCleanup(setattr, self.racks[1], "hostname", "rack-2")
        for rack in self.racks:
            self.start_rack(rack)
        shown = eventually(
            "both addresses",
            lambda: [rack for rack in self.api("GET", RACKS).json if len(rack["stub_connected_from"]) == 2],
        )
        self.assertEqual([rack["hostname"] for rack in shown], ["rack-1"])
        self.assertEqual(self.identity(self.racks[0]), self.identity(self.racks[1]))

    def both_racks(self) -> tuple[str, str]:
        """Starts both, and gives their system ids."""
        for rack in self.racks:
            self.start_rack(rack)
        eventually("both run", lambda: len(self.running()) == 2)
        known = self.running()
        return known["rack-1"], known["rack-2"]

    def test_maas_turns_down_a_pair_that_cannot_work(self) -> None:
        one, two = self.both_racks()
        on = {"dhcp_on": "true", "primary_rack": one, "secondary_rack": two}

        def refused(body: dict[str, str], field: str) -> None:
            answer = self.api("PUT", VLAN, body)
            self.assertEqual((answer.status, list(answer.json)), (400, [field]), answer.body)

        refused(on, "dhcp_on")  # No range yet.
        for wrong in ({"end_ip": "10.78.0.99"}, {"end_ip": "10.79.0.9"}, {"start_ip": "x"}, {"type": "any"},
                      {"subnet": "99"}):  # fmt: skip
            self.assertEqual(self.api("POST", "/MAAS/api/2.0/ipranges/", {**RANGE, **wrong}).status, 400, wrong)
        self.assertEqual(self.api("POST", "/MAAS/api/2.0/ipranges/", RANGE).status, 200)
        self.assertEqual(self.api("POST", "/MAAS/api/2.0/ipranges/", RANGE).status, 400)
        self.assertEqual(self.api("GET", "/MAAS/api/2.0/ipranges/").json[0]["subnet"]["cidr"], "10.78.0.0/24")
        refused({"dhcp_on": "true"}, "dhcp_on")
        refused({**on, "secondary_rack": one}, "secondary_rack")
        refused({**on, "primary_rack": "nobody"}, "primary_rack")
        refused({"secondary_rack": two}, "secondary_rack")
        refused({**on, "dhcp_on": "perhaps"}, "dhcp_on")
        self.assertEqual(self.api("PUT", "/MAAS/api/2.0/fabrics/9/vlans/0/", on).status, 404)
        self.racks[0].end()
        eventually("rack-1 is seen dead", lambda: "rack-1" not in self.running())
        refused(on, "secondary_rack")  # The primary does not run.
        self.start_rack(self.racks[0])
        eventually("rack-1 is back", lambda: "rack-1" in self.running())
        vlan = self.api("PUT", VLAN, on).json
        self.assertEqual((vlan["dhcp_on"], vlan["primary_rack"], vlan["secondary_rack"]), (True, one, two))
        refused({"secondary_rack": one}, "secondary_rack")
        self.assertEqual(self.api("PUT", VLAN, {"primary_rack": ""}).json["primary_rack"], two)

    def lease(self) -> tuple[str, str]:
        """Asks for an address as a machine that boots; returns it and who gave it."""
        words = ["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/bin/true", "-t", "8", "-T", "2"]
        words = ["ip", "netns", "exec", f"{PREFIX}-client", *words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        found = re.search(r"lease of ([0-9.]+) obtained from ([0-9.]+)", done.stdout + done.stderr)
        if found is None:
            raise AssertionError(done.stdout + done.stderr)
        return found[1], found[2]

    def test_two_real_dhcpd_share_a_pool_and_either_serves_alone(self) -> None:
        one, two = self.both_racks()
        self.api("POST", "/MAAS/api/2.0/ipranges/", RANGE)
        on = {"dhcp_on": "true", "primary_rack": one, "secondary_rack": two}
        self.assertEqual(self.api("PUT", VLAN, on).status, 200)
        began = time.monotonic()
        eventually("the pair is normal", lambda: [rack.dhcpd_state() for rack in self.racks] == ["normal"] * 2)
        print(f"DHCP pair normal {time.monotonic() - began:.1f} s after it was set", flush=True)
        primary, secondary = (rack.file("var/lib/maas/dhcpd.conf").read_text() for rack in self.racks)
        for line in ('failover peer "failover-vlan-1"', "primary;", "address 10.78.0.21;", "peer address 10.78.0.22;",
                     "mclt 3600;", "split 255;", "max-response-delay 60;", "max-unacked-updates 10;",
                     "load balance max seconds 3;"):  # fmt: skip
            self.assertIn(line, primary)
        for line in ("mclt", "split"):
            self.assertNotIn(line, secondary)
        self.assertIn("    secondary;\n    address 10.78.0.22;\n    peer address 10.78.0.21;", secondary)
        address, server = self.lease()
        self.assertEqual(server, "10.78.0.21")
        self.racks[0].end()
        self.assertEqual(self.lease(), (address, "10.78.0.22"))
        # It comes back with what it served before, though no region is there.
        for region in self.regions:
            region.end()
        self.racks[0].daemon("rack")
        eventually("normal again", lambda: [rack.dhcpd_state() for rack in self.racks] == ["normal"] * 2, 60)
        self.racks[1].end()
        self.assertEqual(self.lease(), (address, "10.78.0.21"))

    def test_a_rack_that_leaves_hands_dhcp_to_the_other(self) -> None:
        one, two = self.both_racks()
        self.api("POST", "/MAAS/api/2.0/ipranges/", RANGE)
        self.api("PUT", VLAN, {"dhcp_on": "true", "primary_rack": one, "secondary_rack": two})
        conf = self.racks[1].file("var/lib/maas/dhcpd.conf")
        eventually("the pair", lambda: conf.exists() and "secondary;" in conf.read_text())
        self.racks[0].processes.pop().stop(signal.SIGTERM)
        self.assertEqual(self.api("DELETE", f"{RACKS}{one}/").status, 204)
        vlan = self.api("GET", VLAN).json
        self.assertEqual((vlan["dhcp_on"], vlan["primary_rack"], vlan["secondary_rack"]), (True, two, None))
        eventually("it serves alone", lambda: "failover" not in conf.read_text())
        answer = self.api("DELETE", f"{RACKS}{two}/")
        self.assertEqual(answer.status, 400, answer.body)
        self.assertEqual(self.api("PUT", VLAN, {"dhcp_on": "false"}).json["dhcp_on"], False)
        eventually("dhcpd is off", lambda: not conf.exists())
        self.assertEqual(self.api("DELETE", f"{RACKS}{one}/").status, 404)


if __name__ == "__main__":
    unittest.main()
