"""What the roles are made of, for tools that read no profiles of rolecast's: overlays, what is removed, the initrd."""

import shutil
from pathlib import Path

import tomllib

from measure import Failed
from world import SOURCE

OVERLAYS = {
    "base": ("base",),
    "region": ("etcd", "maas", "maas-stub", "region", "region-dns", "region-maas", "region-stub"),
    "rack": ("etcd", "maas", "maas-stub", "rack-maas", "rack-stub"),
}
"""The overlays of each layer, as the profiles lay them."""
LAYER_OF = {"region-primary": "region", "region-standby": "region", "rack": "rack"}

BEFORE = {"base": "base-before", "region": "region-before"}
"""What has to be there before a layer's packages are configured."""


def removed(layers: list[str]) -> list[str]:
    """What the profiles remove from layers and the one under them."""
    found = []
    for name in dict.fromkeys(("base", *layers)):
        profile = tomllib.loads((SOURCE / f"profiles/{name}.toml").read_text(encoding="utf-8"))
        for section in (profile, *profile.get("when", {}).values()):
            found += section.get("remove", [])
    return found


def lay(overlay: Path, target: Path) -> None:
    """Lays an overlay's files as they are: a template under the name that it gets, unrendered."""
    if not overlay.is_dir():
        raise Failed(f"{overlay} is gone: the lists in {__file__} no longer say what the profiles do")
    for path in overlay.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        place = target / str(path.relative_to(overlay)).removesuffix(".tera")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place, follow_symlinks=False)


def dracut(kernel: str, output: str, files: str) -> str:
    """The shell command that makes the initrd as rolecast's does (`src/layer/initrd.rs`); `files` holds its overlay."""
    words = ["dracut --force --no-hostonly --no-hostonly-cmdline --reproducible --compress 'zstd -q -3'"]
    words.append(f"--kver {kernel} --omit kernel-network-modules --install losetup")
    words.append("--modules 'systemd-initrd systemd-veritysetup udev-rules kernel-modules'")
    words.append("--filesystems 'squashfs overlay ext4 vfat'")
    words.append(
        "--add-drivers 'squashfs overlay dm-verity ext4 vfat loop virtio_blk virtio_pci virtio_scsi nvme ahci sd_mod "
        "mpt3sas megaraid_sas'"
    )
    for path in sorted((SOURCE / "overlays/initrd").rglob("*")):
        if path.is_file():
            name = path.relative_to(SOURCE / "overlays/initrd")
            words.append(f"--include {files}/{name} /{name}")
    return " ".join([*words, output])
