"""What more costs: 1, 3, 10 and 30 role images; 10 to 2,000 packages more.

Each count is built beside a store that has the layers which all of them share, so the figure is what the roles, or the
packages, cost by themselves. All of it together has so many seconds; what is left out for want of time is said.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

from builder import Builder
from measure import Failed, Figure, measure
from results import Results
from world import IMAGE, World

ROLES = (1, 3, 10, 30)
PACKAGES = (0, 10, 100, 500, 1000, 2000)
SECONDS = 480.0
OPTIONS = {
    "base": ("kernel", "disk.slot_size", "disk.state_size"),
    "rack": ("kernel", "disk.slot_size", "disk.state_size", "maas.packaging", "maas.version"),
}
"""The options of the image file that a layer and those under it declare; any other would be refused."""

CONFLICTS = {"Breaks", "Conflicts", "Pre-Depends"}
"""What a package must not have that is to go together with thousands of others."""


class Growth:
    """Builds generated image files, beside the layers of the benchmark's own."""

    def __init__(self, world: World, results: Results) -> None:
        self.world = world
        self.results = results
        self.place = world.directory / "growth"
        self.builder = Builder(world, results)
        self.ends = 0.0
        """When its time is over."""

    def prepare(self) -> None:
        """Makes the projects, and brings the packages that they need."""
        for count in ROLES:
            self.make_roles(count)
        names = self.small_packages()
        for count in PACKAGES:
            self.make_packages(count, names[:count])

    def all(self) -> None:
        """Roles and packages, the largest counts last."""
        self.prepare()
        self.ends = time.monotonic() + SECONDS
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        try:
            self.share()
            for count in ROLES[:-1]:
                self.results.measure(f"roles/{count}", lambda count=count: self.build(f"roles-{count}"))
            for count in PACKAGES:
                self.results.measure(f"lock of packages/{count}", lambda count=count: self.lock(f"packages-{count}"))
            for count in PACKAGES[:-1]:
                self.results.measure(f"packages/{count}", lambda count=count: self.build(f"packages-{count}"))
            self.results.measure(f"roles/{ROLES[-1]}", lambda: self.build(f"roles-{ROLES[-1]}"))
            self.results.measure(f"packages/{PACKAGES[-1]}", lambda: self.build(f"packages-{PACKAGES[-1]}"))
        finally:
            shutil.rmtree(self.place)

    def left(self) -> float:
        """Seconds that are left."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise Failed(f"left out: growth has had its {SECONDS:.0f} s")
        return left

    def share(self) -> None:
        """Makes a store with the layers `base`, `rack` and `tools`, and the initrd."""
        words = ["build", self.world.projects / "plain" / IMAGE, "--locked", *self.world.offline()]
        words += ["--role", "rack", "--format", "disk", "--output", self.place / "out"]
        measure(self.world.rolecast(*words, store=self.place / "shared"), self.builder.log, limit=self.left())

    def build(self, name: str) -> Figure:
        """Builds a project in a copy of the store that has the shared layers, and forgets it."""
        store, out = self.place / "store", self.place / "out"
        for place in (store, out):
            shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", self.place / "shared", store], check=True)
        words = ["build", self.world.projects / name / IMAGE, "--locked", *self.world.offline(), "--output", out]
        return measure(self.world.rolecast(*words, store=store), self.builder.log, limit=self.left())

    def lock(self, name: str) -> Figure:
        """Locks a project once more, with the index read before."""
        words = ["lock", self.world.projects / name / IMAGE, *self.world.offline()]
        command = self.world.rolecast(*words, store=self.world.directory / "fetch")
        return measure(command, self.builder.log, limit=self.left())

    def make_roles(self, count: int) -> None:
        """So many roles over `rack`, each with a file of its own."""
        names = [f"image-{number}" for number in range(1, count + 1)]
        project = self.generate(f"roles-{count}", names, "rack")
        for name in names:
            overlay = project / "overlays" / name / "etc/rolecast-benchmark"
            overlay.mkdir(parents=True)
            (overlay / "name").write_text(f"{name} of {count}\n", encoding="utf-8")
            profile = f'extends = "rack"\noverlay = ["{name}"]\n'
            (project / f"profiles/{name}.toml").write_text(profile, encoding="utf-8")
        self.world.lock_and_vendor(project)

    def make_packages(self, count: int, names: list[str]) -> None:
        """One role over `base` with Perl and so many packages more."""
        if len(names) < count:
            raise Failed(f"there are only {len(names)} small packages, and not {count}")
        project = self.generate(f"packages-{count}", ["packages"], "base")
        wants = "".join(f'    "{name}",\n' for name in ["perl", *names])
        profile = f'extends = "base"\npackages = [\n{wants}]\n'
        (project / "profiles/packages.toml").write_text(profile, encoding="utf-8")
        self.world.lock_and_vendor(project)
        self.results.tell(f"packages in the layer for {count}", len(self.world.layers(project.name)["packages"]))

    def generate(self, name: str, roles: list[str], over: str) -> Path:
        """A project whose image file has these roles, as disks, and no cluster."""
        project = self.world.copy(name, self.world.projects / "plain")
        text = (project / IMAGE).read_text(encoding="utf-8")
        head = re.split(r"^\[(?:role|cluster)[].]", text, maxsplit=1, flags=re.M)[0]
        known = [line for line in head.splitlines() if not is_option(line) or line.split('"')[1] in OPTIONS[over]]
        tables = "".join(f'\n[role.{role}]\nformats = ["disk"]\n' for role in roles)
        (project / IMAGE).write_text("\n".join([*known, tables]), encoding="utf-8")
        return project

    def small_packages(self) -> list[str]:
        """Debian's Perl libraries that need Perl, the C library and each other and nothing else, the smallest first."""
        found: dict[str, tuple[int, set[str]]] = {}
        for stanza in self.world.index("debian", "trixie"):
            name = stanza["Package"]
            if name.startswith("lib") and name.endswith("-perl") and not CONFLICTS & stanza.keys():
                needs = {re.split(r"[ :|(]", need.strip())[0] for need in stanza.get("Depends", "").split(",")}
                own = {need for need in needs if need in ("", "perl", "perl-base", "libc6") or need.startswith("perlapi-")}
                found[name] = (int(stanza["Size"]), needs - own)
        while lacking := [name for name, (_, needs) in found.items() if needs - found.keys()]:
            for name in lacking:
                del found[name]
        return sorted(found, key=lambda name: (found[name][0], name))


def is_option(line: str) -> bool:
    """Whether a line of the image file gives an option its value."""
    return line.startswith('"') and " = " in line
