"""rolecast itself: cold builds, and the lock."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from measure import Failed, Figure, measure, size_of
from results import Results
from world import IMAGE, LOCK, World

COLD_RUNS = 3
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
        self.built = self.place / "built"
        """There when the store and the outputs are what a cold build leaves, and nothing was built after it."""
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

    def anew(self, project: str) -> Figure:
        """From packages to all outputs, with an empty store."""
        # Whoever was killed while it was measured may have left it mounted.
        if (self.place / "xfs").is_mount():
            subprocess.run(["umount", self.place / "xfs"], check=True)
        # No run pays for what the one before it left. For each new file ext4 passes over the inodes that were freed a short
        # while ago, one by one (`recently_deleted` in fs/ext4/ialloc.c), so nothing is removed before the last one.
        if self.place.exists():
            aside = self.world.directory / f"aside-{time.time_ns()}"
            self.place.rename(aside)
            forget(aside)
        figure = self.build(project)
        self.built.touch()
        return figure

    def cold(self) -> None:
        """Cold builds; the last store stays for what comes after."""
        name = "cold/rolecast"
        with self.results.cell(name):
            while self.results.lacks(name, COLD_RUNS):
                is_last = not self.results.lacks(name, COLD_RUNS - 1)
                self.results.add(name, self.anew(self.first if is_last else "plain"))
                self.results.tell("bytes of the outputs", size_of(self.out))
                self.results.tell("bytes of the store", size_of(self.store))
        self.remove_aside()
        if self.results.lacks(name, COLD_RUNS):
            # Whatever keeps the older package from being built keeps nothing else from being measured.
            self.world.older = None

    def remove_aside(self) -> None:
        """Removes what cold builds before the last one left."""
        for aside in self.world.directory.glob("aside-*"):
            shutil.rmtree(aside, ignore_errors=True)

    def in_memory(self, place: Path) -> None:
        """Cold builds with the store and the outputs in memory, as the other tools have it."""
        name, own = "cold/rolecast in memory", place / "rolecast"
        if not place.is_mount():
            raise Failed("there is not enough memory to work in: the others work on a disk too")
        while self.results.lacks(name, COLD_RUNS):
            try:
                self.results.add(name, self.build("plain", out=own / "out", store=own / "store"))
            finally:
                shutil.rmtree(own, ignore_errors=True)

    def ready(self) -> None:
        """Sees to it that there is what a cold build leaves, and nothing that was built after it."""
        if not self.built.exists():
            print("  building once: there is no store yet that a cold build left", flush=True)
            self.anew(self.first)
            self.remove_aside()

    def lock(self) -> None:
        """Locking with an index that was read before: the image file, and one that wants a single package."""
        store = self.world.directory / "fetch"
        for name in ("lock", "small"):
            place = self.world.copy(name, self.world.projects / "plain")
            if name == "small":
                shrink(place)
            command = self.world.rolecast("lock", place / IMAGE, *self.world.offline(), store=store)
            with self.results.cell(f"{name}/rolecast"):
                is_warm = False
                while self.results.lacks(f"{name}/rolecast", RUNS):
                    (place / LOCK).unlink(missing_ok=True)
                    figure = measure(command, self.log)
                    # The first run may have to unpack the index into the store.
                    if is_warm:
                        self.results.add(f"{name}/rolecast", figure)
                    is_warm = True
        self.results.tell("bytes of the indexes", self.world.index_bytes())


def forget(directory: Path) -> None:
    """Writes a directory's files to the disk and gives their memory back: a virtual machine may have to ask its host for more."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def shrink(project: Path) -> None:
    """Leaves of a project one role that wants one package, so that a lock is little else than reading the index."""
    shutil.rmtree(project / "profiles")
    (project / "profiles").mkdir()
    (project / "profiles/small.toml").write_text('packages = ["base-files"]\n', encoding="utf-8")
    (project / "profiles/tools.toml").write_text('extends = "small"\n', encoding="utf-8")
    text = (project / IMAGE).read_text(encoding="utf-8")
    version = next(line for line in text.splitlines() if line.startswith("version"))
    distribution = text.split("[distribution]", 1)[1].split("\n[", 1)[0]
    image = f'{version}\n[distribution]{distribution}\n[role.small]\nformats = ["tar"]\n'
    (project / IMAGE).write_text(image, encoding="utf-8")
