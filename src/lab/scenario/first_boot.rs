//! Proof 11: the first boot of a disk image with a volume named `CIDATA`, and of a machine without a disk over PXE.

use crate::lab::BootServer;
use crate::lab::machine::BackEnd;

use super::stage::{Failure, Outcome, Stage};
use super::suite::CLIENTS;
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
            is_sealed(stage, name)?;
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

/// A machine that has nothing but its card: loader, kernel, root and seed come from the tree of `rolecast publish`.
pub const NETWORK_BOOT: Scenario = Scenario {
    name: "network-boot",
    number: 11,
    proves: "A rack without a disk boots over PXE from the published tree, finds its seed by HTTP, and joins",
    on: &[BackEnd::Qemu],
    begins: Begins::Formed,
    run: |stage| {
        let rack = stage.cast.racks.first().ok_or_else(|| Failure("there is no rack".into()))?.clone();
        // The racks answer DHCP requests too, and would be heard first.
        for name in stage.cast.racks.clone() {
            stage.kill(&name, "so that only the boot server answers")?;
        }
        stage.fault(&format!("take the disk and the seed of {rack} away"));
        stage.machine(&rack)?.set_seed(None)?;
        stage.machine(&rack)?.set_network_boot(true)?;
        let played = boot_from_network(stage, &rack);
        stage.mend(&format!("give {rack} its disk back"));
        stage.machine(&rack)?.kill()?;
        stage.machine(&rack)?.set_network_boot(false)?;
        stage.reimage(&rack)?;
        played
    },
};

fn boot_from_network(stage: &mut Stage<'_>, rack: &str) -> Outcome {
    let none = || Failure("the network has no free address for a boot server".into());
    let address = *stage.cast.free.get(CLIENTS).ok_or_else(none)?;
    let server = BootServer::start(stage.lab, stage.spec, address, true)?;
    stage.start(&[rack])?;
    let joined = stage.wait_joined(&[rack], stage.patience(300))?;
    stage.seconds("power on to joined, over the network", joined, None);
    is_sealed(stage, rack)?;
    let asked = server.requests();
    for path in ["rack/root.img".to_owned(), format!("{rack}/user-data")] {
        stage.check(asked.iter().any(|asked| asked.ends_with(&path)), || {
            format!("{path} came from elsewhere; asked for was: {asked:?}")
        })?;
    }
    stage.check_members()
}

fn is_sealed(stage: &Stage<'_>, name: &str) -> Outcome {
    // Device mapper's own name and identifier: veritysetup is in the initrd alone.
    let look = "cat /sys/block/dm-*/dm/name /sys/block/dm-*/dm/uuid /proc/cmdline";
    let root = stage.shell(name, look)?;
    let mapped = root.lines().any(|line| line == "root") && root.contains("CRYPT-VERITY-");
    stage.check(mapped && root.contains("roothash="), || format!("the root of {name} is not sealed:\n{root}"))
}
