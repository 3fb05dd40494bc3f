//! Making .debs (deb(5)): honest ones, and ones that attack who unpacks them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use tar::{EntryType, Header};

/// Modification time of everything packed: 2025-03-01.
pub const PACKED: u64 = 1_740_787_200;

/// How the two members are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, old packages.
    Gzip,
    /// xz, Debian's.
    Xz,
    /// zstd, Ubuntu's.
    Zstd,
}

impl Compression {
    /// The suffix of member and index names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// `bytes` compressed, quickly rather than well.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        let written = "memory takes it";
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect(written);
                encoder.finish().expect(written)
            }
            Self::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).expect(written);
                encoder.finish().expect(written)
            }
            Self::Zstd => zstd::encode_all(bytes, 1).expect(written),
        }
    }
}

/// One member of `data.tar`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name as it stands in the archive; not checked, an attack may write what it wants.
    pub name: String,
    /// What it is.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner and group.
    pub owner: (u64, u64),
    /// Bytes of a file.
    pub content: Vec<u8>,
    /// Target of a link of either kind.
    pub target: String,
    /// Modification time, seconds since the Epoch.
    pub time: u64,
}

/// A package to be.
#[derive(Clone, Debug)]
pub struct Package {
    fields: Vec<(String, String)>,
    entries: Vec<Entry>,
    control: BTreeMap<String, (u32, Vec<u8>)>,
    compression: Compression,
}

impl Package {
    /// `name` at `version` for all architectures, with the fields that every package has.
    pub fn new(name: &str, version: &str) -> Self {
        let fields = [
            ("Package", name),
            ("Version", version),
            ("Architecture", "all"),
            ("Maintainer", "rolecast tests <tests@test.invalid>"),
            ("Section", "misc"),
            ("Priority", "optional"),
            ("Description", "made by a test"),
        ];
        Self {
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            entries: Vec::new(),
            // `dpkg --audit` misses one that is not there; an empty one claims nothing.
            control: BTreeMap::from([("md5sums".to_owned(), (0o644, Vec::new()))]),
            compression: Compression::Xz,
        }
    }

    /// Sets a control field, or replaces it.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|(have, _)| have == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The value of a control field, empty where it is not set.
    pub fn value(&self, name: &str) -> &str {
        self.fields.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// Compression of both members.
    #[must_use]
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a file with mode 0644, and the folders above it.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.file_with_mode(path, 0o644, content)
    }

    /// Adds a file with another mode.
    #[must_use]
    pub fn file_with_mode(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.with_folders(path).entry(EntryType::Regular, path, mode, content.into(), "")
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.with_folders(path).entry(EntryType::Symlink, path, 0o777, Vec::new(), target)
    }

    /// Adds a further name of a file that was added.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        let target = format!("./{target}");
        self.with_folders(path).entry(EntryType::Link, path, 0o644, Vec::new(), &target)
    }

    /// Adds a member as it is, without folders above it: for attacks, and for real files.
    #[must_use]
    pub fn raw(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds a maintainer script.
    #[must_use]
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.control.insert(name.to_owned(), (0o755, text.as_bytes().to_vec()));
        self
    }

    /// Adds another control file: `conffiles`, `triggers`, `templates`.
    #[must_use]
    pub fn control_file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.control.insert(name.to_owned(), (0o644, content.into()));
        self
    }

    fn with_folders(mut self, path: &str) -> Self {
        for (end, _) in path.match_indices('/') {
            let name = format!("./{}/", &path[..end]);
            if !self.entries.iter().any(|entry| entry.name == name) {
                self = self.entry(EntryType::Directory, &name[2..], 0o755, Vec::new(), "");
            }
        }
        self
    }

    fn entry(self, kind: EntryType, path: &str, mode: u32, content: Vec<u8>, target: &str) -> Self {
        let (name, target) = (format!("./{path}"), target.to_owned());
        self.raw(Entry { name, kind, mode, owner: (0, 0), content, target, time: PACKED })
    }

    /// The stanza as `DEBIAN/control` has it, with a newline at its end.
    pub fn stanza(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    /// `NAME_VERSION_ARCHITECTURE.deb`, without the version's epoch.
    pub fn file_name(&self) -> String {
        let version = self.value("Version");
        let version = version.split_once(':').map_or(version, |(_, rest)| rest);
        format!("{}_{version}_{}.deb", self.value("Package"), self.value("Architecture"))
    }

    /// The .deb.
    pub fn build(&self) -> Vec<u8> {
        let mut control = Vec::from([member("./control", 0o644, self.stanza().as_bytes())]);
        control.extend(self.control.iter().map(|(name, (mode, bytes))| member(&format!("./{name}"), *mode, bytes)));
        let suffix = self.compression.suffix();
        ar(&[
            ("debian-binary".to_owned(), b"2.0\n".to_vec()),
            (format!("control.tar{suffix}"), self.compression.compress(&tarball(&control))),
            (format!("data.tar{suffix}"), self.compression.compress(&tarball(&self.entries))),
        ])
    }
}

fn member(name: &str, mode: u32, content: &[u8]) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: EntryType::Regular,
        mode,
        owner: (0, 0),
        content: content.to_vec(),
        target: String::new(),
        time: PACKED,
    }
}

/// A tar in the GNU format, as dpkg-deb(1) writes it; nothing about the names is checked.
pub fn tarball(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        // Longer names and targets travel as members of their own before the entry (GNU tar, types `L` and `K`).
        for (kind, text) in [(EntryType::GNULongName, &entry.name), (EntryType::GNULongLink, &entry.target)] {
            if text.len() > 100 {
                let mut bytes = text.clone().into_bytes();
                bytes.push(0);
                append(&mut builder, &member("././@LongLink", 0o644, &bytes), kind);
            }
        }
        append(&mut builder, entry, entry.kind);
    }
    builder.into_inner().expect("memory takes it")
}

fn append(builder: &mut tar::Builder<Vec<u8>>, entry: &Entry, kind: EntryType) {
    let mut header = Header::new_gnu();
    let copy = |field: &mut [u8; 100], text: &str| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    };
    let old = header.as_old_mut();
    copy(&mut old.name, &entry.name);
    copy(&mut old.linkname, &entry.target);
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(entry.time);
    header.set_size(entry.content.len() as u64);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).expect("a GNU header has devices");
        header.set_device_minor(3).expect("a GNU header has devices");
    }
    header.set_cksum();
    builder.append(&header, entry.content.as_slice()).expect("memory takes it");
}

/// An ar archive (deb(5)): names without a slash, sizes in decimal, members at even offsets.
pub fn ar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        writeln!(bytes, "{name:<16}{PACKED:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, "100644").expect("memory takes it");
        bytes.extend(content);
        if size % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}
