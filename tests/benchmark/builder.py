"""rolecast itself: cold builds, and the lock."""

import shutil
from pathlib import Path

from measure import Figure, measure, size_of
from results import Results
from world import IMAGE, LOCK, World

COLD_RUNS = 2
RUNS = 5
"""How often what takes a few seconds or less is measured."""


class Builder:
    """Builds with rolecast, in a store and an output directory of its own."""

    def __init__(self, world: World, results: Results) -> None:
        self.world = world
        self.results = results
        self.place = world.directory / "rolecast"
        self.store = self.place / "store"
        self.out = self.place / "out"
        self.log = world.directory / "log" / "rolecast.txt"

    def build(self, project: str, *more: str, out: Path | None = None, store: Path | None = None) -> Figure:
        """Builds a project: every role in every format that its image file asks for, unless `more` says otherwise."""
        words = ["build", self.world.projects / project / IMAGE, "--locked", *self.world.offline()]
        words += ["--output", out or self.out, *more]
        return measure(self.world.rolecast(*words, store=store or self.store), self.log)

    @property
    def first(self) -> str:
        """What a cold build leaves in the store: with the older version of a package, which is updated later."""
        return "older" if self.world.older else "plain"

    def cold(self) -> None:
        """From packages to all outputs, with an empty store; the last store stays for what comes after."""
        runs = []
        for project in ["plain"] * (COLD_RUNS - 1) + [self.first]:
            shutil.rmtree(self.place, ignore_errors=True)
            runs.append(self.build(project))
        self.results.add("cold/rolecast", runs)
        self.results.tell("bytes of the outputs", size_of(self.out))
        self.results.tell("bytes of the store", size_of(self.store))

    def ready(self) -> None:
        """Sees to it that there are outputs."""
        if not self.out.exists():
            print("  building once: there are no outputs yet", flush=True)
            self.build(self.first)

    def begin_changes(self) -> None:
        """Sees to it that there is what a cold build leaves, and nothing that was built after it."""
        mark = self.place / "changed"
        if mark.exists():
            shutil.rmtree(self.place)
        self.ready()
        mark.touch()

    def lock(self) -> None:
        """Locking with an index that was read before: the image file, and one that wants a single package."""
        places = {name: self.world.copy(name, self.world.projects / "plain") for name in ("lock", "small")}
        shrink(places["small"])
        store = self.world.directory / "fetch"
        for name, place in places.items():
            command = self.world.rolecast("lock", place / IMAGE, *self.world.offline(), store=store)
            runs = []
            # The first run may have to unpack the index into the store.
            for _ in range(RUNS + 1):
                (place / LOCK).unlink(missing_ok=True)
                runs.append(measure(command, self.log))
            self.results.add(f"{name}/rolecast", runs[1:])
        self.results.tell("bytes of the indexes", self.world.index_bytes())


def shrink(project: Path) -> None:
    """Leaves of a project one role that wants one package, so that a lock is little else than reading the index."""
    shutil.rmtree(project / "profiles")
    (project / "profiles").mkdir()
    (project / "profiles/small.toml").write_text('packages = ["base-files"]\n', encoding="utf-8")
    text = (project / IMAGE).read_text(encoding="utf-8")
    version = next(line for line in text.splitlines() if line.startswith("version"))
    distribution = text.split("[distribution]", 1)[1].split("\n[", 1)[0]
    image = f'{version}\n[distribution]{distribution}\n[role.small]\nformats = ["tar"]\n'
    (project / IMAGE).write_text(image, encoding="utf-8")
