"""The stub's commands of a region, against a real PostgreSQL."""

import signal
import sys
import time
import unittest

from machines import PASSWORD, Machine, World, eventually


class Commands(unittest.TestCase):
    """`maas-region`, one machine, one database."""

    world: World
    region: Machine

    @classmethod
    def setUpClass(cls) -> None:
        cls.world = World()
        cls.addClassCleanup(cls.world.end)
        cls.world.start_database()
        cls.region = cls.world.region("region-1", "10.78.0.11")

    def setUp(self) -> None:
        self.region.tell_release()
        self.world.sql("DROP SCHEMA public CASCADE")
        self.world.sql("CREATE SCHEMA public AUTHORIZATION maas")

    def run_it(self, *words: str, stdin: str = "") -> str:
        done = self.region.command("region_commands", *words, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fails(self, *words: str, stdin: str = "") -> str:
        done = self.region.command("region_commands", *words, stdin=stdin)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        return done.stderr

    def test_it_says_that_it_is_a_stub(self) -> None:
        self.assertIn("MAAS stub", self.run_it("--version"))

    def test_dbupgrade_makes_what_the_join_looks_for_and_does_it_once(self) -> None:
        self.run_it("dbupgrade")
        self.assertEqual(self.world.sql("SELECT version_num FROM alembic_version"), "0042_stub")
        # Where 3.6 and earlier count.
        self.assertEqual(
            self.world.sql("SELECT max(name) FROM django_migrations WHERE app = 'maasserver'"), "0042_stub"
        )
        for table in ("django_migrations", "maasserver_secret", "auth_user", "maasserver_node", "maasserver_vlan"):
            self.assertEqual(self.world.sql(f"SELECT tableowner FROM pg_tables WHERE tablename = '{table}'"), "maas")
        self.run_it("dbupgrade")
        self.assertEqual(self.world.sql("SELECT count(*), count(ended) FROM stub_migrations"), "1|1")

    def test_a_migration_that_was_cut_off_leaves_half_a_schema_and_is_finished_later(self) -> None:
        self.region.tell_release(seconds=30)
        cut = self.region.spawn([sys.executable, "-m", "maas_stub.region_commands", "dbupgrade"], "cut")
        eventually("half a schema", lambda: self.world.sql("SELECT to_regclass('django_migrations')"))
        cut.stop(signal.SIGKILL)
        self.assertEqual(self.world.sql("SELECT to_regclass('alembic_version')"), "")
        self.region.tell_release()
        eventually("the lock of the dead one is gone",
                   lambda: self.region.command("region_commands", "dbupgrade").returncode == 0)  # fmt: skip
        self.assertEqual(self.world.sql("SELECT version_num FROM alembic_version"), "0042_stub")
        self.assertEqual(self.world.sql("SELECT count(*) - count(ended) FROM stub_migrations"), "1")

    def test_two_migrators_are_an_error(self) -> None:
        self.region.tell_release(seconds=30)
        first = self.region.spawn([sys.executable, "-m", "maas_stub.region_commands", "dbupgrade"], "first")
        eventually("the first migrates", lambda: self.world.sql("SELECT to_regclass('django_migrations')"))
        self.assertIn("another machine is migrating", self.fails("dbupgrade"))
        first.stop(signal.SIGKILL)

    def test_it_takes_as_long_as_it_is_told(self) -> None:
        self.region.tell_release(seconds=1.5)
        began = time.monotonic()
        self.run_it("dbupgrade")
        self.assertGreater(time.monotonic() - began, 1.5)

    def test_a_newer_schema_is_refused_and_an_older_one_brought_up(self) -> None:
        self.region.tell_release(schema="0100_stub")
        self.run_it("dbupgrade")
        self.region.tell_release()
        self.assertIn("newer than this image", self.fails("dbupgrade"))
        self.region.tell_release(schema="0101_stub")
        self.run_it("dbupgrade")
        self.assertEqual(self.world.sql("SELECT version_num FROM alembic_version"), "0101_stub")

    def test_the_database_has_to_be_the_roles_own_from_3_5_on(self) -> None:
        self.world.sql("ALTER DATABASE maasdb OWNER TO postgres")
        self.addCleanup(self.world.sql, "ALTER DATABASE maasdb OWNER TO maas")
        self.assertIn("does not belong to MAAS's role", self.fails("dbupgrade"))
        self.region.tell_release(version="3.4")
        self.run_it("dbupgrade")

    def test_an_administrator_has_a_key_and_no_readable_password(self) -> None:
        self.run_it("dbupgrade")
        who = ["--username", "admin", "--email", "admin@example.com"]
        self.assertIn("no user is named", self.fails("apikey", "--username", "admin"))
        self.assertIn("no password", self.fails("createadmin", *who))
        self.run_it("createadmin", *who, stdin="hunter2\n")
        self.assertIn("already exists", self.fails("createadmin", *who, stdin="hunter2\n"))
        self.assertEqual(self.world.sql("SELECT username, email, is_superuser FROM auth_user"),
                         "admin|admin@example.com|t")  # fmt: skip
        self.assertNotIn("hunter2", self.world.sql("SELECT password FROM auth_user"))
        key = self.run_it("apikey", "--username", "admin")
        self.assertEqual(len(key.strip().split(":")), 3, key)
        another = self.run_it("apikey", "--username", "admin", "--generate")
        self.assertEqual(self.run_it("apikey", "--username", "admin"), key + another)

    def test_without_a_database_there_is_one_clear_message_and_no_password_in_it(self) -> None:
        self.world.stop_database()
        self.addCleanup(self.world.start_database)
        for words in (["dbupgrade"], ["apikey", "--username", "admin"]):
            message = self.fails(*words)
            self.assertIn("the database does not answer", message)
            self.assertNotIn(PASSWORD, message)

    def test_a_broken_configuration_is_named_and_not_quoted(self) -> None:
        conf = self.region.file("etc/maas/regiond.conf")
        good = conf.read_text()
        self.addCleanup(conf.write_text, good)
        conf.write_text(f'database_pass: "{PASSWORD}\n')
        message = self.fails("dbupgrade")
        self.assertIn("regiond.conf is no YAML, line", message)
        self.assertNotIn(PASSWORD, message)
        conf.unlink()
        self.assertIn("regiond.conf cannot be read", self.fails("dbupgrade"))


if __name__ == "__main__":
    unittest.main()
