//! SPDX 2.3 as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::files::{Listed, hexadecimal};
use super::{Bill, Component, Licence, Lines, by_name, distribution_name, is_group, name_and_address};
use crate::deb::date::format_rfc3339;
use crate::digest::Digest;

/// The element that stands for the root as a whole.
const ROOT: &str = "SPDXRef-Root";

/// The document's text.
pub fn write(bill: &Bill<'_>) -> Vec<u8> {
    let request = bill.request;
    let name = format!("{}-{}-{}", request.image, request.role, request.version);
    let ids: Vec<String> = bill.components.iter().map(package_id).collect();
    let file_ids: Vec<String> = bill.files.iter().map(file_id).collect();
    let index = by_name(&bill.components);
    let owner = |file: &Listed<'_>| index.get(&file.package?).copied();
    // Which files each package, and at `None` the root itself, holds.
    let mut held: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (at, file) in bill.files.iter().enumerate() {
        held.entry(owner(file)).or_default().push(at);
    }
    let sha1s = |owner: Option<usize>| {
        let files = held.get(&owner).map_or(&[][..], Vec::as_slice);
        files.iter().map(|at| bill.files[*at].sha1.as_str()).collect::<Vec<_>>()
    };
    let packages = bill.components.iter().enumerate();
    let packages = packages.map(|(at, component)| package(component, &ids[at], sha1s(Some(at)), bill));
    let packages = std::iter::once(root(bill, &name, sha1s(None))).chain(packages);
    let contained = held.iter().flat_map(|(owner, files)| {
        let owner = owner.map_or(ROOT, |at| &ids[at]);
        files.iter().map(|at| Relation::new(owner, "CONTAINS", &file_ids[*at])).collect::<Vec<_>>()
    });
    let relations = std::iter::once(Relation::new("SPDXRef-DOCUMENT", "DESCRIBES", ROOT))
        .chain(ids.iter().map(|id| Relation::new(ROOT, "CONTAINS", id)))
        .chain(contained);
    let creator = format!("Tool: rolecast-{}", env!("CARGO_PKG_VERSION"));
    Lines::new()
        .field("spdxVersion", &"SPDX-2.3")
        .field("dataLicense", &"CC0-1.0")
        .field("SPDXID", &"SPDXRef-DOCUMENT")
        .field("name", &name)
        .field("documentNamespace", &format!("https://spdx.org/spdxdocs/{name}-{}", bill.identity))
        .field("creationInfo", &json!({ "created": format_rfc3339(request.released), "creators": [creator] }))
        .list("documentDescribes", [ROOT])
        .list("packages", packages)
        .list("files", bill.files.iter().zip(&file_ids).map(|(file, id)| File::new(file, id)))
        .list("relationships", relations)
        .finish()
}

fn root(bill: &Bill<'_>, name: &str, sha1s: Vec<&str>) -> Value {
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
    analysed(&mut root, sha1s);
    root
}

fn package(component: &Component<'_>, id: &str, sha1s: Vec<&str>, bill: &Bill<'_>) -> Value {
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
    analysed(&mut value, sha1s);
    value
}

/// Files may be listed only for packages that were looked into, and those carry a code over their files' SHA-1s
/// (SPDX 2.3, 7.9).
fn analysed(value: &mut Value, mut sha1s: Vec<&str>) {
    value["filesAnalyzed"] = json!(!sha1s.is_empty());
    if sha1s.is_empty() {
        return;
    }
    sha1s.sort_unstable();
    let code = hexadecimal(&Sha1::digest(sha1s.concat().as_bytes()));
    value["packageVerificationCode"] = json!({ "packageVerificationCodeValue": code });
}

/// A file; a root has tens of thousands, so they are written as they are.
#[derive(Serialize)]
struct File<'a> {
    #[serde(rename = "SPDXID")]
    id: &'a str,
    checksums: [Checksum<'a>; 2],
    #[serde(rename = "copyrightText")]
    copyright_text: &'static str,
    #[serde(rename = "fileName")]
    file_name: String,
    #[serde(rename = "licenseConcluded")]
    license_concluded: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "algorithm", content = "checksumValue")]
enum Checksum<'a> {
    #[serde(rename = "SHA1")]
    Sha1(&'a str),
    #[serde(rename = "SHA256")]
    Sha256(Digest),
}

impl<'a> File<'a> {
    fn new(file: &'a Listed<'_>, id: &'a str) -> Self {
        Self {
            id,
            checksums: [Checksum::Sha1(&file.sha1), Checksum::Sha256(file.sha256)],
            copyright_text: "NOASSERTION",
            file_name: format!("./{}", file.path),
            license_concluded: "NOASSERTION",
        }
    }
}

#[derive(Serialize)]
struct Relation<'a> {
    #[serde(rename = "relatedSpdxElement")]
    to: &'a str,
    #[serde(rename = "relationshipType")]
    kind: &'static str,
    #[serde(rename = "spdxElementId")]
    from: &'a str,
}

impl<'a> Relation<'a> {
    fn new(from: &'a str, kind: &'static str, to: &'a str) -> Self {
        Self { to, kind, from }
    }
}

/// Identifiers hold letters, digits, `.` and `-` only; the digest keeps `g++` and `g--` apart.
fn package_id(component: &Component<'_>) -> String {
    let package = component.package;
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' };
    let name: String = package.name.chars().map(plain).collect();
    format!("SPDXRef-Package-{name}-{}", &package.sha256.to_string()[..16])
}

fn file_id(file: &Listed<'_>) -> String {
    format!("SPDXRef-File-{}", &Digest::of(file.path.as_bytes()).to_string()[..24])
}
