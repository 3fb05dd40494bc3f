//! A tree as text by what it has otherwise than another one: how a store keeps what differs little from what it has.
//!
//! ```text
//! over  DIGEST       of the other tree, as stored
//! -/path             what it has and this tree has not, with all below, in tree order
//! path  kind  …      what is new here or otherwise, as a dump with places and origins has it
//! ```

use crate::digest::Digest;

use super::dump::{self, ParseDumpError, Writer};
use super::{Node, Tree, TreePath};

/// What leads to the other tree's digest.
const HEAD: &str = "over\t";

/// Writes `tree` down as it differs from `base`, which is stored as `stored`: places and origins included.
pub fn write(tree: &Tree, base: &Tree, stored: &Digest) -> String {
    let mut writer = Writer::default();
    writer.text = format!("{HEAD}{stored}\n");
    let mut gone: Option<&TreePath> = None;
    for (path, _) in base.iter().filter(|(path, _)| tree.get(path).is_none()) {
        if gone.is_some_and(|gone| path.starts_with(gone)) {
            continue;
        }
        gone = Some(path);
        writer.text.push('-');
        dump::escape_path(&mut writer.text, path);
        writer.text.push('\n');
    }
    for (path, node) in tree.iter().filter(|(path, node)| base.get(path).is_none_or(|other| !is_same(node, other))) {
        writer.node(path, node);
    }
    writer.text
}

/// Whether two nodes are stored alike: contents are equal wherever they lie, and origins show in no image.
fn is_same(one: &Node, other: &Node) -> bool {
    let place = |node: &Node| node.content().map(|content| content.place);
    one == other && place(one) == place(other)
}

/// The other tree's digest, where a text is one of this form.
pub fn base(text: &str) -> Option<Digest> {
    Digest::parse(text.lines().next()?.strip_prefix(HEAD)?).ok()
}

/// Reads what was written over `base`.
///
/// # Errors
/// At the first line that does not fit.
pub fn parse(text: &str, base: &Tree) -> Result<Tree, ParseDumpError> {
    let mut tree = base.clone();
    let mut removed: Vec<TreePath> = Vec::new();
    let mut reader = dump::Reader::default();
    let mut nodes = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let fail = |what| ParseDumpError { line: index + 1, what };
        match line.strip_prefix('-') {
            Some(path) => removed.push(dump::parse_path(path).ok_or_else(|| fail("not a path"))?),
            None => nodes.extend(reader.line(line).map_err(fail)?.map(|node| (index, node))),
        }
    }
    for path in removed.iter().rev() {
        tree.remove(path);
    }
    for (index, (path, node)) in nodes {
        tree.insert(path, node).map_err(|_| ParseDumpError { line: index + 1, what: "not in a directory" })?;
    }
    Ok(tree)
}
