//! Credentials: from the environment, or from what `docker login` wrote. Never shown, and sent over TLS or the loopback only.
//!
//! Format: `config.json` of docker(1), its `auths`; helpers that keep passwords elsewhere are not run.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::report::{Diagnostic, Kind};
use crate::sys::files;

use super::Environment;

/// The variables that name a user of a registry or web server.
const USER: &str = "ROLECAST_REMOTE_USER";
const PASSWORD: &str = "ROLECAST_REMOTE_PASSWORD";

/// The value of an `Authorization` header. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// As a header's value.
    pub fn value(&self) -> &str {
        &self.0
    }

    /// A token.
    pub fn bearer(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    fn basic(user_and_password: &str) -> Self {
        Self(format!("Basic {}", STANDARD.encode(user_and_password)))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Whether the host (maybe with a port) is this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a URL is such that a secret may travel to it.
pub fn is_private(url: &str) -> bool {
    match url.split_once("://") {
        Some(("https", _)) => true,
        Some(("http", rest)) => is_loopback(rest.split('/').next().unwrap_or_default()),
        _ => false,
    }
}

/// The user that the environment names.
///
/// # Errors
/// When one of the two variables is set alone.
pub fn of_environment(environment: Environment<'_>) -> Result<Option<Secret>, Diagnostic> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    match (set(USER), set(PASSWORD)) {
        (Some(user), Some(password)) => Ok(Some(Secret::basic(&format!("{user}:{password}")))),
        (None, None) => Ok(None),
        _ => Err(Diagnostic::error(Kind::Usage, format!("of {USER} and {PASSWORD} only one is set"))),
    }
}

/// The user of a registry: of the environment, else of docker's `config.json`; none: whoever.
///
/// # Errors
/// When the file is there and does not read, or has a helper keep this registry's password.
pub fn of_registry(host: &str, environment: Environment<'_>) -> Result<Option<Secret>, Diagnostic> {
    if let Some(secret) = of_environment(environment)? {
        return Ok(Some(secret));
    }
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let folder = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")).filter(|path| path.is_file()) else {
        return Ok(None);
    };
    let bytes = files::read(&path)?;
    // What is wrong with it is not quoted: a password may stand there.
    let refuse = |what: &str| Diagnostic::error(Kind::Input, format!("`{}` {what}", path.display()));
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|_| refuse("is no JSON").hint("`docker login` writes it anew"))?;
    // docker writes the host; older ones a URL.
    let names = [host.to_owned(), format!("https://{host}"), format!("https://{host}/v2/")];
    let entry = |part: &str| names.iter().find_map(|name| config.get(part)?.get(name));
    let auth = entry("auths").and_then(|entry| entry.get("auth")).and_then(serde_json::Value::as_str);
    if let Some(auth) = auth.filter(|auth| !auth.is_empty()) {
        let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.filter(|text| text.contains(':'));
        let decoded = decoded.ok_or_else(|| refuse(&format!("has no user and password for `{host}`")))?;
        return Ok(Some(Secret::basic(&decoded)));
    }
    if entry("credHelpers").is_some() || (entry("auths").is_some() && config.get("credsStore").is_some()) {
        return Err(refuse(&format!("has a helper keep the password for `{host}`, and helpers are not run"))
            .hint(format!("set {USER} and {PASSWORD}")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_from_the_environment_or_docker_and_never_print() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_string_lossy().into_owned();
        let config = |text: &str| std::fs::write(folder.path().join("config.json"), text).unwrap();
        let docker = |name: &str| (name == "DOCKER_CONFIG").then(|| place.clone());
        let named = |name: &str| match name {
            USER => Some("ada".to_owned()),
            PASSWORD => Some("hunter2".to_owned()),
            other => docker(other),
        };
        assert_eq!(of_registry("r.example", &docker).unwrap(), None);
        config(r#"{"auths":{"r.example":{"auth":"Ym9iOnNlY3JldA=="}}}"#);
        let secret = of_registry("r.example", &docker).unwrap().unwrap();
        assert_eq!(secret.value(), "Basic Ym9iOnNlY3JldA==");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(of_registry("other.example", &docker).unwrap(), None);
        assert_eq!(of_registry("r.example", &named).unwrap().unwrap().value(), "Basic YWRhOmh1bnRlcjI=");
        assert!(of_registry("r.example", &|name| (name == USER).then(|| "ada".to_owned())).is_err());
        config(r#"{"auths":{"r.example":{}},"credsStore":"desktop"}"#);
        assert!(of_registry("r.example", &docker).unwrap_err().message.contains("helper"));
        config("not JSON: hunter2");
        assert!(!format!("{:?}", of_registry("r.example", &docker).unwrap_err()).contains("hunter2"));
    }

    #[test]
    fn secrets_travel_over_tls_or_the_loopback() {
        for (url, private) in [
            ("https://r.example/v2/", true),
            ("http://127.0.0.1:5000/v2/", true),
            ("http://localhost/x", true),
            ("http://[::1]:80/x", true),
            ("http://r.example/", false),
            ("http://127.0.0.1.r.example/", false),
            ("ftp://localhost/", false),
        ] {
            assert_eq!(is_private(url), private, "{url}");
        }
    }
}
