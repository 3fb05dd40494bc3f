//! A .deb: an ar archive of `debian-binary`, `control.tar` and `data.tar`, as deb(5) has it.
//!
//! Reads the control files into memory under a bound and hands out the data tar as a stream under a bound. Unpacks
//! nothing: what may stand in a data tar is decided where it is unpacked.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Take};

use super::ar::{self, ArError, Member};
use super::compression::{Compression, Decoder};
use super::control::Stanzas;
use super::package::{Package, PackageError};

/// What control.tar may unpack to, in bytes; the largest real ones hold a few megabytes of md5sums.
const CONTROL_BOUND: u64 = 64 << 20;

/// Control files at most.
const MOST_CONTROL_FILES: usize = 1024;

/// Why bytes are no .deb.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The archive around it.
    #[error(transparent)]
    Ar(#[from] ArError),
    /// The first member is not `debian-binary`, or its version is not 2.x.
    #[error("not a Debian package of format 2")]
    Format,
    /// A member is missing, or another stands in its place.
    #[error("`{wanted}` expected, `{found}` found")]
    Member {
        /// The member that should be next.
        wanted: &'static str,
        /// What is there; empty at the end of the archive.
        found: String,
    },
    /// A compression that this program does not read.
    #[error("`{0}`: only gzip, xz, zstd and no compression are supported")]
    Compression(String),
    /// A control member that is no plain file at the top.
    #[error("control file `{0}` is not a plain file of a plain name")]
    ControlFile(String),
    /// The same control member twice.
    #[error("control file `{0}` is there twice")]
    ControlFileTwice(String),
    /// Too many control members.
    #[error("more than {MOST_CONTROL_FILES} control files")]
    TooManyControlFiles,
    /// No file `control`.
    #[error("there is no file `control`")]
    NoControl,
    /// `control` is not UTF-8.
    #[error("the file `control` is not UTF-8")]
    Encoding,
    /// `control` breaks its form.
    #[error("control: {0}")]
    Package(#[from] PackageError),
    /// Reading, decompressing or untarring failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A control file: `postinst`, `md5sums`, ….
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile {
    /// Permission bits as in the tar.
    pub mode: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The control files of a .deb, by name, `control` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlFiles(pub BTreeMap<String, ControlFile>);

impl ControlFiles {
    /// The text of the file `control`.
    ///
    /// # Errors
    /// When it is missing or not UTF-8.
    pub fn control(&self) -> Result<&str, DebError> {
        let file = self.0.get("control").ok_or(DebError::NoControl)?;
        std::str::from_utf8(&file.bytes).map_err(|_| DebError::Encoding)
    }

    /// The stanza of the file `control`.
    ///
    /// # Errors
    /// When it is missing, not UTF-8, or no package.
    pub fn package(&self) -> Result<Package, DebError> {
        let stanza = Stanzas::new(self.control()?).next().ok_or(DebError::NoControl)?;
        Ok(Package::parse(stanza)?)
    }
}

/// An open .deb.
pub struct DebFile<R> {
    reader: R,
    control: Part,
    data: Part,
}

/// Where a tar lies and how it is compressed.
struct Part {
    member: Member,
    compression: Compression,
}

impl Part {
    fn of(member: Option<&Member>, wanted: &'static str) -> Result<Self, DebError> {
        let Some(member) = member else {
            return Err(DebError::Member { wanted, found: String::new() });
        };
        let (stem, compression) = Compression::of_name(&member.name);
        if stem == wanted {
            return Ok(Self { member: member.clone(), compression });
        }
        match stem.strip_prefix(wanted) {
            Some(extension) if extension.starts_with('.') => Err(DebError::Compression(member.name.clone())),
            _ => Err(DebError::Member { wanted, found: member.name.clone() }),
        }
    }
}

impl<'a> DebFile<Cursor<&'a [u8]>> {
    /// Opens a .deb in memory.
    ///
    /// # Errors
    /// As [`DebFile::open`].
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, DebError> {
        Self::open(Cursor::new(bytes))
    }
}

impl<R: Read + Seek> DebFile<R> {
    /// Opens a .deb: reads the ar headers and checks the format's version and the order of the members.
    ///
    /// # Errors
    /// When it is not a .deb, or reading fails.
    pub fn open(mut reader: R) -> Result<Self, DebError> {
        let members = ar::members(&mut reader)?;
        // Members whose name starts with an underscore may stand before either tar and are to be ignored.
        let mut known = members.iter().filter(|member| !member.name.starts_with('_'));
        let format = known.next().filter(|member| member.name == "debian-binary").ok_or(DebError::Format)?;
        reader.seek(SeekFrom::Start(format.offset))?;
        let mut version = String::new();
        (&mut reader).take(format.size.min(16)).read_to_string(&mut version).map_err(|_| DebError::Format)?;
        if !version.starts_with("2.") || !version.contains('\n') {
            return Err(DebError::Format);
        }
        let control = Part::of(known.next(), "control.tar")?;
        let data = Part::of(known.next(), "data.tar")?;
        Ok(Self { reader, control, data })
    }

    /// The control files.
    ///
    /// # Errors
    /// When they are no plain files, too many or too large, or reading fails.
    pub fn control(&mut self) -> Result<ControlFiles, DebError> {
        let mut archive = tar::Archive::new(stream(&mut self.reader, &self.control, CONTROL_BOUND)?);
        let mut files = BTreeMap::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = path.strip_prefix("./").unwrap_or(&path);
            if entry.header().entry_type().is_dir() && matches!(name, "" | ".") {
                continue;
            }
            let plain = name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
            if !plain || !entry.header().entry_type().is_file() {
                return Err(DebError::ControlFile(path.chars().take(120).collect()));
            }
            if files.len() == MOST_CONTROL_FILES {
                return Err(DebError::TooManyControlFiles);
            }
            let mode = u16::try_from(entry.header().mode()? & 0o7777).unwrap_or(0o644);
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if files.insert(name.to_owned(), ControlFile { mode, bytes }).is_some() {
                return Err(DebError::ControlFileTwice(name.to_owned()));
            }
        }
        Ok(ControlFiles(files))
    }

    /// The data tar, decompressed as it is read. More than `bound` bytes end in an error inside the
    /// [`io::Error`]: [`super::compression::BoundExceeded`]. See [`data_bound`].
    ///
    /// # Errors
    /// When seeking or setting up the decoder fails.
    pub fn data(&mut self, bound: u64) -> Result<DataReader<'_, R>, DebError> {
        stream(&mut self.reader, &self.data, bound)
    }

    /// Size of the compressed data tar in bytes.
    pub fn data_size(&self) -> u64 {
        self.data.member.size
    }
}

/// Reads a .deb's decompressed data tar.
pub type DataReader<'a, R> = Decoder<BufReader<Take<&'a mut R>>>;

fn stream<'a, R: Read + Seek>(reader: &'a mut R, part: &Part, bound: u64) -> Result<DataReader<'a, R>, DebError> {
    reader.seek(SeekFrom::Start(part.member.offset))?;
    let source = BufReader::with_capacity(64 << 10, reader.take(part.member.size));
    Ok(part.compression.decoder(source, bound)?)
}

/// What a data tar may unpack to, in bytes, when its stanza says `Installed-Size` (KiB): never more than `cap`.
///
/// The field counts 1 KiB for whatever is no file, a tar spends up to 2.5 KiB on it, and some packagers guess; hence
/// four times the size and 64 MiB on top. Without the field only the cap holds.
pub fn data_bound(installed_size: u64, cap: u64) -> u64 {
    match installed_size {
        0 => cap,
        kib => kib.saturating_mul(4 << 10).saturating_add(64 << 20).min(cap),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::super::compression::BoundExceeded;
    use super::*;

    const CONTROL: &str = "Package: a\nVersion: 1:2-3\nArchitecture: all\nMaintainer: T <t@e.x>\nDescription: x\n";

    fn built_by_dpkg(compression: &str) -> Vec<u8> {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("root");
        fs::create_dir_all(root.join("DEBIAN")).expect("a directory");
        fs::write(root.join("DEBIAN/control"), CONTROL).expect("a file");
        fs::write(root.join("DEBIAN/postinst"), "#!/bin/sh\n").expect("a file");
        fs::set_permissions(root.join("DEBIAN/postinst"), fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::create_dir_all(root.join("usr/share/a")).expect("a directory");
        fs::write(root.join("usr/share/a/zeros"), vec![0; 1 << 20]).expect("a file");
        let deb = place.path().join("a.deb");
        let status = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Z", compression, "-b"])
            .args([&root, &deb])
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("dpkg-deb runs").success());
        fs::read(deb).expect("a .deb")
    }

    #[test]
    fn what_dpkg_builds_is_read_in_every_compression() {
        for compression in ["none", "gzip", "xz", "zstd"] {
            let bytes = built_by_dpkg(compression);
            let mut deb = DebFile::from_bytes(&bytes).expect(compression);
            let files = deb.control().expect(compression);
            assert_eq!(files.0["postinst"], ControlFile { mode: 0o755, bytes: b"#!/bin/sh\n".to_vec() });
            let package = files.package().expect(compression);
            assert_eq!((package.name.as_str(), package.version.as_str()), ("a", "1:2-3"));
            let mut data = tar::Archive::new(deb.data(data_bound(1026, u64::MAX)).expect(compression));
            let paths = data.entries().expect(compression);
            let paths: Vec<_> = paths.map(|entry| entry.expect("an entry").path_bytes().into_owned()).collect();
            let expected: [&[u8]; 5] = [b"./", b"./usr/", b"./usr/share/", b"./usr/share/a/", b"./usr/share/a/zeros"];
            assert_eq!(paths, expected);
        }
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let bytes = built_by_dpkg("xz");
        assert!(bytes.len() < 10_000);
        let mut deb = DebFile::from_bytes(&bytes).expect("a .deb");
        let error = io::copy(&mut deb.data(500_000).expect("a stream"), &mut io::sink()).expect_err("a bomb");
        assert!(error.into_inner().expect("typed").is::<BoundExceeded>());
    }

    /// An ar archive as a stranger may write it.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            bytes.extend(format!("{name:<16}{:<32}{:<10}`\n", 0, content.len()).bytes());
            bytes.extend(*content);
            bytes.extend(vec![b'\n'; content.len() % 2]);
        }
        bytes
    }

    /// A control.tar with one entry whose name is not checked by the tar crate.
    fn control_tar(name: &str, kind: tar::EntryType) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([0; 1024]);
        bytes
    }

    #[test]
    fn hostile_control_files_are_refused() {
        for (name, kind) in [
            ("../control", tar::EntryType::Regular),
            ("/control", tar::EntryType::Regular),
            ("./a/b", tar::EntryType::Regular),
            ("./.hidden", tar::EntryType::Regular),
            ("./postinst", tar::EntryType::Symlink),
            ("./postinst", tar::EntryType::Link),
            ("./postinst", tar::EntryType::Char),
            ("./postinst", tar::EntryType::Directory),
        ] {
            let tar = control_tar(name, kind);
            let bytes = archive(&[("debian-binary", b"2.0\n"), ("control.tar", &tar), ("data.tar", b"")]);
            let result = DebFile::from_bytes(&bytes).expect("a .deb").control();
            assert!(matches!(result, Err(DebError::ControlFile(_))), "{name} {kind:?}: {result:?}");
        }
        let bytes = archive(&[("debian-binary", b"2.0\n"), ("control.tar", &[0; 1024]), ("data.tar", b"")]);
        let files = DebFile::from_bytes(&bytes).expect("a .deb").control().expect("no files");
        assert!(matches!(files.package(), Err(DebError::NoControl)));
    }

    #[test]
    fn other_archives_are_refused() {
        let good: [(&str, &[u8]); 4] =
            [("debian-binary", b"2.0\n"), ("_extra", b"x"), ("control.tar", b""), ("data.tar.zst", b"")];
        assert!(DebFile::from_bytes(&archive(&good)).is_ok());
        let broken: [&[(&str, &[u8])]; 6] = [
            &[],
            &[("debian-binary", b"3.0\n"), ("control.tar", b""), ("data.tar", b"")],
            &[("control.tar", b""), ("data.tar", b"")],
            &[("debian-binary", b"2.0\n"), ("data.tar", b""), ("control.tar", b"")],
            &[("debian-binary", b"2.0\n"), ("control.tar", b"")],
            &[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.lzma", b"")],
        ];
        for members in broken {
            assert!(DebFile::from_bytes(&archive(members)).is_err(), "{members:?}");
        }
    }
}
