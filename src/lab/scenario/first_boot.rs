//! Proof 11: the first boot of a disk image with a volume named `CIDATA`.

use crate::lab::machine::BackEnd;

use super::{Begins, Scenario};

/// What only the firmware's way shows: the sealed root, and where the seed came from.
pub const FIRST_BOOT: Scenario = Scenario {
    name: "first-boot",
    number: 11,
    proves: "A disk image that boots by firmware runs its sealed root, finds its seed on a volume named CIDATA, and joins",
    on: &[BackEnd::Qemu],
    begins: Begins::Formed,
    run: |stage| {
        for name in stage.cast.everyone() {
            let root = stage.shell(name, "veritysetup status root | grep status; cat /proc/cmdline")?;
            stage.check(root.contains("verified") && root.contains("roothash="), || {
                format!("the root of {name} is not sealed:\n{root}")
            })?;
            let source = stage.shell(name, "cat /run/cloud-init/result.json")?;
            stage.check(source.contains("DataSourceNoCloud") && source.contains("/dev/"), || {
                format!("{name} has its seed from elsewhere:\n{source}")
            })?;
            let restarts = stage.machine(name)?.restarts();
            stage.tell(&format!("{name}: sealed root, seed from a volume, {restarts} restarts of a hung start"));
        }
        let restarts: u32 = stage.lab.machines().map(|machine| machine.restarts()).sum();
        stage.figure("starts that hung before a kernel spoke", f64::from(restarts), "starts", None);
        Ok(())
    },
};
