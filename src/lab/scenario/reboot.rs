//! Proof 10: every machine is rebooted in turn, and its seed source is gone.

use super::{Begins, CONTAINERS, Scenario};

/// What a machine is known by.
const IDENTITY: &str = "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub /etc/hostname; \
                        cat /var/lib/maas/maas_id 2>/dev/null; sha256sum /etc/rolecast/node.pem";

/// Changes outside of what is declared as state.
const DRIFT: &str = "echo drift >/etc/motd; echo drift >/usr/local/drift; echo drift >>/etc/hosts; \
                     mkdir -p /var/lib/drift && test -e /usr/local/drift";

/// What is left of them.
const LEFT: &str =
    "grep -l drift /etc/motd /usr/local/drift /etc/hosts 2>/dev/null; ls -d /var/lib/drift 2>/dev/null; true";

/// In turn, a region that leads included.
pub const REBOOTS: Scenario = Scenario {
    name: "reboots",
    number: 10,
    proves: "Every machine is rebooted in turn without its seed source: drift is gone, database and identities are not",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let everyone: Vec<String> = stage.cast.everyone().into_iter().map(str::to_owned).collect();
        for name in &everyone {
            let before = stage.shell(name, IDENTITY)?;
            stage.shell(name, DRIFT)?;
            stage.stop(name)?;
            stage.machine(name)?.set_seed(None)?;
            stage.start(&[name])?;
            let joined = stage.wait_joined(&[name], stage.patience(180))?;
            stage.seconds(&format!("{name}: power on to joined"), joined, None);
            let after = stage.shell(name, IDENTITY)?;
            stage.check(before == after, || format!("{name} is another machine:\n{before}\nbecame\n{after}"))?;
            let left = stage.shell(name, LEFT)?;
            stage.check(left.trim().is_empty(), || format!("{name} kept what is not state:\n{left}"))?;
            // As an operator would: the next machine only when this one is in sync.
            stage.wait_whole()?;
        }
        for name in &everyone {
            stage.seed(name, |_| {})?;
        }
        Ok(())
    },
};
