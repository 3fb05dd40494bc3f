//! Signed images boot where Secure Boot is enforced, others do not; reference tools accept the signatures; and a TPM
//! measures what the manifest predicts.
//!
//! Firmware knows one key here, made anew in each run. `virt-fw-vars` is installed under `target/checkers` by `tests/run`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rolecast::format::pe;

use super::boot::unpack;
use super::builds::manifest;
use crate::support::command::{Rolecast, run};
use crate::support::gpt;
use crate::support::host::World;
use crate::support::images::{self, onto_disk};
use crate::support::machine::{Machine, VARIABLES};
use crate::support::namespace::Namespace;
use crate::support::outputs::Outputs;
use crate::support::project::Project;
use crate::support::turn;

/// The role that is signed.
const ROLE: &str = "rack";
/// Size of the machine's disk: room for the second slot and for state.
const DISK: u64 = 8 << 30;
/// Who owns the keys in the firmware: any identifier does.
const OWNER: &str = "5b6f7a52-93a1-4f0e-8d53-1f0c9a7be201";

/// The signed images and what made them.
struct Signed {
    folder: PathBuf,
}

impl Signed {
    /// Built by the first caller; the others wait for it.
    #[track_caller]
    fn get() -> &'static Self {
        static SIGNED: OnceLock<Signed> = OnceLock::new();
        SIGNED.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("secure-boot");
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a folder under target");
            let signed = Self { folder };
            make_key(&signed.folder, "db", &["-newkey", "rsa:2048"]);
            make_key(&signed.folder, "stranger", &["-newkey", "rsa:2048"]);
            let (_project, mut rolecast) = images::rolecast();
            rolecast.output = signed.folder.join("out");
            let [key, certificate] = ["db.key", "db.pem"].map(|name| signed.path(name));
            let outcome = rolecast
                .environment("ROLECAST_SECURE_BOOT_KEY", key)
                .environment("ROLECAST_SECURE_BOOT_CERTIFICATE", certificate)
                .build("images/ha-lab.toml", &["--role", ROLE, "--format", "disk", "--format", "netboot"]);
            eprintln!("{outcome}");
            assert!(outcome.succeeds().contains("signed for Secure Boot by CN=rolecast test db"));
            signed
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn outputs(&self) -> Outputs {
        Outputs::new(&self.folder.join("out"), ROLE)
    }

    /// A file of the ESP of a disk image.
    #[track_caller]
    fn copy_of_esp_file(&self, disk: &Path, path: &str, name: &str) -> PathBuf {
        let file = self.folder.join(name);
        let esp = format!("{}@@{}", disk.display(), gpt::find(disk, gpt::ESP).start);
        let words = ["-n", "-i", &esp, &format!("::{path}"), &file.to_string_lossy()];
        run("mcopy", words).succeeds();
        file
    }

    /// What a firmware starts: boot loader, unified kernel image, netboot kernel, netboot program.
    fn programs(&self) -> [PathBuf; 4] {
        let disk = self.outputs().disk();
        [
            self.copy_of_esp_file(&disk, "/EFI/BOOT/BOOTX64.EFI", "loader.efi"),
            self.copy_of_esp_file(&disk, &format!("/EFI/Linux/{ROLE}*.efi"), "uki.efi"),
            self.outputs().netboot().join("vmlinuz"),
            self.outputs().netboot().join("boot.efi"),
        ]
    }

    /// Variables of a firmware that starts what `db` has signed, and nothing else.
    fn variables(&self) -> PathBuf {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/checkers/bin/virt-fw-vars");
        assert!(tool.exists(), "no {}: `tests/run` installs it", tool.display());
        let variables = self.folder.join("variables.fd");
        let (from, to, certificate) = (VARIABLES, variables.to_string_lossy(), self.path("db.pem"));
        let mut words = vec!["--input", from, "--output", &*to, "--secure-boot"];
        for kind in ["--set-pk", "--add-kek", "--add-db"] {
            words.extend([kind, OWNER, &*certificate]);
        }
        run(&tool.to_string_lossy(), words).succeeds();
        variables
    }
}

/// `NAME.key` and `NAME.pem` in `folder`; `kind` is what openssl is told of the key.
fn make_key(folder: &Path, name: &str, kind: &[&str]) {
    let subject = format!("/CN=rolecast test {name}");
    let at = |end: &str| folder.join(format!("{name}.{end}")).to_string_lossy().into_owned();
    let (key, certificate) = (at("key"), at("pem"));
    let words = ["req", "-x509", "-nodes", "-days", "2", "-subj", &*subject, "-keyout", &*key, "-out", &*certificate];
    run("openssl", words.iter().chain(kind)).succeeds();
}

#[test]
fn a_signed_build_and_an_unsigned_one_are_never_mixed_up() {
    let world = World::new();
    let project = world.project();
    make_key(project.root(), "db", &["-newkey", "rsa:2048"]);
    let unsigned = world.rolecast(&project);
    let signed = unsigned
        .clone()
        .environment("ROLECAST_SECURE_BOOT_KEY", "db.key")
        .environment("ROLECAST_SECURE_BOOT_CERTIFICATE", "db.pem");
    let build = |rolecast: &Rolecast| {
        let told = rolecast.build("images/test.toml", &[]).succeeds();
        (told, manifest(&rolecast.output))
    };
    let (told, plain) = build(&unsigned);
    assert!(told.contains("not signed: boots where Secure Boot is off"), "{told}");
    let (told, with) = build(&signed);
    assert!(
        told.contains("signed for Secure Boot by CN=rolecast test db") && !told.contains("nothing changed"),
        "{told}"
    );
    let (told, again) = build(&signed);
    assert!(told.contains("nothing changed"), "{told}");
    assert_eq!(with, again);
    let (told, once_more) = build(&unsigned);
    assert!(!told.contains("nothing changed"), "{told}");
    assert_eq!(plain, once_more, "unsigned bytes came out differently after a signed build");

    let parsed = |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("a manifest is JSON") };
    let (plain, with) = (parsed(&plain), parsed(&with));
    assert_eq!(plain["root"], with["root"]);
    assert_eq!(plain["boot"]["pcr11"], with["boot"]["pcr11"]);
    let listed = |manifest: &serde_json::Value| -> BTreeMap<String, serde_json::Value> {
        let outputs = manifest["outputs"].as_array().expect("a list").iter();
        outputs.map(|one| (one["file"].as_str().expect("a name").to_owned(), one["sha256"].clone())).collect()
    };
    let (plain, mut with) = (listed(&plain), listed(&with));
    // The netboot program is there to be signed, and only then.
    assert!(with.remove("small.netboot/boot.efi").is_some() && !plain.contains_key("small.netboot/boot.efi"));
    assert!(plain.keys().eq(with.keys()), "{plain:?} {with:?}");
    for (file, digest) in &plain {
        let carries_signature = [".raw", ".qcow2", "/vmlinuz"].iter().any(|end| file.ends_with(end));
        assert_eq!(*digest != with[file], carries_signature, "{file}");
    }

    // Without its key a signed build cannot be made again; with it, it is, to the byte.
    build(&signed);
    let output = signed.output.to_string_lossy().into_owned();
    let verify = ["verify", "images/test.toml", "--against", &output];
    assert!(unsigned.run(&verify).fails().contains("was signed for Secure Boot by CN=rolecast test db"));
    assert!(signed.run(&verify).succeeds().contains("every byte is the same"));
}

#[test]
fn a_key_that_cannot_sign_is_told_before_anything_is_built() {
    let project = Project::of_this_repository();
    let folder = project.root().to_owned();
    make_key(&folder, "db", &["-newkey", "rsa:2048"]);
    make_key(&folder, "other", &["-newkey", "rsa:2048"]);
    make_key(&folder, "small", &["-newkey", "rsa:1024"]);
    make_key(&folder, "curve", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let openssl = |words: &str| run("openssl", words.replace("AT", &folder.to_string_lossy()).split(' ')).succeeds();
    openssl("pkcs8 -topk8 -in AT/db.key -out AT/encrypted.key -passout pass:secret");
    openssl("rsa -traditional -in AT/db.key -out AT/old.key");
    openssl("req -new -key AT/db.key -subj /CN=past -out AT/past.csr");
    openssl("x509 -req -in AT/past.csr -key AT/db.key -days -1 -out AT/past.pem");
    let rolecast = Rolecast::new(&project);
    for (key, certificate, says) in [
        ("encrypted.key", "db.pem", "the key is encrypted"),
        ("old.key", "db.pem", "openssl pkcs8 -topk8 -nocrypt"),
        ("curve.key", "curve.pem", "the key is not an RSA key"),
        ("small.key", "small.pem", "the key cannot be used"),
        ("db.key", "other.pem", "the certificate is of another key"),
        ("db.key", "past.pem", "the certificate holds from"),
        ("db.pem", "db.key", "-----BEGIN PRIVATE KEY-----"),
        ("none.key", "db.pem", "none.key"),
    ] {
        let words = ["--secure-boot-key", key, "--secure-boot-certificate", certificate];
        let outcome = rolecast.build("images/ha-lab.toml", &words);
        let told = outcome.fails();
        assert!(told.contains(says) && told.matches("error").count() == 1, "{key} {certificate}: {told}");
        assert!(!rolecast.output.exists() && !rolecast.store.exists(), "{key}");
    }
    let alone = rolecast.build("images/ha-lab.toml", &["--secure-boot-key", "db.key"]);
    assert!(alone.fails().contains("--secure-boot-certificate"));
}

#[test]
fn the_reference_tools_accept_the_signatures() {
    let signed = Signed::get();
    for program in signed.programs() {
        let file = &*program.to_string_lossy();
        let accepted = run("sbverify", ["--cert", &signed.path("db.pem"), file]);
        assert!(accepted.succeeds().contains("Signature verification OK"), "{file}");
        run("sbverify", ["--cert", &signed.path("stranger.pem"), file]).fails();
        let shown = run("pesign", ["--show-signature", "--in", file]).succeeds();
        assert!(shown.contains("common name is rolecast test db"), "{shown}");

        // One byte of what is signed, behind the headers.
        let altered = signed.folder.join("altered.efi");
        fs::copy(&program, &altered).expect("a copy");
        flip(&altered, 0x2000);
        run("sbverify", ["--cert", &signed.path("db.pem"), &*altered.to_string_lossy()]).fails();
    }
    // Debian's own signature of its kernel stays where it was.
    let kernel = signed.outputs().netboot().join("vmlinuz");
    let listed = run("sbverify", ["--list", &*kernel.to_string_lossy()]).succeeds();
    assert!(listed.contains("signature 2") && listed.contains("Debian Secure Boot"), "{listed}");
}

#[test]
fn a_signature_changes_nothing_but_what_is_signed() {
    let (signed, unsigned) = (Signed::get().outputs(), images::outputs(ROLE));
    assert_eq!(signed.root_hash(), unsigned.root_hash());
    let (with, without) = (signed.manifest(), unsigned.manifest());
    assert_eq!(with["boot"]["pcr11"], without["boot"]["pcr11"], "what is measured is not the signature");
    assert!(without["boot"]["secure_boot"].is_null());
    let fingerprint =
        run("openssl", ["x509", "-in", &Signed::get().path("db.pem"), "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = fingerprint.succeeds().to_lowercase().replace(':', "");
    let certificate = with["boot"]["secure_boot"]["certificate"].as_str().expect("a digest");
    assert!(fingerprint.trim().ends_with(certificate), "{certificate} {fingerprint}");
    let listed = run("sbverify", ["--list", &*unsigned_loader().to_string_lossy()]);
    assert!(format!("{listed}").contains("No signature table present"), "{listed}");
    let key = fs::read_to_string(Signed::get().path("db.key")).expect("just made");
    let line = key.lines().nth(1).expect("a line of the key");
    let output = Signed::get().folder.join("out");
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
    for place in [output, store] {
        let found =
            run("grep", ["--recursive", "--files-with-matches", "--fixed-strings", line, &*place.to_string_lossy()]);
        assert_eq!(found.stdout, "", "the key is in {}", place.display());
    }
}

#[test]
fn systemd_measure_predicts_the_same_values() {
    let signed = Signed::get();
    let [_, uki, ..] = signed.programs();
    let bytes = fs::read(&uki).expect("just copied");
    // The target's own systemd-measure, in the target's own root.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    unpack(&images::outputs(ROLE).tarball(), &root);
    let mut words = vec![root.to_string_lossy().into_owned(), "/usr/lib/systemd/systemd-measure".into()];
    words.extend(["calculate".into(), "--bank=sha256".into(), "--json=short".into()]);
    words.extend(["", "enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit"].map(phase));
    words.push(phase("enter-initrd:leave-initrd:sysinit:ready"));
    let sections = pe::sections(&bytes).expect("a UEFI program");
    for section in ["linux", "osrel", "cmdline", "initrd", "uname", "sbat"] {
        let name = format!(".{section}");
        let mut content = pe::read_section(&bytes, &name, 1 << 28).expect("the section is there");
        // The stub measures memory, and the kernel asks for more than its file holds; systemd-measure takes a file as it is.
        let in_memory = sections.iter().find(|found| found.name == name).expect("just read").size;
        content.resize(in_memory as usize, 0);
        fs::write(root.join(format!("tmp/{section}")), content).expect("the root takes files");
        words.push(format!("--{section}=/tmp/{section}"));
    }
    let calculated: serde_json::Value =
        serde_json::from_str(&run("chroot", &words).succeeds()).expect("systemd-measure prints JSON");
    let ours = signed.outputs().manifest()["boot"]["pcr11"].clone();
    let ours: Vec<&str> = ours.as_array().expect("a list").iter().filter_map(|pcr| pcr["sha256"].as_str()).collect();
    let theirs = calculated["sha256"].as_array().expect("a list of the bank");
    let theirs: Vec<&str> = theirs.iter().filter_map(|pcr| pcr["hash"].as_str()).collect();
    assert_eq!(ours, theirs, "{calculated:#}");
}

fn phase(path: &str) -> String {
    format!("--phase={path}")
}

#[test]
fn a_signed_image_boots_where_secure_boot_is_enforced() {
    let _turn = turn::beside_another();
    let signed = Signed::get();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = onto_disk(&signed.outputs().disk(), folder.path(), DISK);
    let report = Machine::from_disk(&disk).enforcing(&signed.variables()).with_tpm().report(&Namespace::new());
    eprintln!("secure boot: multi-user.target after {:.1} s", report.seconds_to_boot);
    report.assert_healthy();
    assert_eq!(report.section("secure-boot").trim(), "1", "{}", report.section("secure-boot"));
    // The images hold no library for TPMs, so no phase is measured after the image itself.
    let predicted = signed.outputs().manifest()["boot"]["pcr11"][0].clone();
    assert_eq!(
        (&predicted["phase"], &predicted["sha256"]),
        (&"".into(), &report.section("pcr11").trim().to_lowercase().into())
    );
}

/// Its firmware is told a file name by DHCP, loads that over TFTP and verifies it: kernel, command line, initrd and root.
#[test]
#[ignore = "six minutes of a processor: tests/run --test integration -- --ignored signed_program"]
fn a_machine_without_a_disk_boots_the_signed_program_from_the_network() {
    let _turn = turn::beside_another();
    let signed = Signed::get();
    let machine = Machine::from_firmware_network(&signed.outputs().netboot(), "boot.efi");
    let report = machine.enforcing(&signed.variables()).report(&Namespace::new());
    eprintln!("secure boot: multi-user.target from the network after {:.1} s", report.seconds_to_boot);
    report.assert_healthy();
    assert_eq!(report.section("secure-boot").trim(), "1", "{}", report.section("secure-boot"));
    assert_eq!(report.kernel_argument("roothash"), Some(&*signed.outputs().root_hash()));
    assert!(report.section("verity").lines().any(|line| line.starts_with("root CRYPT-VERITY-")));
}

#[test]
fn an_unsigned_or_altered_image_is_refused() {
    let _turn = turn::beside_another();
    let signed = Signed::get();
    let variables = signed.variables();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unsigned = onto_disk(&images::outputs(ROLE).disk(), folder.path(), DISK);
    let console = Machine::from_disk(&unsigned).enforcing(&variables).refusal(&Namespace::new());
    assert!(console.contains("BdsDxe: failed to load Boot0001"), "{console}");

    // The boot loader is as it was signed; of the kernel's command line one byte is not: that of the root hash.
    let altered = onto_disk(&signed.outputs().disk(), folder.path(), DISK);
    let esp = gpt::find(&altered, gpt::ESP);
    let bytes = fs::read(gpt::extract(&altered, &esp, folder.path(), "esp")).expect("just copied");
    let wanted = b"roothash=";
    let place = bytes.windows(wanted.len()).position(|part| part == wanted).expect("the command line is in the ESP");
    flip(&altered, esp.start + (place + wanted.len()) as u64);
    let console = Machine::from_disk(&altered).enforcing(&variables).refusal(&Namespace::new());
    assert!(console.contains(r"Error loading \EFI\Linux\"), "it was not the boot loader that refused: {console}");
}

fn unsigned_loader() -> PathBuf {
    let disk = images::outputs(ROLE).disk();
    Signed::get().copy_of_esp_file(&disk, "/EFI/BOOT/BOOTX64.EFI", "unsigned.efi")
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the copy can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte lies in the file");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("the copy can be written");
}
