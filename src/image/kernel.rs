//! The kernel of a root: read where its package put it, never moved.

use crate::report::{Diagnostic, Kind};
use crate::tree::{Content, Tree, TreePath};

/// A kernel and its release.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// The bytes of `vmlinuz`.
    pub content: Content,
}

/// The one kernel of a root: `/boot/vmlinuz-RELEASE` with its modules in `/usr/lib/modules/RELEASE`.
///
/// # Errors
/// When there is none, or more than one.
pub fn find(tree: &Tree) -> Result<Kernel, Diagnostic> {
    let mut kernels = Vec::new();
    let boot = TreePath::parse("boot").unwrap_or_default();
    for (path, node) in tree.below(&boot) {
        let (Some(content), Some(release)) = (node.content(), path.name().strip_prefix(b"vmlinuz-")) else { continue };
        let modules = [b"usr/lib/modules/", release].concat();
        if TreePath::parse(modules).is_ok_and(|modules| tree.get(&modules).is_some()) {
            kernels.push(Kernel { release: String::from_utf8_lossy(release).into_owned(), content: *content });
        }
    }
    match <[Kernel; 1]>::try_from(kernels) {
        Ok([kernel]) => Ok(kernel),
        Err(kernels) if kernels.is_empty() => Err(Diagnostic::error(Kind::Input, "the root has no kernel")
            .note("a disk or netboot image boots `/boot/vmlinuz-RELEASE` with modules in `/usr/lib/modules/RELEASE`")
            .hint("add a kernel package to a profile, or build only `tar`")),
        Err(kernels) => {
            let releases: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
            Err(Diagnostic::error(Kind::Input, format!("the root has several kernels: {}", releases.join(", ")))
                .note("an image boots one kernel")
                .hint("leave one kernel package in the profiles"))
        }
    }
}
