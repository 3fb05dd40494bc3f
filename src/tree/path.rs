//! Paths inside a tree.

use std::cmp::Ordering;
use std::fmt;

/// A path inside a tree: components joined by `/`, no leading or trailing `/`; the root is empty. No component
/// is empty, `.`, `..`, longer than 255 bytes, or holds a NUL.
///
/// Ordered so that a directory comes directly before everything under it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// A path that no tree can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` component.
    #[error("the path `{0}` climbs out with `..`")]
    Climbs(String),
    /// A NUL byte, or a component over 255 bytes or a path over 4096.
    #[error("the path `{0}` holds a NUL byte or is too long")]
    Malformed(String),
}

impl TreePath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path as archives and people write it: a leading `/` or `./` and doubled slashes are dropped.
    ///
    /// # Errors
    /// When a component is `..`, holds a NUL, or is longer than POSIX's 255 bytes.
    pub fn parse(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let path = path.as_ref();
        let shown = || String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned();
        if path.len() > 4096 || path.contains(&0) {
            return Err(PathError::Malformed(shown()));
        }
        let mut clean = Vec::with_capacity(path.len());
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(PathError::Climbs(shown())),
                _ if component.len() > 255 => return Err(PathError::Malformed(shown())),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
        }
        Ok(Self(clean.into()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The directory that holds this path; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Whether this is `other` or lies under it.
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root() || (self.0.starts_with(&other.0) && matches!(self.0.get(other.0.len()), None | Some(b'/')))
    }

    /// This path with `path` under it.
    #[must_use]
    pub fn join(&self, path: &Self) -> Self {
        match (self.is_root(), path.is_root()) {
            (true, _) => path.clone(),
            (_, true) => self.clone(),
            _ => Self([&self.0, &b"/"[..], &path.0].concat().into()),
        }
    }

    /// This path with one component under it. The component must be one that [`TreePath::parse`] accepts.
    pub(super) fn join_component(&self, component: &[u8]) -> Self {
        self.join(&Self(component.into()))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // `/` sorts before every byte that a name can hold, so that a subtree is one run.
        let keyed = |byte: u8| if byte == b'/' { 0 } else { byte };
        // Neighbours share most of their bytes, so these are compared eight at a time.
        let (words, other_words) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let same = 8 * words.iter().zip(other_words).take_while(|(one, other)| one == other).count();
        let (rest, other_rest) = (&self.0[same..], &other.0[same..]);
        match rest.iter().zip(other_rest).find(|(one, other)| one != other) {
            Some((one, other)) => keyed(*one).cmp(&keyed(*other)),
            None => rest.len().cmp(&other_rest.len()),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_hostile_ones_refused() {
        for (written, clean) in [("./etc//passwd", "etc/passwd"), ("/", ""), ("a/./b/", "a/b")] {
            assert_eq!(TreePath::parse(written).unwrap().as_bytes(), clean.as_bytes(), "{written}");
        }
        for hostile in ["../x", "a/../../b", "a/..", "a\0b"] {
            assert!(TreePath::parse(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn a_directory_is_followed_by_what_lies_under_it() {
        let mut paths: Vec<_> =
            ["a.b", "a/c", "a", "a/b/x", "a-", "a/b"].iter().map(|p| TreePath::parse(p).unwrap()).collect();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["a", "a/b", "a/b/x", "a/c", "a-", "a.b"]);
    }
}
