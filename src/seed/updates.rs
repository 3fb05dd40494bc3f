//! `updates/ROLE/` of the published tree: what `systemd-sysupdate(8)` of installed machines fetches.
//!
//! Every version that was published stays beside the newer ones until its files are removed by hand, so that a machine
//! can be brought to any of them. Beside each file lies its casync index, by which a machine fetches only what it does
//! not have. `SHA256SUMS` lists what is there; it is what machines read first, so it is written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::publish::place;
use crate::digest::Digest;
use crate::format::caibx::{self, Index};
use crate::image::manifest::Manifest;
use crate::image::sums;
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::Format;
use crate::sys::files::{self, Context as _};

/// Where updates are, from the tree's top.
pub const DIRECTORY: &str = "updates";

/// Brings the update that `manifest`, in `built`, tells of to the tree at `top`; says whether there was one. A signature of
/// the list as it was is removed: who signs does so afterwards.
///
/// # Errors
/// When a file is missing, the list that is there cannot be read, or the tree cannot be written.
pub fn publish(manifest: &Manifest, built: &Path, top: &Path) -> Result<bool, Report> {
    let outputs: Vec<_> = manifest.outputs.iter().filter(|output| output.format == Format::Update).collect();
    if outputs.is_empty() {
        return Ok(false);
    }
    let directory = top.join(DIRECTORY).join(&manifest.role);
    files::make_directory(&directory).map_err(Diagnostic::from)?;
    let mut listed = listed(&directory)?;
    // Of one version there is one: another build of it takes its place.
    let own = |name: &str| {
        let rest = name.strip_prefix(&format!("{}_{}", manifest.role, manifest.version));
        rest.is_some_and(|rest| rest.starts_with('_') || rest == ".efi")
    };
    let gone = |name: &str| {
        let file = file_of(name).filter(|file| !own(file));
        file.is_none_or(|file| !directory.join(file).is_file() || !directory.join(name).is_file())
    };
    let earlier: Vec<String> = listed.keys().filter(|name| gone(name)).cloned().collect();
    listed.retain(|name, _| !gone(name));
    for output in outputs {
        let from = built.join(&output.file);
        let name = output.file.rsplit('/').next().unwrap_or(&output.file);
        if !from.is_file() {
            return Err(Diagnostic::error(Kind::Input, format!("`{}` is not there", from.display()))
                .hint(format!("`rolecast build` the role `{}` with the format `update` first", manifest.role))
                .into());
        }
        place(&from, &directory.join(name)).map_err(Diagnostic::from)?;
        listed.insert(name.to_owned(), output.sha256);
        let index = caibx::index_name(name);
        let bytes = Index::of(files::open(&from).map_err(Diagnostic::from)?).on("read", &from);
        let bytes = bytes.map_err(Diagnostic::from)?.write();
        files::write_atomically(&directory.join(&index), &bytes).map_err(Diagnostic::from)?;
        listed.insert(index, Digest::of(&bytes));
    }
    files::remove_if_there(&directory.join(sums::SIGNATURE)).map_err(Diagnostic::from)?;
    sums::write(&directory, &listed)?;
    for name in earlier.iter().filter(|name| !listed.contains_key(*name)) {
        files::remove_if_there(&directory.join(name)).map_err(Diagnostic::from)?;
    }
    Ok(true)
}

/// The file whose index `name` is, or itself. None for an index of a name that systemd-sysupdate takes for the file.
fn file_of(name: &str) -> Option<&str> {
    caibx::indexed(name).or_else(|| (!name.ends_with(caibx::SUFFIX)).then_some(name))
}

/// What is published already.
fn listed(directory: &Path) -> Result<BTreeMap<String, Digest>, Report> {
    let path = directory.join(sums::SUMS);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(BTreeMap::new()) };
    sums::parse(&text).map_err(|error| {
        Diagnostic::error(Kind::Input, format!("`{}` is no list of digests: {error}", path.display()))
            .hint("remove it, and publish every version again")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::Output;

    /// A build of role `rack` with an update of these contents.
    fn built(folder: &Path, version: &str, guid: &str, content: &str) -> Manifest {
        let names = [format!("rack_{version}_{guid}.root"), format!("rack_{version}.efi")];
        fs::create_dir_all(folder.join("rack.update")).unwrap();
        let output = |name: &String| {
            fs::write(folder.join("rack.update").join(name), content).unwrap();
            let file = format!("rack.update/{name}");
            let sha256 = Digest::of(content.as_bytes());
            Output { format: Format::Update, file, size: content.len() as u64, sha256 }
        };
        let outputs = names.iter().map(output).collect();
        let text = serde_json::json!({
            "format": 1, "rolecast": "0", "image": "lab", "version": version, "role": "rack", "distribution": "debian",
            "lock": Digest::of(b""), "tree": {"digest": Digest::of(b""), "files": 0, "directories": 0, "links": 0, "bytes": 0},
            "late": [], "state": [], "packages": [], "outputs": [],
        });
        Manifest { outputs, ..Manifest::parse(&text.to_string()).unwrap() }
    }

    #[test]
    fn versions_lie_side_by_side_and_a_version_built_again_takes_its_own_place() {
        let folder = tempfile::tempdir().unwrap();
        let (build, top) = (folder.path().join("build"), folder.path().join("tree"));
        let names = || {
            let text = fs::read_to_string(top.join("updates/rack/SHA256SUMS")).unwrap();
            let list = sums::parse(&text).unwrap();
            for (name, digest) in &list {
                assert_eq!(Digest::of(&fs::read(top.join("updates/rack").join(name)).unwrap()), *digest, "{name}");
            }
            list.into_keys().collect::<Vec<_>>()
        };
        for (version, guid, content) in [("1", "aa", "one"), ("10", "cc", "ten"), ("1", "bb", "another one")] {
            assert!(publish(&built(&build, version, guid, content), &build, &top).unwrap());
        }
        let with_indexes = |names: &[&str]| -> Vec<String> {
            let indexes = names.iter().map(|name| format!("index-{name}.caibx"));
            indexes.chain(names.iter().map(|name| (*name).to_owned())).collect()
        };
        assert_eq!(names(), with_indexes(&["rack_1.efi", "rack_10.efi", "rack_10_cc.root", "rack_1_bb.root"]));
        for name in ["rack_1_aa.root", "index-rack_1_aa.root.caibx"] {
            assert!(!top.join("updates/rack").join(name).exists(), "{name}");
        }
        let read = |name: &str| fs::read(top.join("updates/rack").join(name)).unwrap();
        let index = Index::read(&read("index-rack_1_bb.root.caibx")).unwrap();
        assert_eq!(index, Index::of(read("rack_1_bb.root").as_slice()).unwrap());
        // What was removed by hand is listed no longer, nor is an index that systemd-sysupdate would take for the file.
        let list = fs::read_to_string(top.join("updates/rack/SHA256SUMS")).unwrap();
        fs::write(top.join("updates/rack/rack_1.efi.caibx"), "old").unwrap();
        let old = format!("{list}{}  rack_1.efi.caibx\n", Digest::of(b"old"));
        fs::write(top.join("updates/rack/SHA256SUMS"), old).unwrap();
        fs::remove_file(top.join("updates/rack/rack_10.efi")).unwrap();
        fs::remove_file(top.join("updates/rack/rack_10_cc.root")).unwrap();
        publish(&built(&build, "2", "dd", "two"), &build, &top).unwrap();
        assert_eq!(names(), with_indexes(&["rack_1.efi", "rack_1_bb.root", "rack_2.efi", "rack_2_dd.root"]));
        for name in ["index-rack_10.efi.caibx", "rack_1.efi.caibx"] {
            assert!(!top.join("updates/rack").join(name).exists(), "{name}");
        }
    }
}
