//! `rolecast publish`: the tree that a TFTP and HTTP server hands out.

use crate::cli::Done;
use crate::cli::args::PublishArguments;
use crate::report::{Diagnostic, Report};
use crate::seed::{Publication, ServerUrl, UPDATES};

use super::cluster::Named;
use super::sign;

/// Writes the tree.
///
/// # Errors
/// When images or secrets are missing, or it cannot be written.
pub fn run(arguments: &PublishArguments) -> Result<Done, Report> {
    let url = ServerUrl::parse(&arguments.url)?;
    let named = Named::read(&arguments.cluster)?;
    let (vault, added) = named.vault()?;
    let publication = Publication {
        spec: &named.project.spec,
        cluster: &named.cluster,
        vault: &vault,
        images: &arguments.images,
        url: &url,
        secrets_over_http: arguments.terms.secrets_over_http,
        memory_state: arguments.terms.memory_state,
    };
    // A key that cannot sign is told before anything is written.
    let signer = sign::signer(&arguments.signer)?;
    let published = publication.write(&arguments.directory)?;
    if let Some(signer) = &signer {
        for (role, released) in &published.updates {
            crate::sign::sign_list(&arguments.directory.join(UPDATES).join(role), released, signer)?;
        }
    }
    let mut warnings = named.project.warnings;
    for node in &published.left_out {
        let warning = Diagnostic::warning(format!("`{node}` cannot boot from this tree: its `mac` is not written"));
        warnings.push(warning.hint("a network server tells machines apart by their MAC addresses"));
    }
    if url.is_open() && published.secrets {
        let warning = Diagnostic::warning("the seeds carry secrets, and travel where anyone on the network reads them");
        warnings.push(warning.hint("leave out `--secrets-over-http` and bring the secrets with `rolecast apply`"));
    }
    let place = arguments.directory.display();
    let mut text = added.iter().fold(String::new(), |text, line| text + line + "\n");
    if !published.updates.is_empty() {
        let version = &named.project.spec.version;
        let roles: Vec<&str> = published.updates.keys().map(String::as_str).collect();
        text += &format!("{place}/{UPDATES} has {version} for machines of role {}\n", roles.join(", "));
    }
    text += &format!("{place} is ready for {}\n", published.nodes.join(", "));
    text += &format!("serve it at {}, and run `dnsmasq --conf-file={place}/dnsmasq.conf`\n", arguments.url);
    if !published.secrets {
        text += "the seeds carry no secrets: machines wait for `rolecast apply`\n";
    }
    let json = serde_json::json!({
        "directory": place.to_string(), "nodes": published.nodes, "left_out": published.left_out,
        "updates": published.updates.keys().collect::<Vec<_>>(),
        "signed_by": signer.as_ref().map(crate::sign::Signer::fingerprint),
        "secrets": published.secrets, "generation": vault.generation,
    });
    Ok(Done { text, json, warnings })
}
