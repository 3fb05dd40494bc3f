//! A small whole project to change in tests.

use std::collections::BTreeMap;

use crate::report::{Report, Style, render};
use crate::spec::sources::{Entry, Sources};
use crate::spec::{Spec, read};

/// The image file that tests read.
pub const IMAGE: &str = "images/lab.toml";

/// A project by path and text.
#[derive(Clone)]
pub struct Project(BTreeMap<String, Entry>);

impl Project {
    /// A sound project: three layers, two options, an early and a late template, a cluster of four.
    pub fn new() -> Self {
        let files = [
            (IMAGE, include_str!("project/lab.toml")),
            ("profiles/base.toml", include_str!("project/base.toml")),
            ("profiles/region.toml", include_str!("project/region.toml")),
            ("profiles/rack.toml", include_str!("project/rack.toml")),
            ("profiles/etcd.toml", include_str!("project/etcd.toml")),
            ("profiles/tools.toml", include_str!("project/tools.toml")),
            ("overlays/base/etc/motd.tera", "{{ role.name }} of {{ cluster.name }}\n"),
            ("overlays/base/etc/chrony/chrony.conf", "pool 2.debian.pool.ntp.org iburst\n"),
            ("overlays/region/etc/haproxy/haproxy.cfg.tera", "bind {{ node.address }}:{{ option.maas.port }}\n"),
            ("overlays/region-before/etc/maas/packaging.tera", "{{ option.maas.packaging }}\n"),
        ];
        let entries = files.into_iter().map(|(path, text)| (path.to_owned(), Entry::file(text.as_bytes(), false)));
        Self(entries.collect())
    }

    /// The project with another text at `path`.
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.to_owned(), Entry::file(text.as_bytes(), false));
        self
    }

    /// The project with `old` replaced by `new` in the text at `path`, where it has to stand.
    pub fn replacing(self, path: &str, old: &str, new: &str) -> Self {
        let text = self.text(path);
        assert!(text.contains(old), "{path} has no {old:?}");
        let text = text.replacen(old, new, 1);
        self.with(path, &text)
    }

    /// The project without `path`.
    pub fn without(mut self, path: &str) -> Self {
        assert!(self.0.remove(path).is_some(), "no {path}");
        self
    }

    /// The project with an entry that is more than a text.
    pub fn with_entry(mut self, path: &str, entry: Entry) -> Self {
        self.0.insert(path.to_owned(), entry);
        self
    }

    /// The text at `path`.
    pub fn text(&self, path: &str) -> String {
        match self.0.get(path) {
            Some(Entry::File { content, .. }) => String::from_utf8(content.to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    /// What it is read as.
    pub fn read(&self) -> Result<(Spec, Report), Report> {
        read(&self.sources(), IMAGE)
    }

    /// Its files.
    pub fn sources(&self) -> Sources {
        Sources::from_entries(self.0.clone())
    }

    /// Its spec; fails the test when there is none.
    pub fn spec(&self) -> Spec {
        match self.read() {
            Ok((spec, _)) => spec,
            Err(report) => panic!("{}", render(&report, Style::Plain)),
        }
    }

    /// Its errors and warnings as people see them.
    pub fn messages(&self) -> String {
        let report = self.read().map_or_else(|report| report, |(_, warnings)| warnings);
        render(&report, Style::Plain)
    }
}
