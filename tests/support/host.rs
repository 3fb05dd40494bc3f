//! A small real world: the essential packages of the machine that runs the tests, packed again as .debs.
//!
//! Real maintainer scripts, real libraries, a real dpkg, and no network. What a build of it holds differs from machine
//! to machine, so no test pins its bytes; builds of one run are compared with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tar::EntryType;

use crate::support::archive::Archive;
use crate::support::command::{Rolecast, run};
use crate::support::deb::{Compression, Entry, Package};
use crate::support::project::Project;
use crate::support::stand_ins;

const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";

/// The two archives that a Debian image knows, as the tests fill them.
pub struct World {
    /// `debian`: the packed essential packages and the stand-ins.
    pub debian: Archive,
    /// `debian-security`: nothing, under a key of its own.
    pub security: Archive,
    _folder: tempfile::TempDir,
}

impl World {
    /// A world of one's own, to change: the packages are packed once in a run and shared by hard links.
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
        let (main, security) = (folder.path().join("debian"), folder.path().join("debian-security"));
        let mut debian = Archive::new(&main, "trixie", 1);
        for (package, deb) in packed() {
            debian.add_file(package, deb);
        }
        debian.publish();
        let mut empty = Archive::new(&security, "trixie-security", 2);
        empty.publish();
        Self { debian, security: empty, _folder: folder }
    }

    /// A project of one role, `small`, over one layer, `base`, in every format, that is built from this world.
    pub fn project(&self) -> Project {
        let project = Project::new();
        project
            .write("images/keyrings/debian-archive.pgp", self.debian.key.certificate())
            .write("images/keyrings/debian-security.pgp", self.security.key.certificate())
            .write(
                "images/test.toml",
                r#"version = "1.0"

[distribution]
id = "debian"
suite = "trixie"

[archive.debian]
suites = ["trixie"]

[archive.debian-security]
keyring = "images/keyrings/debian-security.pgp"

[role.small]
formats = ["disk", "qcow2", "netboot", "tar"]
"#,
            )
            .write(
                "profiles/base.toml",
                r#"description = "What every machine of the tests has"

packages = ["dpkg", "cloud-init", "linux-image-test"]
overlay = ["base"]
kernel-arguments = ["console=ttyS0"]

[option.greeting]
type = "text"
default = "good day"
doc = "What /etc/motd says."
"#,
            )
            .write("profiles/small.toml", "description = \"The role of the tests\"\nextends = \"base\"\n")
            .write(
                "profiles/tools.toml",
                "description = \"What makes the initrd\"\npackages = [\"dracut-core\", \"systemd-boot-efi\"]\n",
            )
            .write("overlays/base/etc/motd.tera", "{{ option.greeting }} from {{ role.name }}\n")
            .program("overlays/base/usr/local/bin/hello", "#!/bin/sh\necho hello\n");
        project
    }

    /// `rolecast` for a project of this world.
    pub fn rolecast(&self, project: &Project) -> Rolecast {
        Rolecast::new(project).mirror("debian", &self.debian.url()).mirror("debian-security", &self.security.url())
    }
}

/// The packages of the world and where their .debs lie: packed by the first caller.
fn packed() -> &'static [(Package, PathBuf)] {
    static PACKED: OnceLock<Vec<(Package, PathBuf)>> = OnceLock::new();
    PACKED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packed");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder under target");
        let installed = Installed::read();
        let real = installed.essential().into_iter().map(|name| installed.pack(&name));
        let write = |package: Package| {
            let path = folder.join(package.file_name());
            fs::write(&path, package.build()).expect("a file under target");
            (package, path)
        };
        real.chain(stand_ins::packages()).map(write).collect()
    })
}

/// dpkg's record of what this machine has (dpkg-query(1), deb-control(5)).
struct Installed {
    stanzas: BTreeMap<String, Vec<(String, String)>>,
    /// Virtual names, each with one package that provides it.
    provided: BTreeMap<String, String>,
}

impl Installed {
    fn read() -> Self {
        let text = fs::read_to_string(STATUS).expect("the tests run on Debian");
        let (mut stanzas, mut provided) = (BTreeMap::new(), BTreeMap::new());
        for stanza in text.split("\n\n") {
            let mut fields: Vec<(String, String)> = Vec::new();
            for line in stanza.lines() {
                match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
                    (true, Some((_, value)), _) => {
                        value.push('\n');
                        value.push_str(line);
                    }
                    (false, _, Some((name, value))) => fields.push((name.to_owned(), value.trim().to_owned())),
                    _ => {}
                }
            }
            let Some(name) = field(&fields, "Package").map(str::to_owned) else { continue };
            if field(&fields, "Status") != Some("install ok installed") {
                continue;
            }
            for virtual_name in field(&fields, "Provides").into_iter().flat_map(names) {
                provided.insert(virtual_name.to_owned(), name.clone());
            }
            stanzas.insert(name, fields);
        }
        Self { stanzas, provided }
    }

    /// The essential packages and all that they depend on, by name.
    fn essential(&self) -> BTreeSet<String> {
        let marked = self.stanzas.iter().filter(|(_, fields)| field(fields, "Essential") == Some("yes"));
        let mut open: Vec<&str> = marked.map(|(name, _)| name.as_str()).collect();
        let mut found = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !found.insert(name.to_owned()) {
                continue;
            }
            let fields = &self.stanzas[name];
            for relation in ["Pre-Depends", "Depends"].iter().filter_map(|name| field(fields, name)) {
                open.extend(relation.split(',').filter_map(|clause| self.choose(clause)));
            }
        }
        found
    }

    /// The installed package that satisfies one clause.
    fn choose(&self, clause: &str) -> Option<&str> {
        clause.split('|').flat_map(names).find_map(|name| {
            let real = self.stanzas.get_key_value(name).map(|(name, _)| name);
            real.or_else(|| self.provided.get(name)).map(String::as_str)
        })
    }

    /// A package made from its installed files and scripts.
    fn pack(&self, name: &str) -> Package {
        let fields = &self.stanzas[name];
        let version = field(fields, "Version").expect("an installed package has a version");
        let mut package = Package::new(name, version).compressed(Compression::Zstd);
        for (name, value) in fields {
            // What dpkg adds about the installation.
            if !matches!(name.as_str(), "Status" | "Conffiles" | "Config-Version") {
                package = package.field(name, value);
            }
        }
        let info = [format!("{name}:{}", package.value("Architecture")), name.to_owned()]
            .into_iter()
            .find(|stem| Path::new(&format!("{INFO}/{stem}.list")).exists())
            .expect("dpkg lists the files of what it installed");
        for kind in ["preinst", "postinst", "prerm", "postrm", "config"] {
            if let Ok(text) = fs::read_to_string(format!("{INFO}/{info}.{kind}")) {
                package = package.script(kind, &text);
            }
        }
        for kind in ["triggers", "shlibs", "symbols", "templates", "md5sums"] {
            if let Ok(bytes) = fs::read(format!("{INFO}/{info}.{kind}")) {
                package = package.control_file(kind, bytes);
            }
        }
        if let Ok(listed) = fs::read_to_string(format!("{INFO}/{info}.conffiles")) {
            let there = listed.lines().filter(|path| Path::new(path).is_file());
            package = package.control_file("conffiles", there.map(|path| format!("{path}\n")).collect::<String>());
        }
        let list = fs::read_to_string(format!("{INFO}/{info}.list")).expect("just found");
        // base-files has them from trixie on; before, the installer made them.
        let mut files = Files { root_links: name == "base-files", ..Files::default() };
        for link in ["bin", "sbin", "lib", "lib64"] {
            files.add(&Path::new("/").join(link));
        }
        for path in list.lines() {
            files.add(Path::new(path));
        }
        files.entries.into_iter().fold(package, Package::raw)
    }
}

/// Installed files on their way into a .deb, under their merged-/usr names, parents first, hard links kept.
#[derive(Default)]
struct Files {
    /// Take the links in `/` that merge it with `/usr`.
    root_links: bool,
    entries: Vec<Entry>,
    names: BTreeSet<PathBuf>,
    linked: BTreeMap<(u64, u64), String>,
}

impl Files {
    fn add(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        // A file that this machine does not keep (documentation, often).
        let Ok(parent) = parent.canonicalize() else { return };
        let path = parent.join(name);
        let Ok(metadata) = path.symlink_metadata() else { return };
        match parent.parent() {
            Some(_) => self.add(&parent),
            // `/bin`, that a package from before the merge calls a folder: it belongs to base-files.
            None if metadata.is_symlink() && !self.root_links => return,
            None => {}
        }
        if !self.names.insert(path.clone()) {
            return;
        }
        let mut entry = Entry {
            name: format!(".{}", path.display()),
            kind: EntryType::Regular,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid().into(), metadata.gid().into()),
            content: Vec::new(),
            target: String::new(),
            time: metadata.mtime().try_into().unwrap_or_default(),
        };
        if metadata.is_dir() {
            entry.kind = EntryType::Directory;
            entry.name.push('/');
        } else if metadata.is_symlink() {
            entry.kind = EntryType::Symlink;
            entry.target = fs::read_link(&path).expect("just looked at").to_string_lossy().into_owned();
        } else {
            match self.linked.get(&(metadata.dev(), metadata.ino())) {
                Some(first) if metadata.nlink() > 1 => {
                    entry.kind = EntryType::Link;
                    entry.target.clone_from(first);
                }
                _ => {
                    entry.content = fs::read(&path).expect("root can read what dpkg installed");
                    self.linked.insert((metadata.dev(), metadata.ino()), entry.name.clone());
                }
            }
        }
        self.entries.push(entry);
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

/// Package names of a relation field, without versions and architectures.
fn names(relation: &str) -> impl Iterator<Item = &str> {
    let bare = |part: &str| part.trim().find([' ', ':', '(', '[']).unwrap_or(part.trim().len());
    relation.split(',').map(move |part| &part.trim()[..bare(part)])
}

/// What a bootstrap does: the accounts first, then whatever has awk, then everything.
const BOOTSTRAP: &str = "
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg='dpkg --force-unsafe-io'
touch /var/lib/dpkg/status
$dpkg --force-depends --install /debs/base-passwd_*.deb /debs/base-files_*.deb /debs/mawk_*.deb &&
$dpkg --force-depends --unpack /debs/*.deb && $dpkg --configure --pending && dpkg --audit
";

#[test]
fn dpkg_itself_can_configure_the_packed_world() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder under target");
    let root = folder.path().join("root");
    for path in ["var/lib/dpkg", "debs", "dev"] {
        fs::create_dir_all(root.join(path)).expect("a folder under target");
    }
    let null = root.join("dev/null");
    run("mknod", ["-m", "666", &null.to_string_lossy(), "c", "1", "3"]).succeeds();
    for (package, deb) in packed() {
        run("dpkg-deb", ["--extract".as_ref(), deb.as_os_str(), root.as_os_str()]).succeeds();
        fs::hard_link(deb, root.join("debs").join(package.file_name())).expect("on one file system");
    }
    run("chroot", [root.as_os_str(), "/bin/sh".as_ref(), "-c".as_ref(), BOOTSTRAP.as_ref()]).succeeds();
    let states = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}\n"].map(AsRef::as_ref);
    let states = run("chroot", std::iter::once(root.as_os_str()).chain(states)).succeeds();
    assert_eq!(states.lines().filter(|state| state.trim() == "ii").count(), packed().len(), "{states}");
}
