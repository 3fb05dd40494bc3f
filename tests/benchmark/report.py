"""What the figures say: the aims, and the tools beside each other. Markdown, for a terminal and for the docs."""

import dataclasses
from pathlib import Path

import floor
from growth import PACKAGES, ROLES
from measure import Figure
from results import Results

BEGIN = "<!-- Written by `tests/benchmark/run docs`. -->"
END = "<!-- End of what it writes. -->"

OF_COLD = ("rolecast", "rolecast in memory", "mkosi", "mkosi alone", "mmdebstrap", "floor")
CASES = (
    ("cold", "cold: packages to all outputs", OF_COLD),
    ("nothing changed", "nothing changed", ("rolecast", "mkosi")),
    ("file changed", "one overlay file changed: all outputs", ("rolecast", "mkosi", "mkosi alone", "copy")),
    ("file changed, reflinks", "one overlay file changed: all outputs, with reflinks", ("rolecast", "copy")),
    ("file changed, one disk", "one overlay file changed: one disk", ("rolecast", "mkosi", "copy")),
    ("package updated", "one package updated: all outputs", ("rolecast",)),
    ("package added to rack", "one package added to `rack`: all outputs", ("rolecast", "mkosi")),
    ("package added to base", "one package added to `base`: all outputs", ("rolecast",)),
    ("package with a script added to base", "one package with a script added to `base`: all outputs", ("rolecast",)),
    ("lock", "lock", ("rolecast",)),
    ("small", "lock of one package", ("rolecast",)),
)
"""What is measured, its name, and of which tools."""
SHOWN = {
    "rolecast in memory": "rolecast, in memory",
    "mkosi alone": "mkosi, each image by itself",
    "copy": "copying and hashing the outputs",
}
IN_MEMORY = ("rolecast in memory", "mkosi", "mkosi alone", "mmdebstrap", "floor")
"""Those that work in memory where there is enough of it."""


@dataclasses.dataclass(frozen=True)
class Aim:
    """One aim beside what was measured."""

    what: str
    aim: str
    measured: str
    met: bool | None
    """None where it was not measured."""


def aims(results: Results) -> list[Aim]:
    """All aims, in order."""
    found: list[Aim] = []

    def ratio(what: str, aim: str, over: str, under: str, most: float, part: str, *, least: bool = False) -> None:
        one, other = results.figure(over), results.figure(under)
        if not one or not other or not getattr(other, part):
            found.append(Aim(what, aim, missing(results, over, under), None))
            return
        value = getattr(one, part) / getattr(other, part)
        unit = "s" if part == "wall" else "CPU s"
        shown = f"{value:.2f} ({getattr(one, part):.2f} / {getattr(other, part):.2f} {unit})"
        found.append(Aim(what, aim, shown, value >= most if least else value <= most))

    def bound(what: str, aim: str, value: float | None, most: float, shown: str, *, least: bool = False) -> None:
        if value is None:
            found.append(Aim(what, aim, "not measured", None))
        else:
            found.append(Aim(what, aim, shown.format(value), value >= most if least else value < most))

    for tool in ("mkosi", "mkosi alone"):
        for own in ("rolecast", "rolecast in memory"):
            for part, name in (("cpu", "CPU"), ("wall", "wall")):
                what = f"cold, all roles, {name}: {SHOWN.get(tool, tool)} / {SHOWN.get(own, own)}"
                ratio(what, "at least 4", f"cold/{tool}", f"cold/{own}", 4, part, least=True)
    for own in ("rolecast", "rolecast in memory"):
        for part, name in (("cpu", "CPU"), ("wall", "wall")):
            what = f"cold, all roles, {name}: {SHOWN.get(own, own)} / floor"
            ratio(what, "at most 1.4", f"cold/{own}", "cold/floor", 1.4, part)
    nothing = results.figure("nothing changed/rolecast")
    bound("nothing changed, wall", "under 100 ms", nothing and nothing.wall * 1000, 100, "{:.0f} ms")
    disk = results.figure("file changed, one disk/rolecast")
    bound("one overlay file, one disk, wall", "under 1 s", disk and disk.wall, 1, "{:.2f} s")
    bound("one overlay file, one disk, CPU", "0.6 s", disk and disk.cpu, 0.605, "{:.2f} s")
    for case, name in (("file changed", ""), ("file changed, reflinks", ", with reflinks")):
        for part, unit in (("cpu", "CPU"), ("wall", "wall")):
            what = f"one overlay file, all outputs{name}, {unit}: rolecast / copying and hashing"
            ratio(what, "at most 1.2", f"{case}/rolecast", f"{case}/copy", 1.2, part)
    for case in (
        "package updated",
        "package added to rack",
        "package added to base",
        "package with a script added to base",
    ):
        for part, unit in (("cpu", "CPU"), ("wall", "wall")):
            ratio(f"one {case}, {unit}: of cold", "under 0.33", f"{case}/rolecast", "cold/rolecast", 1 / 3, part)
    lock, small = results.figure("lock/rolecast"), results.figure("small/rolecast")
    size = results.fact("bytes of the indexes")
    bound("lock from a warm index of Debian's main, wall", "under 1 s", lock and lock.wall, 1, "{:.2f} s")
    rate = float(size) / small.wall / 1e6 if small and size else None
    bound("reading the index (a lock of one package, all told)", "over 100 MB/s", rate, 100, "{:.0f} MB/s", least=True)
    own = [name for name in results.kept["figures"] if "/rolecast" in name or name.startswith(("roles/", "packages/"))]
    memory = max((run.memory for name in own for run in results.runs(name)), default=None)
    bound("largest process of any build", "under 500 MiB", memory and memory / 2**20, 500, "{:.0f} MiB")
    for fact, name in ((" for one disk", "one disk"), ("", "all outputs")):
        growth = results.fact(f"bytes that the store grew by{fact}")
        grown = None if growth is None else float(growth) / 2**20
        bound(f"store, for one overlay file, {name}", "under 2 MiB", grown, 2, "{:.2f} MiB")
    return found


def aims_table(results: Results) -> str:
    """The aims as a table."""
    marks = {True: "yes", False: "**no**", None: ""}
    rows = [(aim.what, aim.aim, aim.measured, marks[aim.met]) for aim in aims(results)]
    return table(("what", "aim", "measured", "met"), rows)


def tools_table(results: Results) -> str:
    """Every tool in every case, and what is missing of them."""
    rows = []
    for case, name, tools in CASES:
        for tool in tools:
            figure = results.figure(f"{case}/{tool}")
            written = None if not figure or (tool in IN_MEMORY and results.fact("in memory")) else figure.written
            shown = cells(figure, written) if figure else (missing(results, f"{case}/{tool}"), "", "", "")
            rows.append((name, SHOWN.get(tool, tool), str(len(results.runs(f"{case}/{tool}"))), *shown))
    return table(("case", "tool", "runs", "wall s", "CPU s", "largest process MiB", "written MB"), rows)


def missing(results: Results, *names: str) -> str:
    """Why there is no figure of a name."""
    return "failed" if any(name in results.failed() for name in names) else "not measured"


def cells(figure: Figure, written: int | None) -> tuple[str, ...]:
    """A figure's cells; what is written in memory is not counted."""
    shown = "in memory" if written is None else f"{written / 1e6:.0f}"
    return f"{figure.wall:.2f}", f"{figure.cpu:.2f}", f"{figure.memory / 2**20:.0f}", shown


def parts_table(results: Results) -> str:
    """What the floor is made of."""
    rows = []
    for part in floor.PARTS:
        figure = results.figure(f"floor/{part}")
        rows.append((part, *(cells(figure, 0)[:2] if figure else (missing(results, f"floor/{part}"), ""))))
    return table(("part of the floor", "wall s", "CPU s"), rows)


def growth_table(results: Results) -> str:
    """What more roles and more packages cost."""
    rows = []
    for kind, counts in (("roles", ROLES), ("packages", PACKAGES), ("lock of packages", PACKAGES)):
        for count in counts:
            name = f"{kind}/{count}"
            figure = results.figure(name)
            shown = cells(figure, figure.written) if figure else (missing(results, name), "", "", "")
            rows.append((kind, str(count), *shown))
    return table(("growth in", "how many", "wall s", "CPU s", "largest process MiB", "written MB"), rows)


def machine(results: Results) -> str:
    """Where and when it was measured."""
    facts = results.kept.get("machine")
    if not facts:
        return ""
    tools = ", ".join(f"{name} {version}" for name, version in facts["tools"].items())
    return (
        f"Measured on {facts['date']}: {facts['processors']} processors ({facts['model']}), "
        f"{facts['memory'] / 2**30:.0f} GiB of memory, {facts['system']}; load before it {facts['load']:.1f}; "
        f"CPU time by {facts['counted']}; {tools}."
    )


def text(results: Results) -> str:
    """All of it; what is missing is marked."""
    parts = [machine(results), aims_table(results), tools_table(results), parts_table(results), growth_table(results)]
    return "\n\n".join(part for part in parts if part)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table whose columns are as wide as they need; numbers stand at the right."""
    numeric = [all(is_number(row[column]) for row in rows) for column in range(len(head))]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    columns = list(zip(widths, numeric, strict=True))

    def line(row: tuple[str, ...]) -> str:
        shown = [cell.rjust(width) if right else cell.ljust(width) for cell, (width, right) in zip(row, columns)]
        return f"| {' | '.join(shown)} |"

    rule = "|".join("-" * (width + 1) + (":" if right else "-") for width, right in columns)
    return "\n".join([line(head), f"|{rule}|", *map(line, rows)])


def is_number(cell: str) -> bool:
    """Whether a cell stands at the right."""
    return cell.replace(".", "", 1).isdigit() or cell in ("", "in memory", "failed", "not measured")


def write_docs(results: Results, page: Path) -> None:
    """Puts the tables into the page, in the place of what stood there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text(results)}\n\n{END}{after}", encoding="utf-8")
