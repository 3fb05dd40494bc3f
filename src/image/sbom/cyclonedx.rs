//! CycloneDX 1.6 as JSON: the packages. Files are in the SPDX form only, where the field looks for them.

use serde_json::{Value, json};

use super::{Bill, Component, Licence, Lines, distribution_name, name_and_address};
use crate::deb::date::format_rfc3339;

/// The document's text.
pub fn write(bill: &Bill<'_>) -> Vec<u8> {
    let request = bill.request;
    let root = format!("{}-{}-{}", request.image, request.role, request.version);
    let references: Vec<&str> = bill.components.iter().map(|component| component.purl.as_str()).collect();
    let metadata = json!({
        "timestamp": format_rfc3339(request.released),
        "tools": { "components": [{ "type": "application", "name": "rolecast", "version": env!("CARGO_PKG_VERSION") }] },
        "component": {
            "type": "operating-system",
            "bom-ref": root,
            "name": format!("{}-{}", request.image, request.role),
            "version": request.version,
            "hashes": [{ "alg": "SHA-256", "content": request.shown }],
            "properties": [
                { "name": "rolecast:distribution", "value": request.distribution },
                { "name": "rolecast:lock", "value": request.lock },
            ],
        },
    });
    Lines::new()
        .field("$schema", &"http://cyclonedx.org/schema/bom-1.6.schema.json")
        .field("bomFormat", &"CycloneDX")
        .field("specVersion", &"1.6")
        .field("serialNumber", &serial_number(bill))
        .field("version", &1)
        .field("metadata", &metadata)
        .list("components", bill.components.iter().map(|component| self::component(component, bill)))
        .list("dependencies", [json!({ "ref": root, "dependsOn": references })])
        .finish()
}

fn component(component: &Component<'_>, bill: &Bill<'_>) -> Value {
    let (package, described) = (component.package, &component.described);
    let mut value = json!({
        "type": "library",
        "bom-ref": component.purl,
        "name": package.name,
        "version": package.version,
        "purl": component.purl,
        "supplier": { "name": distribution_name(bill.request.distribution) },
        "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
        "properties": [
            { "name": "rolecast:layer", "value": component.layer },
            { "name": "rolecast:archive", "value": package.archive },
            { "name": "rolecast:path", "value": package.path },
        ],
    });
    match &component.licence {
        Licence::Expression(expression) => value["licenses"] = json!([{ "expression": expression }]),
        Licence::Names(names) => {
            value["licenses"] = names.iter().map(|name| json!({ "license": { "name": name } })).collect();
        }
        Licence::Unknown => {}
    }
    if let Some(maintainer) = &described.maintainer {
        let (name, address) = name_and_address(maintainer);
        let mut author = json!({ "name": name });
        if let Some(address) = address {
            author["email"] = json!(address);
        }
        value["authors"] = json!([author]);
    }
    if let Some(summary) = &described.summary {
        value["description"] = json!(summary);
    }
    if let Some(homepage) = described.homepage.as_ref().filter(|page| page.starts_with("http")) {
        value["externalReferences"] = json!([{ "type": "website", "url": homepage }]);
    }
    value
}

/// A UUID of version 8 (RFC 9562) from what the bill is about: the same bill has the same number.
fn serial_number(bill: &Bill<'_>) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&bill.identity.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = super::files::hexadecimal(&bytes);
    format!("urn:uuid:{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
