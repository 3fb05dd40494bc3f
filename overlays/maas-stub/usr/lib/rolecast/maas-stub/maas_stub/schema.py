"""The stub's tables, and how they are brought up to date.

Tables and columns that the join, an operator or a dump of real MAAS would name are called as in MAAS 3.7; what only the
stub has begins with `stub_`. Migrations are the work of one machine at a time: a second one is an error, not a wait,
because MAAS itself takes no lock and the join has to see to it.
"""

import socket
import time
from typing import Any

from . import log
from .configuration import Regiond, Release, Trouble

FIRST_HALF = """
CREATE TABLE IF NOT EXISTS django_migrations (
    id serial PRIMARY KEY, app text NOT NULL, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app, name));
CREATE TABLE IF NOT EXISTS maasserver_config (name text PRIMARY KEY, value jsonb);
CREATE TABLE IF NOT EXISTS maasserver_secret (
    path text PRIMARY KEY, created timestamptz NOT NULL, updated timestamptz NOT NULL, value jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS auth_user (
    id serial PRIMARY KEY, username text NOT NULL UNIQUE, password text NOT NULL, email text NOT NULL,
    is_superuser boolean NOT NULL, date_joined timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS piston3_consumer (
    id serial PRIMARY KEY, key text NOT NULL UNIQUE, secret text NOT NULL, name text NOT NULL,
    user_id integer NOT NULL REFERENCES auth_user ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS piston3_token (
    id serial PRIMARY KEY, key text NOT NULL UNIQUE, secret text NOT NULL,
    consumer_id integer NOT NULL REFERENCES piston3_consumer ON DELETE CASCADE,
    user_id integer NOT NULL REFERENCES auth_user ON DELETE CASCADE);
INSERT INTO django_migrations (app, name) VALUES ('maasserver', '0001_stub') ON CONFLICT DO NOTHING;
"""

SECOND_HALF = """
CREATE TABLE IF NOT EXISTS maasserver_node (
    id serial PRIMARY KEY, system_id text NOT NULL UNIQUE, hostname text NOT NULL UNIQUE,
    node_type integer NOT NULL, created timestamptz NOT NULL DEFAULT now(), updated timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS maasserver_controllerinfo (
    node_id integer PRIMARY KEY REFERENCES maasserver_node ON DELETE CASCADE, version text NOT NULL);
CREATE TABLE IF NOT EXISTS maasserver_fabric (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE IF NOT EXISTS maasserver_vlan (
    id serial PRIMARY KEY, name text NOT NULL, vid integer NOT NULL, mtu integer NOT NULL DEFAULT 1500,
    fabric_id integer NOT NULL REFERENCES maasserver_fabric, dhcp_on boolean NOT NULL DEFAULT false,
    primary_rack_id integer REFERENCES maasserver_node ON DELETE SET NULL,
    secondary_rack_id integer REFERENCES maasserver_node ON DELETE SET NULL,
    UNIQUE (fabric_id, vid));
CREATE TABLE IF NOT EXISTS maasserver_subnet (
    id serial PRIMARY KEY, name text NOT NULL, cidr cidr NOT NULL UNIQUE, gateway_ip inet,
    vlan_id integer NOT NULL REFERENCES maasserver_vlan);
CREATE TABLE IF NOT EXISTS maasserver_iprange (
    id serial PRIMARY KEY, type text NOT NULL, start_ip inet NOT NULL, end_ip inet NOT NULL,
    comment text NOT NULL DEFAULT '', subnet_id integer NOT NULL REFERENCES maasserver_subnet ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS maasserver_interface (
    id serial PRIMARY KEY, name text NOT NULL, mac_address text NOT NULL,
    node_id integer NOT NULL REFERENCES maasserver_node ON DELETE CASCADE,
    vlan_id integer REFERENCES maasserver_vlan);
CREATE TABLE IF NOT EXISTS maasserver_staticipaddress (
    id serial PRIMARY KEY, ip inet NOT NULL, subnet_id integer NOT NULL REFERENCES maasserver_subnet,
    interface_id integer NOT NULL REFERENCES maasserver_interface ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS maasserver_regioncontrollerprocess (
    id serial PRIMARY KEY, region_id integer NOT NULL REFERENCES maasserver_node ON DELETE CASCADE,
    pid integer NOT NULL, created timestamptz NOT NULL DEFAULT now(), updated timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS maasserver_regioncontrollerprocessendpoint (
    process_id integer NOT NULL REFERENCES maasserver_regioncontrollerprocess ON DELETE CASCADE,
    address inet NOT NULL, port integer NOT NULL, PRIMARY KEY (process_id, address, port));
CREATE TABLE IF NOT EXISTS maasserver_regionrackrpcconnection (
    process_id integer NOT NULL REFERENCES maasserver_regioncontrollerprocess ON DELETE CASCADE,
    rack_controller_id integer NOT NULL REFERENCES maasserver_node ON DELETE CASCADE,
    stub_address inet NOT NULL, PRIMARY KEY (process_id, rack_controller_id, stub_address));
CREATE TABLE IF NOT EXISTS stub_rows (
    client text NOT NULL, n bigint NOT NULL, tries integer NOT NULL DEFAULT 1,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (client, n));
INSERT INTO maasserver_config VALUES ('uuid', to_jsonb(gen_random_uuid()::text)) ON CONFLICT DO NOTHING;
INSERT INTO django_migrations (app, name) VALUES ('maasserver', '0002_stub') ON CONFLICT DO NOTHING;
"""

HISTORY = """
CREATE TABLE IF NOT EXISTS stub_migrations (
    id serial PRIMARY KEY, host text NOT NULL, version text NOT NULL,
    started timestamptz NOT NULL DEFAULT now(), ended timestamptz);
"""

LOCK = 0x5A5B
"""The advisory lock of migrations: the stub's own, beside any that the join takes."""


def number(version: str) -> int:
    """What of a schema's version is compared: `0042_stub` is 42."""
    digits = version.split("_", 1)[0]
    return int(digits) if digits.isdigit() else 0


def installed(cursor: Any) -> str | None:
    """The version in the database; none when it has no schema or half of one."""
    cursor.execute("SELECT to_regclass('alembic_version')")
    if cursor.fetchone()[0] is None:
        return None
    cursor.execute("SELECT version_num FROM alembic_version")
    row = cursor.fetchone()
    return row[0] if row else None


def upgrade(settings: Regiond, release: Release) -> None:
    """`maas-region dbupgrade`: brings the database to this image's version. May be cut off anywhere, and run again."""
    import psycopg2

    from .database import connect

    try:
        connection = connect(settings, 120 + release.migration_seconds)
    except psycopg2.Error as error:
        raise Trouble(f"the database does not answer: {' '.join(str(error).split())}") from error
    try:
        with connection.cursor() as cursor:
            _upgrade(cursor, release)
    except psycopg2.Error as error:
        raise Trouble(f"the migration failed: {' '.join(str(error).split())}") from error
    finally:
        connection.close()


def _upgrade(cursor: Any, release: Release) -> None:
    if not release.schema:
        raise Trouble("this image is no region's: it brings no schema")
    if cursor.connection.server_version < 120000:
        raise Trouble("PostgreSQL is older than 12, which this MAAS does not support")
    cursor.execute("SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = current_database()")
    if release.number >= (3, 5) and not cursor.fetchone()[0]:
        raise Trouble("the database does not belong to MAAS's role, which 3.5 and later require")
    cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
    if not cursor.fetchone()[0]:
        raise Trouble("another machine is migrating this database right now; MAAS would break it")
    before = installed(cursor)
    if before is not None and number(before) > number(release.schema):
        raise Trouble(f"the database is at {before}, newer than this image's {release.schema}")
    if before == release.schema:
        log(f"the database is at {before} already")
        return
    log(f"migrating the database from {before or 'nothing'} to {release.schema}")
    cursor.execute(HISTORY)
    cursor.execute(
        "INSERT INTO stub_migrations (host, version) VALUES (%s, %s) RETURNING id",
        [socket.gethostname(), release.schema],
    )
    entry = cursor.fetchone()[0]
    # Like MAAS's, each part is a transaction: cut off between them, half a schema stays, and the next run goes on.
    cursor.execute(FIRST_HALF)
    time.sleep(release.migration_seconds)
    cursor.execute(SECOND_HALF)
    cursor.execute(
        """
        CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32) PRIMARY KEY);
        DELETE FROM alembic_version;
        INSERT INTO alembic_version VALUES (%s);
        -- Where MAAS up to 3.6 counts.
        INSERT INTO django_migrations (app, name) VALUES ('maasserver', %s) ON CONFLICT DO NOTHING;
        """,
        [release.schema, release.schema],
    )
    cursor.execute("UPDATE stub_migrations SET ended = now() WHERE id = %s", [entry])
    log(f"the database is at {release.schema}")
