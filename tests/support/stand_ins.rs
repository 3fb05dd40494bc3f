//! Packages that stand in for what is large or slow: kernel, dracut, UEFI stub and boot loader, cloud-init.
//!
//! They have the paths and the outward form that a build needs, so that every format can be made offline in seconds.
//! None of them boots.

use crate::support::deb::{Compression, Package};

/// Size of the kernel that is none: like a real one, so that it decides the size of the ESP.
const KERNEL_SIZE: u32 = 12 << 20;

/// Release of that kernel.
pub const KERNEL_RELEASE: &str = "6.0.0-test";

/// Leaves a small initrd, the same at each call, under the last argument's name: a `newc` archive without members
/// (kernel documentation, "initramfs buffer format").
const DRACUT: &str = r#"#!/bin/sh
set -eu
for output; do :; done
field=00000000
{
    printf '070701'
    for value in $field 00000000 $field $field 00000001 $field $field $field $field $field $field 0000000b $field; do
        printf '%s' "$value"
    done
    printf 'TRAILER!!!\0\0\0\0'
} >"$output"
"#;

/// All of them.
pub fn packages() -> [Package; 4] {
    let kernel = Package::new("linux-image-test", "6.0.0-1")
        .file(&format!("boot/vmlinuz-{KERNEL_RELEASE}"), program(KERNEL_SIZE))
        .file(&format!("usr/lib/modules/{KERNEL_RELEASE}/modules.builtin"), "kernel/fs/squashfs/squashfs.ko\n");
    let dracut = Package::new("dracut-core", "106-test").file_with_mode("usr/bin/dracut", 0o755, DRACUT);
    let stub = Package::new("systemd-boot-efi", "257-test")
        .file("usr/lib/systemd/boot/efi/linuxx64.efi.stub", program(0x800))
        .file("usr/lib/systemd/boot/efi/systemd-bootx64.efi", program(0x1000));
    let cloud_init = Package::new("cloud-init", "25-test").file_with_mode("usr/bin/cloud-init", 0o755, "#!/bin/sh\n");
    [kernel, dracut, stub, cloud_init].map(|package| package.compressed(Compression::Zstd))
}

/// The least that passes for an x86-64 UEFI program with `text` bytes of code (Microsoft's PE format): DOS header, PE
/// header, one section, room for more section headers.
pub fn program(text: u32) -> Vec<u8> {
    const HEADERS: u32 = 0x400;
    let mut bytes = vec![0; HEADERS as usize];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    let (coff, optional) = (0x44, 0x58);
    put(0x40, b"PE\0\0");
    // Machine, one section, size of the optional header, executable.
    put(coff, &[0x64, 0x86, 1, 0]);
    put(coff + 16, &[240, 0, 0x06, 0x02]);
    // PE32+; alignment of sections and of the file; image and headers; an EFI application; sixteen directories.
    put(optional, &[0x0b, 0x02]);
    let image = 0x1000 + text.next_multiple_of(0x1000);
    let numbers = [(4, text), (16, 0x1000), (20, 0x1000), (32, 0x1000), (36, 0x200), (56, image), (60, HEADERS)];
    for (at, number) in numbers.into_iter().chain([(68, 10), (108, 16)]) {
        put(optional + at, &u32::to_le_bytes(number));
    }
    let section = optional + 240;
    put(section, b".text");
    for (at, number) in [(8, text), (12, 0x1000), (16, text.next_multiple_of(0x200)), (20, HEADERS), (36, 0x6000_0020)]
    {
        put(section + at, &u32::to_le_bytes(number));
    }
    bytes.resize((HEADERS + text.next_multiple_of(0x200)) as usize, 0xc3);
    bytes
}
