//! Signed images boot where Secure Boot is enforced, others do not; reference tools accept the signatures; and a TPM
//! measures what the manifest predicts.
//!
//! Firmware knows one key here, made anew in each run. `virt-fw-vars` is installed under `target/checkers` by `tests/run`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rolecast::format::pe;

use crate::support::command::run;
use crate::support::gpt;
use crate::support::images::{self, one_at_a_time, onto_disk};
use crate::support::machine::{Machine, VARIABLES};
use crate::support::namespace::Namespace;
use crate::support::outputs::Outputs;

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
            signed.make_key("db");
            signed.make_key("stranger");
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

    fn make_key(&self, name: &str) {
        let subject = format!("/CN=rolecast test {name}");
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout"];
        run("openssl", words.into_iter().chain([&*key, "-out", &*certificate])).succeeds();
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn outputs(&self) -> Outputs {
        Outputs::new(&self.folder.join("out"), ROLE)
    }

    /// A file of the ESP of a disk image.
    #[track_caller]
    fn from_esp(&self, disk: &Path, path: &str, name: &str) -> PathBuf {
        let file = self.folder.join(name);
        let esp = format!("{}@@{}", disk.display(), gpt::find(disk, gpt::ESP).start);
        let words = ["-n", "-i", &esp, &format!("::{path}"), &file.to_string_lossy()];
        run("mcopy", words).succeeds();
        file
    }

    /// The three programs that a firmware starts: boot loader, unified kernel image, netboot kernel.
    fn programs(&self) -> [PathBuf; 3] {
        let disk = self.outputs().disk();
        [
            self.from_esp(&disk, "/EFI/BOOT/BOOTX64.EFI", "loader.efi"),
            self.from_esp(&disk, &format!("/EFI/Linux/{ROLE}*.efi"), "uki.efi"),
            self.outputs().netboot().join("vmlinuz"),
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
    let [_, uki, _] = signed.programs();
    let bytes = fs::read(&uki).expect("just copied");
    // The target's own systemd-measure, in the target's own root.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    super::boot::unpack(&images::outputs(ROLE).tarball(), &root);
    let mut words = vec![root.to_string_lossy().into_owned(), "/usr/lib/systemd/systemd-measure".into()];
    words.extend(["calculate".into(), "--bank=sha256".into(), "--json=short".into()]);
    words.extend(["", "enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit"].map(phase));
    words.push(phase("enter-initrd:leave-initrd:sysinit:ready"));
    for section in ["linux", "osrel", "cmdline", "initrd", "uname", "sbat"] {
        let content = pe::read_section(&bytes, &format!(".{section}"), 1 << 28).expect("the section is there");
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
    let _alone = one_at_a_time();
    let signed = Signed::get();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = onto_disk(&signed.outputs().disk(), folder.path(), DISK);
    let report = Machine::from_disk(&disk).enforcing(&signed.variables()).with_tpm().report(&Namespace::new());
    eprintln!("secure boot: multi-user.target after {:.1} s", report.seconds_to_boot);
    report.assert_healthy();
    assert_eq!(report.section("secure-boot").trim(), "1", "{}", report.section("secure-boot"));
    let manifest = signed.outputs().manifest();
    let predicted = manifest["boot"]["pcr11"].as_array().expect("a list").clone();
    let measured = report.section("pcr11").trim().to_lowercase();
    let phase = predicted.iter().find(|pcr| pcr["sha256"] == *measured);
    eprintln!("secure boot: PCR 11 is {measured}, predicted for {phase:?}");
    assert!(phase.is_some(), "PCR 11 is {measured}, none of {predicted:#?}");
}

#[test]
fn an_unsigned_or_altered_image_is_refused() {
    let _alone = one_at_a_time();
    let signed = Signed::get();
    let variables = signed.variables();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unsigned = onto_disk(&images::outputs(ROLE).disk(), folder.path(), DISK);
    let console = Machine::from_disk(&unsigned).enforcing(&variables).refusal(&Namespace::new());
    assert!(console.contains("BdsDxe: failed to load"), "{console}");

    // The boot loader is as it was signed; of the kernel's command line one byte is not: that of the root hash.
    let altered = onto_disk(&signed.outputs().disk(), folder.path(), DISK);
    let esp = gpt::find(&altered, gpt::ESP);
    let bytes = fs::read(gpt::extract(&altered, &esp, folder.path(), "esp")).expect("just copied");
    let wanted = b"roothash=";
    let place = bytes.windows(wanted.len()).position(|part| part == wanted).expect("the command line is in the ESP");
    flip(&altered, esp.start + (place + wanted.len()) as u64);
    let console = Machine::from_disk(&altered).enforcing(&variables).refusal(&Namespace::new());
    assert!(!console.contains("BdsDxe: failed to load"), "the boot loader was refused: {console}");
}

fn unsigned_loader() -> PathBuf {
    let disk = images::outputs(ROLE).disk();
    Signed::get().from_esp(&disk, "/EFI/BOOT/BOOTX64.EFI", "unsigned.efi")
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("the copy can be opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte lies in the file");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("the copy can be written");
}
