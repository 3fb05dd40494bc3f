"""Machines for the stub's tests: a network namespace with an address and a host name each, a folder for MAAS's files,
and one PostgreSQL beside them. Nothing of them stays.

Needs root, iproute2, PostgreSQL, python3-psycopg2, python3-yaml and isc-dhcp-server.
"""

import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

PROJECT = Path(__file__).resolve().parents[2]
STUB = PROJECT / "overlays/maas-stub/usr/lib/rolecast/maas-stub"
PREFIX = "rc-stub"
SECRET = "00112233445566778899aabbccddeeff"
PASSWORD = "database-password-of-the-test"
DATABASE = "10.78.0.5"
VIP = "10.78.0.10"

Value = TypeVar("Value")


def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command of the test's own, which has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, **more)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done


def eventually(what: str, ask: Callable[[], Value | None], seconds: float = 30.0) -> Value:
    """Waits until `ask` gives something true."""
    until = time.monotonic() + seconds
    while not (found := ask()):
        if time.monotonic() > until:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.1)
    return found


class Answer:
    """What came back over HTTP."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Process:
    """A daemon, and what it said."""

    def __init__(self, words: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        self._file = log.open("ab")
        self._began = log.stat().st_size
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
            env=environment,
            start_new_session=True,
        )

    def said(self) -> str:
        """All of its output since it started."""
        return self.log.read_bytes()[self._began :].decode(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it, and says how it ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            return self.process.wait(15)
        finally:
            self._file.close()


class Machine:
    """One machine."""

    def __init__(self, world: "World", name: str, address: str, hostname: str | None = None) -> None:
        self.world, self.name, self.address = world, name, address
        self.hostname = hostname or name
        self.root = world.folder / name
        self.space = f"{PREFIX}-{name}"
        for folder in ("etc/maas", "var/lib/maas/dhcp", "usr/lib/rolecast"):
            (self.root / folder).mkdir(parents=True)
        self.tell_release()
        world.plug(self.space, address)
        self.processes: list[Process] = []

    def tell_release(self, version: str = "3.7", schema: str = "0042_stub", seconds: float = 0.0) -> None:
        """maas.toml, as the image would hold it. A rack's has no schema."""
        text = f'version = "{version}"\n[stub]\nmigration-seconds = {seconds}\npatience = 1\n'
        if schema:
            text += f'[schema]\nexpected = "{schema}"\n'
        (self.root / "usr/lib/rolecast/maas.toml").write_text(text)

    def file(self, path: str) -> Path:
        """A file of the machine."""
        return self.root / path

    def _words(self, words: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.space, "unshare", "--uts", "sh", "-c",
                f'hostname {self.hostname} && exec "$@"', "sh", *words]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "MAAS_ROOT": str(self.root), "PYTHONPATH": str(STUB), "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": f"{self.root}/bin:{os.environ['PATH']}"}  # fmt: skip

    def command(self, module: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command of the stub to its end."""
        return subprocess.run(
            self._words([sys.executable, "-m", f"maas_stub.{module}", *words]),
            input=stdin, env=self._environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def daemon(self, module: str) -> Process:
        """Starts a daemon of the stub."""
        return self.spawn([sys.executable, "-m", f"maas_stub.{module}"], module)

    def spawn(self, words: list[str], log: str) -> Process:
        """Starts a program on the machine."""
        process = Process(self._words(words), self.world.folder / f"{self.name}-{log}.log", self._environment())
        self.processes.append(process)
        return process

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        as_json: bool = False,
    ) -> Answer | None:
        """One request to its API, from the namespace of the switch; none when nothing answers."""
        headers = {"Connection": "close"}
        if key is not None:
            consumer, token, secret = key.split(":")
            headers["Authorization"] = (
                f'OAuth oauth_version="1.0", oauth_signature_method="PLAINTEXT", oauth_consumer_key="{consumer}", '
                f'oauth_token="{token}", oauth_signature="%26{secret}", oauth_nonce="1", oauth_timestamp="1"'
            )
        data = None
        if body is not None:
            data = json.dumps(body) if as_json else urlencode(body)
            headers["Content-Type"] = "application/json" if as_json else "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(self.address, 5240, timeout=8)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        except OSError:
            return None
        finally:
            connection.close()

    def event_loops(self) -> dict[str, Any] | None:
        """What `/MAAS/rpc/` tells, if it tells anything."""
        answer = self.ask("GET", "/MAAS/rpc/")
        return answer.json["eventloops"] if answer and answer.status == 200 else None

    def end(self) -> None:
        """Ends everything that runs on it."""
        for process in self.processes:
            process.stop(signal.SIGKILL)
        self.processes.clear()
        self.kill_dhcpd()

    def kill_dhcpd(self) -> None:
        """Ends dhcpd as a crash does, if it runs."""
        number = self.file("var/lib/maas/dhcpd.pid")
        if number.exists():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(number.read_text()), signal.SIGKILL)
            number.unlink()

    def dhcpd_state(self) -> str:
        """What its dhcpd says last of the pair: `normal` when both are well."""
        leases = self.file("var/lib/maas/dhcp/dhcpd.leases")
        states = re.findall(r"my state ([a-z-]+)", leases.read_text()) if leases.exists() else []
        return states[-1] if states else ""


class World:
    """All machines of a test, a switch between them, and the database.

    The switch is the network namespace that the tests themselves run in (see `enter`).
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
        # In memory: the tests are about what is said, not about a disk that others are busy with.
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(self.folder))
        self.machines: list[Machine] = []
        self._spaces: list[str] = []
        run("ip", "link", "add", "switch", "type", "bridge")
        run("ip", "address", "add", "10.78.0.1/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        self.binaries = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self._postgres: Process | None = None

    def plug(self, space: str, address: str | None) -> None:
        """A namespace with a card on the switch."""
        run("ip", "netns", "add", space)
        self._spaces.append(space)
        port = f"p{len(self._spaces)}"
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", port, "master", "switch", "up")
        for link in ("lo", "eth0"):
            run("ip", "-netns", space, "link", "set", link, "up")
        if address is not None:
            run("ip", "-netns", space, "address", "add", f"{address}/24", "dev", "eth0")

    def ip(self, machine: Machine, *words: str) -> None:
        """`ip` on a machine."""
        run("ip", "-netns", machine.space, *words)

    def region(self, name: str, address: str, hostname: str | None = None) -> Machine:
        """A machine with a region's configuration."""
        machine = Machine(self, name, address, hostname)
        machine.file("etc/maas/regiond.conf").write_text(
            f"maas_url: http://{VIP}/MAAS\ndatabase_host: {DATABASE}\ndatabase_port: 5433\n"
            f'database_name: maasdb\ndatabase_user: maas\ndatabase_pass: "{PASSWORD}"\n'
        )
        self.machines.append(machine)
        return machine

    def rack(self, name: str, address: str, regions: list[Machine], hostname: str | None = None) -> Machine:
        """A machine with a rack's configuration, and a systemctl that only starts and stops dhcpd."""
        machine = Machine(self, name, address, hostname)
        urls = "".join(f"  - http://{region.address}:5240/MAAS\n" for region in regions)
        machine.file("etc/maas/rackd.conf").write_text(f"maas_url:\n{urls}tftp_port: 69\n")
        machine.file("bin").mkdir()
        systemctl = machine.file("bin/systemctl")
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)
        machine.tell_release(schema="")
        self.machines.append(machine)
        return machine

    def start_database(self) -> None:
        """Starts PostgreSQL; makes it first, empty but for MAAS's role and database."""
        data = self.folder / "database"
        if not data.exists():
            data.mkdir()
            shutil.chown(data, "postgres", "postgres")
            self.plug(f"{PREFIX}-db", DATABASE)
            self.as_postgres("initdb", "-D", str(data), "--auth-host=scram-sha-256", "--auth-local=trust", "--no-sync")
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 10.78.0.0/24 scram-sha-256\n")
            with (data / "postgresql.conf").open("a") as settings:
                settings.write(f"unix_socket_directories = '{data}'\nlisten_addresses = '{DATABASE}'\nport = 5433\n")
                settings.write("fsync = off\nshared_buffers = 16MB\n")
            self._launch(data)
            self.sql(f"CREATE ROLE maas LOGIN PASSWORD '{PASSWORD}'", "postgres")
            self.sql("CREATE DATABASE maasdb OWNER maas", "postgres")
        else:
            self._launch(data)

    def install(self, region: Machine) -> str:
        """Schema, administrator and shared secret, as the join does it; returns an API key."""
        for words, stdin in (
            (["dbupgrade"], ""),
            (["createadmin", "--username", "admin", "--email", "admin@example.com"], "admin-password\n"),
        ):
            done = region.command("region_commands", *words, stdin=stdin)
            if done.returncode != 0:
                raise AssertionError(done.stderr)
        self.sql(
            "INSERT INTO maasserver_secret (path, created, updated, value) "
            f"VALUES ('global/rpc-shared', now(), now(), '{{\"secret\": \"{SECRET}\"}}')"
        )
        return region.command("region_commands", "apikey", "--username", "admin").stdout.strip()

    def _launch(self, data: Path) -> None:
        words = ["ip", "netns", "exec", f"{PREFIX}-db", *self._as_postgres("postgres", "-D", str(data))]
        self._postgres = Process(words, self.folder / "postgres.log", dict(os.environ))
        eventually("PostgreSQL answers", lambda: self._answers(data))

    def _answers(self, data: Path) -> bool:
        words = self._as_postgres("pg_isready", "-h", str(data), "-p", "5433")
        return subprocess.run(words, capture_output=True).returncode == 0

    def stop_database(self, number: int = signal.SIGINT) -> None:
        """Ends PostgreSQL: SIGINT is its fast way, SIGQUIT is a crash."""
        if self._postgres is not None:
            self._postgres.stop(number)
            self._postgres = None

    def pause_database(self, pause: bool) -> None:
        """Stops PostgreSQL in its tracks, or lets it go on: what a dead leader behind a proxy looks like."""
        assert self._postgres is not None
        # Its processes have sessions of their own.
        leader = self._postgres.process.pid
        everyone = run("ps", "-eo", "pid=,ppid=").stdout.split("\n")
        children = [int(line.split()[0]) for line in everyone if line.split()[1:] == [str(leader)]]
        for process in [leader, *children]:
            with contextlib.suppress(ProcessLookupError):  # `ps` itself was one of them, or a worker has ended.
                os.kill(process, signal.SIGSTOP if pause else signal.SIGCONT)

    def _as_postgres(self, program: str, *words: str) -> list[str]:
        return [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            str(self.binaries / program),
            *words,
        ]

    def as_postgres(self, program: str, *words: str) -> str:
        """Runs a program of PostgreSQL as its user."""
        return run(*self._as_postgres(program, *words), cwd="/").stdout

    def sql(self, statement: str, database: str = "maasdb") -> str:
        """What the database answers to one statement."""
        words = ["-h", str(self.folder / "database"), "-p", "5433", "-d", database, "-XAtqc", statement]
        return self.as_postgres("psql", *words).strip()

    def end(self) -> None:
        """Takes everything away."""
        for machine in self.machines:
            machine.end()
        if self._postgres is not None:
            self.pause_database(False)
            self.stop_database(signal.SIGQUIT)
        for space in self._spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)
        subprocess.run(["ip", "link", "delete", "switch"], capture_output=True)
        run("umount", "--lazy", str(self.folder))
        self.folder.rmdir()


SYSTEMCTL = """#!/bin/sh
# Stands in for systemd: notes what it is told, and runs dhcpd as maas-dhcpd.service would.
echo "$*" >> "$MAAS_ROOT/systemctl.log"
data=$MAAS_ROOT/var/lib/maas
case "$*" in
*"maas-dhcpd.service")
    test -f "$data/dhcpd.pid" && { kill "$(cat "$data/dhcpd.pid")"; sleep 0.5; rm -f "$data/dhcpd.pid"; }
    case "$*" in
    *stop*) ;;
    *)
        touch "$data/dhcp/dhcpd.leases"
        /usr/sbin/dhcpd -4 -q -pf "$data/dhcpd.pid" -cf "$data/dhcpd.conf" -lf "$data/dhcp/dhcpd.leases" \\
            $(cat "$data/dhcpd-interfaces") > "$data/dhcpd.log" 2>&1
        ;;
    esac
    ;;
esac
"""


def enter() -> None:
    """Goes into namespaces of the tests' own: the switch and its addresses are nobody else's, and nothing outlives
    the tests."""
    if "ROLECAST_STUB_SPACE" not in os.environ:
        os.environ["ROLECAST_STUB_SPACE"] = "1"
        spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvp("unshare", ["unshare", *spaces, sys.executable, *sys.argv])
    # Names of namespaces, too.
    os.makedirs("/run/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
