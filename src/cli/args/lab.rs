//! What the lab takes.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `rolecast lab`.
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Make the machines, power them on, and wait until all have joined; they run on until `down`
    Up(LabUpArguments),
    /// Say how far each machine is
    Status(LabPlace),
    /// Break the cluster in every way that it has to withstand, and measure what a client sees
    Test(LabTestArguments),
    /// Open a shell on a machine, or run a command there
    Shell(LabShellArguments),
    /// End the lab and remove all that it made, also after a crash
    Down(LabDownArguments),
}

/// Where a lab is.
#[derive(Clone, Debug, Args)]
pub struct LabPlace {
    /// The lab's directory [default: .rolecast/lab beside the project]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// What machines are made of, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabBackEnd {
    /// systemd as PID 1 of a container, on the root inside the disk image; seconds
    Container,
    /// Virtual machines: firmware, boot loader, verity and all; minutes where they are emulated
    Qemu,
}

/// What a lab is made of.
#[derive(Debug, Args)]
pub struct LabMachines {
    /// What machines are made of
    #[arg(long, value_name = "WHAT", default_value = "container")]
    pub back_end: LabBackEnd,
    /// Only these nodes [default: all of the cluster]
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Where the images are
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub output: PathBuf,
}

/// `rolecast lab up`.
#[derive(Debug, Args)]
#[command(after_help = "Interrupted, it leaves the machines running: `rolecast lab down` removes them.

Examples:
  rolecast build images/ha-lab.toml --format disk && sudo rolecast lab up images/ha-lab.toml
  rolecast lab up images/ha-lab.toml --back-end qemu --nodes region-1,region-2,rack-1")]
pub struct LabUpArguments {
    /// The image file; it describes a cluster
    pub image: PathBuf,
    /// What the lab is made of
    #[command(flatten)]
    pub machines: LabMachines,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
}

/// `rolecast lab test`.
#[derive(Debug, Args)]
#[command(
    after_help = "It makes a lab of its own and removes it at the end. What a failed scenario leaves, the journals of all
machines above all, is kept below --report. Fails when a scenario does.

Examples:
  rolecast lab test images/ha-lab.toml
  rolecast lab test images/ha-lab.toml leader-dies 6
  rolecast lab test images/ha-lab.toml --list"
)]
pub struct LabTestArguments {
    /// The image file; it describes a cluster
    pub image: PathBuf,
    /// Scenarios by name, or by the number of a proof [default: all]
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// List the scenarios and what they prove, and play none
    #[arg(long)]
    pub list: bool,
    /// What the lab is made of
    #[command(flatten)]
    pub machines: LabMachines,
    /// Where report.html, junit.xml and timeline.txt go
    #[arg(long, value_name = "DIR", default_value = "out/lab")]
    pub report: PathBuf,
}

/// `rolecast lab shell`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rolecast lab shell region-1
  rolecast lab shell region-1 -- patronictl -c /etc/patroni/rolecast list")]
pub struct LabShellArguments {
    /// The machine
    pub node: String,
    /// A command, instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
}

/// `rolecast lab down`.
#[derive(Debug, Args)]
pub struct LabDownArguments {
    /// Keep the lab's files: consoles, state, seeds
    #[arg(long)]
    pub keep: bool,
    /// Where the lab is
    #[command(flatten)]
    pub place: LabPlace,
}
