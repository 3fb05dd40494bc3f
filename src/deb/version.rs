//! Versions and their order, as deb-version(7) has them.
//!
//! The text is kept as written: it names files and is compared with a .deb's own. Equality is that of the order, so
//! `1.0` and `1.00` are equal although their texts differ, exactly as dpkg decides.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version: `[epoch:]upstream[-revision]`.
#[derive(Clone)]
pub struct Version(Box<str>);

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing, or nothing after the epoch.
    #[error("the version is empty")]
    Empty,
    /// What precedes the first colon is no number, or does not fit 31 bits.
    #[error("the epoch of version `{0}` is not a number from 0 to 2147483647")]
    Epoch(String),
    /// A hyphen with nothing after it.
    #[error("the revision of version `{0}` is empty")]
    EmptyRevision(String),
    /// A character other than letters, digits and `.+~-:`.
    #[error("version `{version}` contains `{character}`; allowed are letters, digits and `.`, `+`, `~`, `-`, `:`")]
    Character {
        /// The version, shortened.
        version: String,
        /// The first such character.
        character: char,
    },
    /// More than 4096 bytes.
    #[error("a version of {0} bytes is too long")]
    TooLong(usize),
}

/// Longest version accepted, in bytes; real ones are under a hundred.
const LONGEST: usize = 4096;

impl Version {
    /// Reads a version.
    ///
    /// # Errors
    /// When it breaks the grammar of deb-version(7). As dpkg does, an upstream part that starts with a letter passes.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text without the epoch, as file names in a pool have it.
    pub fn without_epoch(&self) -> &str {
        Parts::of(&self.0).after_epoch
    }
}

/// Whether `text` is a version, without keeping it.
pub(super) fn check(text: &str) -> Result<(), VersionError> {
    if text.len() > LONGEST {
        return Err(VersionError::TooLong(text.len()));
    }
    let shortened = || text.chars().take(80).collect::<String>();
    let rest = match text.split_once(':') {
        None => text,
        Some((epoch, rest)) => {
            let digits = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || epoch.parse::<i32>().is_err() {
                return Err(VersionError::Epoch(shortened()));
            }
            rest
        }
    };
    if rest.is_empty() {
        return Err(VersionError::Empty);
    }
    let (upstream, revision) = match rest.rsplit_once('-') {
        None => (rest, None),
        Some((upstream, revision)) => (upstream, Some(revision)),
    };
    if upstream.is_empty() {
        return Err(VersionError::Empty);
    }
    if revision == Some("") {
        return Err(VersionError::EmptyRevision(shortened()));
    }
    // A colon is allowed only where an epoch made it unambiguous, never in the revision.
    let fits =
        |text: &str, extra: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte));
    if fits(upstream, b".+~-:") && fits(revision.unwrap_or(""), b".+~") {
        return Ok(());
    }
    let stranger = |character: &char| !character.is_ascii_alphanumeric() && !".+~-".contains(*character);
    let character = text.chars().find(stranger).unwrap_or(':');
    Err(VersionError::Character { version: shortened(), character })
}

/// The three parts of a version; an absent epoch is 0 and an absent revision is empty, which orders like `0`.
struct Parts<'a> {
    epoch: u32,
    after_epoch: &'a str,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, after_epoch) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = after_epoch.rsplit_once('-').unwrap_or((after_epoch, ""));
        Self { epoch: epoch.parse().unwrap_or(0), after_epoch, upstream, revision }
    }
}

/// dpkg's order of two version texts, for callers that hold borrowed text.
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left, right) = (Parts::of(left), Parts::of(right));
    left.epoch
        .cmp(&right.epoch)
        .then_with(|| compare_part(left.upstream.as_bytes(), right.upstream.as_bytes()))
        .then_with(|| compare_part(left.revision.as_bytes(), right.revision.as_bytes()))
}

/// Alternating runs of non-digits and digits; an exhausted side yields empty runs.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_run(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split_run(right, |byte| !byte.is_ascii_digit());
        let (left_number, left_rest) = split_run(left_rest, |byte| byte.is_ascii_digit());
        let (right_number, right_rest) = split_run(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_text(left_text, right_text).then_with(|| compare_number(left_number, right_number));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split_run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !belongs(byte)).unwrap_or(bytes.len()))
}

/// `~` sorts before the end, the end before letters, letters before all else.
fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left.get(at)).cmp(&weight(right.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Numbers of any length, without reading them into an integer.
fn compare_number(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = split_run(left, |byte| *byte == b'0');
    let (_, right) = split_run(right, |byte| *byte == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    use super::*;

    /// From policy 5.6.12 and from dpkg's corner cases.
    const ORDERED: &[(&str, Ordering, &str)] = &[
        ("1.0", Ordering::Equal, "1.00"),
        ("1.0", Ordering::Equal, "0:1.0"),
        ("1.0", Ordering::Equal, "1.0-0"),
        ("1.a", Ordering::Equal, "1.a0"),
        ("1.0~rc1", Ordering::Less, "1.0"),
        ("1.0~~", Ordering::Less, "1.0~~a"),
        ("1.0~~a", Ordering::Less, "1.0~"),
        ("1.0-1", Ordering::Less, "1.0-1+b1"),
        ("1.0-1~bpo12+1", Ordering::Less, "1.0-1"),
        ("9", Ordering::Less, "10"),
        ("1:1", Ordering::Greater, "9999"),
        ("1.0a", Ordering::Less, "1.0+"),
        ("1.0", Ordering::Less, "1.0a"),
        ("2:1.0:3-1", Ordering::Less, "2:1.0:4-1"),
        ("0.0000000000000000000000000000000000001", Ordering::Less, "0.99999999999999999999999999999999999999999"),
        ("1.0-1-1", Ordering::Less, "1.0-1-2"),
        ("257.7-1~deb13u1", Ordering::Less, "257.7-1"),
    ];

    #[test]
    fn the_table_is_ordered() {
        for (left, order, right) in ORDERED {
            assert_eq!(compare(left, right), *order, "{left} {right}");
            assert_eq!(compare(right, left), order.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn what_dpkg_refuses_is_refused() {
        for text in
            ["", "1:", ":1", "a:1", "-1:1", "2147483648:1", "1-", "-1", "1 2", "1/2", "1_2", "1\n", "1-a:b", "é"]
        {
            assert!(Version::parse(text).is_err(), "{text:?}");
        }
        assert!(Version::parse(&"1".repeat(LONGEST + 1)).is_err());
        for text in ["0", "1", "1.2.3-4", "2147483647:1", "1:2:3-4", "a", "1-2-3", "1~+.-1~+."] {
            assert_eq!(Version::parse(text).map(|version| version.to_string()), Ok(text.to_owned()));
        }
    }

    /// One shell for all pairs: a process per pair would take minutes.
    #[test]
    fn random_pairs_order_as_dpkg_orders_them() {
        let mut runner = TestRunner::deterministic();
        let one = "([0-2]:)?[0-9a-b][0-9ab.+~:]{0,6}(-[0-9ab.+~]{1,4})?";
        let pair = (one, one).prop_filter("a colon needs an epoch", |(left, right)| {
            Version::parse(left).is_ok() && Version::parse(right).is_ok()
        });
        let mut pairs: Vec<(String, String)> =
            (0..400).map(|_| pair.new_tree(&mut runner).expect("a pair").current()).collect();
        pairs.extend(ORDERED.iter().map(|(left, _, right)| ((*left).into(), (*right).into())));
        pairs.retain(|(left, right)| Version::parse(left).is_ok() && Version::parse(right).is_ok());
        let script = "while read -r left right; do
            if dpkg --compare-versions \"$left\" lt \"$right\" 2>&-; then echo Less
            elif dpkg --compare-versions \"$left\" eq \"$right\" 2>&-; then echo Equal
            else echo Greater; fi; done";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut input = shell.stdin.take().expect("a pipe");
        let text: String = pairs.iter().map(|(left, right)| format!("{left} {right}\n")).collect();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = shell.wait_with_output().expect("sh ends");
        writer.join().expect("the writer ends").expect("sh reads everything");
        let answers = String::from_utf8(output.stdout).expect("text");
        assert_eq!(answers.lines().count(), pairs.len());
        for ((left, right), answer) in pairs.iter().zip(answers.lines()) {
            assert_eq!(format!("{:?}", compare(left, right)), answer, "{left} {right}");
        }
    }
}
