//! The disk image: GPT with an ESP, the hash area and the root.
//!
//! The root comes last, so that the raw file ends where it ends and the first boot can grow it to its slot, and put
//! the second slot and the state partition behind it (`systemd-repart(8)`, definitions in the root).

use std::sync::Arc;

use crate::digest::Digest;
use crate::format::gpt::{self, Guid, Partition, attribute, partition_type};
use crate::format::uki::Uki;
use crate::format::{Bytes, Recipe, fat};
use crate::report::{Diagnostic, Kind, Report};

use super::boot::BootParts;
use super::root::Root;

/// Bytes for hashes for each MiB of a root slot, as `repart.d` in the root reckons for the second slot. dm-verity's tree takes 8.1
/// KiB: 32 bytes for each block of 4 KiB, and for each 128 of these a block more.
const HASHES: u64 = 10 << 10;

/// No root slot is larger, in bytes: the partition for its hashes is part of the image.
const LARGEST_SLOT: u64 = 64 << 30;

/// The ESP's size is a multiple of this, with room for four UKIs: two slots, one being written, one to spare.
const ESP_STEP: u64 = 32 << 20;

/// What names an image to the boot loader and to updates.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The role.
    pub role: &'a str,
    /// The image file's `version`.
    pub version: &'a str,
}

/// Tries that a new UKI has to come up healthy (UAPI Boot Loader Specification, boot counting).
const TRIES: u32 = 3;

/// The unified kernel image.
///
/// # Errors
/// When stub and kernel do not fit together.
pub fn uki(parts: &BootParts, initrds: &[Recipe], command_line: &str) -> Result<Recipe, Report> {
    let mut kernel = Recipe::new();
    kernel.push(content_bytes(&parts.kernel.content), "kernel");
    let uki = Uki {
        stub: &parts.stub,
        os_release: &parts.os_release,
        command_line,
        kernel_release: &parts.kernel.release,
        initrds,
        kernel: &kernel,
        kernel_image_size: parts.kernel_image_size,
    };
    uki.recipe().map_err(|error| refuse("unified kernel image", &error))
}

/// The bytes of a stored content, for a recipe.
pub fn content_bytes(content: &crate::tree::Content) -> Bytes {
    Bytes::Object { object: content.place.object, offset: content.place.offset, length: content.size }
}

fn refuse(part: &str, error: &dyn std::error::Error) -> Report {
    Diagnostic::error(Kind::Input, format!("the {part} cannot be made: {error}")).into()
}

/// Refuses a root of the role `role` that is larger than a slot of the machines' disks, in bytes, and a slot that is larger
/// than any root.
///
/// # Errors
/// When one is.
pub fn check_slot(root: &Root, role: &str, slot: u64) -> Result<(), Report> {
    if slot > LARGEST_SLOT {
        let (slot, most) = (slot >> 20, LARGEST_SLOT >> 20);
        return Err(Diagnostic::error(
            Kind::Input,
            format!("a slot of the disk has {slot} MiB, and the most is {most} MiB"),
        )
        .hint("`disk.slot_size` under `[options]` counts MiB")
        .into());
    }
    let (size, slot) = (root.squashfs.length().div_ceil(1 << 20), slot >> 20);
    if size <= slot {
        return Ok(());
    }
    Err(Diagnostic::error(
        Kind::Input,
        format!("the root of `{role}` has {size} MiB, and a slot of the disk {slot} MiB"),
    )
    .note("a machine gets its slots when it boots first, and their size stays")
    .hint("raise `disk.slot_size` under `[options]`, or take packages away")
    .into())
}

/// Bytes of the partition with the hashes of a slot; where nothing is known of slots, with those of this root.
fn hash_slot(root: &Root, slot: Option<u64>) -> u64 {
    let reckoned = slot.map_or(0, |slot| (slot >> 20) * HASHES);
    reckoned.max(root.hash_area.length()).next_multiple_of(gpt::ALIGNMENT)
}

/// The raw disk image; `slot` is the size in bytes to which its root can grow.
///
/// # Errors
/// When a part does not fit its place.
pub fn disk(
    root: &Root,
    boot_loader: &Recipe,
    uki: &Recipe,
    identity: Identity<'_>,
    slot: Option<u64>,
    epoch: i64,
) -> Result<Recipe, Report> {
    let esp = esp(boot_loader, uki, identity, root, epoch)?;
    let hash = root.root_hash;
    let esp_size = esp.length();
    let labels = Labels::of(identity.version);
    let partitions = [
        Partition {
            type_guid: partition_type::ESP,
            guid: Guid::from_digest(&hash, "esp"),
            name: "esp",
            attributes: 0,
            content: esp,
            size: esp_size,
        },
        hash_partition(root, &labels, hash_slot(root, slot)),
        data_partition(root, &labels),
    ];
    let disk =
        gpt::disk(Guid::from_digest(&hash, "disk"), &partitions).map_err(|error| refuse("disk image", &error))?;
    Ok(disk.recipe)
}

/// Root and hash area alone in a GPT: what the network loader hands to the kernel.
///
/// # Errors
/// When a part does not fit its place.
pub fn network_root(root: &Root, version: &str) -> Result<Recipe, Report> {
    let labels = Labels::of(version);
    let partitions = [hash_partition(root, &labels, hash_slot(root, None)), data_partition(root, &labels)];
    let disk = gpt::disk(Guid::from_digest(&root.root_hash, "network"), &partitions)
        .map_err(|error| refuse("network root", &error))?;
    Ok(disk.recipe)
}

/// The names of a version's partitions: `systemd-sysupdate(8)` knows by them what is installed (`MatchPattern=` in the
/// image's `sysupdate.d`).
struct Labels {
    root: String,
    verity: String,
}

impl Labels {
    fn of(version: &str) -> Self {
        Self { root: format!("root_{version}"), verity: format!("verity_{version}") }
    }
}

/// The GUIDs by which the initrd finds root and hash area: the two halves of the root hash (UAPI Discoverable
/// Partitions Specification).
pub(super) fn root_guids(hash: &Digest) -> (Guid, Guid) {
    let halves = hash.as_bytes().split_at(16);
    let guid = |half: &[u8]| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(half);
        Guid::from_bytes(bytes)
    };
    (guid(halves.0), guid(halves.1))
}

fn hash_partition<'a>(root: &Root, labels: &'a Labels, size: u64) -> Partition<'a> {
    Partition {
        type_guid: partition_type::ROOT_X86_64_VERITY,
        guid: root_guids(&root.root_hash).1,
        name: &labels.verity,
        attributes: attribute::READ_ONLY,
        content: nested(&root.hash_area, "hash area"),
        size,
    }
}

fn data_partition<'a>(root: &Root, labels: &'a Labels) -> Partition<'a> {
    Partition {
        type_guid: partition_type::ROOT_X86_64,
        guid: root_guids(&root.root_hash).0,
        name: &labels.root,
        attributes: attribute::READ_ONLY,
        content: nested(&root.squashfs, "root"),
        size: root.squashfs.length(),
    }
}

pub(super) fn nested(recipe: &Recipe, origin: &'static str) -> Recipe {
    let mut outer = Recipe::new();
    outer.push(Bytes::Recipe(Arc::new(recipe.clone())), origin);
    outer
}

/// The EFI system partition: boot loader and UKI.
fn esp(boot_loader: &Recipe, uki: &Recipe, identity: Identity<'_>, root: &Root, epoch: i64) -> Result<Recipe, Report> {
    let literal = |bytes: &[u8], origin: &'static str| {
        let mut recipe = Recipe::new();
        recipe.literal(bytes, origin);
        recipe
    };
    let Identity { role, version } = identity;
    let mut files = fat::Directory::new();
    let mut put = |path: &str, content| files.file(path, content).map_err(|error| refuse("ESP", &error));
    put("EFI/BOOT/BOOTX64.EFI", boot_loader.clone())?;
    put("EFI/systemd/systemd-bootx64.efi", boot_loader.clone())?;
    put(&format!("EFI/Linux/{role}_{version}+{TRIES}.efi"), uki.clone())?;
    put("loader/loader.conf", literal(b"timeout 0\neditor no\n", "loader.conf"))?;
    put("loader/entries.srel", literal(b"type1\n", "entries.srel"))?;
    let needed = 4 * uki.length() + 2 * boot_loader.length() + (8 << 20);
    let least = fat::minimum_size(&files).map_err(|error| refuse("ESP", &error))?;
    let size = needed.max(least).next_multiple_of(ESP_STEP);
    let bytes = root.root_hash.as_bytes();
    let volume_id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    fat::volume(size, volume_id, "ESP", &files, epoch).map_err(|error| refuse("ESP", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn root(size: u64, hashes: u64) -> Root {
        let zeros = |length| {
            let mut recipe = Recipe::new();
            recipe.push(Bytes::Zeros(length), "zeros");
            recipe
        };
        Root { squashfs: zeros(size), hash_area: zeros(hashes), root_hash: Digest::of(b"root") }
    }

    #[test]
    fn a_slot_has_room_for_the_hashes_of_any_root_that_fits_into_it() {
        for slot in [64, 1024, 2048, 8192, 100_000] {
            let leaves = vec![0; usize::try_from(slot * MIB / 4096).unwrap() * 32];
            let hashes = crate::format::verity::build(&leaves, &[0; 32], [0; 16]).unwrap().hash_area.len() as u64;
            assert!(hash_slot(&root(0, 0), Some(slot * MIB)) >= hashes, "{slot} MiB need {hashes} bytes");
        }
        assert_eq!(hash_slot(&root(MIB, 12_288), None), gpt::ALIGNMENT);
    }

    #[test]
    fn the_second_slot_is_reckoned_as_the_first() {
        let written = include_str!("../../overlays/base/usr/lib/repart.d/30-verity-b.conf.tera");
        for bound in ["Min", "Max"] {
            let line = format!("Size{bound}Bytes={{{{ option.disk.slot_size * {} }}}}K", HASHES >> 10);
            assert!(written.lines().any(|found| found == line), "no line `{line}` in\n{written}");
        }
    }

    #[test]
    fn a_root_that_no_slot_holds_is_refused_in_words() {
        assert!(check_slot(&root(512 * MIB, 0), "rack", 512 * MIB).is_ok());
        let report = check_slot(&root(512 * MIB + 1, 0), "rack", 512 * MIB).unwrap_err();
        let told = &report.diagnostics[0];
        assert_eq!(told.message, "the root of `rack` has 513 MiB, and a slot of the disk 512 MiB");
        assert_eq!(report.exit_code(), Kind::Input.exit_code());
        assert!(check_slot(&root(MIB, 0), "rack", LARGEST_SLOT).is_ok());
        let report = check_slot(&root(MIB, 0), "rack", u64::MAX).unwrap_err();
        assert!(report.diagnostics[0].message.ends_with("and the most is 65536 MiB"));
    }
}
