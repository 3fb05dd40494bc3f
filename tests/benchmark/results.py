"""Figures by name, kept in a file from run to run."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import Failed, Figure, Group, median


class Results:
    """What was measured, in a JSON file that is written after every run of a command.

    A figure that is there is not measured again, so a benchmark that was ended goes on where it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.troubles = 0
        """How often something failed since this process began."""
        self.kept = empty()
        if path.exists():
            self.kept |= json.loads(path.read_text(encoding="utf-8"))

    def begin(self, program: Path, tools: dict[str, str]) -> None:
        """Keeps where, when and with which tools this is measured; figures of another program are laid aside."""
        with program.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.kept.get("program", digest) != digest:
            older = self.path.with_suffix(".older.json")
            self.path.replace(older)
            print(f"figures of another program are in {older}", flush=True)
            self.kept = empty()
        self.kept["program"] = digest
        # What else the machine was doing; wall times mean something when it is next to nothing.
        load = max(self.kept.get("machine", {}).get("load", 0.0), os.getloadavg()[0])
        self.kept["machine"] = machine() | {"load": load, "tools": tools}
        self.write()

    def lacks(self, name: str, runs: int = 1) -> bool:
        """Whether runs of a command are still to be measured."""
        return len(self.kept["figures"].get(name, [])) < runs

    def add(self, name: str, figure: Figure) -> None:
        """Keeps one more run of a command."""
        self.kept["figures"].setdefault(name, []).append(dataclasses.asdict(figure))
        self.write()
        size = f"{figure.memory / 2**20:.0f} MiB at most in memory, {figure.written / 1e6:.0f} MB written"
        print(f"  {name}: {figure.wall:.2f} s, {figure.cpu:.2f} CPU s, {size}", flush=True)

    def add_first(self, name: str, figure: Figure) -> None:
        """Keeps a run of a command that has to be run for what comes after it, unless one is there."""
        if self.lacks(name):
            self.add(name, figure)

    def measure(self, name: str, run: Callable[[], Figure], runs: int = 1) -> None:
        """Measures what is still to be measured of a command."""
        with self.cell(name):
            while self.lacks(name, runs):
                self.add(name, run())

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Measures a part of the benchmark, unless all of it was measured before."""
        if name in self.kept["done"]:
            print("  measured before", flush=True)
            return
        troubles = self.troubles
        with self.cell(name):
            run()
        if self.troubles == troubles:
            self.kept["done"].append(name)
            self.write()

    @contextlib.contextmanager
    def cell(self, name: str) -> Iterator[None]:
        """What is measured under a name; where it fails, that is kept, and the others have their turn."""
        try:
            yield
            self.kept["failed"].pop(name, None)
        except Exception as failure:
            # Whatever it was: the benchmark runs for an hour, and the other figures are worth having.
            if not isinstance(failure, (Failed, OSError, subprocess.CalledProcessError)):
                traceback.print_exc()
            print(f"  {name} failed: {failure}", flush=True)
            self.troubles += 1
            self.kept["failed"][name] = f"{type(failure).__name__}: {failure}"
        self.write()

    def tell(self, name: str, value: float | int | str) -> None:
        """Keeps a fact that is no cost of a command."""
        self.kept["facts"][name] = value
        print(f"  {name}: {value}", flush=True)
        self.write()

    def runs(self, name: str) -> list[Figure]:
        """The runs of one command; none when it was not measured."""
        return [Figure(**figure) for figure in self.kept["figures"].get(name, [])]

    def figure(self, name: str) -> Figure | None:
        """The median of the runs of one command."""
        runs = self.runs(name)
        return median(runs) if runs else None

    def fact(self, name: str) -> float | int | str | None:
        """A fact, if it is known."""
        return self.kept["facts"].get(name)

    def failed(self) -> dict[str, str]:
        """What could not be measured, and why."""
        return self.kept["failed"]

    def write(self) -> None:
        """Writes the file whole."""
        beside = self.path.with_suffix(".partial")
        beside.write_text(json.dumps(self.kept, indent=1), encoding="utf-8")
        beside.replace(self.path)


def empty() -> dict[str, Any]:
    """Nothing measured: runs by name, facts by name, why something failed by its name, the parts that are done."""
    return {"figures": {}, "facts": {}, "failed": {}, "done": []}


def machine() -> dict[str, str | int]:
    """Where and when this is measured."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    with Group() as group:
        counted = group.counter.name
    return {
        "date": datetime.date.today().isoformat(),
        "processors": len(os.sched_getaffinity(0)),
        "model": models[0] if models else platform.machine(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, Linux {platform.release()}",
        "counted": counted,
    }
