//! Who answers at a machine's address, before it is told a secret.
//!
//! Owns the rule by which host keys come to be accepted: an operator has seen the fingerprint on the machine itself and
//! names it. No key is taken at first sight, and none takes another's place unasked.

use std::collections::BTreeMap;
use std::thread;

use super::deliver::Courier;
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::NodeFacts;
use crate::sys::HostKey;
use crate::sys::host_key::is_fingerprint;

/// Fingerprints that an operator has seen on machines, by node name.
pub type Shown = BTreeMap<String, String>;

/// What is found at a machine's address.
enum Met {
    /// The key that was accepted before; or nobody, who is told nothing.
    Settled,
    /// The key that the operator has seen.
    Shown(HostKey),
    /// A key that nobody has accepted.
    Stranger(HostKey),
    /// Another key than the one that the operator has seen.
    Other(HostKey),
}

impl Courier {
    /// Makes sure that no machine is spoken to whose host key was not accepted; accepts those in `shown` that machines
    /// really offer, and says which.
    ///
    /// # Errors
    /// When a machine offers a key that was not accepted, or another than the one in `shown`. Machines that do not
    /// answer are no error here.
    pub fn meet(&self, nodes: &[&NodeFacts], shown: &Shown) -> Result<Vec<String>, Report> {
        let met: Vec<Result<Met, Diagnostic>> = thread::scope(|scope| {
            let look = |node: &NodeFacts| self.look(node, shown.get(&node.name));
            let started: Vec<_> = nodes.iter().copied().map(|node| scope.spawn(move || look(node))).collect();
            let failed = || Err(Diagnostic::error(Kind::Internal, "a thread failed"));
            started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect()
        });
        let mut accepted = Vec::new();
        let mut strangers = Vec::new();
        let mut report = Report::new();
        for (node, met) in nodes.iter().zip(met) {
            match met? {
                Met::Settled => {}
                Met::Shown(key) => {
                    self.known.accept(&node.name, &key).map_err(Diagnostic::from)?;
                    accepted.push(format!("accepted the host key of {}: {}", node.name, key.fingerprint()));
                }
                Met::Stranger(key) => strangers.push((node.name.as_str(), key.fingerprint())),
                Met::Other(key) => {
                    let message =
                        format!("`{}` offers another host key than the one named: {}", node.name, key.fingerprint());
                    report.push(
                        Diagnostic::error(Kind::Trust, message)
                            .note(format!("named was: {}", shown.get(&node.name).map_or("", String::as_str)))
                            .hint("compare with `rolecast-join status` on the machine; someone else may answer at its address"),
                    );
                }
            }
        }
        report.diagnostics.extend(unknown(&strangers));
        if report.has_errors() { Err(report) } else { Ok(accepted) }
    }

    fn look(&self, node: &NodeFacts, shown: Option<&String>) -> Result<Met, Diagnostic> {
        let known = self.known.key(&node.name)?.map(|key| key.fingerprint());
        match (&known, shown) {
            // Where it has another one now, ssh refuses it.
            (Some(_), None) => return Ok(Met::Settled),
            (Some(known), Some(shown)) if known == shown => return Ok(Met::Settled),
            _ => {}
        }
        let Ok(offered) = self.offered(node) else { return Ok(Met::Settled) };
        Ok(match shown {
            None => Met::Stranger(offered),
            Some(shown) if *shown == offered.fingerprint() => Met::Shown(offered),
            Some(_) => Met::Other(offered),
        })
    }

    /// A machine that has another key than the accepted one.
    pub(super) fn changed(&self, node: &NodeFacts) -> Diagnostic {
        let name = &node.name;
        let message = format!("`{name}` has another host key than the accepted one: nothing was told to it");
        let mut problem = Diagnostic::error(Kind::Trust, message)
            .note("it is a new machine in its place, or it was set up anew, or someone else answers at its address");
        if let Ok(Some(accepted)) = self.known.key(name) {
            problem =
                problem.note(format!("accepted: {}, in `{}`", accepted.fingerprint(), self.known.path().display()));
        }
        match self.offered(node).map(|key| key.fingerprint()) {
            Err(_) => problem,
            Ok(offered) => problem.note(format!("offered:  {offered}")).hint(format!(
                "only if the machine itself shows that one (`rolecast-join status`, or its console): `--host-key \
                 {name}={offered}`"
            )),
        }
    }
}

/// Machines whose keys nobody has accepted, in one message.
fn unknown(strangers: &[(&str, String)]) -> Option<Diagnostic> {
    let message = match strangers {
        [] => return None,
        [(name, _)] => format!("the host key of `{name}` is not known: nothing was told to any machine"),
        many => format!("the host keys of {} machines are not known: nothing was told to any machine", many.len()),
    };
    let told = |problem: Diagnostic, (name, key): &(&str, String)| problem.note(format!("{name} offers {key}"));
    let accept: Vec<String> = strangers.iter().map(|(name, key)| format!("--host-key {name}={key}")).collect();
    let problem = strangers.iter().fold(Diagnostic::error(Kind::Trust, message), told);
    Some(problem.hint(format!(
        "if the machine itself shows the same (`rolecast-join status`, or its console), accept it: `{}`",
        accept.join(" ")
    )))
}

/// Reads `NODE=SHA256:…`.
///
/// # Errors
/// What it should be.
pub fn shown(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((node, key)) if !node.is_empty() && is_fingerprint(key) => Ok((node.to_owned(), key.to_owned())),
        _ => Err("it is not `NODE=SHA256:…`, a node and what `rolecast-join status` shows there".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_shows_is_read() {
        let key = format!("SHA256:{}", "A".repeat(43));
        assert_eq!(shown(&format!("rack-1={key}")), Ok(("rack-1".to_owned(), key.clone())));
        for text in ["", "rack-1", &key, &format!("={key}"), "rack-1=SHA256:short", "rack-1="] {
            assert!(shown(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strangers_are_one_message_that_can_be_followed() {
        assert!(unknown(&[]).is_none());
        let one = unknown(&[("rack-1", "SHA256:a".to_owned()), ("rack-2", "SHA256:b".to_owned())]).unwrap();
        assert!(one.message.contains("2 machines") && one.notes[1] == "rack-2 offers SHA256:b");
        assert!(one.hints[0].contains("--host-key rack-1=SHA256:a --host-key rack-2=SHA256:b"), "{}", one.hints[0]);
    }
}
