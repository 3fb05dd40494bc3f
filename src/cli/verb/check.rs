//! `rolecast check`: read and check; fetch nothing.

use std::fmt::Write as _;

use crate::cli::Done;
use crate::cli::args::CheckArguments;
use crate::cli::settings::Settings;
use crate::plan;
use crate::report::Report;
use crate::spec::Body;

use super::project::Project;

/// Checks an image file, its profiles and overlays, and says what they make.
///
/// # Errors
/// With everything that is wrong.
pub fn run(arguments: &CheckArguments, _: &Settings) -> Result<Done, Report> {
    let project = Project::read(&arguments.image)?;
    let spec = &project.spec;
    let mut text = format!("{} is sound\n", project.path.file);
    let mut roles = Vec::new();
    for role in &spec.roles {
        let layers: Vec<&str> = role.layers.iter().map(|layer| spec.layers[*layer].name.as_str()).collect();
        let files = role.layers.iter().flat_map(|layer| &spec.layers[*layer].files);
        let late = files.clone().filter(|file| matches!(file.body, Body::Late { .. })).count();
        let baked = files.count() - late;
        let formats: Vec<String> = role.formats.iter().map(plan::format_name).collect();
        let _ = writeln!(
            text,
            "  {}: layers {}; {baked} files baked, {late} left to a seed; {}",
            role.name,
            layers.join(" > "),
            formats.join(", "),
        );
        roles.push(serde_json::json!({
            "role": role.name, "layers": layers, "baked": baked, "late": late, "formats": formats,
        }));
    }
    match &spec.cluster {
        Some(cluster) => {
            let _ =
                writeln!(text, "  cluster {}: {} nodes, address {}", cluster.name, cluster.nodes.len(), cluster.vip);
        }
        None => text.push_str("  no cluster described: the images are generic\n"),
    }
    let json = serde_json::json!({ "image": spec.name, "version": spec.version, "roles": roles });
    Ok(Done { text, json, warnings: project.warnings })
}
