"""Figures by name, kept in a file from run to run."""

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from measure import Figure, Group, median


class Results:
    """What was measured, in a JSON file. A name that is measured again takes the place of the older figure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"figures": {}, "facts": {}}

    def add(self, name: str, figures: Sequence[Figure]) -> Figure:
        """Keeps the runs of one command, and gives their median."""
        self.kept["figures"][name] = [dataclasses.asdict(figure) for figure in figures]
        self.say(name, figures)
        self.write()
        return median(figures)

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

    def describe_machine(self, tools: dict[str, str]) -> None:
        """Keeps where and when this is measured, and with which tools."""
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        with Group() as group:
            counted = group.counter.name
        self.kept["machine"] = {
            "date": datetime.date.today().isoformat(),
            "processors": len(os.sched_getaffinity(0)),
            "model": models[0] if models else platform.machine(),
            "memory": memory,
            "system": f"{system}, Linux {platform.release()}",
            "counted": counted,
            # What else the machine was doing; wall times mean something when it is next to nothing.
            "load": os.getloadavg()[0],
            "tools": tools,
        }
        self.write()

    def write(self) -> None:
        """Writes the file whole."""
        beside = self.path.with_suffix(".partial")
        beside.write_text(json.dumps(self.kept, indent=1), encoding="utf-8")
        beside.replace(self.path)

    def say(self, name: str, figures: Sequence[Figure]) -> None:
        """Tells a figure while the benchmark goes on."""
        middle = median(figures)
        runs = f", median of {len(figures)}" if len(figures) > 1 else ""
        size = f"{middle.memory / 2**20:.0f} MiB at most in memory, {middle.written / 1e6:.0f} MB written"
        print(f"  {name}: {middle.wall:.2f} s, {middle.cpu:.2f} CPU s, {size}{runs}", flush=True)
