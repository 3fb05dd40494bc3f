//! `provenance.json`: which inputs became which outputs, as an in-toto statement with SLSA's predicate.
//!
//! Names every input by digest and neither time nor machine, so that whoever builds the same again gets the same
//! statement. Specifications: in-toto Statement v1, SLSA provenance v1.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::format::authenticode::Signer;
use crate::plan::materials::Material;
use crate::plan::{self, Format};

use super::press::Request;

/// The statement's name.
pub const NAME: &str = "provenance.json";

/// What this way to build is called: `docs/threat-model.md` says what it promises.
const BUILD_TYPE: &str = "urn:rolecast:build:1";

/// Who built. Where a statement has to be tied to a machine or a person, that is what its signature says.
const BUILDER: &str = "urn:rolecast:builder";

/// The statement's text: `subjects` are files beside it with their SHA-256.
pub fn write(request: &Request<'_>, subjects: &[(String, Digest)]) -> Vec<u8> {
    let options: BTreeMap<&str, &str> =
        request.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject(subjects),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "image": format!("images/{}.toml", request.image),
                    "version": request.version,
                    "role": request.role,
                    "formats": formats(request.formats),
                    "options": options,
                    "secureBootCertificate": request.signer.map(Signer::certificate_digest),
                },
                "internalParameters": {
                    "distribution": request.distribution,
                    "spec": request.locked.spec,
                    "sourceDateEpoch": request.epoch,
                },
                "resolvedDependencies": dependencies(request.materials),
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "rolecast": env!("CARGO_PKG_VERSION") } },
            },
        },
    });
    format!("{statement:#}\n").into_bytes()
}

/// The statement `text` as it would be had `asked` alone been asked for: of the outputs `subjects`, from `materials`. None
/// when it is no such statement.
pub fn narrowed(
    text: &[u8],
    asked: &[Format],
    subjects: &[(String, Digest)],
    materials: &[Material],
) -> Option<Vec<u8>> {
    let mut statement: Value = serde_json::from_slice(text).ok()?;
    *statement.get_mut("subject")? = subject(subjects);
    let definition = statement.pointer_mut("/predicate/buildDefinition")?;
    *definition.pointer_mut("/externalParameters/formats")? = formats(asked);
    *definition.get_mut("resolvedDependencies")? = dependencies(materials);
    Some(format!("{statement:#}\n").into_bytes())
}

fn subject(subjects: &[(String, Digest)]) -> Value {
    subjects.iter().map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } })).collect()
}

fn formats(formats: &[Format]) -> Value {
    formats.iter().map(plan::format_name).collect()
}

fn dependencies(materials: &[Material]) -> Value {
    materials.iter().map(dependency).collect()
}

fn dependency(material: &Material) -> Value {
    let mut value = json!({
        "name": material.name,
        "digest": { "sha256": material.sha256 },
        "annotations": material.annotations,
    });
    if let Some(uri) = &material.uri {
        value["uri"] = json!(uri);
    }
    value
}
