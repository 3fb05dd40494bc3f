"""What rolecast's builds cost when little has changed, beside what merely writing their outputs costs."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from builder import RUNS, Builder
from measure import Failed, Figure, measure, size_of
from tools import Tools
from world import ADDED, SCRIPTED, change_file

ONE_DISK = ("--role", "rack", "--format", "disk")


def changes(builder: Builder, tools: Tools) -> None:
    """All of them; the first needs the store of a cold build, the others what the ones before them left."""
    results = builder.results
    builder.ready()
    builder.built.unlink()
    with results.cell("package updated/rolecast"):
        update = builder.build("plain")
        if builder.world.older:
            results.tell("updated package", builder.world.older)
            results.add_first("package updated/rolecast", update)
    results.measure("nothing changed/rolecast", lambda: builder.build("plain"), RUNS)
    with results.cell("file changed, one disk/rolecast"):
        one_disk(builder)
    with results.cell("file changed/rolecast"):
        one_file(builder)
    with results.cell("file changed, reflinks/rolecast"):
        reflinks(builder, tools)
    results.tell("added package", ADDED)
    results.tell("added package with a script", SCRIPTED)
    for profile in ("rack", "base"):
        project = f"{profile}-package"
        results.measure(f"package added to {profile}/rolecast", lambda project=project: builder.build(project))
    results.measure("package with a script added to base/rolecast", lambda: builder.build("base-script"))


def change(builder: Builder) -> None:
    """Changes the overlay file to a text that it never had."""
    change_file(builder.world.projects / "plain", time.time_ns())


def one_file(builder: Builder) -> None:
    """One overlay file that is in every image has changed: all outputs of all roles, beside a mere copy of them."""
    with copies(builder.out, builder.place / "copy", builder.log) as copy:
        while builder.results.lacks("file changed/copy", RUNS):
            change(builder)
            before = size_of(builder.store)
            builder.results.add("file changed/rolecast", builder.build("plain"))
            builder.results.tell("bytes that the store grew by", size_of(builder.store) - before)
            builder.results.add("file changed/copy", copy())


def one_disk(builder: Builder) -> None:
    """The same, where one role's disk image is wanted."""
    out = builder.place / "disk"
    builder.build("plain", *ONE_DISK, out=out)
    with copies(out, builder.place / "copy", builder.log) as copy:
        while builder.results.lacks("file changed, one disk/copy", RUNS):
            change(builder)
            before = size_of(builder.store)
            builder.results.add("file changed, one disk/rolecast", builder.build("plain", *ONE_DISK, out=out))
            builder.results.tell("bytes that the store grew by for one disk", size_of(builder.store) - before)
            builder.results.add("file changed, one disk/copy", copy())


def reflinks(builder: Builder, tools: Tools) -> None:
    """All outputs once more, on a file system that can share blocks between files."""
    results = builder.results
    if not results.lacks("file changed, reflinks/copy", RUNS):
        return
    with file_system_with_reflinks(builder.place, tools) as place:
        store, out = place / "store", place / "out"
        subprocess.run(["cp", "--archive", builder.store, store], check=True)
        builder.build("plain", store=store, out=out)
        with copies(out, place / "copy", builder.log, "--clone") as copy:
            while results.lacks("file changed, reflinks/copy", RUNS):
                change(builder)
                results.add("file changed, reflinks/rolecast", builder.build("plain", store=store, out=out))
                results.add("file changed, reflinks/copy", copy())


@contextlib.contextmanager
def copies(source: Path, target: Path, log: Path, *more: str) -> Iterator[Callable[[], Figure]]:
    """Copies that take each other's place, as a build's outputs take the place of older ones; gone afterwards."""

    def copy() -> Figure:
        return copy_and_hash(source, target, log, *more)

    shutil.rmtree(target, ignore_errors=True)
    copy()
    try:
        yield copy
    finally:
        shutil.rmtree(target)


def copy_and_hash(source: Path, target: Path, log: Path, *more: str) -> Figure:
    """What it costs to read, hash and write a directory's bytes once, in the place of what `target` holds."""
    target.mkdir(exist_ok=True)
    return measure([sys.executable, Path(__file__).with_name("pour.py"), source, target, *more], log)


@contextlib.contextmanager
def file_system_with_reflinks(directory: Path, tools: Tools) -> Iterator[Path]:
    """An XFS in a file, while it is needed."""
    image, place = directory / "xfs.img", directory / "xfs"
    with image.open("wb") as file:
        file.truncate(16 << 30)
    place.mkdir(exist_ok=True)
    tools.need(tools.inside(["mkfs.xfs", "-q", "-f", "-m", "reflink=1", image]))
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode != 0:
        raise Failed("no XFS can be mounted from a file on this host: reflinks are not measured")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()
        place.rmdir()
