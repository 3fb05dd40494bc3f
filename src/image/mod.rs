//! A tree becomes deliverables: root, disk, netboot set, tarball, manifest; and the lints that refuse a bad one.
