"""The floor: what the work itself costs when each piece of it is done once, with the plain tool for it.

* `unpack`: each package is decompressed and its files are written, once (dpkg-deb);
* `configure`: each maintainer script runs once, on the layer that its package is in, with dpkg and nothing around it;
* `initrd`: dracut runs once;
* `squashfs`, `gzip`: each distinct file of the three roots is compressed once for either (mksquashfs, igzip);
* `output`: each byte of rolecast's outputs is hashed and written once (`pour.py`).

Left out: resolving, verifying packages, unpacking over one another, dpkg's own database, reading the trees back after
configuring, dm-verity's hashes, the disk's partitions and file systems, kernel images, bills of materials. All of it
happens in memory where there is enough, but for the outputs.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from builder import Builder
from changes import copy_and_hash
from measure import Figure, measure
from results import Results
from roles import BEFORE, LAYER_OF, dracut
from tools import Tools
from world import SOURCE, World

PARTS = ("unpack", "configure", "initrd", "squashfs", "gzip", "output")

UNPACK = """
mkdir -p "$1"
cd "$1"
tr '\\n' '\\0' < "$2" | xargs -0 -P "$(nproc)" -n 1 sh -c 'exec dpkg-deb --extract "$0" "./$(basename "$0" .deb)"'
"""

ROOT = """
root=$1
mkdir -p "$root"
for deb in $(grep /base-files_ "$2") $(cat "$2"); do
    dpkg-deb --fsys-tarfile "$deb" | tar --extract --keep-directory-symlink --directory "$root"
done
ln -sf mawk "$root/usr/bin/awk"
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
printf '#!/bin/sh\\nexit 101\\n' > "$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
"""

LAYER = """
set -e
root=$1
if [ -n "$2" ]; then
    mkdir -p "$root" "$root.upper" "$root.work"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$root.upper,workdir=$root.work" "$root"
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
export KERNEL_INSTALL_BYPASS=1 INITRD=No SOURCE_DATE_EPOCH=1760000000
"""
"""Begins a command on a layer: its root, and the root under it if there is one."""


CONFIGURE = """
for program in usr/bin/pg_createcluster usr/bin/ssh-keygen usr/bin/systemd-machine-id-setup usr/sbin/make-ssl-cert \
    usr/sbin/update-initramfs; do
    if [ -e "$root/$program" ]; then mount --bind "$root/usr/bin/true" "$root/$program"; fi
done
if [ -z "$2" ]; then dpkg --root="$root" --force-unsafe-io --force-depends --configure base-passwd mawk; fi
dpkg --root="$root" --force-unsafe-io --configure --pending
"""
"""Configures a layer; what would make one machine's identity does nothing, as in rolecast (`src/layer/scripts.rs`)."""


class Floor:
    """Measures the parts of the floor; rolecast's outputs have to be there."""

    def __init__(self, world: World, tools: Tools, results: Results, place: Path) -> None:
        self.world = world
        self.tools = tools
        self.results = results
        self.place = place / "floor"
        self.log = world.directory / "log" / "floor.txt"

    def all(self, builder: Builder) -> None:
        """All parts, and their sum."""
        builder.ready()
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        try:
            self.parts(builder.out)
        finally:
            shutil.rmtree(self.place)
        figures = [figure for part in PARTS if (figure := self.results.figure(f"floor/{part}"))]
        if len(figures) == len(PARTS):
            self.results.add_first("cold/floor", sum(figures[1:], start=figures[0]))

    def parts(self, out: Path) -> None:
        """Each part once; what one needs of another is done for it where that was measured before."""
        results = self.results
        results.measure("floor/unpack", self.unpack)
        with results.cell("floor/configure"):
            if results.lacks("floor/initrd"):
                results.add_first("floor/configure", self.configure())
        results.measure("floor/initrd", self.initrd)
        # Memory is wanted for what comes.
        for place in self.place.iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        self.distinct(out)
        results.measure("floor/squashfs", self.squashfs)
        results.measure("floor/gzip", self.gzip)
        copy = self.world.directory / "floor-copy"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            results.measure("floor/output", lambda: copy_and_hash(out, copy, self.log))
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def listed(self, *layers: str) -> Path:
        """A file that lists the packages of layers."""
        path = self.place / f"{'-'.join(layers)}.debs"
        debs = [str(self.world.deb(package)) for layer in layers for package in self.world.layers()[layer]]
        path.write_text("".join(f"{deb}\n" for deb in dict.fromkeys(debs)), encoding="utf-8")
        return path

    def script(self, text: str, *words: str | Path) -> list[str]:
        """A shell script in the tools' root, with arguments."""
        return self.tools.inside(["sh", "-c", text, "sh", *words])

    def unpack(self) -> Figure:
        """Each package of the lock once."""
        packages = self.listed("base", "region", "rack", "tools")
        figure = measure(self.script(UNPACK, self.place / "unpacked", packages), self.log)
        shutil.rmtree(self.place / "unpacked")
        return figure

    def configure(self) -> Figure:
        """Each layer's packages once, over the layer under it; unpacking them there is not counted."""
        root = self.place / "base"
        measure(self.script("set -e\n" + ROOT, root, self.listed("base")), self.log)
        total = self.configure_layer("base", root, None)
        for layer in ("region", "rack", "tools"):
            total += self.configure_layer(layer, self.place / layer, root)
        return total

    def configure_layer(self, layer: str, root: Path, under: Path | None) -> Figure:
        """One layer."""
        words = [root, under or "", self.listed(layer)]
        unpack = 'dpkg --root="$root" --force-depends --force-unsafe-io --unpack $(cat "$3")'
        measure(self.script(f"{LAYER}\n{unpack}\n", *words), self.log)
        if layer in BEFORE:
            upper = self.place / f"{layer}.upper" if under else root
            shutil.copytree(SOURCE / "overlays" / BEFORE[layer], upper, dirs_exist_ok=True)
        return measure(self.script(LAYER + CONFIGURE, *words), self.log)

    def initrd(self) -> Figure:
        """dracut, once, over the configured tools."""
        files = self.place / "tools.upper" / "initrd-files"
        shutil.copytree(SOURCE / "overlays/initrd", files)
        command = dracut('"$(ls "$root/usr/lib/modules")"', "/initrd.img", "/initrd-files")
        script = f'{LAYER}\nmount -t tmpfs tmpfs "$root/tmp"\nchroot "$root" {command}\n'
        return measure(self.script(script, self.place / "tools", self.place / "base"), self.log)

    def distinct(self, out: Path) -> None:
        """Lays every distinct file of the three roots once, as a file named by its digest."""
        target = self.place / "distinct"
        target.mkdir(parents=True)
        for role in LAYER_OF:
            root = self.place / "root"
            root.mkdir()
            archive = out / role / f"{role}.tar.gz"
            subprocess.run(["tar", "--extract", "--file", archive, "--directory", root], check=True)
            for path in root.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    with path.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    place = target / digest[:2] / digest[2:]
                    place.parent.mkdir(exist_ok=True)
                    if not place.exists():
                        path.rename(place)
            shutil.rmtree(root)

    def squashfs(self) -> Figure:
        """All distinct files in one squashfs."""
        words = ["mksquashfs", self.place / "distinct", self.place / "squashfs", "-quiet", "-no-progress", "-noappend"]
        words += ["-comp", "zstd", "-b", "1M", "-Xcompression-level", "3"]
        return measure(self.tools.inside(words), self.log)

    def gzip(self) -> Figure:
        """All distinct files in one compressed tarball."""
        script = 'tar --directory "$1" --create . | igzip -1 -c -T "$(nproc)" > "$2"'
        return measure(self.script(script, self.place / "distinct", self.place / "tar.gz"), self.log)
