//! `rolecast secrets`: make, show and change the secrets of a cluster.

use std::fmt::Write as _;

use crate::cli::Done;
use crate::cli::args::ClusterArguments;
use crate::report::{Diagnostic, Kind, Report};
use crate::seed::certificate::DAY;
use crate::seed::{Step, Vault};

use super::cluster::{Named, now};

/// Makes the secrets, or adds what is missing.
///
/// # Errors
/// When the file cannot be read or written.
pub fn init(arguments: &ClusterArguments, recipients: Vec<String>) -> Result<Done, Report> {
    let mut named = Named::read(arguments)?;
    if !recipients.is_empty() && !named.file.is_encrypted() && arguments.secrets.is_none() {
        named.file.path.as_mut_os_string().push(".age");
    }
    let place = named.file.path.display().to_string();
    if named.file.exists() {
        if !recipients.is_empty() {
            let message = format!("there are secrets at `{place}` already: who can decrypt them is settled");
            return Err(Diagnostic::error(Kind::Usage, message).hint("leave out `--recipient`").into());
        }
        let (vault, added) = named.vault()?;
        let mut text = added.iter().fold(String::new(), |text, line| text + line + "\n");
        match added.is_empty() {
            true => text = format!("{place} has all that the cluster needs\n"),
            false => {
                let _ = writeln!(text, "{place} is at generation {}", vault.generation);
            }
        }
        let json = serde_json::json!({ "file": place, "generation": vault.generation, "done": added });
        return Ok(Done { text, json, warnings: named.project.warnings });
    }
    let mut vault = Vault::create(&named.project.spec, &named.cluster, now())?;
    vault.recipients = recipients;
    named.file.create(&vault)?;
    let text = format!(
        "made {place}: {} secrets, an authority, certificates of {} nodes, the operator's key\n\
         keep a copy in a safe place: without it the cluster cannot be changed\n",
        vault.secret.len(),
        vault.node.len(),
    );
    let json = serde_json::json!({ "file": place, "generation": vault.generation, "done": ["made all"] });
    Ok(Done { text, json, warnings: named.project.warnings })
}

/// Lists the secrets, or reveals one.
///
/// # Errors
/// When the file cannot be read, or has no such secret.
pub fn show(arguments: &ClusterArguments, reveal: Option<&str>) -> Result<Done, Report> {
    let named = Named::read(arguments)?;
    let vault = named.file.read()?;
    match reveal {
        Some(name) => revealed(&vault, name),
        None => Ok(Done { warnings: named.project.warnings, ..listed(&vault, now()) }),
    }
}

fn revealed(vault: &Vault, name: &str) -> Result<Done, Report> {
    let own = [
        ("ca_certificate", vault.trusted() + "\n"),
        ("operator_public_key", vault.operator.public.clone() + "\n"),
        ("operator_private_key", vault.operator.private.0.clone()),
    ];
    let secret = vault.secret.get(name).map(|kept| kept.value.0.clone() + "\n");
    let certificate = || vault.node.get(name).map(|node| node.certificate.clone() + &node.key.0);
    let own = || own.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let Some(value) = secret.or_else(certificate).or_else(own) else {
        let names: Vec<&str> = vault.secret.keys().chain(vault.node.keys()).map(String::as_str).collect();
        return Err(Diagnostic::error(Kind::Usage, format!("there is no secret named `{name}`"))
            .note(format!("there are: {}", names.join(", ")))
            .note("and: ca_certificate, operator_public_key, operator_private_key")
            .into());
    };
    let json = serde_json::json!({ "name": name, "value": value });
    Ok(Done { text: value, json, ..Done::default() })
}

fn listed(vault: &Vault, now: u64) -> Done {
    let age = |made: u64| now.saturating_sub(made) / DAY;
    let left = |ends: u64| (ends.cast_signed() - now.cast_signed()).div_euclid(DAY.cast_signed());
    let mut text = format!(
        "secrets of {}: generation {}, changed {} days ago\n",
        vault.image,
        vault.generation,
        age(vault.issued)
    );
    let mut json = serde_json::Map::new();
    for (name, kept) in &vault.secret {
        let _ = writeln!(text, "  {name:<24} {:>5} days old", age(kept.made));
        json.insert(name.clone(), serde_json::json!({ "days_old": age(kept.made) }));
    }
    let operator = age(vault.operator.made);
    let _ = writeln!(text, "  {:<24} {operator:>5} days old", "operator's SSH key");
    let authorities =
        [Some(("authority", &vault.authority)), vault.other_authority.as_ref().map(|other| ("other authority", other))];
    let authorities = authorities.into_iter().flatten().map(|(what, one)| (what.to_owned(), one.made, one.ends));
    let nodes = vault.node.iter().map(|(node, one)| (format!("certificate of {node}"), one.made, one.ends));
    for (what, made, ends) in authorities.chain(nodes) {
        let _ = writeln!(text, "  {what:<24} {:>5} days old, {} days left", age(made), left(ends));
        json.insert(what, serde_json::json!({ "days_old": age(made), "days_left": left(ends) }));
    }
    if let Some(next) = next_step(vault.step) {
        let _ = writeln!(text, "the authority is being changed: {next}");
    }
    let json = serde_json::json!({
        "image": vault.image, "generation": vault.generation, "issued": vault.issued, "step": vault.step, "secrets": json,
    });
    Done { text, json, ..Done::default() }
}

/// What is to be done about an authority that is being changed.
fn next_step(step: Step) -> Option<&'static str> {
    match step {
        Step::Settled => None,
        Step::Introduced => Some("machines are to trust the next one too; `rolecast apply --all` goes on"),
        Step::Replaced => {
            Some("certificates are the new one's, the old one is still trusted; `rolecast apply --all` goes on")
        }
    }
}

/// Replaces secrets, or takes the next step of changing the authority.
///
/// # Errors
/// When a name is not known, or the file cannot be written.
pub fn rotate(arguments: &ClusterArguments, names: &[String], authority: bool) -> Result<Done, Report> {
    let named = Named::read(arguments)?;
    let (old, added) = named.vault()?;
    let mut vault = old.clone();
    let mut text = added.iter().fold(String::new(), |text, line| text + line + "\n");
    let done = match authority {
        true => {
            if vault.step != Step::Settled {
                let message = "the authority is being changed already";
                return Err(Diagnostic::error(Kind::Usage, message)
                    .note("a step may only follow when every machine has the one before")
                    .hint("`rolecast apply --all` waits for the machines and takes the steps that are left")
                    .into());
            }
            vault.advance_authority(&named.cluster.name, now())?;
            vec!["made the next authority: machines are to trust both".to_owned()]
        }
        false => vault.rotate(names, now())?.iter().map(|name| format!("replaced {name}")).collect(),
    };
    named.file.replace(&old, &vault)?;
    for line in &done {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "generation {}; `rolecast apply --all` brings it to the machines", vault.generation);
    let json = serde_json::json!({ "generation": vault.generation, "step": vault.step, "done": done });
    Ok(Done { text, json, warnings: named.project.warnings })
}
