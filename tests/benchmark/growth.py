"""What more costs: 1, 3, 10 and 30 role images; 10 to 2,000 packages more.

Each count is built beside a store that has the layers which all of them share, so the figure is what the roles, or the
packages, cost by themselves.
"""

import re
import shutil
import subprocess
from pathlib import Path

from builder import Builder
from measure import measure
from results import Results
from world import IMAGE, World

ROLES = (1, 3, 10, 30)
PACKAGES = (0, 10, 100, 500, 1000, 2000)


class Growth:
    """Builds generated image files, beside the layers of the benchmark's own."""

    def __init__(self, world: World, results: Results) -> None:
        self.world = world
        self.results = results
        self.place = world.directory / "growth"
        self.builder = Builder(world, results)

    def all(self) -> None:
        """Roles, then packages."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        for count in ROLES:
            self.roles(count)
        for count in PACKAGES:
            self.packages(count)
        shutil.rmtree(self.place)

    def build(self, name: str, project: Path) -> None:
        """Builds a project in a copy of a store that has the shared layers, and forgets it."""
        store = self.place / "store"
        subprocess.run(["cp", "--archive", "--reflink=auto", self.shared(), store], check=True)
        words = ["build", project / IMAGE, "--locked", *self.world.offline(), "--output", self.place / "out"]
        figure = measure(self.world.rolecast(*words, store=store), self.builder.log)
        self.results.add(name, [figure])
        shutil.rmtree(store)
        shutil.rmtree(self.place / "out")

    def shared(self) -> Path:
        """A store with the layers `base`, `rack` and `tools`, and the initrd."""
        store = self.place / "shared"
        if not store.exists():
            words = ["build", self.world.projects / "plain" / IMAGE, "--locked", *self.world.offline()]
            words += ["--role", "rack", "--format", "disk", "--output", self.place / "out"]
            measure(self.world.rolecast(*words, store=store), self.builder.log)
            shutil.rmtree(self.place / "out")
        return store

    def roles(self, count: int) -> None:
        """So many roles over `rack`, each with a file of its own."""
        names = [f"image-{number}" for number in range(1, count + 1)]
        project = self.generate(f"roles-{count}", names)
        for name in names:
            overlay = project / "overlays" / name / "etc/rolecast-benchmark"
            overlay.mkdir(parents=True)
            (overlay / "name").write_text(f"{name} of {count}\n", encoding="utf-8")
            profile = f'extends = "rack"\noverlay = ["{name}"]\n'
            (project / f"profiles/{name}.toml").write_text(profile, encoding="utf-8")
        self.world.lock_and_vendor(project)
        self.build(f"roles/{count}", project)

    def packages(self, count: int) -> None:
        """One role over `base` with so many packages more."""
        project = self.generate(f"packages-{count}", ["packages"])
        wants = "".join(f'    "{name}",\n' for name in self.small_packages()[:count])
        profile = f'extends = "base"\npackages = [\n{wants}]\n'
        (project / "profiles/packages.toml").write_text(profile, encoding="utf-8")
        self.world.lock_and_vendor(project)
        command = self.world.rolecast(
            "lock", project / IMAGE, *self.world.offline(), store=self.world.directory / "fetch"
        )
        self.results.add(f"lock of packages/{count}", [measure(command, self.builder.log)])
        layers = self.world.layers(project.name)
        self.results.tell(f"packages in the layer for {count}", len(layers.get("packages", [])))
        self.build(f"packages/{count}", project)

    def generate(self, name: str, roles: list[str]) -> Path:
        """A project whose image file has these roles, as disks, and no cluster."""
        project = self.world.copy(name, self.world.projects / "plain")
        text = (project / IMAGE).read_text(encoding="utf-8")
        head = re.split(r"^\[(?:role|cluster)[].]", text, maxsplit=1, flags=re.M)[0]
        tables = "".join(f'[role.{role}]\nformats = ["disk"]\n\n' for role in roles)
        (project / IMAGE).write_text(head + tables, encoding="utf-8")
        return project

    def small_packages(self) -> list[str]:
        """Debian's Perl libraries, the smallest first: thousands of packages that go together."""
        found = []
        for stanza in self.world.index("debian", "trixie"):
            name = stanza["Package"]
            if name.startswith("lib") and name.endswith("-perl") and not {"Conflicts", "Pre-Depends"} & stanza.keys():
                found.append((int(stanza["Size"]), name))
        return [name for _, name in sorted(found)]
