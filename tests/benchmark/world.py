"""What is built: the project's own images, in copies that may be changed, and all of their packages on this machine.

```text
project/NAME/        a copy of the project: as it is, or with one thing changed
vendor/              every input of their locks, as `rolecast vendor` keeps it
repository/          the same packages as an apt repository, for the other tools
fetch/               the store through which packages came; no build uses it
```
"""

import gzip
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import tomllib

from measure import Failed

SOURCE = Path(__file__).resolve().parents[2]
IMAGE = "images/ha-lab.toml"
LOCK = "images/ha-lab.lock"
CHANGED = "overlays/base/etc/systemd/journald.conf.d/rolecast.conf"
"""The overlay file that is changed: one of the lowest layer, so it is in every image."""
ADDED = "tree"
"""The package that is added: small, of no other package's need, without scripts."""
SCRIPTED = "rsync"
"""One with a maintainer script and a unit."""
ADDITIONS = {"base-package": ("base", ADDED), "rack-package": ("rack", ADDED), "base-script": ("base", SCRIPTED)}
"""The projects that are the plain one with a package more: in which profile, and which."""


class World:
    """The inputs of every tool."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.directory = directory
        self.program = program
        self.vendor = directory / "vendor"
        self.repository = directory / "repository"
        self.log = directory / "log" / "prepare.txt"
        self.projects = directory / "project"
        self.older: str | None = None
        """The package whose older version the project `older` has, when there is one."""

    def rolecast(self, *words: str | Path, store: Path) -> list[str]:
        """A command line of rolecast; it needs no network."""
        return [str(self.program), "--store", str(store), *map(str, words)]

    def offline(self) -> list[str]:
        """The arguments of a verb that fetches: nothing comes from outside."""
        return ["--offline", "--vendor", str(self.vendor)]

    def prepare(self) -> None:
        """Makes the projects, and brings every package that they need, unless that was done before."""
        shutil.rmtree(self.projects, ignore_errors=True)
        plain = self.copy("plain")
        kept = self.directory / "plain.lock"
        if kept.exists():
            shutil.copy(kept, plain / LOCK)
        if not kept.exists() or not self.run("vendor", self.vendor, plain / IMAGE, "--offline"):
            print("fetching the packages of images/ha-lab.toml", flush=True)
            self.need("lock", plain / IMAGE)
            self.need("vendor", self.vendor, plain / IMAGE)
            shutil.copy(plain / LOCK, kept)
        for name, (profile, package) in ADDITIONS.items():
            changed = self.copy(name, plain)
            add_package(changed, profile, package)
            self.lock_and_vendor(changed)
        self.older = self.make_older(plain)

    def lock_and_vendor(self, project: Path) -> None:
        """Brings a changed project's lock up to date, and its packages here; nothing comes that is here already."""
        self.need("lock", project / IMAGE, *self.offline())
        if not self.run("vendor", self.vendor, project / IMAGE, "--offline"):
            self.need("vendor", self.vendor, project / IMAGE)

    def copy(self, name: str, source: Path = SOURCE) -> Path:
        """A copy of a project of which everything may be changed."""
        project = self.projects / name
        shutil.rmtree(project, ignore_errors=True)
        (project / "images").mkdir(parents=True)
        for file in (IMAGE, LOCK):
            shutil.copy(source / file, project / file)
        for folder in ("images/keyrings", "profiles", "overlays"):
            shutil.copytree(source / folder, project / folder, symlinks=True)
        return project

    def make_older(self, plain: Path) -> str | None:
        """Makes the project `older`: its lock has the version of a package that a security update has replaced."""
        text = (plain / LOCK).read_text(encoding="utf-8")
        packages = [package for layer in self.layers().values() for package in layer]
        names = {package["name"] for package in packages if package["archive"] == "debian-security"}
        offered = {stanza["Package"]: stanza for stanza in self.index("debian", "trixie") if stanza["Package"] in names}
        # Later layers hold fewer packages: the update is of a leaf, as most are.
        for line in reversed(text.splitlines()):
            if 'archive = "debian-security"' not in line:
                continue
            package = tomllib.loads(f"package = {line.strip().rstrip(',')}")["package"]
            stanza = offered.get(package["name"])
            if stanza and stanza["Version"] != package["version"]:
                older = self.copy("older", plain)
                (older / LOCK).write_text(text.replace(line, f"    {pin(stanza)},"), encoding="utf-8")
                if not self.run("vendor", self.vendor, older / IMAGE, "--offline"):
                    self.need("vendor", self.vendor, older / IMAGE)
                return str(package["name"])
        return None

    def index(self, archive: str, suite: str) -> Iterator[dict[str, str]]:
        """What a suite offers, as the vendored index has it."""
        for path in self.indexes():
            if f"/{archive}/dists/{suite}/main/" in str(path):
                yield from stanzas(unpacked(path))

    def indexes(self) -> list[Path]:
        """The vendored indexes of packages."""
        return sorted(self.vendor.glob("*/dists/*/*/binary-*/Packages*"))

    def index_bytes(self) -> int:
        """Size of all vendored indexes when unpacked."""
        return sum(len(line) for path in self.indexes() for line in unpacked(path))

    def layers(self, project: str = "plain") -> dict[str, list[dict[str, Any]]]:
        """The packages of a project's lock by layer."""
        lock = tomllib.loads((self.projects / project / LOCK).read_text(encoding="utf-8"))
        return {layer["name"]: layer["packages"] for layer in lock["layer"]}

    def deb(self, package: Mapping[str, Any]) -> Path:
        """Where a package of a lock lies."""
        return self.vendor / package["archive"] / package["path"]

    def make_repository(self) -> None:
        """Fills the apt repository's pool with the packages of the plain lock, and the one that is added."""
        shutil.rmtree(self.repository, ignore_errors=True)
        pool = self.repository / "pool"
        pool.mkdir(parents=True)
        locks = (self.layers(), self.layers("rack-package"))
        for deb in {self.deb(package) for lock in locks for layer in lock.values() for package in layer}:
            os.link(deb, pool / deb.name)

    def run(self, *words: str | Path) -> bool:
        """Runs rolecast outside of every measurement; whether it succeeded."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            command = self.rolecast(*words, store=self.directory / "fetch")
            return subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0

    def need(self, *words: str | Path) -> None:
        """Runs rolecast, which has to succeed."""
        if not self.run(*words):
            raise Failed(f"`rolecast {words[0]}` failed: see the end of {self.log}")


def change_file(project: Path, number: int) -> None:
    """Changes one overlay file; each number makes another text."""
    before = (SOURCE / CHANGED).read_text(encoding="utf-8")
    (project / CHANGED).write_text(f"{before}# change {number}\n", encoding="utf-8")


def add_package(project: Path, profile: str, package: str) -> None:
    """Adds a package to a profile's list."""
    path = project / f"profiles/{profile}.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^packages = \[", f'packages = ["{package}", ', text, count=1, flags=re.M), encoding="utf-8")


def pin(stanza: Mapping[str, str]) -> str:
    """A package of Debian's main archive as a lock pins it."""
    fields = {
        "name": stanza["Package"],
        "version": stanza["Version"],
        "architecture": stanza["Architecture"],
        "archive": "debian",
        "size": int(stanza["Size"]),
        "sha256": stanza["SHA256"],
        "path": stanza["Filename"],
    }
    words = (f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"' for name, value in fields.items())
    return f"{{ {', '.join(words)} }}"


def unpacked(path: Path) -> BinaryIO:
    """An index unpacked, to be read by and by: what this process holds counts in each that it starts."""
    match path.suffix:
        case ".xz":
            return lzma.open(path)
        case ".gz":
            return gzip.open(path)
    return path.open("rb")


def stanzas(index: BinaryIO) -> Iterator[dict[str, str]]:
    """The stanzas of an index, each as its fields of one line."""
    fields: dict[str, str] = {}
    for line in index:
        name, separator, value = line.decode("utf-8").rstrip("\n").partition(": ")
        if separator and not name.startswith(" "):
            fields[name] = value
        elif not name and fields:
            yield fields
            fields = {}
    if fields:
        yield fields
