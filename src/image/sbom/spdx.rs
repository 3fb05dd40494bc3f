//! SPDX 2.3 as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::files::{Listed, hexadecimal};
use super::{Bill, Component, Licence, by_name, distribution_name, is_group, lines, name_and_address};
use crate::deb::date::format_rfc3339;
use crate::digest::Digest;

/// The element that stands for the root as a whole.
const ROOT: &str = "SPDXRef-Root";

/// The document's text.
pub fn write(bill: &Bill<'_>) -> Vec<u8> {
    let request = bill.request;
    let name = format!("{}-{}-{}", request.image, request.role, request.version);
    let ids: Vec<String> = bill.components.iter().map(package_id).collect();
    let index = by_name(&bill.components);
    let owner = |file: &Listed| {
        let (name, version) = file.package.as_ref()?;
        index.get(&(name.as_str(), version.as_str())).copied()
    };
    // Which files each package, and at `None` the root itself, holds.
    let mut held: BTreeMap<Option<usize>, Vec<&Listed>> = BTreeMap::new();
    for file in &bill.files {
        held.entry(owner(file)).or_default().push(file);
    }
    let mut packages = vec![root(bill, &name, held.get(&None).map_or(&[], Vec::as_slice))];
    for (at, component) in bill.components.iter().enumerate() {
        packages.push(package(component, &ids[at], held.get(&Some(at)).map_or(&[], Vec::as_slice), bill));
    }
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", ROOT)];
    relationships.extend(ids.iter().map(|id| relation(ROOT, "CONTAINS", id)));
    for (owner, files) in &held {
        let owner = owner.map_or(ROOT, |at| &ids[at]);
        relationships.extend(files.iter().map(|file| relation(owner, "CONTAINS", &file_id(file))));
    }
    let creator = format!("Tool: rolecast-{}", env!("CARGO_PKG_VERSION"));
    lines(&[
        ("spdxVersion", json!("SPDX-2.3")),
        ("dataLicense", json!("CC0-1.0")),
        ("SPDXID", json!("SPDXRef-DOCUMENT")),
        ("name", json!(name)),
        ("documentNamespace", json!(format!("https://spdx.org/spdxdocs/{name}-{}", bill.identity))),
        ("creationInfo", json!({ "created": format_rfc3339(request.released), "creators": [creator] })),
        ("documentDescribes", json!([ROOT])),
        ("packages", Value::Array(packages)),
        ("files", bill.files.iter().map(file).collect()),
        ("relationships", Value::Array(relationships)),
    ])
}

fn root(bill: &Bill<'_>, name: &str, files: &[&Listed]) -> Value {
    let request = bill.request;
    let mut root = json!({
        "SPDXID": ROOT,
        "name": name,
        "versionInfo": request.version,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "summary": format!("The root of role {} of image file {}: {}", request.role, request.image, request.distribution),
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    });
    analysed(&mut root, files);
    root
}

fn package(component: &Component<'_>, id: &str, files: &[&Listed], bill: &Bill<'_>) -> Value {
    let (package, described) = (component.package, &component.described);
    let mut value = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "packageFileName": package.path,
        "supplier": format!("Organization: {}", distribution_name(bill.request.distribution)),
        "downloadLocation": "NOASSERTION",
        "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": component.purl,
        }],
    });
    match &component.licence {
        Licence::Expression(expression) => value["licenseDeclared"] = json!(expression),
        Licence::Names(names) => {
            let comment = format!("debian/copyright names, not all of them certain in SPDX: {}", names.join("; "));
            value["licenseComments"] = json!(comment);
        }
        Licence::Unknown => {}
    }
    if let Some(maintainer) = &described.maintainer {
        let (name, address) = name_and_address(maintainer);
        let kind = if is_group(name) { "Organization" } else { "Person" };
        let address = address.map_or(String::new(), |address| format!(" ({address})"));
        value["originator"] = json!(format!("{kind}: {name}{address}"));
    }
    if let Some(homepage) = described.homepage.as_ref().filter(|page| page.starts_with("http")) {
        value["homepage"] = json!(homepage);
    }
    if let Some(summary) = &described.summary {
        value["summary"] = json!(summary);
    }
    let source = described.source.as_deref().unwrap_or(&package.name);
    let version = described.source_version.as_deref().unwrap_or(&package.version);
    value["sourceInfo"] = json!(format!("built from source package {source} {version}"));
    analysed(&mut value, files);
    value
}

/// Files may be listed only for packages that were looked into, and those carry a code over them (SPDX 2.3, 7.9).
fn analysed(value: &mut Value, files: &[&Listed]) {
    value["filesAnalyzed"] = json!(!files.is_empty());
    if files.is_empty() {
        return;
    }
    let mut sha1s: Vec<&str> = files.iter().map(|file| file.sha1.as_str()).collect();
    sha1s.sort_unstable();
    let code = hexadecimal(&Sha1::digest(sha1s.concat().as_bytes()));
    value["packageVerificationCode"] = json!({ "packageVerificationCodeValue": code });
}

fn file(file: &Listed) -> Value {
    json!({
        "SPDXID": file_id(file),
        "fileName": format!("./{}", file.path),
        "checksums": [
            { "algorithm": "SHA1", "checksumValue": file.sha1 },
            { "algorithm": "SHA256", "checksumValue": file.sha256 },
        ],
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Identifiers hold letters, digits, `.` and `-` only; the digest keeps `g++` and `g--` apart.
fn package_id(component: &Component<'_>) -> String {
    let package = component.package;
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' };
    let name: String = package.name.chars().map(plain).collect();
    format!("SPDXRef-Package-{name}-{}", &package.sha256.to_string()[..16])
}

fn file_id(file: &Listed) -> String {
    format!("SPDXRef-File-{}", &Digest::of(file.path.as_bytes()).to_string()[..24])
}
