"""The other tools, in a root of Debian 13 of their own: the host's may be too old, and all hosts measure the same.

The root is made once, with debootstrap, and kept. A command in it sees the benchmark's directory at the same path as
outside, a fresh /proc, /tmp and /run, and nothing else of the host. pivot_root(8) brings it there, because in a plain
chroot no user namespace can be made.
"""

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from measure import Failed

SUITE = "trixie"
PACKAGES = (
    # Builders, and what mkosi calls for these images.
    *("mkosi", "mmdebstrap", "systemd-repart", "systemd-ukify", "systemd-boot", "systemd-container", "udev"),
    *("squashfs-tools", "squashfs-tools-ng", "dosfstools", "mtools", "e2fsprogs", "cryptsetup-bin", "kmod", "cpio"),
    *("zstd", "pigz", "python3-pefile", "debian-archive-keyring"),
    # The apt repository, the floor, and a file system with reflinks.
    *("apt-utils", "isal", "xfsprogs", "tar", "xz-utils"),
)

ENTER = """
set -e
root=$1
shift
mount --bind "$root" "$root"
cd "$root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=0755 run run
while [ "$1" != -- ]; do
    mkdir -p ".$1"
    mount --bind "$1" ".$1"
    shift
done
shift
mkdir -p old
pivot_root . old
exec chroot . sh -c 'umount -l /old; cd "$0"; exec "$@"' "$@"
"""
"""Arguments: the root, directories to bring along, `--`, the working directory, the command."""


class Tools:
    """The root with the other tools."""

    def __init__(self, directory: Path, keyring: Path) -> None:
        self.directory = directory
        self.root = directory / "trixie"
        self.keyring = keyring
        self.log = directory / "log" / "tools.txt"

    def prepare(self) -> None:
        """Makes the root, unless it is there as it is wanted now."""
        wanted = " ".join(PACKAGES)
        mark = self.root / "benchmark-packages"
        if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
            return
        print(f"making a root of Debian {SUITE} with the other tools", flush=True)
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if not shutil.which("debootstrap"):
            self.need(["apt-get", "install", "--yes", "--no-install-recommends", "debootstrap"])
        mirror = mirror_of_host()
        self.need(["debootstrap", "--variant=minbase", f"--keyring={self.keyring}", SUITE, str(self.root), mirror])
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", self.root / "etc" / name)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        self.need(self.inside(install, environment={"DEBIAN_FRONTEND": "noninteractive"}))
        mark.write_text(wanted, encoding="utf-8")

    def inside(
        self, command: Iterable[str | Path], *, place: Path | None = None, environment: dict[str, str] | None = None
    ) -> list[str]:
        """The command line that runs a command in the root, in `place`."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        places = [str(path) for path in (self.directory, self.directory / "memory") if path.exists()]
        words += ["sh", "-c", ENTER, "sh", str(self.root), *places, "--", str(place or "/")]
        words += ["env", "-i", "PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "HOME=/root"]
        words += [f"{name}={value}" for name, value in (environment or {}).items()]
        return words + [str(word) for word in command]

    def need(self, command: list[str]) -> None:
        """Runs a command outside of every measurement, which has to succeed."""
        with self.log.open("a", encoding="utf-8") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if done.returncode != 0:
            raise Failed(f"`… {' '.join(command)[-100:]}` failed: see the end of {self.log}")

    def versions(self) -> dict[str, str]:
        """Versions of the tools that are compared."""
        names = ["mkosi", "mmdebstrap", "squashfs-tools", "systemd-repart", "dpkg"]
        command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *names]
        done = subprocess.run(self.inside(command), capture_output=True, text=True, check=True)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())

    def index_repository(self, repository: Path) -> None:
        """Writes the indexes of an apt repository whose packages lie in `pool`."""
        script = f"""
            mkdir -p dists/{SUITE}/main/binary-amd64
            apt-ftparchive packages pool > dists/{SUITE}/main/binary-amd64/Packages
            apt-ftparchive -o APT::FTPArchive::Release::Suite={SUITE} -o APT::FTPArchive::Release::Codename={SUITE} \
                -o APT::FTPArchive::Release::Components=main -o APT::FTPArchive::Release::Architectures=amd64 \
                release dists/{SUITE} > Release && mv Release dists/{SUITE}/Release
        """
        self.need(self.inside(["sh", "-e", "-c", script], place=repository))


def mirror_of_host() -> str:
    """A mirror of Debian among this host's apt sources, or the one that rolecast is told."""
    told = os.environ.get("ROLECAST_MIRROR_DEBIAN")
    if told:
        return told
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for mirror in dict.fromkeys(listed):
        try:
            with urllib.request.urlopen(f"{mirror.rstrip('/')}/dists/{SUITE}/Release", timeout=30) as release:
                if release.read(100).startswith(b"Origin: Debian\nLabel: Debian\n"):
                    return mirror
        except (urllib.error.URLError, OSError):
            continue
    raise Failed(f"no apt source of this host has Debian {SUITE}: name a mirror in $ROLECAST_MIRROR_DEBIAN")
