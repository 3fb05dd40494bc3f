//! Unified kernel images against the object crate's reader, and our reader against hostile ones.

use object::{Object as _, ObjectSection as _, read::pe::PeFile64};

use super::super::pe::testing::program as stub;
use super::super::pe::{image_size, read_section, sections};
use super::super::recipe::testing::Objects;
use super::*;

fn build(stub: &[u8], initrds: &[Recipe], kernel: &Recipe) -> Result<Recipe, UkiError> {
    Uki {
        stub,
        os_release: "ID=debian\n",
        command_line: "console=ttyS0",
        kernel_release: "6.12",
        initrds,
        kernel,
        kernel_image_size: 5000,
    }
    .recipe()
}

#[test]
fn the_object_crate_reads_what_was_written() {
    let mut objects = Objects::default();
    let initrds = [objects.keep(*b"first"), objects.keep(*b"second!!")];
    let kernel = objects.keep(vec![7; 3000]);
    let recipe = build(&stub(0x400), &initrds, &kernel).unwrap();
    assert_eq!(recipe, build(&stub(0x400), &initrds, &kernel).unwrap());
    let image = objects.pour(&recipe);
    let pe = PeFile64::parse(&*image).unwrap();
    let read: Vec<_> =
        pe.sections().map(|section| (section.name().unwrap().to_owned(), section.address(), section.size())).collect();
    let expected = [
        (".text", 0x1000, 700),
        (".osrel", 0x2000, 10),
        (".cmdline", 0x3000, 13),
        (".uname", 0x4000, 4),
        (".initrd", 0x5000, 16),
        (".linux", 0x6000, 5000),
    ];
    assert_eq!(read, expected.map(|(name, address, size)| (name.to_owned(), address, size)));
    let optional = &pe.nt_headers().optional_header;
    assert_eq!(optional.size_of_image.get(object::LittleEndian), 0x8000);
    assert_eq!(image_size(&image).unwrap(), 0x8000);
    assert_eq!(image.len() % 0x200, 0);
    for (name, content) in [
        (".osrel", &b"ID=debian\n"[..]),
        (".cmdline", b"console=ttyS0"),
        (".uname", b"6.12"),
        (".initrd", b"first\0\0\0second!!"),
    ] {
        assert_eq!(pe.section_by_name(name).unwrap().data().unwrap(), content, "{name}");
        assert_eq!(read_section(&image, name, 100).unwrap(), content, "{name}");
    }
    assert_eq!(&read_section(&image, ".linux", 5000).unwrap()[..3000], &[7; 3000]);
    assert_eq!(&image[0x400..0x800], &[0xc3; 0x400]);
}

#[test]
fn a_stub_that_cannot_take_the_sections_is_refused() {
    let kernel = Objects::default().keep(*b"kernel");
    let build = |stub: &[u8]| build(stub, &[], &kernel).unwrap_err();
    // One section header ends at 0x170: the next 0x90 bytes hold three more, not four.
    assert!(matches!(build(&stub(0x200)), UkiError::NoRoom(".linux")));
    let mut signed = stub(0x400);
    put_u32(&mut signed, 0x58 + 148, 8);
    assert!(matches!(build(&signed), UkiError::Signed));
    let mut taken = stub(0x400);
    taken[0x58 + 240..][..8].copy_from_slice(b".cmdline");
    assert!(matches!(build(&taken), UkiError::Present(".cmdline")));
    assert!(matches!(build(b"#!/bin/sh"), UkiError::Stub(PeError::Io(_))));
    assert!(matches!(build(&[0; 4096]), UkiError::Stub(PeError::NotPe(_))));
}

#[test]
fn a_hostile_image_is_refused_without_reading_far() {
    let image = stub(0x400);
    for end in 0..0x170 {
        assert!(sections(&image[..end]).is_err(), "cut at {end}");
    }
    let mut large = image.clone();
    for at in [8, 16] {
        put_u32(&mut large, 0x58 + 240 + at, u32::MAX);
    }
    assert!(matches!(read_section(&large, ".text", 1 << 20), Err(PeError::OverLimit { size: u32::MAX, .. })));
    assert!(matches!(read_section(&large, ".linux", 1 << 20), Err(PeError::Missing(_))));
    let mut far = image.clone();
    put_u32(&mut far, 0x3c, u32::MAX);
    let mut many = image;
    many[0x46..0x48].copy_from_slice(&[0xff, 0xff]);
    // Whatever one byte of the headers says, reader and writer end.
    for at in 0..0x170 {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = stub(0x400);
            damaged[at] = byte;
            if let Ok(content) = read_section(&damaged, ".text", 1 << 20) {
                assert!(content.len() <= damaged.len(), "byte {at}");
            }
            if let Ok(recipe) = build(&damaged, &[], &Recipe::new()) {
                assert!(recipe.length() >= damaged.len() as u64, "byte {at}");
            }
        }
    }
    for broken in [far, many] {
        assert!(matches!(sections(&broken), Err(PeError::NotPe(_))));
    }
}

#[test]
fn what_is_measured_is_what_lies_in_memory() {
    let mut objects = Objects::default();
    let kernel = objects.keep(vec![7; 3000]);
    let initrds = [objects.keep(*b"initrd")];
    let uki = build(&stub(0x400), &initrds, &kernel).unwrap();
    let measured = measure::measured(&uki).unwrap();
    let poured: Vec<_> = measured.iter().map(|(name, content)| (*name, objects.pour(content))).collect();
    let in_memory = [vec![7; 3000], vec![0; 2000]].concat();
    let expected = [
        (".linux", in_memory),
        (".osrel", b"ID=debian\n".to_vec()),
        (".cmdline", b"console=ttyS0".to_vec()),
        (".initrd", b"initrd".to_vec()),
        (".uname", b"6.12".to_vec()),
    ];
    assert_eq!(poured, expected);
}
