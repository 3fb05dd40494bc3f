//! Signatures as others verify them: gpgv, sqv, `sha256sum` and systemd's own puller, with keys that GnuPG made. Offline, on
//! the small world; needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::publish::pretend_to_build;
use crate::support::command::{Outcome, Rolecast, command, finish, run};
use crate::support::gnupg::Gnupg;
use crate::support::host::World;
use crate::support::project::Project;
use crate::support::server::Server;

const IMAGE: &str = "images/test.toml";

const PASSPHRASE: &str = "correct horse";

/// One signed build that all of these tests look at.
struct Signed {
    _world: World,
    _project: Project,
    rolecast: Rolecast,
    gnupg: Gnupg,
    fingerprint: String,
    key: PathBuf,
    keyring: PathBuf,
    /// What `build` said on both streams.
    said: String,
}

fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let gnupg = Gnupg::new();
        let fingerprint = gnupg.key("Release <release@test.invalid>", "ed25519", "sign", PASSPHRASE);
        let key = gnupg.export("--export-secret-keys", &fingerprint, "release.key", PASSPHRASE);
        let keyring = gnupg.keyring(&fingerprint);
        let world = World::new();
        let project = world.project();
        let rolecast = world.rolecast(&project).environment("ROLECAST_SIGN_PASSPHRASE", PASSPHRASE);
        let outcome = rolecast.build(IMAGE, &["--sign-key", &key.to_string_lossy()]);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        outcome.succeeds();
        Signed { _world: world, _project: project, rolecast, gnupg, fingerprint, key, keyring, said }
    })
}

impl Signed {
    fn folder(&self) -> PathBuf {
        self.rolecast.output.join("small")
    }

    /// The outputs in a folder of their own, to change: hard links, which `rolecast` and the tests never write through.
    fn copy(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
        let to = folder.path().join("small");
        run("cp", ["--recursive".as_ref(), "--link".as_ref(), self.folder().as_os_str(), to.as_os_str()]).succeeds();
        folder
    }

    #[track_caller]
    fn verify(&self, path: &Path, keyring: &Path) -> Outcome {
        self.rolecast.run(&["verify-signature", &path.to_string_lossy(), "--keyring", &keyring.to_string_lossy()])
    }
}

#[track_caller]
fn gpgv(keyring: &Path, folder: &Path) -> Outcome {
    let mut gpgv = command("gpgv");
    gpgv.arg("--keyring").arg(keyring).args(["SHA256SUMS.gpg", "SHA256SUMS"]).current_dir(folder);
    finish(gpgv)
}

#[track_caller]
fn sqv(keyring: &Path, folder: &Path) -> Outcome {
    let mut sqv = command("sqv");
    sqv.arg("--keyring").arg(keyring).args(["SHA256SUMS.gpg", "SHA256SUMS"]).current_dir(folder);
    finish(sqv)
}

#[test]
fn gpgv_sqv_and_sha256sum_verify_what_was_built() {
    let signed = signed();
    gpgv(&signed.keyring, &signed.folder()).succeeds();
    let said = sqv(&signed.keyring, &signed.folder()).succeeds();
    assert_eq!(said.trim(), signed.fingerprint);
    let mut check = command("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(signed.folder());
    finish(check).succeeds();
    let text = signed.verify(&signed.rolecast.output, &signed.keyring).succeeds();
    let expected = [
        &signed.fingerprint,
        "= small.raw",
        "= small.tar.gz",
        "= small.netboot/root.img",
        "= manifest.json",
        "= provenance.json",
        "= sbom.spdx.json",
        "= sbom.cdx.json",
    ];
    for line in expected {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    assert!(signed.said.contains("SHA256SUMS.gpg") && signed.said.contains(&signed.fingerprint), "{}", signed.said);
}

/// The puller of systemd-sysupdate, importctl and machinectl, with the keyring in the place where it looks for it.
#[test]
fn systemd_pulls_what_was_signed_and_nothing_else() {
    let signed = signed();
    let copy = signed.copy();
    let folder = copy.path().join("small");
    let server = Server::start(&folder);
    let pull = |to: &str| {
        let script = "mount --bind \"$1\" /etc/systemd && exec /usr/lib/systemd/systemd-pull raw --verify=signature --direct \"$2\" \"$3\"";
        let place = copy.path().join("etc");
        fs::create_dir_all(&place).expect("a folder under target");
        fs::copy(&signed.keyring, place.join("import-pubring.gpg")).expect("a folder under target");
        let to = copy.path().join(to);
        let words = ["--mount", "sh", "-c", script, "sh"].map(AsRef::as_ref);
        let url = format!("{}/small.raw", server.url());
        run("unshare", words.into_iter().chain([place.as_os_str(), url.as_ref(), to.as_os_str()]))
    };
    let said = pull("good").stderr;
    let got = fs::read(copy.path().join("good")).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(got == fs::read(folder.join("small.raw")).expect("it was built"), "other bytes arrived: {said}");
    let sums = folder.join("SHA256SUMS");
    let text = fs::read_to_string(&sums).expect("it was built");
    fs::remove_file(&sums).expect("it was built");
    fs::write(&sums, text + &format!("{}  other\n", "0".repeat(64))).expect("a folder under target");
    let refused = pull("bad");
    assert!(refused.code != Some(0) && refused.stderr.contains("Signature verification failed"), "{refused}");
}

/// What machines fetch as updates; a list that was written anew never keeps the signature of the one before.
#[test]
fn published_updates_are_signed_too() {
    let signed = signed();
    let project = Project::of_this_repository();
    let rolecast = Rolecast::new(&project).environment("ROLECAST_SIGN_PASSPHRASE", PASSPHRASE);
    pretend_to_build(&project.root().join("out"), "2026.11.1");
    let image = "images/ha-lab.toml";
    rolecast.run(&["secrets", "init", image]).succeeds();
    let publish = ["publish", "tree", image, "--url", "http://10.77.0.1:8080"];
    let key = signed.key.to_string_lossy();
    rolecast.run(&[&publish[..], &["--sign-key", &key]].concat()).succeeds();
    let updates = project.root().join("tree/updates/rack");
    gpgv(&signed.keyring, &updates).succeeds();
    rolecast.run(&publish).succeeds();
    assert!(!updates.join("SHA256SUMS.gpg").exists(), "an old signature lies beside a new list");
}

#[test]
fn the_same_key_gives_the_same_signature_and_a_build_without_one_keeps_it() {
    let signed = signed();
    let copy = signed.copy();
    let signature = fs::read(signed.folder().join("SHA256SUMS.gpg")).expect("it was signed");
    let path = copy.path().join("small/SHA256SUMS.gpg");
    let key = fs::read_to_string(&signed.key).expect("it was exported");
    let by_variable = signed.rolecast.clone().environment("ROLECAST_SIGN_KEY", key);
    let passphrase = copy.path().join("passphrase");
    fs::write(&passphrase, format!("{PASSPHRASE}\n")).expect("a folder under target");
    fs::set_permissions(&passphrase, Permissions::from_mode(0o600)).expect("just written");
    let by_file = signed.rolecast.clone().environment("ROLECAST_SIGN_PASSPHRASE", "");
    let place = copy.path().join("small").to_string_lossy().into_owned();
    let (key, passphrase) = (signed.key.to_string_lossy(), passphrase.to_string_lossy());
    let ways: [(&Rolecast, &[&str]); 2] =
        [(&by_variable, &[]), (&by_file, &["--sign-key", &key, "--sign-passphrase", &passphrase])];
    for (rolecast, more) in ways {
        fs::remove_file(&path).expect("it was signed");
        rolecast.run(&[&["sign", &place], more].concat()).succeeds();
        assert!(fs::read(&path).expect("it was signed") == signature, "the signature differs");
    }
    signed.rolecast.build(IMAGE, &[]).succeeds();
    assert!(fs::read(signed.folder().join("SHA256SUMS.gpg")).expect("it stays") == signature);
}

#[test]
fn gpg_signs_with_keys_that_never_leave_it() {
    let signed = signed();
    let copy = signed.copy();
    let folder = copy.path().join("small");
    for algorithm in ["rsa3072", "nistp256", "ed25519"] {
        let name = format!("{algorithm} <{algorithm}@test.invalid>");
        let fingerprint = signed.gnupg.key(&name, algorithm, "sign", "");
        let rolecast = signed.rolecast.clone().environment("GNUPGHOME", signed.gnupg.home.path());
        let place = folder.to_string_lossy();
        rolecast.run(&["sign", &place, "--sign-with-gpg", &fingerprint]).succeeds();
        let keyring = signed.gnupg.keyring(&fingerprint);
        gpgv(&keyring, &folder).succeeds();
        sqv(&keyring, &folder).succeeds();
        signed.verify(&folder, &keyring).succeeds();
        let stranger = signed.verify(&folder, &signed.keyring);
        assert_eq!(stranger.code, Some(4), "{stranger}");
        assert!(stranger.fails().contains("not in the keyring"));
    }
    let unknown = signed.rolecast.clone().environment("GNUPGHOME", signed.gnupg.home.path());
    let unknown = unknown.run(&["sign", &folder.to_string_lossy(), "--sign-with-gpg", "nobody@test.invalid"]);
    assert!(unknown.fails().contains("gpg has no key `nobody@test.invalid`"));
}

#[test]
fn every_change_after_signing_is_told() {
    let signed = signed();
    let copy = signed.copy();
    let folder = copy.path().join("small");
    let replace = |name: &str, bytes: &[u8]| {
        fs::remove_file(folder.join(name)).expect("it was built");
        fs::write(folder.join(name), bytes).expect("a folder under target");
    };
    replace("sbom.spdx.json", b"{}");
    fs::remove_file(folder.join("small.qcow2")).expect("it was built");
    fs::write(folder.join("small.netboot/autoexec.ipxe"), "#!ipxe\n").expect("a folder under target");
    let outcome = signed.verify(&folder, &signed.keyring);
    assert_eq!(outcome.code, Some(4), "{outcome}");
    let told = outcome.fails();
    for line in [
        "`sbom.spdx.json` has other bytes",
        "`small.qcow2` is not there",
        "`small.netboot/autoexec.ipxe` is not in the list",
    ] {
        assert!(told.contains(line), "no `{line}` in:\n{told}");
    }
    signed.verify(&folder.join("small.raw"), &signed.keyring).succeeds();
    let resigned =
        signed.rolecast.run(&["sign", &folder.to_string_lossy(), "--sign-key", &signed.key.to_string_lossy()]);
    assert!(resigned.fails().contains("`sbom.spdx.json` has other bytes"), "what was altered is not signed");
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).expect("it was built");
    replace("SHA256SUMS", sums.replace("small.raw", "other.raw").as_bytes());
    let refused = signed.verify(&folder.join("small.raw"), &signed.keyring).fails();
    assert!(refused.contains("was altered"), "{refused}");
}

#[test]
fn keys_that_may_not_sign_stop_a_build_before_it_begins() {
    let signed = signed();
    let gnupg = Gnupg::new();
    let refused = |key: &Path, passphrase: &str| {
        let rolecast = signed.rolecast.clone().environment("ROLECAST_SIGN_PASSPHRASE", passphrase);
        let outcome = rolecast.build(IMAGE, &["--sign-key", &key.to_string_lossy()]);
        assert!(outcome.took.as_secs() < 5, "it was built first: {outcome}");
        outcome.fails()
    };
    let told = |key: &Path, passphrase: &str, expected: &str| {
        let said = refused(key, passphrase);
        assert!(said.contains(expected), "no `{expected}` in:\n{said}");
    };
    told(&signed.key, "", "it is encrypted, and no passphrase was given");
    told(&signed.key, "wrong", "the passphrase does not open it");
    told(&signed.gnupg.export("--export", &signed.fingerprint, "public.asc", ""), "", "it is a public key");
    let readable = gnupg.home.path().join("readable.key");
    fs::copy(&signed.key, &readable).expect("a temporary folder");
    fs::set_permissions(&readable, Permissions::from_mode(0o644)).expect("just written");
    told(&readable, PASSPHRASE, "can be read by others");

    let cert = gnupg.key("Cert <cert@test.invalid>", "ed25519", "cert", "");
    told(&gnupg.export("--export-secret-keys", &cert, "cert.key", ""), "", "it is not made for signing");
    gnupg.run(&["--passphrase=", "--quick-add-key", &cert, "cv25519", "encr", "never"]).succeeds();
    told(&gnupg.export("--export-secret-keys", &cert, "encrypt.key", ""), "", "it is not made for signing");
    gnupg.run(&["--passphrase=", "--quick-add-key", &cert, "ed25519", "sign", "never"]).succeeds();
    // What one carries to the machine that signs: subkeys without the primary key.
    let subkeys = gnupg.export("--export-secret-subkeys", &cert, "subkeys.key", "");
    let copy = signed.copy();
    let folder = copy.path().join("small");
    signed.rolecast.run(&["sign", &folder.to_string_lossy(), "--sign-key", &subkeys.to_string_lossy()]).succeeds();
    gpgv(&gnupg.keyring(&cert), &folder).succeeds();
    assert_eq!(sqv(&gnupg.keyring(&cert), &folder).succeeds().trim(), cert);

    let old = ["--faked-system-time=20240101T000000", "--passphrase="];
    let name = "Old <old@test.invalid>";
    gnupg.run(&[&old[..], &["--quick-generate-key", name, "ed25519", "sign", "1y"]].concat()).succeeds();
    let old = gnupg.fingerprint(name);
    told(&gnupg.export("--export-secret-keys", &old, "old.key", ""), "", "it expired on 2024-12-31");
    let revoked = gnupg.key("Revoked <revoked@test.invalid>", "ed25519", "sign", "");
    let certificate = gnupg.home.path().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let text = fs::read_to_string(&certificate).expect("gpg makes one").replace(":-----BEGIN", "-----BEGIN");
    fs::write(&certificate, text).expect("a temporary folder");
    gnupg.run(&["--import", &certificate.to_string_lossy()]).succeeds();
    told(&gnupg.export("--export-secret-keys", &revoked, "revoked.key", ""), "", "it was revoked on");
    let weak = gnupg.key("Weak <weak@test.invalid>", "rsa1024", "sign", "");
    told(&gnupg.export("--export-secret-keys", &weak, "weak.key", ""), "", "RSA with less than 2048 bits");
}

#[test]
fn the_key_reaches_no_file_and_no_message() {
    let gnupg = Gnupg::new();
    let fingerprint = gnupg.key("Plain <plain@test.invalid>", "ed25519", "sign", "");
    let path = gnupg.export("--export-secret-keys", &fingerprint, "plain.key", "");
    let key = fs::read_to_string(&path).expect("it was exported");
    let signed = signed();
    let project = signed._world.project();
    let rolecast = signed._world.rolecast(&project).environment("ROLECAST_SIGN_KEY", &key);
    let outcome = rolecast.build(IMAGE, &[]);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    outcome.succeeds();
    gpgv(&gnupg.keyring(&fingerprint), &rolecast.output.join("small")).succeeds();
    // Lines of the armor that hold secret bits: any of them would give it away.
    let lines: Vec<&str> = key.lines().filter(|line| line.len() == 64).collect();
    assert!(lines.len() > 3, "{key}");
    let secret = secret_number(&key);
    for line in &lines {
        assert!(!said.contains(line), "the key is in a message");
    }
    let mut looked_at = 0;
    for place in [&rolecast.store, &rolecast.output, &project.root().to_owned()] {
        let listed = run("find", [place.as_os_str(), "-type".as_ref(), "f".as_ref()]).succeeds();
        for file in listed.lines() {
            let bytes = fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
            let found = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
            let small = bytes.len() < 4 << 20;
            assert!(!found(&secret), "the secret is in {file}");
            assert!(!small || !lines.iter().any(|line| found(line.as_bytes())), "the key's text is in {file}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 500, "only {looked_at} files");
}

/// The 32 bytes of an unencrypted Ed25519 key: the last number of its first packet, before a checksum of two bytes.
fn secret_number(armored: &str) -> Vec<u8> {
    use pgp::composed::{Deserializable as _, SignedSecretKey};
    let (key, _) = SignedSecretKey::from_string(armored).expect("gpg wrote it");
    let pgp::types::SecretParams::Plain(plain) = key.primary_key.secret_params() else { panic!("it is encrypted") };
    let mut bytes = Vec::new();
    plain.to_writer(&mut bytes, pgp::types::KeyVersion::V4).expect("memory takes it");
    bytes[bytes.len() - 26..bytes.len() - 2].to_vec()
}

#[test]
fn inspect_says_whether_an_image_is_signed() {
    let signed = signed();
    let copy = signed.copy();
    let folder = copy.path().join("small");
    let inspect = |more: &[&str]| {
        let raw = folder.join("small.raw").to_string_lossy().into_owned();
        signed.rolecast.run(&[&["inspect", &raw], more].concat())
    };
    assert!(inspect(&[]).succeeds().contains("signature     not checked"));
    let keyring = signed.keyring.to_string_lossy();
    let said = inspect(&["--keyring", &keyring]).succeeds();
    assert!(said.contains(&format!("signature     good, by {}", signed.fingerprint)), "{said}");
    fs::remove_file(folder.join("SHA256SUMS.gpg")).expect("it was signed");
    assert!(inspect(&[]).succeeds().contains("signature     none"));
    assert!(inspect(&["--keyring", &keyring]).fails().contains("is not signed"));
}
