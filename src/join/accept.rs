//! Accepts a ticket, or says why not.
//!
//! A ticket comes from a seed or over `rolecast apply`, so it is input from outside: bounded in size, and it may name
//! only what the image's own table leaves to a seed, with that table's owners and modes. Owns the rule which ticket is in
//! force: a good one that is no older replaces the accepted one; a bad one leaves it as it is. Lays nothing, starts nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::durable::{self, Belongs};
use super::lay;
use super::tables::Image;
use super::world::{EtcdRecord, Record};
use crate::report::{Diagnostic, Kind};
use crate::ticket::{self, Ticket, TicketError};

/// The most bytes that a ticket may have.
pub const LIMIT: usize = 4 << 20;

/// The most machines in a cluster.
const NODES: usize = 1000;

/// Why a ticket is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Too long.
    #[error("it has more than {LIMIT} bytes")]
    Long,
    /// No ticket, or one that this program does not read. The parser's own words may repeat a secret.
    #[error("{}", form(.0))]
    Form(#[from] TicketError),
    /// For another image file.
    #[error("it was made from image file `{0}`, and this machine runs an image of `{1}`")]
    Image(String, String),
    /// For another role.
    #[error("it is for a machine of role `{0}`, and this machine's image is a `{1}`")]
    Role(String, String),
    /// For another machine, on one that has begun to join.
    #[error("it is for node `{0}`, and this machine has joined as `{1}`")]
    Node(String, String),
    /// Made before the accepted one.
    #[error("its secrets are of generation {0}, older than generation {1}, which was accepted before")]
    Older(u64, u64),
    /// A file that the image does not leave to a seed, or with another owner or mode.
    #[error("it brings `{0}`, which this image does not take from a seed in that form")]
    File(String),
    /// A file twice.
    #[error("it brings `{0}` twice")]
    Twice(String),
    /// A file that it should bring.
    #[error("it lacks `{0}`")]
    Lacks(String),
    /// A name that is no host name.
    #[error("`{0}` is no name of a machine or cluster")]
    Name(String),
    /// Two machines with one name or address.
    #[error("two of its nodes are `{0}`")]
    Same(String),
    /// Too many machines.
    #[error("it has more than {NODES} nodes")]
    Crowd,
    /// Without its secrets, where the accepted one has them.
    #[error("it is of generation {0} and comes without its secrets; the accepted ticket stays in force")]
    Bare(u64),
}

impl Refusal {
    /// What a person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Image(..) | Self::Role(..) => "give the machine its own seed, or boot the image of that role",
            Self::Node(..) => "give the machine its own seed; to make it another node, re-image it with an empty state",
            Self::Older(..) => "make the seed again from the present secrets: `rolecast seed`",
            Self::Bare(..) => "run `rolecast apply NODE`",
            Self::Form(TicketError::Newer(_)) => "boot a newer image",
            _ => "make the seed again with `rolecast seed`, from the image file that this image was built from",
        }
    }
}

impl From<Refusal> for Diagnostic {
    fn from(refusal: Refusal) -> Self {
        Self::error(Kind::Input, format!("the ticket is refused: {refusal}")).hint(refusal.remedy())
    }
}

/// Why a text is no ticket, without a word of it.
fn form(error: &TicketError) -> String {
    match error {
        TicketError::Form(error) => format!("it is damaged at line {}, column {}", error.line(), error.column()),
        other => other.to_string(),
    }
}

/// What becomes of a good ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the accepted one's place.
    Take(Box<Ticket>),
    /// The accepted one says the same, or the same with its secrets.
    Known,
}

/// Judges a ticket for this image, beside the accepted one and what this machine has done so far.
///
/// # Errors
/// Why it is refused.
pub fn judge(text: &[u8], image: &Image, accepted: Option<&Ticket>, record: &Record) -> Result<Verdict, Refusal> {
    if text.len() > LIMIT {
        return Err(Refusal::Long);
    }
    let ticket = Ticket::read(text)?;
    if ticket.image != image.image {
        return Err(Refusal::Image(ticket.image, image.image.clone()));
    }
    if ticket.role != image.role {
        return Err(Refusal::Role(ticket.role, image.role.clone()));
    }
    nodes(&ticket)?;
    late_files(&ticket, image)?;
    let Some(accepted) = accepted else { return Ok(Verdict::Take(Box::new(ticket))) };
    let begun = record.etcd != EtcdRecord::Never || record.database_begun || record.joined;
    if begun && ticket.node != accepted.node {
        return Err(Refusal::Node(ticket.node, accepted.node.clone()));
    }
    if ticket.generation < accepted.generation {
        return Err(Refusal::Older(ticket.generation, accepted.generation));
    }
    if &ticket == accepted {
        return Ok(Verdict::Known);
    }
    // A seed over plain HTTP comes without secrets at every boot. What `rolecast apply` brought since is worth more.
    if !ticket.withheld.is_empty() && accepted.withheld.is_empty() && ticket.node == accepted.node {
        return match ticket.generation == accepted.generation {
            true => Ok(Verdict::Known),
            false => Err(Refusal::Bare(ticket.generation)),
        };
    }
    Ok(Verdict::Take(Box::new(ticket)))
}

/// The machines have host names, and no two are one.
fn nodes(ticket: &Ticket) -> Result<(), Refusal> {
    if ticket.cluster.nodes.len() > NODES {
        return Err(Refusal::Crowd);
    }
    let mut seen = BTreeSet::new();
    for node in &ticket.cluster.nodes {
        if !is_host_name(&node.name) {
            return Err(Refusal::Name(node.name.chars().take(80).collect()));
        }
        for key in [node.name.clone(), node.address.to_string()] {
            if !seen.insert(key.clone()) {
                return Err(Refusal::Same(key));
            }
        }
    }
    // Scope of Patroni and token of etcd.
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = &ticket.cluster.name;
    match (1..=64).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') {
        true => Ok(()),
        false => Err(Refusal::Name(name.chars().take(80).collect())),
    }
}

/// A label of RFC 1123, lower case.
fn is_host_name(name: &str) -> bool {
    let fits = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    (1..=63).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// The files are those that the image leaves to a seed: no other, none twice, none missing.
fn late_files(ticket: &Ticket, image: &Image) -> Result<(), Refusal> {
    let mut brought = BTreeSet::new();
    for file in &ticket.files {
        let fits = image.late.iter().any(|late| {
            (&late.path, &late.owner, &late.group, &late.mode) == (&file.path, &file.owner, &file.group, &file.mode)
        });
        if !fits || lay::mode(&file.mode).is_none() {
            return Err(Refusal::File(file.path.chars().take(200).collect()));
        }
        if !brought.insert(file.path.as_str()) {
            return Err(Refusal::Twice(file.path.clone()));
        }
    }
    for path in &ticket.withheld {
        if !image.late.iter().any(|late| &late.path == path) {
            return Err(Refusal::File(path.chars().take(200).collect()));
        }
        if !brought.insert(path) {
            return Err(Refusal::Twice(path.clone()));
        }
    }
    match image.late.iter().find(|late| !brought.contains(late.path.as_str())) {
        None => Ok(()),
        Some(late) => Err(Refusal::Lacks(late.path.clone())),
    }
}

/// Reads the accepted ticket; none when the machine has none. `root` is `/` but in tests.
///
/// # Errors
/// When it is there and cannot be read.
pub fn accepted(root: &Path) -> Result<Option<Ticket>, Diagnostic> {
    let path = root.join(ticket::ACCEPTED.trim_start_matches('/'));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Diagnostic::error(Kind::World, format!("cannot read `{}`: {error}", ticket::ACCEPTED)));
        }
    };
    let damaged = |error: TicketError| {
        Diagnostic::error(
            Kind::World,
            format!("the accepted ticket `{}` is of no use: {}", ticket::ACCEPTED, form(&error)),
        )
        .hint("remove it and give the machine its seed again")
    };
    Ticket::read(&text).map(Some).map_err(damaged)
}

/// Keeps a ticket as the accepted one, durably and root's alone.
///
/// # Errors
/// When state cannot be written.
pub fn keep(root: &Path, ticket: &Ticket) -> Result<(), Diagnostic> {
    durable::write(root, Path::new(ticket::ACCEPTED), ticket.write().as_bytes(), Belongs::mine())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tables::Late;
    use super::super::testing;
    use super::*;
    use crate::ticket::{File, Secret};

    fn image() -> Image {
        let late = |path: &str, mode: &str| Late {
            path: path.into(),
            owner: "root".into(),
            group: "root".into(),
            mode: mode.into(),
        };
        Image { late: vec![late("/etc/x", "0644"), late("/etc/key", "0400")], ..testing::image("region-primary") }
    }

    fn file(path: &str, mode: &str) -> File {
        let content = Secret("hunter2".into());
        File { path: path.into(), owner: "root".into(), group: "root".into(), mode: mode.into(), content }
    }

    fn good() -> Ticket {
        Ticket { files: vec![file("/etc/x", "0644"), file("/etc/key", "0400")], ..testing::ticket("region-1") }
    }

    fn verdict(ticket: &Ticket, accepted: Option<&Ticket>) -> Result<Verdict, Refusal> {
        judge(ticket.write().as_bytes(), &image(), accepted, &Record::default())
    }

    #[test]
    fn a_good_ticket_is_taken_and_the_same_again_is_known() {
        assert_eq!(verdict(&good(), None).unwrap(), Verdict::Take(Box::new(good())));
        assert_eq!(verdict(&good(), Some(&good())).unwrap(), Verdict::Known);
    }

    #[test]
    fn a_hostile_ticket_can_write_nothing_that_the_image_did_not_name() {
        let with = |file: File| Ticket { files: vec![good().files[0].clone(), file], ..good() };
        let hostile = [
            with(file("/etc/shadow", "0400")),
            with(file("/etc/../etc/key", "0400")),
            with(file("etc/key", "0400")),
            with(file("/etc/key", "0444")),
            with(file("/etc/key", "4400")),
            with(File { owner: "maas".into(), ..file("/etc/key", "0400") }),
            with(File { group: "maas".into(), ..file("/etc/key", "0400") }),
            with(file("/etc/x", "0644")),
            Ticket { withheld: vec!["/etc/shadow".into()], ..good() },
            Ticket { withheld: vec!["/etc/x".into()], ..good() },
            Ticket { files: vec![good().files[0].clone()], ..good() },
        ];
        for ticket in hostile {
            let refusal = verdict(&ticket, None).unwrap_err();
            assert!(matches!(refusal, Refusal::File(_) | Refusal::Twice(_) | Refusal::Lacks(_)), "{refusal}");
            assert!(!refusal.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn names_that_would_reach_a_command_or_a_path_are_refused() {
        for name in ["", "-v", "a b", "../x", "UPPER", "a.b", "x\n", &"a".repeat(64)] {
            let mut ticket = good();
            ticket.node = name.into();
            ticket.cluster.nodes[0].name = name.into();
            assert!(matches!(verdict(&ticket, None), Err(Refusal::Name(_))), "{name:?}");
        }
        let mut twice = good();
        twice.cluster.nodes[1].address = twice.cluster.nodes[0].address;
        assert!(matches!(verdict(&twice, None), Err(Refusal::Same(_))));
        assert!(matches!(judge(&vec![b' '; LIMIT + 1], &image(), None, &Record::default()), Err(Refusal::Long)));
        assert!(matches!(judge(b"{", &image(), None, &Record::default()), Err(Refusal::Form(_))));
    }

    #[test]
    fn another_image_role_or_node_and_older_secrets_are_refused() {
        let other = |ticket: Ticket| verdict(&ticket, Some(&good())).unwrap_err();
        assert!(matches!(other(Ticket { image: "else".into(), ..good() }), Refusal::Image(..)));
        assert!(matches!(other(Ticket { role: "rack".into(), ..good() }), Refusal::Role(..)));
        assert!(matches!(other(Ticket { generation: 0, ..good() }), Refusal::Older(0, 1)));
        let moved = Ticket { node: "region-2".into(), ..good() };
        assert!(matches!(verdict(&moved, Some(&good())), Ok(Verdict::Take(_))), "nothing has begun: a seed put right");
        let begun = Record { etcd: EtcdRecord::Adding, ..Record::default() };
        let judged = judge(moved.write().as_bytes(), &image(), Some(&good()), &begun);
        assert!(matches!(judged, Err(Refusal::Node(..))));
    }

    #[test]
    fn a_seed_without_secrets_never_takes_the_place_of_one_with_them() {
        let bare = Ticket { files: vec![file("/etc/x", "0644")], withheld: vec!["/etc/key".into()], ..good() };
        assert!(matches!(verdict(&bare, None), Ok(Verdict::Take(_))));
        assert_eq!(verdict(&bare, Some(&good())).unwrap(), Verdict::Known);
        assert!(matches!(verdict(&good(), Some(&bare)), Ok(Verdict::Take(_))));
        let newer = Ticket { generation: 2, ..bare };
        assert!(matches!(verdict(&newer, Some(&good())), Err(Refusal::Bare(2))));
    }

    #[test]
    fn the_accepted_ticket_is_kept_for_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        assert_eq!(accepted(root.path()).unwrap(), None);
        keep(root.path(), &good()).unwrap();
        assert_eq!(accepted(root.path()).unwrap(), Some(good()));
        let path = root.path().join(ticket::ACCEPTED.trim_start_matches('/'));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::write(&path, "{").unwrap();
        assert!(accepted(root.path()).is_err());
    }
}
