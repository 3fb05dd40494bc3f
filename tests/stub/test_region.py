"""The stub's region controller, against a real PostgreSQL."""

import http.client
import signal
import socket
import stat
import time
import unittest
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from machines import SECRET, Answer, Machine, World, eventually


class Region(unittest.TestCase):
    """`maas-regiond`, up to two machines, one database."""

    world: World
    key: str
    one: Machine
    two: Machine

    @classmethod
    def setUpClass(cls) -> None:
        cls.world = World()
        cls.addClassCleanup(cls.world.end)
        cls.world.start_database()
        cls.one = cls.world.region("region-1", "10.78.0.11")
        cls.two = cls.world.region("region-2", "10.78.0.12")
        cls.key = cls.world.install(cls.one)

    def setUp(self) -> None:
        self.world.sql("TRUNCATE maasserver_node, stub_rows CASCADE")
        for machine in (self.one, self.two):
            machine.tell_release()
            for file in machine.file("var/lib/maas").glob("*"):
                if file.is_file():
                    file.unlink()

    def tearDown(self) -> None:
        for machine in (self.one, self.two):
            machine.end()

    def got(self, method: str, path: str, body: Mapping[str, object] | None = None, **more: object) -> Answer:
        answer = self.one.ask(method, path, body, **more)  # type: ignore[arg-type]
        if answer is None:
            raise AssertionError(f"{method} {path}: no answer")
        return answer

    def ready(self, machine: Machine) -> None:
        machine.daemon("region")
        eventually(f"{machine.name} answers", machine.event_loops)

    def test_it_waits_for_the_database_and_answers_503_until_then(self) -> None:
        self.world.stop_database()
        daemon = self.one.daemon("region")
        eventually("503", lambda: (answer := self.one.ask("GET", "/MAAS/rpc/")) and answer.status == 503)
        answer = self.got("GET", "/MAAS/api/2.0/version/")
        self.assertEqual((answer.status, answer.json["stub"]), (503, True))
        self.world.start_database()
        eventually("event loops", self.one.event_loops)
        self.assertEqual(daemon.said().count("not started yet"), 1, daemon.said())

    def test_it_says_who_it_is_in_files_of_its_own(self) -> None:
        self.ready(self.one)
        answer = self.got("GET", "/MAAS/api/2.0/version/")
        self.assertEqual((answer.status, answer.json["version"], answer.json["stub"]), (200, "3.7", True))
        self.assertEqual(answer.headers["X-MAAS-Stub"], "true")
        self.assertEqual(self.one.file("var/lib/maas/secret").read_text(), SECRET)
        known = self.world.sql("SELECT system_id FROM maasserver_node WHERE hostname = 'region-1' AND node_type = 3")
        self.assertEqual(self.one.file("var/lib/maas/maas_id").read_text(), known)
        for name in ("secret", "maas_id", "maas_uuid"):
            self.assertEqual(stat.S_IMODE(self.one.file(f"var/lib/maas/{name}").stat().st_mode), 0o640)
        self.one.end()
        self.ready(self.one)
        self.assertEqual(self.one.file("var/lib/maas/maas_id").read_text(), known)

    def test_another_secret_in_the_file_is_written_over_by_3_and_stops_2_4(self) -> None:
        secret = self.one.file("var/lib/maas/secret")
        secret.write_text("ff" * 16)
        self.ready(self.one)
        self.assertEqual(secret.read_text(), SECRET)
        self.one.end()
        self.one.tell_release(version="2.4")
        secret.write_text("aa" * 16)
        self.ready(self.one)  # The file's secret becomes the database's.
        self.one.end()
        secret.write_text("bb" * 16)
        daemon = self.one.daemon("region")
        eventually("a complaint", lambda: "differs from the secret in the database" in daemon.said())
        self.assertIsNone(self.one.event_loops())
        self.assertEqual(secret.read_text(), "bb" * 16)

    def both(self) -> dict[str, object] | None:
        loops = self.one.event_loops() or {}
        return loops if len(loops) == 2 else None

    def test_two_regions_know_each_other_and_one_that_ends_is_dropped(self) -> None:
        self.ready(self.one)
        self.ready(self.two)
        loops = eventually("both", self.both)
        self.assertEqual(sorted(name.split(":pid=")[0] for name in loops), ["region-1", "region-2"])
        self.assertIn([["10.78.0.12", 5250]], loops.values())
        self.assertEqual(self.two.processes.pop().stop(signal.SIGTERM), 0)
        self.assertEqual(len(self.one.event_loops() or {}), 1)
        self.ready(self.two)
        self.two.processes.pop().stop(signal.SIGKILL)
        self.assertEqual(len(self.one.event_loops() or {}), 2)
        self.world.sql(
            "UPDATE maasserver_regioncontrollerprocess SET updated = now() - interval '1 minute' WHERE region_id = "
            "(SELECT id FROM maasserver_node WHERE hostname = 'region-2')"
        )
        eventually("the dead one is dropped", lambda: len(self.one.event_loops() or {}) == 1, 10)

    def test_an_address_of_two_regions_is_left_out(self) -> None:
        words = ["address", "add", "10.78.0.99/24", "dev", "eth0"]
        for machine in (self.one, self.two):
            self.world.ip(machine, *words)
            self.addCleanup(self.world.ip, machine, "address", "delete", *words[2:])
            self.ready(machine)
        loops = eventually("both", self.both)
        self.assertEqual(sorted(ends for ends in loops.values()), [[["10.78.0.11", 5250]], [["10.78.0.12", 5250]]])

    def test_two_machines_of_one_host_name_are_one_controller(self) -> None:
        self.ready(self.one)
        self.two.hostname = "region-1"
        self.addCleanup(setattr, self.two, "hostname", "region-2")
        self.ready(self.two)
        known = self.got("GET", "/MAAS/api/2.0/regioncontrollers/", key=self.key).json
        self.assertEqual([node["hostname"] for node in known], ["region-1"])
        self.assertEqual(self.one.file("var/lib/maas/maas_id").read_text(),
                         self.two.file("var/lib/maas/maas_id").read_text())  # fmt: skip

    def test_it_binds_what_its_version_of_maas_binds(self) -> None:
        for version, silent in (("3.4", []), ("3.5", [5271]), ("3.7", [5242, 5271])):
            self.one.tell_release(version=version)
            self.ready(self.one)
            bound = {port for port in (5242, 5271) if self.accepts(port)}
            self.assertEqual(bound, set(silent), version)
            self.assertTrue(self.accepts(5250))
            self.one.end()

    def accepts(self, port: int) -> bool:
        try:
            socket.create_connection((self.one.address, port), timeout=3).close()
        except OSError:
            return False
        return True

    def test_who_did_not_sign_may_not_ask(self) -> None:
        self.ready(self.one)
        consumer, token, secret = self.key.split(":")
        for key in (None, f"{consumer}:{token}:wrong", f"wrong:{token}:{secret}"):
            self.assertEqual(self.got("GET", "/MAAS/api/2.0/subnets/", key=key).status, 401)
        told = self.got("GET", "/MAAS/api/2.0/users/?op=whoami", key=self.key).json
        self.assertEqual((told["username"], told["is_superuser"]), ("admin", True))
        self.world.sql("UPDATE auth_user SET is_superuser = false")
        self.addCleanup(self.world.sql, "UPDATE auth_user SET is_superuser = true")
        body = {"type": "dynamic", "start_ip": "10.78.0.100", "end_ip": "10.78.0.200"}
        self.assertEqual(self.got("POST", "/MAAS/api/2.0/ipranges/", body, key=self.key).status, 403)

    def test_rows_are_kept_and_told_as_ranges(self) -> None:
        self.ready(self.one)
        for n in (1, 2, 3, 7, 3):
            answer = self.got("POST", "/MAAS/stub/rows/", {"n": n, "client": "c1"}, as_json=True)
            self.assertEqual((answer.status, answer.json["n"], answer.json["stub"]), (201, n, True))
        self.got("POST", "/MAAS/stub/rows/", {"n": 1, "client": "c2"}, as_json=True)
        self.assertEqual(self.got("GET", "/MAAS/stub/rows/?client=c1").json["ranges"], [[1, 3], [7, 7]])
        self.assertEqual(self.got("GET", "/MAAS/stub/rows/count").json["count"], 5)

    def test_many_write_at_once(self) -> None:
        self.ready(self.one)

        def write(n: int) -> int:
            return self.got("POST", "/MAAS/stub/rows/", {"n": n, "client": "c"}, as_json=True).status

        with ThreadPoolExecutor(24) as pool:
            self.assertEqual(set(pool.map(write, range(200))), {201})
        self.assertEqual(self.got("GET", "/MAAS/stub/rows/?client=c").json["ranges"], [[0, 199]])

    def test_a_database_that_restarts_is_found_again_at_once(self) -> None:
        self.ready(self.one)
        self.assertEqual(self.got("POST", "/MAAS/stub/rows/", {"n": 1, "client": "c"}, as_json=True).status, 201)
        self.world.stop_database(signal.SIGQUIT)
        answer = self.got("POST", "/MAAS/stub/rows/", {"n": 2, "client": "c"}, as_json=True)
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (503, "5"))
        self.assertEqual(self.got("GET", "/MAAS/rpc/").status, 503)
        self.world.start_database()
        self.assertEqual(self.got("POST", "/MAAS/stub/rows/", {"n": 3, "client": "c"}, as_json=True).status, 201)
        self.assertEqual(self.got("GET", "/MAAS/rpc/").status, 200)

    def test_no_request_hangs_on_a_database_that_does_not_answer(self) -> None:
        self.ready(self.one)
        self.got("POST", "/MAAS/stub/rows/", {"n": 1, "client": "c"}, as_json=True)
        self.world.pause_database(True)
        self.addCleanup(self.world.pause_database, False)
        for method, path, body, limit in (
            ("GET", "/MAAS/rpc/", None, 2.0),
            ("GET", "/MAAS/api/2.0/version/", None, 2.0),
            ("POST", "/MAAS/stub/rows/", {"n": 2, "client": "c"}, 5.0),
        ):
            began = time.monotonic()
            self.assertEqual(self.got(method, path, body, as_json=True).status, 503)
            self.assertLess(time.monotonic() - began, limit, path)
        self.world.pause_database(False)
        eventually("it answers again", self.one.event_loops, 5)

    def test_a_row_that_no_standby_has_is_never_told_as_kept(self) -> None:
        self.ready(self.one)
        self.world.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self.world.sql("SELECT pg_reload_conf()")
        time.sleep(1)
        # The second time the row may be there already; it has no standby all the same.
        for _ in range(2):
            answer = self.got("POST", "/MAAS/stub/rows/", {"n": 1, "client": "c"}, as_json=True)
            self.assertEqual(answer.status, 503, answer.body)
        # Cut short by an administrator, the server calls it done, with a warning.
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.got, "POST", "/MAAS/stub/rows/", {"n": 2, "client": "c"}, as_json=True)
            cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            eventually("a commit to cancel", lambda: self.world.sql(cancel), 4)
            self.assertEqual(waiting.result().status, 503)
        self.world.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.world.sql("SELECT pg_reload_conf()")
        eventually("rows are kept again", lambda: self.got(
            "POST", "/MAAS/stub/rows/", {"n": 1, "client": "c"}, as_json=True).status == 201)  # fmt: skip

    def test_a_standby_takes_no_rows(self) -> None:
        self.ready(self.one)
        self.world.sql("ALTER ROLE maas SET default_transaction_read_only = on")
        self.addCleanup(self.world.sql, "ALTER ROLE maas RESET default_transaction_read_only")
        self.world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'maas'")
        answer = self.got("POST", "/MAAS/stub/rows/", {"n": 1, "client": "c"}, as_json=True)
        self.assertEqual(answer.status, 503)
        self.assertIn("read-only", answer.json["error"])

    def test_nonsense_gets_an_answer_and_harms_nothing(self) -> None:
        self.ready(self.one)
        for body in ({"n": "1", "client": "c"}, {"n": -1, "client": "c"}, {"n": 2**70, "client": "c"}, {"n": True},
                     {"n": 1, "client": "\0"}, {"n": 1, "client": "\ud800"}, {"n": 1, "client": "x" * 65}):  # fmt: skip
            self.assertEqual(self.got("POST", "/MAAS/stub/rows/", body, as_json=True).status, 400, body)
        self.assertEqual(self.got("GET", "/MAAS/api/2.0/machines/").status, 404)
        self.assertEqual(self.got("DELETE", "/MAAS/rpc/").status, 405)
        self.assertEqual(self.got("GET", "/MAAS/stub/rows/?client=%00").status, 400)
        connection = http.client.HTTPConnection(self.one.address, 5240, timeout=5)
        connection.request("POST", "/MAAS/stub/rows/", b"x" * 70_000)
        self.assertEqual(connection.getresponse().status, 413)
        connection.close()
        for raw in (b"{}\n", b"[" * 100_000 + b"\n", b"\xff\n", b"x" * 400_000):
            with socket.create_connection((self.one.address, 5250), timeout=10) as line:
                self.assertIn(b'"stub": true', line.recv(4096))
                try:
                    line.sendall(raw)
                    line.recv(4096)
                except ConnectionError:
                    pass
        crowd = [socket.create_connection((self.one.address, 5240), timeout=5) for _ in range(200)]
        for member in crowd:
            member.close()
        eventually("it answers after the crowd", self.one.event_loops, 5)


if __name__ == "__main__":
    unittest.main()
