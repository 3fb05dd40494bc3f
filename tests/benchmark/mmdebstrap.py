"""mmdebstrap: for each role a tarball from packages, and from that a squashfs and a compressed tarball.

It makes no disk and no initrd, shares nothing between roles, and has no cache: whatever changed, it starts anew.
"""

import shutil
from pathlib import Path

from measure import Figure, measure
from results import Results
from roles import BEFORE, LAYER_OF, OVERLAYS, lay
from tools import SUITE, Tools
from world import SOURCE, World

SCRIPT = """
set -e
TMPDIR=$1 mmdebstrap --mode=root --variant=essential --include="$2" --dpkgopt=force-unsafe-io --skip=cleanup/apt \
    --extract-hook="sync-in $3.before /" --customize-hook="sync-in $3 /" \
    {suite} "$4.tar" "deb [trusted=yes] copy:$5 {suite} main"
sqfstar -quiet -no-progress -comp zstd -b 1M -Xcompression-level 3 "$4.squashfs" < "$4.tar"
pigz -1 < "$4.tar" > "$4.tar.gz"
"""
"""Arguments: a directory for its work, the packages, what is laid over them, the output, the repository.

What has to be there before the packages lies beside what is laid over them."""


def mmdebstrap(world: World, tools: Tools, results: Results, place: Path) -> None:
    """The three roles, one after the other."""
    place = place / "mmdebstrap"
    shutil.rmtree(place, ignore_errors=True)
    try:
        results.measure("cold/mmdebstrap", lambda: roles(world, tools, place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def roles(world: World, tools: Tools, place: Path) -> Figure:
    """Builds them, and gives what all of them cost."""
    log = world.directory / "log" / "mmdebstrap.txt"
    figures = []
    for role, layer in LAYER_OF.items():
        (place / "work").mkdir(parents=True, exist_ok=True)
        extra = place / f"{role}.extra"
        for overlay in OVERLAYS["base"] + OVERLAYS[layer]:
            lay(SOURCE / "overlays" / overlay, extra)
        for name in {"base", layer} & BEFORE.keys():
            lay(SOURCE / "overlays" / BEFORE[name], place / f"{role}.extra.before")
        layers = world.layers()
        names = ",".join(package["name"] for package in layers["base"] + layers[layer])
        script = SCRIPT.format(suite=SUITE)
        words = ["sh", "-c", script, "sh", place / "work", names, extra, place / role, world.repository]
        figures.append(measure(tools.inside(words), log))
    return sum(figures[1:], start=figures[0])
