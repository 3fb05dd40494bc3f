//! Hash trees against veritysetup, and what a check finds.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const SALT: &[u8] = b"rolecast constant salt, 32 bytes";
const UUID: [u8; 16] = *b"0123456789abcdef";
const UUID_TEXT: &str = "30313233-3435-3637-3839-616263646566";

/// Data of `blocks` blocks, each unlike the others.
fn data(blocks: usize) -> Vec<u8> {
    (0..blocks as u64).flat_map(|block| block.to_le_bytes().repeat(BLOCK / 8)).collect()
}

fn leaves(data: &[u8]) -> Vec<u8> {
    let mut leaves = Leaves::new(SALT);
    leaves.update(data);
    leaves.finish().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn veritysetup(arguments: &[&str], files: [&Path; 2], root_hash: &[String]) -> String {
    let mut command = Command::new("veritysetup");
    let output = command.args(arguments).args(files).args(root_hash).output().expect("veritysetup is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_hash_area_is_that_of_veritysetup() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    // One level less, equal, and one more than a full block of digests, twice over.
    for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        let mut tree = Leaves::new(SALT);
        tree.update(&data(blocks.min(300)));
        tree.zeros((blocks - blocks.min(300)) as u64 * BLOCK as u64);
        let ours = build(&tree.finish().unwrap(), SALT, UUID).unwrap();

        std::fs::write(file("data"), data(blocks.min(300))).unwrap();
        std::fs::File::options().write(true).open(file("data")).unwrap().set_len((blocks * BLOCK) as u64).unwrap();
        let salt = format!("--salt={}", hex(SALT));
        let format = ["format", "--hash=sha256", &salt, &format!("--uuid={UUID_TEXT}")];
        let _ = std::fs::remove_file(file("theirs"));
        let printed = veritysetup(&format, [&file("data"), &file("theirs")], &[]);
        assert!(printed.contains(&ours.root_hash.to_string()), "{blocks} blocks: {printed}");
        let mut theirs = std::fs::read(file("theirs")).unwrap();
        // A tree of no level leaves the superblock's block short.
        theirs.resize(theirs.len().next_multiple_of(BLOCK), 0);
        assert!(theirs == ours.hash_area, "{blocks} blocks");

        std::fs::write(file("ours"), &ours.hash_area).unwrap();
        veritysetup(&["verify"], [&file("data"), &file("ours")], &[ours.root_hash.to_string()]);
        let mut image = std::fs::File::open(file("data")).unwrap();
        verify(&mut image, &ours.hash_area, ours.root_hash).unwrap();
    }
}

#[test]
fn leaves_do_not_depend_on_how_the_data_comes() {
    let data = data(40);
    let whole = leaves(&data);
    for step in [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
        let mut pieces = Leaves::new(SALT);
        data.chunks(step).for_each(|piece| pieces.update(piece));
        assert_eq!(pieces.finish().unwrap(), whole, "steps of {step}");
    }
    let mut joined = Leaves::new(SALT);
    joined.append(&leaves(&data[..10 * BLOCK])).unwrap();
    joined.update(&data[10 * BLOCK..11 * BLOCK]);
    joined.append(&leaves(&data[11 * BLOCK..])).unwrap();
    assert_eq!(joined.finish().unwrap(), whole);
}

#[test]
fn zeros_are_zero_bytes_wherever_they_begin() {
    for (before, zeros, after) in [(0, 2, 0), (0, 0, 1), (1, 0, 0), (1, 3, 9), (BLOCK - 1, 1, 0), (7, 3 * BLOCK, 5)] {
        let mut fast = Leaves::new(SALT);
        fast.update(&vec![1; before]);
        fast.zeros(zeros as u64);
        fast.update(&vec![2; after]);
        let total = before + zeros + after;
        fast.zeros((total.next_multiple_of(BLOCK) - total) as u64);
        let mut plain = [vec![1; before], vec![0; zeros], vec![2; after]].concat();
        plain.resize(total.next_multiple_of(BLOCK), 0);
        assert_eq!(fast.finish().unwrap(), leaves(&plain), "{before} {zeros} {after}");
    }
}

#[test]
fn a_flipped_byte_is_found_where_it_is() {
    let data = data(300);
    let Verity { root_hash, hash_area } = build(&leaves(&data), SALT, UUID).unwrap();
    verify(&mut &data[..], &hash_area, root_hash).unwrap();
    for block in [0, 1, 255, 256, 299] {
        let mut corrupt = data.clone();
        corrupt[block * BLOCK + 4095] ^= 1;
        let error = verify(&mut &corrupt[..], &hash_area, root_hash).unwrap_err();
        assert!(matches!(error, VerityError::CorruptData { block: found } if found == block as u64), "{error}");
    }
    // One top block, then three blocks of leaves; the last byte is filling, which is hashed too.
    for (block, level) in [(1, 1), (2, 0), (4, 0)] {
        let mut corrupt = hash_area.clone();
        corrupt[block * BLOCK + 4095] ^= 1;
        let error = verify(&mut &data[..], &corrupt, root_hash).unwrap_err();
        let expected = (block as u64, level);
        assert!(
            matches!(error, VerityError::CorruptTree { block, level } if (block, level) == expected),
            "{expected:?}: {error}"
        );
    }
    let other = verify(&mut &data[..], &hash_area, Digest::of(b"")).unwrap_err();
    assert!(matches!(other, VerityError::CorruptTree { block: 1, level: 1 }), "{other}");
}

#[test]
fn wrong_lengths_and_superblocks_are_refused() {
    let data = data(3);
    let Verity { root_hash, hash_area } = build(&leaves(&data), SALT, UUID).unwrap();
    for bytes in [&data[..2 * BLOCK], &data[..0], &[&data[..], &b"x"[..]].concat()] {
        let error = verify(&mut &*bytes, &hash_area, root_hash).unwrap_err();
        assert!(matches!(error, VerityError::DataLength { expected: 3, .. }), "{error}");
    }
    // Signature, version, hash type, algorithm, block sizes, number of blocks, salt length, filling.
    for byte in [0, 8, 12, 32, 38, 65, 69, 72, 79, 81, 600] {
        let mut broken = hash_area.clone();
        broken[byte] ^= 0x80;
        let error = verify(&mut &data[..], &broken, root_hash).unwrap_err();
        assert!(matches!(error, VerityError::Superblock(_)), "byte {byte}: {error}");
    }
    for length in [0, 100, BLOCK, 2 * BLOCK - 1] {
        let error = verify(&mut &data[..], &hash_area[..length], root_hash).unwrap_err();
        assert!(matches!(error, VerityError::Superblock(_)), "{length} bytes: {error}");
    }
    assert!(matches!(build(&[], SALT, UUID), Err(VerityError::Empty)));
    assert!(matches!(build(&[0; 33], SALT, UUID), Err(VerityError::Unaligned(_))));
    assert!(matches!(build(&[0; 32], &[0; 257], UUID), Err(VerityError::Salt(257))));
    let mut open = Leaves::new(SALT);
    open.update(b"x");
    assert!(matches!(open.append(&[0; 32]), Err(VerityError::Unaligned(1))));
    assert!(matches!(open.finish(), Err(VerityError::Unaligned(1))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is sealed is verified, and no changed byte of data or hash area is.
    #[test]
    fn a_seal_holds_for_its_data_alone(blocks in 1..400_usize, seed: u8, at: proptest::sample::Index, bit in 0..8) {
        let mut data = data(blocks);
        data[0] = seed;
        let sealed = build(&leaves(&data), SALT, UUID).unwrap();
        prop_assert!(verify(&mut data.as_slice(), &sealed.hash_area, sealed.root_hash).is_ok());
        let place = at.index(data.len());
        data[place] ^= 1_u8 << bit;
        prop_assert!(verify(&mut data.as_slice(), &sealed.hash_area, sealed.root_hash).is_err());
        data[place] ^= 1_u8 << bit;
        // Behind the superblock, whose unused bytes mean nothing; one block of data needs no tree.
        let mut hash_area = sealed.hash_area.clone();
        if hash_area.len() > BLOCK {
            let place = BLOCK + at.index(hash_area.len() - BLOCK);
            hash_area[place] ^= 1_u8 << bit;
            prop_assert!(verify(&mut data.as_slice(), &hash_area, sealed.root_hash).is_err());
        }
    }
}
