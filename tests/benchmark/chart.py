"""The chart of the README: an SVG that is readable on light and dark pages."""

from html import escape
from pathlib import Path

from results import Results

WIDTH, LEFT, RIGHT = 760, 180, 150
BAR, GAP, HEAD = 22, 8, 34

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 14px; }
.note, .value { fill: #59636e; }
.own { fill: #0969da; }
.other { fill: #afb8c1; }
.least { fill: none; stroke: #59636e; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note, .value { fill: #9198a1; }
  .own { fill: #4493f8; }
  .other { fill: #656c76; }
  .least { stroke: #9198a1; }
}
"""

PANELS = (
    (
        "Cold: from packages to disk, network set, update set and tarball of three roles",
        (
            ("rolecast", "cold/rolecast", "own"),
            ("mkosi", "cold/mkosi", "other"),
            ("mkosi, each image alone", "cold/mkosi alone", "other"),
            ("mmdebstrap, no disk", "cold/mmdebstrap", "other"),
            ("floor", "cold/floor", "least"),
        ),
    ),
    (
        "One overlay file changed: all of them again",
        (
            ("rolecast", "file changed/rolecast", "own"),
            ("mkosi", "file changed/mkosi", "other"),
            ("mkosi, each image alone", "file changed/mkosi alone", "other"),
            ("mmdebstrap, no disk", "cold/mmdebstrap", "other"),
            ("copying and hashing", "file changed/copy", "least"),
        ),
    ),
)


def draw(results: Results) -> str:
    """The chart: CPU seconds as bars, wall time beside them."""
    parts: list[str] = []
    y = 0
    for title, bars in PANELS:
        figures = [(label, kind, results.figure(name)) for label, name, kind in bars]
        longest = max((figure.cpu for _, _, figure in figures if figure), default=0) or 1
        parts.append(f'<text class="title" x="8" y="{y + 20}">{escape(title)}</text>')
        y += HEAD
        for label, kind, figure in figures:
            length = max(2.0, (WIDTH - LEFT - RIGHT) * figure.cpu / longest) if figure else 0.0
            middle = y + BAR - 6
            parts.append(f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3"/>')
            value = f"{shown(figure.cpu)} CPU s, {shown(figure.wall)} s" if figure else "not measured"
            parts.append(f'<text class="value" x="{LEFT + length + 8:.1f}" y="{middle}">{value}</text>')
            y += BAR + GAP
        y += GAP
    machine = results.kept.get("machine", {})
    where = f"{machine.get('processors', '?')} processors, {machine.get('date', '')}"
    note = f"Bars: CPU seconds; beside them wall time. {where}."
    parts.append(f'<text class="note" x="8" y="{y + 16}">{escape(note)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 28}" width="{WIDTH}" role="img">'
    name = "<title>CPU time of rolecast, mkosi, mmdebstrap and the floor for the same images</title>"
    return "\n".join([head, name, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def shown(seconds: float) -> str:
    """Seconds with two digits that mean something."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"


def write(results: Results, path: Path) -> None:
    """Writes the chart."""
    path.write_text(draw(results), encoding="utf-8")
