//! Two texts, line by line.

use similar::TextDiff;

/// Lines of a text that is compared at most: comparing takes time with their product.
const MOST_LINES: usize = 5_000;

/// The unified diff of two texts; none when one of them is no text, or has too many lines.
pub fn unified(name: &str, before: &[u8], after: &[u8]) -> Option<String> {
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let (before, after) = (text(before)?, text(after)?);
    if before.lines().count().max(after.lines().count()) > MOST_LINES {
        return None;
    }
    let diff = TextDiff::from_lines(before, after);
    Some(diff.unified_diff().context_radius(3).header(name, name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_and_other_bytes_are_not() {
        let diff = unified("/etc/x", b"a\nb\nc\n", b"a\nB\nc\n").unwrap();
        assert!(diff.contains("--- /etc/x") && diff.contains("\n-b\n+B\n"), "{diff}");
        assert_eq!(unified("x", b"\xff", b"a"), None);
        assert_eq!(unified("x", b"a\0", b"a"), None);
        assert_eq!(unified("x", "a\n".repeat(6000).as_bytes(), b"a"), None);
    }
}
