//! What this room's tests build on: an archive that is generated and signed here, and a server that may lie.

use std::sync::Arc;

use crate::report::{Source, Span};
use crate::spec::Archive;

/// An archive of the image file with one suite and component `main`.
pub fn archive(name: &str, suite: &str) -> Archive {
    let text = format!("[archive.{name}]\n");
    let source = Arc::new(Source { path: "images/test.toml".to_owned(), text: text.clone() });
    Archive {
        name: name.to_owned(),
        suites: vec![suite.to_owned()],
        components: vec!["main".to_owned()],
        keyring: format!("keyrings/{name}.gpg"),
        keyring_bytes: None,
        fingerprints: Vec::new(),
        priority: 500,
        mirror: None,
        allow_expired: false,
        span: Span::new(&source, 0..text.len() - 1),
    }
}
