//! `rolecast generate`: completions, man pages, schemas and the reference, all from the program's own definitions.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Done;
use crate::cli::args::{Arguments, GenerateVerb, SchemaOf};
use crate::report::{Diagnostic, Kind, Report};
use crate::spec::{self, schema, sources::Sources};
use crate::sys::files::{self, Context as _};

/// Writes what is asked for.
///
/// # Errors
/// When a directory cannot be written, or the project's profiles do not read.
pub fn run(verb: &GenerateVerb) -> Result<Done, Report> {
    let text = match verb {
        GenerateVerb::Completions { shell } => completions(*shell),
        GenerateVerb::Man { directory } => man(directory)?,
        GenerateVerb::Schema { of: SchemaOf::Image } => format!("{:#}\n", schema::image()),
        GenerateVerb::Schema { of: SchemaOf::Profile } => format!("{:#}\n", schema::profile()),
        GenerateVerb::Reference { project } => reference(project)?,
    };
    Ok(Done { text, ..Done::default() })
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "rolecast", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn reference(project: &Path) -> Result<String, Report> {
    if !project.join("profiles").is_dir() {
        return Err(Diagnostic::error(Kind::Usage, format!("`{}` is no project", project.display()))
            .hint("name the directory that holds `profiles`")
            .into());
    }
    Ok(spec::reference(&Sources::read(project)?))
}

fn man(directory: &Path) -> Result<String, Report> {
    files::make_directory(directory).map_err(Diagnostic::from)?;
    clap_mangen::generate_to(Arguments::command(), directory).on("write", directory).map_err(Diagnostic::from)?;
    let mut written = Vec::new();
    for entry in std::fs::read_dir(directory).on("read", directory).map_err(Diagnostic::from)? {
        let path = entry.on("read", directory).map_err(Diagnostic::from)?.path();
        if path.extension().is_some_and(|extension| extension == "1") {
            written.push(format!("{}\n", path.display()));
        }
    }
    written.sort();
    Ok(written.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_documented_and_the_definitions_are_sound() {
        Arguments::command().help_expected(true).debug_assert();
    }

    #[test]
    fn every_verb_has_a_man_page() {
        let directory = tempfile::tempdir().unwrap();
        let written = man(directory.path()).unwrap();
        for verb in ["", "-build", "-check", "-inspect", "-lock", "-plan", "-store-gc"] {
            let page = directory.path().join(format!("rolecast{verb}.1"));
            assert!(std::fs::read_to_string(&page).unwrap().contains(".TH"), "{}", page.display());
        }
        assert!(written.lines().count() > 8);
    }

    #[test]
    fn completions_know_the_verbs() {
        assert!(completions(clap_complete::Shell::Bash).contains("inspect"));
    }
}
