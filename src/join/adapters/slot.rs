//! The boot loader's entries on the EFI system partition, where this machine starts from its own disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{health, units};
use crate::join::release;
use crate::join::tables::Image;
use crate::join::world::Trouble;

/// Set by `systemd-boot(7)` when it counts the tries of what it started.
const COUNTED: &str = "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// How long a program of systemd may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Makes the running version good and takes the older ones away from the boot loader, so that it cannot fall back.
/// Where no boot loader of ours started this machine there is nothing to do.
///
/// # Errors
/// When the EFI system partition cannot be found or written.
pub fn keep(image: &Image) -> Result<(), Trouble> {
    if !health::sealed() || health::in_memory() {
        return Ok(());
    }
    if Path::new(COUNTED).exists() {
        units::run("/usr/lib/systemd/systemd-bless-boot", ["good"], LONGEST)?;
    }
    let esp = units::run("bootctl", ["--print-esp-path"], LONGEST)?;
    forget_older(&Path::new(esp.trim()).join("EFI/Linux"), image)
}

/// Removes the kernel images of older versions of this image's role.
fn forget_older(directory: &Path, image: &Image) -> Result<(), Trouble> {
    let trouble = |error: std::io::Error| Trouble(format!("`{}`: {error}", directory.display()));
    let mut older: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(trouble)? {
        let path = entry.map_err(trouble)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if version(name, &image.role).is_some_and(|version| release::is_older(version, &image.version)) {
            older.push(path);
        }
    }
    for path in older {
        fs::remove_file(path).map_err(trouble)?;
    }
    // The record of a schema that was begun relies on it.
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(trouble)
}

/// The version in a kernel image's name, `ROLE_VERSION.efi` or `ROLE_VERSION+LEFT-DONE.efi`.
fn version<'n>(name: &'n str, role: &str) -> Option<&'n str> {
    let rest = name.strip_prefix(role)?.strip_prefix('_')?.strip_suffix(".efi")?;
    Some(rest.split('+').next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::testing;

    #[test]
    fn only_older_versions_of_the_role_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let names =
            ["rack_2026.9.1.efi", "rack_2026.11.1+2-1.efi", "rack_2026.11.2+0-3.efi", "other_1.efi", "rack_x.txt"];
        for name in names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        forget_older(directory.path(), &testing::image("rack")).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["other_1.efi", "rack_2026.11.1+2-1.efi", "rack_2026.11.2+0-3.efi", "rack_x.txt"]);
    }
}
