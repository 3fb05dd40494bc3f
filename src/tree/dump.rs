//! A tree as text: one line a node, tab-separated, escaped, in tree order.
//!
//! The text is the tree's canonical form (its digest is the digest of the text without places and origins) and
//! how a store keeps a tree.
//!
//! ```text
//! path  kind  mode  uid  gid  mtime  xattrs  detail  [object  offset]  [origin]
//! ```
//! `kind` is one of `dflcbps`; `detail` is size and digest (and hard-link group), link target, or device numbers.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::digest::Digest;

use super::{Content, File, Kind, Meta, Node, Origin, Place, Tree, TreePath};

/// Whether a dump holds the places of contents in a store and the origins of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// Kept: the dump can be read back with [`parse`].
    Kept,
    /// Left out: the dump says what an image shows.
    Left,
}

/// A text that is not a dump with places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the tree dump: {what}")]
pub struct ParseDumpError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Writes `tree` down.
pub fn write(tree: &Tree, places: Places) -> String {
    let mut writer = Writer { text: String::with_capacity(tree.len() * 120), ..Writer::default() };
    for (path, node) in tree.iter() {
        match places {
            Places::Kept => writer.node(path, node),
            Places::Left => {
                line(&mut writer.text, path, node);
                writer.text.push('\n');
            }
        }
    }
    writer.text
}

/// Writes nodes with places and origins: each origin before the first node that has it.
#[derive(Default)]
pub(super) struct Writer<'a> {
    pub(super) text: String,
    origins: HashMap<&'a Origin, usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn node(&mut self, path: &TreePath, node: &'a Node) {
        let next = self.origins.len();
        let origin = *self.origins.entry(&node.origin).or_insert(next);
        if origin == next {
            let json = serde_json::to_string(&OriginText::from(&*node.origin)).unwrap_or_default();
            let _ = writeln!(self.text, "origin\t{json}");
        }
        line(&mut self.text, path, node);
        if let Some(content) = node.content() {
            let _ = write!(self.text, "\t{}\t{}", content.place.object, content.place.offset);
        }
        let _ = writeln!(self.text, "\t{origin}");
    }
}

/// One node as a dump without places and origins has it, without the line's end.
pub fn describe(path: &TreePath, node: &Node) -> String {
    let mut text = String::new();
    line(&mut text, path, node);
    text
}

/// Writes a path with its leading `/`.
pub(super) fn escape_path(text: &mut String, path: &TreePath) {
    text.push('/');
    escape(text, path.as_bytes());
}

/// Reads what [`escape_path`] wrote.
pub(super) fn parse_path(text: &str) -> Option<TreePath> {
    TreePath::parse(unescape(text.strip_prefix('/')?)?).ok()
}

fn line(text: &mut String, path: &TreePath, node: &Node) {
    escape_path(text, path);
    let meta = &node.meta;
    let _ = write!(text, "\t{}\t{:04o}\t{}\t{}\t{}\t", letter(&node.kind), meta.mode, meta.uid, meta.gid, meta.mtime);
    for (index, (name, value)) in meta.xattrs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        escape(text, name);
        text.push('=');
        for byte in value {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text.push('\t');
    detail(text, &node.kind);
}

fn letter(kind: &Kind) -> char {
    match kind {
        Kind::Directory => 'd',
        Kind::File(_) => 'f',
        Kind::Symlink(_) => 'l',
        Kind::Character(..) => 'c',
        Kind::Block(..) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    }
}

fn detail(text: &mut String, kind: &Kind) {
    match kind {
        Kind::File(file) => {
            let _ = write!(text, "{} {}", file.content.size, file.content.digest);
            if let Some(group) = &file.group {
                text.push_str(" /");
                escape(text, group.as_bytes());
            }
        }
        Kind::Symlink(target) => escape(text, target),
        Kind::Character(major, minor) | Kind::Block(major, minor) => {
            let _ = write!(text, "{major} {minor}");
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
}

/// Writes printable ASCII as it is and every other byte, the space, `\`, `=` and `,` as `\xHH`.
fn escape(text: &mut String, bytes: &[u8]) {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'=' | b',');
    let mut rest = bytes;
    while !rest.is_empty() {
        let (plain, others) = rest.split_at(rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len()));
        text.push_str(std::str::from_utf8(plain).unwrap_or_default());
        if let Some(byte) = others.first() {
            let _ = write!(text, "\\x{byte:02x}");
        }
        rest = others.get(1..).unwrap_or_default();
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    if !text.contains('\\') {
        return Some(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'\\' {
            let code = tail.get(1..3).filter(|_| tail[0] == b'x')?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(bytes)
}

/// Reads a dump that was written with [`Places::Kept`].
///
/// # Errors
/// At the first line that is none of a dump's.
pub fn parse(text: &str) -> Result<Tree, ParseDumpError> {
    let mut reader = Reader::default();
    let mut nodes: Vec<(TreePath, Node)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        nodes.extend(reader.line(line).map_err(|what| ParseDumpError { line: index + 1, what })?);
    }
    Tree::of_ordered(nodes).ok_or(ParseDumpError { line: 1, what: "not a tree in order" })
}

/// Reads what a [`Writer`] wrote, line by line.
#[derive(Default)]
pub(super) struct Reader {
    origins: Vec<Arc<Origin>>,
}

impl Reader {
    /// The node of a line; none where the line is an origin.
    pub(super) fn line(&mut self, line: &str) -> Result<Option<(TreePath, Node)>, &'static str> {
        if let Some(json) = line.strip_prefix("origin\t") {
            let origin: OriginText = serde_json::from_str(json).map_err(|_| "not an origin")?;
            self.origins.push(Arc::new(origin.into()));
            return Ok(None);
        }
        parse_node(line, &self.origins).ok_or("not a node").map(Some)
    }
}

fn parse_node(line: &str, origins: &[Arc<Origin>]) -> Option<(TreePath, Node)> {
    let mut fields = line.split('\t');
    let path = parse_path(fields.next()?)?;
    let letter = fields.next()?;
    let mut meta = Meta::root_owned(u16::from_str_radix(fields.next()?, 8).ok()?);
    meta.uid = fields.next()?.parse().ok()?;
    meta.gid = fields.next()?.parse().ok()?;
    meta.mtime = fields.next()?.parse().ok()?;
    meta.xattrs = parse_xattrs(fields.next()?)?;
    let detail = fields.next()?;
    let mut numbers = detail.split(' ').map(str::parse);
    let kind = match letter {
        "d" => Kind::Directory,
        "l" => Kind::Symlink(unescape(detail)?),
        "c" => Kind::Character(numbers.next()?.ok()?, numbers.next()?.ok()?),
        "b" => Kind::Block(numbers.next()?.ok()?, numbers.next()?.ok()?),
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "f" => {
            let place = Place { object: Digest::parse(fields.next()?).ok()?, offset: fields.next()?.parse().ok()? };
            Kind::File(parse_file(detail, place)?)
        }
        _ => return None,
    };
    let origin = origins.get(fields.next()?.parse::<usize>().ok()?)?.clone();
    fields.next().is_none().then_some((path, Node { meta, kind, origin }))
}

fn parse_file(detail: &str, place: Place) -> Option<File> {
    let mut words = detail.split(' ');
    let size = words.next()?.parse().ok()?;
    let digest = Digest::parse(words.next()?).ok()?;
    let group = match words.next() {
        None => None,
        Some(group) => Some(TreePath::parse(unescape(group)?).ok()?),
    };
    Some(File { content: Content { digest, size, place }, group })
}

fn parse_xattrs(text: &str) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        if value.len() % 2 != 0 || !value.is_ascii() {
            return None;
        }
        let value = (0..value.len()).step_by(2).map(|at| u8::from_str_radix(&value[at..at + 2], 16).ok());
        xattrs.insert(unescape(name)?, value.collect::<Option<Vec<u8>>>()?);
    }
    Some(xattrs)
}

/// The stored form of an origin.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum OriginText {
    Package { layer: String, name: String, version: String },
    Configure { layer: String },
    Overlay { layer: String, file: String },
    Written { layer: String, file: String, line: usize },
    Built { part: String },
}

impl From<&Origin> for OriginText {
    fn from(origin: &Origin) -> Self {
        match origin.clone() {
            Origin::Package { layer, name, version } => Self::Package { layer, name, version },
            Origin::Configure { layer } => Self::Configure { layer },
            Origin::Overlay { layer, file } => Self::Overlay { layer, file },
            Origin::Written { layer, file, line } => Self::Written { layer, file, line },
            Origin::Built(part) => Self::Built { part },
        }
    }
}

impl From<OriginText> for Origin {
    fn from(text: OriginText) -> Self {
        match text {
            OriginText::Package { layer, name, version } => Self::Package { layer, name, version },
            OriginText::Configure { layer } => Self::Configure { layer },
            OriginText::Overlay { layer, file } => Self::Overlay { layer, file },
            OriginText::Written { layer, file, line } => Self::Written { layer, file, line },
            OriginText::Built { part } => Self::Built(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let origin = Arc::new(Origin::Package { layer: "base".into(), name: "a".into(), version: "1\t2".into() });
        let node = |mode, kind| Node::new(Meta::root_owned(mode), kind, origin.clone());
        let mut tree = Tree::new(node(0o755, Kind::Directory));
        let path = |text: &[u8]| TreePath::parse(text).unwrap();
        let file = File { content: Content::whole(Digest::of(b"x"), 1), group: Some(path(b"bin/a b")) };
        tree.insert(path(b"bin"), node(0o755, Kind::Directory)).unwrap();
        let mut ping = node(0o4755, Kind::File(file.clone()));
        ping.meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 255]);
        tree.insert(path(b"bin/a b"), ping.clone()).unwrap();
        tree.insert(path(b"bin/b\xff\n"), ping).unwrap();
        tree.insert(path(b"bin/l"), node(0o777, Kind::Symlink(b"a b".to_vec()))).unwrap();
        tree.insert(path(b"null"), node(0o666, Kind::Character(1, 3))).unwrap();
        tree
    }

    #[test]
    fn a_dump_reads_back_as_the_same_tree() {
        let tree = sample();
        assert_eq!(parse(&write(&tree, Places::Kept)).unwrap(), tree);
    }

    #[test]
    fn the_digest_does_not_see_places_and_origins() {
        let mut tree = sample();
        let before = tree.digest();
        for (_, node) in tree.iter_mut() {
            node.origin = Arc::new(Origin::Built("x".into()));
            if let Kind::File(file) = &mut node.kind {
                file.content.place.offset = 99;
            }
        }
        assert_eq!(tree.digest(), before);
    }

    #[test]
    fn broken_dumps_are_refused_with_their_line() {
        let good = write(&sample(), Places::Kept);
        let broken = good.replacen("\tl\t", "\tq\t", 1);
        assert!(parse(&broken).is_err());
        assert_eq!(parse("").unwrap_err().line, 1);
    }
}
