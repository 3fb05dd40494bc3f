//! The tests of the whole program, in one binary because linking it is what costs.
//!
//! `boot` and `formats` look at `images/ha-lab.toml` as built from Debian's archive and need root; everything else is
//! offline and works on archives and roots that `support` makes. See `tests/README.md`.
#![allow(clippy::print_stderr, reason = "a test tells its figures and its machines' restarts on standard error")]

#[path = "../support/mod.rs"]
mod support;

mod altered;
mod apply;
mod boot;
mod builds;
mod checkers;
mod corpora;
mod differences;
mod formats;
mod lab;
mod mirrors;
mod mistakes;
mod publish;
mod reflinks;
mod remote;
mod report_page;
mod reproducible;
mod scenarios;
mod secure_boot;
mod seeds;
mod signatures;
mod small_updates;
mod stub;
mod trust;
mod updates;
mod vendor;
