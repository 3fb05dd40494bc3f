//! The reference tools agree with the writers, on the images as built.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::command::run;
use crate::support::gpt;
use crate::support::images::{QCOW2_ROLE, ROLES, outputs, qcow2_outputs};
use crate::support::mounted::Mounted;

#[test]
fn sgdisk_finds_no_problem() {
    for role in ROLES {
        let outputs = outputs(role);
        for image in [outputs.disk(), outputs.netboot_root()] {
            let found = run("sgdisk", ["--verify".as_ref(), image.as_os_str()]).succeeds();
            assert!(found.contains("No problems found"), "{}:\n{found}", image.display());
        }
    }
}

#[test]
fn the_esp_is_a_clean_fat_with_loader_and_kernel_image() {
    for role in ROLES {
        let (folder, disk) = (tempfile::tempdir().expect("a temporary folder"), outputs(role).disk());
        let esp = gpt::extract(&disk, &gpt::find(&disk, gpt::ESP), folder.path(), "esp.img");
        run("fsck.fat", ["-n".as_ref(), esp.as_os_str()]).succeeds();
        let arguments = ["-i".as_ref(), esp.as_os_str(), "-/".as_ref(), "-b".as_ref(), "::".as_ref()];
        let listed = run("mdir", arguments).succeeds().to_lowercase();
        assert!(listed.contains("/efi/boot/bootx64.efi"), "{listed}");
        let images = listed.lines().filter(|line| line.contains("/efi/linux/") && line.contains(".efi")).count();
        assert_eq!(images, 1, "{listed}");
    }
}

#[test]
fn veritysetup_verifies_the_root_against_the_manifest() {
    for role in ROLES {
        let (folder, outputs) = (tempfile::tempdir().expect("a temporary folder"), outputs(role));
        let hash = outputs.root_hash();
        for image in [outputs.disk(), outputs.netboot_root()] {
            let (root, verity) = (gpt::find(&image, gpt::ROOT), gpt::find(&image, gpt::ROOT_VERITY));
            // Discoverable Partitions Specification: the two halves of the root hash name the two partitions.
            assert_eq!(root.identifier.replace('-', ""), hash[..32]);
            assert_eq!(verity.identifier.replace('-', ""), hash[32..]);
            let root = gpt::extract(&image, &root, folder.path(), "root.img");
            let verity = gpt::extract(&image, &verity, folder.path(), "verity.img");
            run("veritysetup", ["verify".as_ref(), root.as_os_str(), verity.as_os_str(), hash.as_ref()]).succeeds();
        }
    }
}

#[test]
fn qemu_img_finds_the_same_disk_in_the_qcow2() {
    let (raw, qcow2) = (outputs(QCOW2_ROLE).disk(), qcow2_outputs().qcow2());
    run("qemu-img", ["check".as_ref(), qcow2.as_os_str()]).succeeds();
    run("qemu-img", ["compare".as_ref(), raw.as_os_str(), qcow2.as_os_str()]).succeeds();
}

#[test]
fn the_kernel_and_unsquashfs_read_the_same_tree() {
    for role in ROLES {
        let (folder, disk) = (tempfile::tempdir().expect("a temporary folder"), outputs(role).disk());
        let squashfs = gpt::extract(&disk, &gpt::find(&disk, gpt::ROOT), folder.path(), "root.squashfs");
        let mounted = Mounted::new(&squashfs, "squashfs", "loop,ro", &folder.path().join("mounted"));
        let unpacked = folder.path().join("unpacked");
        let arguments = ["-no-progress".as_ref(), "-dest".as_ref(), unpacked.as_os_str(), squashfs.as_os_str()];
        run("unsquashfs", arguments).succeeds();
        let (by_kernel, by_tool) = (listing(mounted.path()), listing(&unpacked));
        assert!(by_kernel.len() > 1000, "only {} entries", by_kernel.len());
        let differing: Vec<&String> = by_kernel.symmetric_difference(&by_tool).take(20).collect();
        assert!(differing.is_empty(), "{role}: {differing:#?}");
        // Every byte through both readers.
        let (from, to) = (mounted.path().as_os_str(), unpacked.as_os_str());
        run("diff", ["--recursive".as_ref(), "--no-dereference".as_ref(), "--brief".as_ref(), from, to]).succeeds();
    }
}

#[test]
fn the_targets_own_dpkg_is_content() {
    for role in ROLES {
        let (folder, disk) = (tempfile::tempdir().expect("a temporary folder"), outputs(role).disk());
        let squashfs = gpt::extract(&disk, &gpt::find(&disk, gpt::ROOT), folder.path(), "root.squashfs");
        let mounted = Mounted::new(&squashfs, "squashfs", "loop,ro", &folder.path().join("mounted"));
        let audit = run("chroot", [mounted.path().as_os_str(), "dpkg".as_ref(), "--audit".as_ref()]).succeeds();
        assert_eq!(audit, "", "{role}");
        let states = run(
            "chroot",
            [
                mounted.path().as_os_str(),
                "dpkg-query".as_ref(),
                "--show".as_ref(),
                "--showformat=${db:Status-Abbrev}\n".as_ref(),
            ],
        );
        let states: BTreeSet<String> = states.succeeds().lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(states, BTreeSet::from(["ii".to_owned()]), "{role}");
    }
}

#[test]
fn tar_and_gzip_read_the_tarball() {
    for role in ROLES {
        let tarball = outputs(role).tarball();
        run("gzip", ["--test".as_ref(), tarball.as_os_str()]).succeeds();
        let listed =
            run("tar", ["--list".as_ref(), "--gzip".as_ref(), "--file".as_ref(), tarball.as_os_str()]).succeeds();
        let names: Vec<&str> = listed.lines().map(|name| name.trim_start_matches("./").trim_end_matches('/')).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len(), "{role}: a name is listed twice");
        for name in ["etc/os-release", "usr/lib/systemd/systemd", "var/lib/dpkg/status"] {
            assert!(distinct.contains(name), "{role}: no {name}");
        }
    }
}

/// Type, mode, owner, time, size, link target and link count of every path.
#[track_caller]
fn listing(root: &Path) -> BTreeSet<String> {
    let format = "%P %y %m %U:%G %Ts %l";
    // Sizes of directories and numbers of links to them are a file system's own matter.
    let words = ["(", "-type", "d", "-printf"].map(str::to_owned).into_iter();
    let words =
        words.chain([format!("{format}\n"), ")".into(), "-o".into(), "-printf".into(), format!("{format} %s %n\n")]);
    let listed = run("find", std::iter::once(root.to_string_lossy().into_owned()).chain(words)).succeeds();
    listed.lines().map(str::to_owned).collect()
}
