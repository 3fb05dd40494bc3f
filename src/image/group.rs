//! Which files lie together in an image.
//!
//! Files of one origin form a group, and groups stand in the order of the layers: packages and what their scripts
//! made, lowest layer first, then overlays, then what rolecast adds. A group is compressed once, whichever images
//! hold it, and a change to one origin leaves every other group's bytes as they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::digest::Digest;
use crate::tree::{Content, Node, Origin, Tree, TreePath};

/// The files of one origin.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The origin as text, e.g. `package chrony 4.6.1-3 (layer base)`.
    pub label: String,
    /// Its files, in tree order.
    pub nodes: Vec<(&'a TreePath, &'a Node)>,
}

/// Where a group stands: stage, layer, kind within the layer, name.
type Rank = (u8, usize, u8, String);

fn rank(origin: &Origin, layers: &[String]) -> Rank {
    let place = |layer: &String| layers.iter().position(|other| other == layer).unwrap_or(layers.len());
    match origin {
        Origin::Package { layer, .. } => (0, place(layer), 0, origin.to_string()),
        Origin::Configure { layer } => (0, place(layer), 1, String::new()),
        Origin::Overlay { layer, .. } | Origin::Written { layer, .. } => (1, place(layer), 0, String::new()),
        Origin::Built(_) => (2, 0, 0, String::new()),
    }
}

fn label(origin: &Origin) -> String {
    match origin {
        Origin::Overlay { layer, .. } | Origin::Written { layer, .. } => format!("overlays of layer {layer}"),
        Origin::Built(_) => "tables of rolecast".to_owned(),
        Origin::Package { .. } | Origin::Configure { .. } => origin.to_string(),
    }
}

/// The groups of all nodes that `wanted` accepts, in order. `layers` names the role's layers, lowest first.
pub fn groups<'a>(tree: &'a Tree, layers: &[String], wanted: impl Fn(&TreePath, &Node) -> bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut ranks: BTreeMap<Rank, usize> = BTreeMap::new();
    // There are tens of thousands of nodes and some hundred origins, so what an origin means is asked once.
    let mut places: HashMap<&Origin, usize> = HashMap::new();
    for (path, node) in tree.iter().filter(|(path, node)| wanted(path, node)) {
        let place = *places.entry(&node.origin).or_insert_with(|| {
            *ranks.entry(rank(&node.origin, layers)).or_insert_with(|| {
                groups.push(Group { label: label(&node.origin), nodes: Vec::new() });
                groups.len() - 1
            })
        });
        groups[place].nodes.push((path, node));
    }
    let mut ordered: Vec<Option<Group<'a>>> = groups.into_iter().map(Some).collect();
    ranks.into_values().filter_map(|place| ordered[place].take()).collect()
}

/// The distinct contents of each group, empty ones left out: a content that an earlier group holds is not in a
/// later one. Groups of no new content are left out.
pub fn contents(groups: &[Group<'_>]) -> Vec<(String, Vec<Content>)> {
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    let mut listed = Vec::new();
    for group in groups {
        let contents = group.nodes.iter().filter_map(|(_, node)| node.content());
        let new = contents.filter(|content| content.size > 0 && seen.insert(content.digest)).copied();
        let new: Vec<Content> = new.collect();
        if !new.is_empty() {
            listed.push((group.label.clone(), new));
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use crate::tree::{Kind, Meta};

    use super::*;

    #[test]
    fn groups_stand_in_layer_order_and_share_contents() {
        let layers = ["base".to_owned(), "rack".to_owned()];
        let package = |layer: &str, name: &str| Origin::Package {
            layer: layer.to_owned(),
            name: name.to_owned(),
            version: "1".to_owned(),
        };
        let root = Node::new(Meta::root_owned(0o755), Kind::Directory, Origin::Built("root".into()));
        let mut tree = Tree::new(root);
        let mut add = |path: &str, bytes: &[u8], origin: Origin| {
            let content = Content::whole(Digest::of(bytes), bytes.len() as u64);
            let node = Node::new(Meta::root_owned(0o644), Kind::file(content), origin);
            tree.insert(TreePath::parse(path).unwrap(), node).unwrap();
        };
        add("a", b"overlay", Origin::Overlay { layer: "base".into(), file: "x".into() });
        add("b", b"shared", package("rack", "dhcpd"));
        add("c", b"shared", package("base", "zlib"));
        add("d", b"bash", package("base", "bash"));
        add("e", b"made", Origin::Configure { layer: "base".into() });
        let groups = groups(&tree, &layers, |_, node| node.content().is_some());
        let contents = contents(&groups);
        let labels: Vec<&str> = contents.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "package bash 1 (layer base)",
                "package zlib 1 (layer base)",
                "maintainer scripts of layer base",
                "overlays of layer base",
            ]
        );
    }
}
