"""The files of MAAS that the stub reads and writes, where MAAS's Debian packages have them.

Owns paths, owners, modes and the form of each file. MAAS_ROOT goes before every path, as in MAAS itself.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("MAAS_ROOT", "/"))
REGIOND = ROOT / "etc/maas/regiond.conf"
RACKD = ROOT / "etc/maas/rackd.conf"
ROLECAST = ROOT / "usr/lib/rolecast/maas.toml"
DATA = ROOT / "var/lib/maas"
IDENTITY = DATA / "maas_id"
UUID = DATA / "maas_uuid"
SECRET = DATA / "secret"
RPC_STATE = DATA / "rpc.state"
DHCPD = DATA / "dhcpd.conf"
DHCPD_INTERFACES = DATA / "dhcpd-interfaces"

USER = "maas"


class Trouble(Exception):
    """What a person has to put right. The text is the whole message."""


@dataclass(frozen=True)
class Release:
    """What this image stands for."""

    version: str
    """Of MAAS: `3.7`."""
    schema: str
    """What `alembic_version` holds after its migrations. Empty on a rack, which has no database."""
    migration_seconds: float
    """How long migrations pretend to take."""
    patience: int
    """How many times as long as usual the database may take."""

    @property
    def number(self) -> tuple[int, int]:
        """The version, to compare."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True)
class Regiond:
    """regiond.conf."""

    maas_url: str
    host: str
    port: int
    name: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Regiond({self.maas_url}, {self.user}@{self.host}:{self.port}/{self.name})"


def release() -> Release:
    """What the image says of MAAS."""
    import tomllib

    try:
        told = tomllib.loads(ROLECAST.read_text())
        return Release(
            version=told["version"],
            schema=told.get("schema", {}).get("expected", ""),
            migration_seconds=float(told["stub"]["migration-seconds"]),
            patience=int(told["stub"]["patience"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise Trouble(f"{ROLECAST} does not say what the stub stands for: {error!r}") from error


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        told = yaml.safe_load(path.read_text())
    except OSError as error:
        raise Trouble(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        # Not the error's own text: it quotes the line, and the line may be a password.
        line = getattr(error, "problem_mark", None)
        raise Trouble(f"{path} is no YAML{f', line {line.line + 1}' if line else ''}") from error
    if not isinstance(told, dict):
        raise Trouble(f"{path} holds no settings")
    return told


def regiond() -> Regiond:
    """Reads regiond.conf; what is left out is as in MAAS."""
    told = _yaml(REGIOND)
    return Regiond(
        maas_url=str(told.get("maas_url", "http://localhost:5240/MAAS")),
        host=str(told.get("database_host", "localhost")),
        port=int(told.get("database_port", 5432)),
        name=str(told.get("database_name", "maasdb")),
        user=str(told.get("database_user", "maas")),
        password=str(told.get("database_pass", "")),
    )


def maas_urls() -> list[str]:
    """The regions' addresses of rackd.conf: one, or since 2.5 a list."""
    told = _yaml(RACKD).get("maas_url", [])
    return [str(url) for url in (told if isinstance(told, list) else [told])]


def set_maas_url(url: str) -> bool:
    """Has the rack use `url`. A list that holds it already is kept; says whether anything changed."""
    import yaml

    told = _yaml(RACKD) if RACKD.exists() else {}
    known = told.get("maas_url", [])
    if url == known or (isinstance(known, list) and url in known):
        return False
    told["maas_url"] = url
    write(RACKD, yaml.safe_dump(told, default_flow_style=False))
    return True


def read(path: Path) -> str | None:
    """The one word that a small file holds; none when it holds nothing or is not there."""
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def write(path: Path, text: str, mode: int = 0o640) -> None:
    """Replaces a file at once and for good, as MAAS's user's own."""
    import shutil

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        if os.geteuid() == 0:
            try:
                shutil.chown(temporary, USER, USER)
            except LookupError:
                pass  # A machine without MAAS's user: root's it stays.
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
