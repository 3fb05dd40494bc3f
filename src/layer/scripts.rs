//! The target's own dpkg configures what was laid. Runs inside the sandbox's namespaces.
//!
//! Owns the order that works in a root where nothing is configured yet, the environment of a preinst, what is kept from
//! running at build, and what a person reads when a script fails. References: policy chapter 6 and 10.4 (policy-rc.d
//! is that of invoke-rc.d(8)), dpkg(1), deb-preinst(5).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sys::sandbox::{Program, Room};

use super::deb_systemd_helper;
use super::inside::{Configure, InsideError, add_accounts};
use super::lay::Preinst;

/// A maintainer script may take this long.
const LIMIT: Duration = Duration::from_secs(900);

/// Programs that `true` stands for while packages are configured: what they make is one machine's identity, or is made
/// by another step.
const INERT: [&str; 5] = [
    "usr/bin/pg_createcluster",
    "usr/bin/ssh-keygen",
    "usr/bin/systemd-machine-id-setup",
    "usr/sbin/make-ssl-cert",
    "usr/sbin/update-initramfs",
];

/// Packages that others' scripts need without saying so, in the order in which they are configured first.
const FIRST: [&str; 2] = ["base-passwd", "mawk"];

/// Keeps services from being started (invoke-rc.d(8)).
const POLICY: &str = "usr/sbin/policy-rc.d";

/// Runs preinsts and `dpkg --configure` for what was laid.
pub(super) fn configure(room: &Room, request: &Configure, line: &mut dyn FnMut(&str)) -> Result<(), InsideError> {
    let root = room.root();
    room.write(POLICY, 0o755, b"#!/bin/sh\nexit 101\n")?;
    for program in INERT {
        if root.join(program).exists() {
            room.cover(program, "usr/bin/true")?;
        }
    }
    deb_systemd_helper::cover(room)?;
    let mut bench = Scripts { room, epoch: request.epoch, line };
    let (base, others): (Vec<_>, Vec<_>) = request.preinsts.iter().partition(|preinst| preinst.package == FIRST[0]);
    for preinst in base {
        bench.preinst(preinst)?;
    }
    add_accounts(room, &request.accounts, request.epoch)?;
    for preinst in others {
        bench.preinst(preinst)?;
    }
    if !request.debconf.is_empty() {
        room.write("run/debconf-answers", 0o600, request.debconf.as_bytes())?;
        bench.run(&["debconf-set-selections", "/run/debconf-answers"])?;
    }
    if request.parent.is_none() {
        for package in FIRST {
            if root.join(format!("var/lib/dpkg/info/{package}.list")).exists() {
                bench.dpkg(&["--force-depends", "--configure", package])?;
            }
        }
    }
    bench.dpkg(&["--configure", "--pending"])?;
    let audit = bench.run(&["dpkg", "--audit"])?;
    if !audit.trim().is_empty() {
        let message = format!("`dpkg --audit` is not content with the layer `{}`", request.layer);
        let notes = audit.lines().take(20).map(str::to_owned).collect();
        return Err(InsideError::Script { message, notes });
    }
    bench.run(&["rm", &format!("/{POLICY}")])?;
    Ok(())
}

struct Scripts<'a> {
    room: &'a Room,
    epoch: i64,
    line: &'a mut dyn FnMut(&str),
}

impl Scripts<'_> {
    fn program(&self, command: &[&str]) -> Program {
        let environment = BTreeMap::from([
            ("SOURCE_DATE_EPOCH".to_owned(), self.epoch.to_string()),
            // The hooks of a kernel package make no initrd: that is a step of its own.
            ("INITRD".to_owned(), "No".to_owned()),
            // What is compiled is asked for and tells its source by hash; a cache of an import tells it by time.
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]);
        Program { command: command.iter().map(|&word| word.to_owned()).collect(), environment, limit: LIMIT }
    }

    fn preinst(&mut self, preinst: &Preinst) -> Result<(), InsideError> {
        let script = format!("/var/lib/dpkg/info/{}.preinst", preinst.instance);
        let mut program = self.program(&[&script, "install"]);
        for (name, value) in [
            ("DPKG_MAINTSCRIPT_NAME", "preinst"),
            ("DPKG_MAINTSCRIPT_PACKAGE", &preinst.package),
            ("DPKG_MAINTSCRIPT_ARCH", &preinst.architecture),
            ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
            ("DPKG_ADMINDIR", "/var/lib/dpkg"),
            ("DPKG_ROOT", ""),
        ] {
            program.environment.insert(name.to_owned(), value.to_owned());
        }
        let ended = self.room.run(&program, self.line)?;
        match ended.failure {
            None => Ok(()),
            Some(failure) => {
                let message = format!("the preinst of the package {} failed: {failure}", preinst.package);
                Err(InsideError::Script { message, notes: tail(&ended.output) })
            }
        }
    }

    fn dpkg(&mut self, arguments: &[&str]) -> Result<(), InsideError> {
        // Nothing here has to survive a power cut: the layer is captured whole or made again.
        let mut command = vec!["dpkg", "--force-unsafe-io", "--force-confold", "--abort-after=1"];
        command.extend(arguments);
        let ended = self.room.run(&self.program(&command), self.line)?;
        match ended.failure {
            None => Ok(()),
            Some(failure) => {
                let message =
                    explain(&ended.output).unwrap_or_else(|| format!("`{}` failed: {failure}", command.join(" ")));
                Err(InsideError::Script { message, notes: tail(&ended.output) })
            }
        }
    }

    fn run(&mut self, command: &[&str]) -> Result<String, InsideError> {
        let ended = self.room.run(&self.program(command), self.line)?;
        match ended.failure {
            None => Ok(ended.output),
            Some(failure) => {
                let message = format!("`{}` failed: {failure}", command.join(" "));
                Err(InsideError::Script { message, notes: tail(&ended.output) })
            }
        }
    }
}

/// Package and script out of dpkg's words: `dpkg: error processing package NAME (--configure):`, then what failed.
fn explain(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|line| !line.contains("error processing package "));
    let package = lines.next()?.split("error processing package ").nth(1)?.split_whitespace().next()?;
    let reason = lines.next().unwrap_or_default().trim();
    let script =
        ["postinst", "post-installation", "preinst", "pre-installation"].iter().find(|word| reason.contains(**word));
    Some(match script {
        Some(_) => format!("the postinst of the package {package} failed: {reason}"),
        None => format!("the package {package} cannot be configured: {reason}"),
    })
}

/// The last lines of a program's output, for a person.
pub(super) fn tail(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(20)..].iter().map(|line| line.chars().take(300).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkgs_words_name_package_and_script() {
        let output = "Setting up a (1) ...\noops\ndpkg: error processing package a (--configure):\n installed a package \
                      post-installation script subprocess returned error exit status 7\n";
        let message = explain(output).unwrap();
        assert!(message.starts_with("the postinst of the package a failed: installed a package"), "{message}");
        assert_eq!(explain("nothing of the kind"), None);
        assert_eq!(tail(output).len(), 4);
    }
}
