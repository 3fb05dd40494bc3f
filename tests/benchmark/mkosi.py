"""mkosi, in two ways.

Set up as well as it lets itself be: what roles share is built once, and only what has changed is built again. That takes
two configurations, because a cache of mkosi's never covers an image that stands on another (`BaseTrees=`):

```text
trees/    packages only: base, region and rack over it, and the initrd. Built when packages change
roles/    the three roles, each over a tree: overlays, disk, boot files, tarball. Built when files change
disk/     one role's disk image, and nothing else
```

And as most of its users have it, each image by itself:

```text
initrd/   the initrd
alone/    the three roles, each from packages to outputs
```

Everything that mkosi works on lies in memory where there is enough of it; its cache is on, compressors are as quick as
rolecast's, and it makes no initrd of its own.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Failed, Figure, measure, size_of
from results import Results
from roles import BEFORE, LAYER_OF, OVERLAYS, dracut, lay, removed
from tools import SUITE, Tools
from world import ADDED, CHANGED, SOURCE, World

RUNS = 2
BUILD = "build/debian~trixie~x86-64"
"""mkosi would add this name below a directory of another one."""
ENVIRONMENT = "Environment=KERNEL_INSTALL_BYPASS=1 INITRD=No"
"""What keeps the kernel's package from making an initrd and a kernel image of its own."""
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
        """Every case with what roles share built once, each after the one before."""
        with self.written():
            self.shared()

    def alone(self) -> None:
        """Each role's image by itself: the initrd, and then three times everything from packages to outputs."""
        with self.written():
            if self.cold("cold/mkosi alone", "initrd", "alone"):
                self.results.measure("file changed/mkosi alone", lambda: self.changed("alone"))

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Configurations, and an empty cache, while they are needed: memory is wanted for what comes after."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.write()
        try:
            yield
        finally:
            shutil.rmtree(self.place)

    def shared(self) -> None:
        """Cold, then with changes."""
        results = self.results
        if not self.cold("cold/mkosi", "trees", "roles"):
            return
        results.tell("bytes that mkosi left", size_of(self.place))
        results.measure("file changed/mkosi", lambda: self.changed("roles"), RUNS)
        with results.cell("nothing changed/mkosi"):
            self.run("disk")
            results.add_first("nothing changed/mkosi", self.run("disk"))
        results.measure("file changed, one disk/mkosi", lambda: self.changed("disk"))
        with results.cell("package added to rack/mkosi"):
            self.write_tree("rack", [ADDED])
            trees = self.run("trees", "--dependency=rack", "--force")
            roles = self.run("roles", "--dependency=rack", "--force")
            results.add_first("package added to rack/mkosi", trees + roles)

    def cold(self, name: str, below: str, roles: str) -> bool:
        """Builds two configurations for the first time; whether that succeeded, so that they can be built again."""
        with self.results.cell(name):
            figure = self.run(below) + self.run(roles)
            self.look(roles)
            self.results.add_first(name, figure)
        return name not in self.results.failed()

    def changed(self, configuration: str) -> Figure:
        """Builds a configuration once more after the overlay file that all images have has changed."""
        self.change()
        return self.run(configuration, "--force")

    def look(self, configuration: str) -> None:
        """Sees to it that all outputs are there: what is compared has to be the same work."""
        wanted = [f"{role}.{kind}" for role in LAYER_OF for kind in OUTPUTS]
        if missing := [name for name in wanted if not (self.place / f"{configuration}.out" / name).is_file()]:
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
        for name in ("trees", "roles", "alone"):
            self.file(f"{name}/mkosi.conf", f"{self.common(name)}\n[Output]\nFormat=none\n")
        for layer in ("base", "region", "rack"):
            self.write_tree(layer)
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
        names = [package["name"] for package in self.world.layers()["tools"]]
        over = f"BaseTrees={self.place}/trees.out/base\nPackages={lines(names)}\nWithRecommends=no\n"
        self.write_initrd("trees", "mkosi.images/initrd.conf", "[Config]\nDependencies=base\n", over)
        head = f"{self.common('initrd')}{ENVIRONMENT}\n"
        self.write_initrd("initrd", "mkosi.conf", head, self.installed(["base", "tools"], []))
        artifacts = "SplitArtifacts=uki,kernel,initrd,partitions\n"
        for role, layer in LAYER_OF.items():
            script = self.file(f"scripts/{role}.tar.sh", TAR.format(role=role), executable=True)
            scripts = f"FinalizeScripts={script}\n"
            text = self.role(layer, f"BaseTrees={self.place}/trees.out/{layer}\n", artifacts, scripts)
            self.file(f"roles/mkosi.images/{role}.conf", text)
            installed = self.installed(["base", layer], ["systemd-boot-efi"])
            text = self.role(layer, installed, f"{artifacts}\n[Build]\n{ENVIRONMENT}\n", scripts)
            self.file(f"alone/mkosi.images/{role}.conf", text)
        disk = self.role("rack", f"BaseTrees={self.place}/trees.out/rack\n")
        self.file("disk/mkosi.conf", f"{self.common('disk')}\n{disk}")

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

    def installed(self, layers: list[str], more: list[str]) -> str:
        """The packages of layers, what has to be there before them, what is removed after them."""
        packages = [package["name"] for layer in layers for package in self.world.layers()[layer]]
        before = [f"{self.place}/before/{layer}" for layer in layers if layer in BEFORE]
        skeleton = f"SkeletonTrees={lines(before)}\n" if before else ""
        return f"""\
{skeleton}Packages={lines(packages + more)}
RemoveFiles={lines(removed(layers))}
WithRecommends=no
WithDocs=yes
CleanPackageMetadata=no
"""

    def write_tree(self, layer: str, added: list[str] | None = None) -> None:
        """The packages of a layer, over those of its parent."""
        # mkosi takes boot loader and stub from the image itself.
        more = ["systemd-boot-efi"] if layer == "base" else added or []
        under = "" if layer == "base" else f"BaseTrees={self.place}/trees.out/base\n"
        after = "" if layer == "base" else "[Config]\nDependencies=base\n\n"
        text = f"""\
{after}[Output]
Format=directory

[Content]
{under}{self.installed([layer], more)}Bootable=no

[Build]
{ENVIRONMENT}
"""
        self.file(f"trees/mkosi.images/{layer}.conf", text)

    def write_initrd(self, directory: str, name: str, head: str, content: str) -> None:
        """The initrd, by the same dracut with the same arguments."""
        files = self.place / directory / "initrd"
        lay(SOURCE / "overlays/initrd", files)
        # mkosi(1): where a script inside of the image sees its build and source directories.
        command = dracut("$(ls /usr/lib/modules)", "$BUILDDIR/initrd", "$SRCDIR/initrd")
        script = self.file(f"{directory}/initrd.chroot", f"#!/bin/sh\nset -e\n{command}\n", executable=True)
        text = f"""\
{head}
[Output]
Format=none

[Content]
{content}Bootable=no
BuildScripts={script}
"""
        self.file(f"{directory}/{name}", text)

    def role(self, layer: str, content: str, artifacts: str = "", scripts: str = "") -> str:
        """One role's image; `content` says where its packages come from."""
        extra = [f"{self.place}/extra/{name}" for name in ("base", layer)]
        return f"""\
[Output]
Format=disk
RepartDirectories={self.place}/repart
{artifacts}
[Content]
{content}ExtraTrees={lines(extra)}
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
