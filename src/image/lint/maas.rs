//! The contract of MAAS custom images (root tarballs), as curtin expects it.

use crate::store::StoreError;
use crate::tree::TreePath;

use super::{Finding, Subject};

/// cloud-init with the MAAS data source, and none of the files that curtin writes itself.
pub fn custom_image(subject: &Subject<'_>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = subject.forbidden(&[("etc/fstab", "a file that curtin writes")]);
    let mut absent = |path: &str, what| {
        if let Ok(path) = TreePath::parse(path) {
            findings.push(Finding { path, what });
        }
    };
    if subject.node("usr/bin/cloud-init").is_none() {
        absent("usr/bin/cloud-init", "it is missing, and MAAS deploys through cloud-init");
    }
    let mut sources = None;
    for (path, node) in subject.below("etc/cloud/cloud.cfg.d") {
        let Some(content) = node.content().filter(|_| path.name().ends_with(b".cfg")) else { continue };
        let text = String::from_utf8_lossy(&subject.read(content)?).into_owned();
        // Later files win, as cloud-init merges them.
        sources = text.lines().find(|line| line.starts_with("datasource_list:")).map(str::to_owned).or(sources);
    }
    if sources.is_some_and(|sources| !sources.contains("MAAS")) {
        absent("etc/cloud/cloud.cfg.d", "its `datasource_list` leaves out MAAS");
    }
    Ok(findings)
}
