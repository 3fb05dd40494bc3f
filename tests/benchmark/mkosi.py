"""mkosi, set up as well as it lets itself be: what roles share is built once, and only what has changed is built again.

Two configurations, because a cache of mkosi's never covers an image that stands on another (`BaseTrees=`):

```text
trees/    packages only: base, region and rack over it, and the initrd. Built when packages change
roles/    the three roles, each over a tree: overlays, disk, boot files, tarball. Built when files change
disk/     one role's disk image alone
```

Everything that mkosi works on lies in memory where there is enough of it; its cache is on, compressors are as quick as
rolecast's, and it makes no initrd of its own.
"""

import shutil
import time
from pathlib import Path

from measure import Failed, Figure, measure, size_of
from results import Results
from roles import BEFORE, LAYER_OF, OVERLAYS, dracut, lay, removed
from tools import SUITE, Tools
from world import ADDED, CHANGED, SOURCE, World

RUNS = 2
BUILD = "build/debian~trixie~x86-64"
"""mkosi would add this name below a directory of another one."""
LEVELS = "-b 1M -Xcompression-level 3"
OUTPUTS = ("raw", "efi", "vmlinuz", "initrd", "root.raw", "verity.raw", "tar.gz")

PARTITIONS = {
    "00-esp": """
[Partition]
Type=esp
Format=vfat
CopyFiles=/efi:/
CopyFiles=/boot:/
SizeMinBytes=256M
SizeMaxBytes=256M
SplitName=-
""",
    "10-root": """
[Partition]
Type=root
Format=squashfs
Compression=zstd
CompressionLevel=3
CopyFiles=/
Verity=data
VerityMatchKey=root
Minimize=best
SplitName=root
""",
    "20-verity": """
[Partition]
Type=root-verity
Verity=hash
VerityMatchKey=root
Minimize=best
SplitName=verity
""",
}

TAR = """#!/bin/sh
set -e
tar --directory "$BUILDROOT" --create --numeric-owner --xattrs --sort=name . | pigz -1 > "$OUTPUTDIR/{role}.tar.gz"
"""


class Mkosi:
    """Builds with mkosi, in a place of its own."""

    def __init__(self, world: World, tools: Tools, results: Results, place: Path) -> None:
        self.world = world
        self.tools = tools
        self.results = results
        self.place = place / "mkosi"
        self.log = world.directory / "log" / "mkosi.txt"

    def run(self, configuration: str, *more: str) -> Figure:
        """Builds a configuration."""
        command = ["mkosi", "--directory", self.place / configuration, *more, "build"]
        return measure(self.tools.inside(command), self.log)

    def all(self) -> None:
        """Every case, each after the one before."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.write()
        trees = self.run("trees")
        self.results.add("cold/mkosi", [trees + self.run("roles")])
        self.look()
        self.results.tell("bytes that mkosi left", size_of(self.place))
        runs = []
        for _ in range(RUNS):
            self.change()
            runs.append(self.run("roles", "--force"))
        self.results.add("file changed/mkosi", runs)
        self.run("disk")
        self.results.add("nothing changed/mkosi", [self.run("disk")])
        self.change()
        self.results.add("file changed, one disk/mkosi", [self.run("disk", "--force")])
        self.write_tree("rack", [ADDED])
        trees = self.run("trees", "--dependency=rack", "--force")
        roles = self.run("roles", "--dependency=rack", "--force")
        self.results.add("package added to rack/mkosi", [trees + roles])
        shutil.rmtree(self.place)

    def look(self) -> None:
        """Sees to it that all outputs are there: what is compared has to be the same work."""
        wanted = [f"{role}.{kind}" for role in LAYER_OF for kind in OUTPUTS]
        if missing := [name for name in wanted if not (self.place / "roles.out" / name).is_file()]:
            raise Failed(f"mkosi did not make {', '.join(missing)}: see {self.log}")

    def change(self) -> None:
        """Changes the overlay file that all images have."""
        changed = self.place / "extra/base" / CHANGED.removeprefix("overlays/base/")
        text = (SOURCE / CHANGED).read_text(encoding="utf-8")
        changed.write_text(f"{text}# change {time.time_ns()}\n", encoding="utf-8")

    def write(self) -> None:
        """Writes the configurations and what they lay over packages."""
        for name in ("cache", "packages", "workspace", BUILD):
            (self.place / name).mkdir(parents=True)
        for name in ("trees", "roles"):
            self.file(f"{name}/mkosi.conf", f"{self.common(name)}\n[Output]\nFormat=none\n")
        for name in ("base", "region", "rack"):
            self.write_tree(name)
        self.write_initrd()
        for layer, overlays in OVERLAYS.items():
            for overlay in overlays:
                lay(SOURCE / "overlays" / overlay, self.place / "extra" / layer)
            if layer in BEFORE:
                lay(SOURCE / "overlays" / BEFORE[layer], self.place / "before" / layer)
        agent = self.place / "extra/base/usr/libexec/rolecast/rolecast-join"
        agent.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.world.program.with_name("rolecast-join"), agent)
        for name, text in PARTITIONS.items():
            self.file(f"repart/{name}.conf", text.lstrip())
        for role, layer in LAYER_OF.items():
            script = self.file(f"roles/{role}.tar.sh", TAR.format(role=role), executable=True)
            artifacts = "SplitArtifacts=uki,kernel,initrd,partitions\n"
            text = self.role(layer, artifacts, f"FinalizeScripts={script}\n")
            self.file(f"roles/mkosi.images/{role}.conf", text)
        self.file("disk/mkosi.conf", f"{self.common('disk')}\n{self.role('rack', '', '')}")

    def file(self, name: str, text: str, *, executable: bool = False) -> Path:
        """Writes one file."""
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if executable else 0o644)
        return path

    def common(self, name: str) -> str:
        """What holds for all images of a configuration."""
        return f"""\
[Distribution]
Distribution=debian
Release={SUITE}
LocalMirror=file://{self.world.repository}
RepositoryKeyCheck=no

[Output]
OutputDirectory={self.place}/{name}.out

[Content]
SourceDateEpoch=1760000000

[Build]
CacheDirectory={self.place}/cache
PackageCacheDirectory={self.place}/packages
WorkspaceDirectory={self.place}/workspace
BuildDirectory={self.place}/{BUILD}
Incremental=yes
WithNetwork=no
"""

    def write_tree(self, layer: str, added: list[str] | None = None) -> None:
        """The packages of a layer, over those of its parent."""
        packages = [package["name"] for package in self.world.layers()[layer]] + (added or [])
        if layer == "base":
            # mkosi takes boot loader and stub from the image itself.
            packages.append("systemd-boot-efi")
        under = "" if layer == "base" else f"BaseTrees={self.place}/trees.out/base\n"
        before = f"SkeletonTrees={self.place}/before/{layer}\n" if layer in BEFORE else ""
        after = "" if layer == "base" else "[Config]\nDependencies=base\n\n"
        text = f"""\
{after}[Output]
Format=directory

[Content]
{under}{before}Packages={lines(packages)}
RemoveFiles={lines(removed(layer))}
WithRecommends=no
WithDocs=yes
Bootable=no
CleanPackageMetadata=no

[Build]
Environment=KERNEL_INSTALL_BYPASS=1 INITRD=No
"""
        self.file(f"trees/mkosi.images/{layer}.conf", text)

    def write_initrd(self) -> None:
        """The initrd, by the same dracut with the same arguments."""
        packages = [package["name"] for package in self.world.layers()["tools"]]
        files = self.place / "trees" / "initrd"
        lay(SOURCE / "overlays/initrd", files)
        # Where mkosi shows its build and source directories to a script inside of the image.
        command = dracut("$(ls /usr/lib/modules)", "/work/build/initrd", "/work/src/initrd")
        script = self.file("trees/initrd.chroot", f"#!/bin/sh\nset -e\n{command}\n", executable=True)
        text = f"""\
[Config]
Dependencies=base

[Output]
Format=none

[Content]
BaseTrees={self.place}/trees.out/base
Packages={lines(packages)}
WithRecommends=no
Bootable=no
BuildScripts={script}
"""
        self.file("trees/mkosi.images/initrd.conf", text)

    def role(self, layer: str, artifacts: str, scripts: str) -> str:
        """One role's image."""
        extra = [f"{self.place}/extra/{name}" for name in ("base", layer)]
        return f"""\
[Output]
Format=disk
RepartDirectories={self.place}/repart
{artifacts}
[Content]
BaseTrees={self.place}/trees.out/{layer}
ExtraTrees={lines(extra)}
Bootable=yes
Bootloader=systemd-boot
UnifiedKernelImages=yes
Initrds={self.place}/{BUILD}/initrd
KernelModulesInitrd=no
KernelCommandLine=console=tty0 console=ttyS0,115200n8 systemd.volatile=overlay panic=10
{scripts}
[Build]
Environment="SYSTEMD_REPART_MKFS_OPTIONS_SQUASHFS={LEVELS}"
"""


def lines(values: list[str]) -> str:
    """A list as a setting takes it: a line each, indented."""
    return "".join(f"\n    {value}" for value in values)
