"""What rolecast's builds cost when little has changed, beside what merely writing their outputs costs."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from builder import RUNS, Builder
from measure import Figure, measure, size_of
from tools import Tools
from world import ADDED, change_file

ONE_DISK = ("--role", "rack", "--format", "disk")


def changes(builder: Builder, tools: Tools) -> None:
    """All of them; the first needs the store of a cold build, the others what the ones before them left."""
    builder.begin_changes()
    results = builder.results
    update = builder.build("plain")
    if builder.world.older:
        results.tell("updated package", builder.world.older)
        results.add("package updated/rolecast", [update])
    results.add("nothing changed/rolecast", [builder.build("plain") for _ in range(RUNS)])
    one_file(builder)
    one_disk(builder)
    reflinks(builder, tools)
    results.tell("added package", ADDED)
    for profile in ("rack", "base"):
        results.add(f"package added to {profile}/rolecast", [builder.build(f"{profile}-package")])


def change(builder: Builder) -> None:
    """Changes the overlay file to a text that it never had."""
    change_file(builder.world.projects / "plain", time.time_ns())


def one_file(builder: Builder) -> None:
    """One overlay file that is in every image has changed: all outputs of all roles, beside a mere copy of them."""
    runs, copies, growth = [], [], []
    for _ in range(RUNS):
        change(builder)
        before = size_of(builder.store)
        runs.append(builder.build("plain"))
        growth.append(size_of(builder.store) - before)
        copies.append(copy_and_hash(builder.out, builder.place / "copy", builder.log))
    builder.results.add("file changed/rolecast", runs)
    builder.results.add("file changed/copy", copies)
    builder.results.tell("bytes that the store grew by", max(growth))


def one_disk(builder: Builder) -> None:
    """The same, where one role's disk image is wanted."""
    out = builder.place / "disk"
    builder.build("plain", *ONE_DISK, out=out)
    runs = []
    for _ in range(RUNS):
        change(builder)
        runs.append(builder.build("plain", *ONE_DISK, out=out))
    builder.results.add("file changed, one disk/rolecast", runs)


def reflinks(builder: Builder, tools: Tools) -> None:
    """All outputs once more, on a file system that can share blocks between files, where one can be mounted."""
    with file_system_with_reflinks(builder.place, tools) as place:
        if not place:
            return
        store, out = place / "store", place / "out"
        subprocess.run(["cp", "--archive", builder.store, store], check=True)
        builder.build("plain", store=store, out=out)
        runs, copies = [], []
        for _ in range(RUNS):
            change(builder)
            runs.append(builder.build("plain", store=store, out=out))
            copies.append(copy_and_hash(out, place / "copy", builder.log, "--clone"))
    builder.results.add("file changed, reflinks/rolecast", runs)
    builder.results.add("file changed, reflinks/copy", copies)


def copy_and_hash(source: Path, target: Path, log: Path, *more: str) -> Figure:
    """What it costs to read, hash and write a directory's bytes once; the copy is gone afterwards."""
    target.mkdir()
    figure = measure([sys.executable, Path(__file__).with_name("pour.py"), source, target, *more], log)
    shutil.rmtree(target)
    return figure


@contextlib.contextmanager
def file_system_with_reflinks(directory: Path, tools: Tools) -> Iterator[Path | None]:
    """An XFS in a file, while it is needed; nothing where no loop device can be had."""
    image, place = directory / "xfs.img", directory / "xfs"
    with image.open("wb") as file:
        file.truncate(16 << 30)
    place.mkdir(exist_ok=True)
    tools.need(tools.inside(["mkfs.xfs", "-q", "-f", "-m", "reflink=1", image]))
    mounted = subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode == 0
    try:
        if not mounted:
            print("  no file system can be mounted from a file here: reflinks are not measured", flush=True)
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", place], check=True)
        image.unlink()
        place.rmdir()
