//! `rolecast seed`: each machine's seed, in every form in which it can travel by hand.

use std::fmt::Write as _;

use crate::cli::Done;
use crate::cli::args::SeedArguments;
use crate::report::{Diagnostic, Report};
use crate::seed::{Terms, file};
use crate::sys::private;

use super::cluster::Named;

/// Writes the seeds.
///
/// # Errors
/// When there are no secrets, a template does not render, or the directory cannot be written.
pub fn run(arguments: &SeedArguments) -> Result<Done, Report> {
    let named = Named::read(&arguments.cluster)?;
    let nodes = named.nodes(&arguments.nodes)?;
    let (vault, added) = named.vault()?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => named.file.path.with_file_name(&named.name),
    };
    file::close(&output).map_err(Diagnostic::from)?;
    let mut text = added.iter().fold(String::new(), |text, line| text + line + "\n");
    let mut seeds = Vec::new();
    for node in nodes {
        let terms = Terms { open: false, memory_state: arguments.terms.memory_state };
        let planted = named.plant(&node.name, &vault, terms)?;
        let directory = output.join(&node.name);
        let nocloud = planted.nocloud();
        nocloud.write_directory(&directory)?;
        nocloud.write_volume(&directory.join("cidata.img"))?;
        // MAAS hands user data out over plain HTTP.
        let for_maas = match arguments.terms.secrets_over_http {
            true => planted,
            false => named.plant(&node.name, &vault, Terms { open: true, ..terms })?,
        };
        private::write(&directory.join("maas-user-data"), for_maas.maas_user_data().as_bytes())
            .map_err(Diagnostic::from)?;
        let place = directory.display().to_string();
        let _ = writeln!(text, "{place}: {} of role {}", node.name, node.role);
        seeds.push(serde_json::json!({ "node": node.name, "role": node.role, "directory": place }));
    }
    let json = serde_json::json!({ "generation": vault.generation, "seeds": seeds, "added": added });
    Ok(Done { text, json, warnings: named.project.warnings })
}
