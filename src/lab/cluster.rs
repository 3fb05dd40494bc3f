//! A lab as a whole: made from an image file, found again by another process, removed.
//!
//! Owns the life cycle. Whatever happens to the process that made a lab, `down` finds everything by the ledger and
//! leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::report::{Diagnostic, Kind, Report};
use crate::seed::{self, KnownHosts, Planted, SecretsFile, Terms, Vault};
use crate::spec::{Cluster, NodeFacts, RoleKind, Spec};
use crate::sys::files::{self, Context as _};
use crate::sys::private;

use super::container::Container;
use super::group::Group;
use super::ledger::{Ledger, Node, Port, Written};
use super::machine::{BackEnd, Identity, Machine};
use super::network::{self, Network};
use super::qemu::Qemu;
use super::role::RoleImage;
use super::tools;

/// Longest wait for loop devices to let go of files; they do as soon as the last process is gone.
const RELEASED_WITHIN: Duration = Duration::from_secs(30);

/// What a lab keeps in its directory. Nothing else is removed there.
const KEPT: &[&str] =
    &["nodes", "secrets.toml", "known-hosts", "operator.key", "tree", "boot-server.log", "boot-server.leases"];

/// What is to be made.
#[derive(Clone, Debug)]
pub struct LabPlan<'a> {
    /// The specification, with a cluster.
    pub spec: &'a Spec,
    /// The image file it was read from.
    pub image: PathBuf,
    /// The directory that holds `ROLE/ROLE.raw`.
    pub outputs: PathBuf,
    /// What machines are made of.
    pub back_end: BackEnd,
    /// Which nodes; empty for all of them.
    pub nodes: Vec<String>,
    /// Where the lab keeps what it makes.
    pub directory: PathBuf,
}

/// A lab. Dropping the value leaves it as it is; [`Lab::down`] removes it.
#[derive(Debug)]
pub struct Lab {
    ledger: Arc<Ledger>,
    network: Network,
    machines: Vec<Box<dyn Machine>>,
}

impl Lab {
    /// Makes a lab whose machines are all off, with secrets of its own and a seed in each machine's source.
    ///
    /// # Errors
    /// When the host cannot hold it, an image is missing, or there is a lab in the directory already.
    pub fn make(plan: &LabPlan<'_>) -> Result<Self, Report> {
        tools::check(plan.back_end)?;
        let cluster = plan.spec.cluster.as_ref().ok_or_else(|| {
            Diagnostic::error(Kind::Input, format!("`{}` describes no cluster", plan.spec.name))
                .hint("add `[cluster]` and a `[node.NAME]` for each machine")
        })?;
        let chosen = choose(cluster, &plan.nodes)?;
        let outputs = fs::canonicalize(&plan.outputs).on("open", &plan.outputs).map_err(|error| {
            Diagnostic::from(error).hint("`rolecast build` the images first, or name where they are with `--output`")
        })?;
        for role in plan.spec.roles.iter().filter(|role| chosen.iter().any(|node| node.role == role.name)) {
            RoleImage::open(&outputs, &role.name)?.fits(plan.spec, role)?;
        }
        let directory = std::path::absolute(&plan.directory).on("open", &plan.directory).map_err(Diagnostic::from)?;
        let mut written =
            Written::new(&directory, &cluster.name, plan.image.clone(), outputs, plan.back_end, cluster.prefix);
        for (number, facts) in (1..).zip(&chosen) {
            let node = node(plan.spec, facts, &written.id);
            written.ports.insert(facts.name.clone(), Port { number, segment: 0, isolated: false });
            written.nodes.push(node);
        }
        let lab = Self::with(Arc::new(Ledger::create(&directory, written)?))?;
        lab.furnish(plan.spec, cluster).inspect_err(|_| {
            // What was made of it is of no use; if this fails too, `down` can be tried again.
            let _ = Self::down(&directory, false);
        })?;
        Ok(lab)
    }

    /// Makes the network, the secrets and the seeds.
    fn furnish(&self, spec: &Spec, cluster: &Cluster) -> Result<(), Report> {
        self.network.make()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let vault = Vault::create(spec, cluster, now)?;
        self.secrets().create(&vault)?;
        let key = self.directory().join("operator.key");
        private::write(&key, vault.operator.private.0.as_bytes()).map_err(Diagnostic::from)?;
        for machine in &self.machines {
            let name = &machine.identity().name;
            files::make_directory(&self.ledger.node_directory(name)).map_err(Diagnostic::from)?;
            machine.set_seed(Some(&self.plant(spec, name, Terms::default())?.nocloud()))?;
        }
        Ok(())
    }

    /// Finds the lab in `directory`.
    ///
    /// # Errors
    /// When there is none, or its file cannot be read.
    pub fn open(directory: &Path) -> Result<Self, Diagnostic> {
        match Ledger::open(&std::path::absolute(directory).on("open", directory)?)? {
            Some(ledger) => {
                tools::check(ledger.read().back_end)?;
                Self::with(Arc::new(ledger))
            }
            None => Err(Diagnostic::error(Kind::Usage, format!("there is no lab in `{}`", directory.display()))
                .hint("start one with `rolecast lab up`, or name its place with `--directory`")),
        }
    }

    fn with(ledger: Arc<Ledger>) -> Result<Self, Diagnostic> {
        let network = Network::of(&ledger);
        let (nodes, back_end) = (ledger.read().nodes.clone(), ledger.read().back_end);
        let machines = nodes.iter().map(|node| {
            let machine: Box<dyn Machine> = match back_end {
                BackEnd::Container => Box::new(Container::of(node, &ledger, &network)?),
                BackEnd::Qemu => Box::new(Qemu::of(node, &ledger, &network)?),
            };
            Ok(machine)
        });
        let machines = machines.collect::<Result<_, Diagnostic>>()?;
        Ok(Self { ledger, network, machines })
    }

    /// Its machines, in the order of the image file.
    pub fn machines(&self) -> impl Iterator<Item = &dyn Machine> {
        self.machines.iter().map(Box::as_ref)
    }

    /// A machine.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn machine(&self, name: &str) -> Result<&dyn Machine, Diagnostic> {
        self.machines().find(|machine| machine.identity().name == name).ok_or_else(|| {
            let names: Vec<&str> = self.machines().map(|machine| machine.identity().name.as_str()).collect();
            Diagnostic::error(Kind::Usage, format!("the lab has no machine `{name}`"))
                .hint(format!("its machines: {}", names.join(", ")))
        })
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.ledger.directory()
    }

    /// The image file that it was made from.
    pub fn image(&self) -> PathBuf {
        self.ledger.read().image.clone()
    }

    /// The directory that holds the role images.
    pub fn outputs(&self) -> PathBuf {
        self.ledger.read().outputs.clone()
    }

    /// The name of a control group of the lab's, which ends with it.
    pub(super) fn group(&self, name: &str) -> String {
        self.ledger.read().group(name)
    }

    /// What its machines are made of.
    pub fn back_end(&self) -> BackEnd {
        self.ledger.read().back_end
    }

    /// Its secrets: fresh ones, of no other cluster.
    pub fn secrets(&self) -> SecretsFile {
        SecretsFile { path: self.directory().join("secrets.toml"), identity: None }
    }

    /// The host keys of its machines, as far as they were accepted.
    pub fn known_hosts(&self) -> KnownHosts {
        KnownHosts::at(self.directory().join("known-hosts"))
    }

    /// Plants the seed of a machine from the lab's secrets as they are now. `spec` is that of [`Lab::image`].
    ///
    /// # Errors
    /// When the secrets cannot be read, or a template does not render.
    pub fn plant(&self, spec: &Spec, name: &str, terms: Terms) -> Result<Planted, Report> {
        let none = || Diagnostic::error(Kind::Input, format!("`{}` describes no cluster any more", spec.name));
        let cluster = spec.cluster.as_ref().ok_or_else(none)?;
        seed::plant(spec, cluster, name, &self.secrets().read()?, terms)
    }

    /// Powers all machines on, beside each other.
    ///
    /// # Errors
    /// With the first that cannot be.
    pub fn start_all(&self) -> Result<(), Diagnostic> {
        std::thread::scope(|scope| {
            let starts: Vec<_> = self.machines().map(|machine| scope.spawn(|| machine.start())).collect();
            let ended = starts.into_iter().map(|start| {
                let panicked = |_| Err(Diagnostic::error(Kind::Internal, "a thread that started a machine failed"));
                start.join().unwrap_or_else(panicked)
            });
            // All of them are awaited, whatever one says.
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Removes the lab in `directory`, whatever state it is in: processes, mounts, loop devices, namespaces, control
    /// groups, and with `keep` not its files. Says whether there was one.
    ///
    /// # Errors
    /// When something could not be removed; what follows it was tried all the same.
    pub fn down(directory: &Path, keep: bool) -> Result<bool, Diagnostic> {
        let directory = std::path::absolute(directory).on("open", directory)?;
        let Some(ledger) = Ledger::open(&directory)? else { return Ok(false) };
        tools::check(ledger.read().back_end)?;
        let written = ledger.read().clone();
        let mut failed = Group::at(&written.id)?.remove().err();
        for name in written.namespaces() {
            failed = failed.or(network::remove_namespace(&name).err());
        }
        let waited = tools::wait_for("loop devices to let go of the lab's files", RELEASED_WITHIN, || {
            Ok(loop_devices_under(&directory).is_empty().then_some(()))
        });
        if let Some(failed) = failed.or(waited.err()) {
            // The ledger stays, so that `down` can be tried again.
            return Err(failed);
        }
        if keep {
            let (from, to) = (directory.join("lab.json"), directory.join("lab-ended.json"));
            fs::rename(&from, &to).on("rename", &from)?;
            return Ok(true);
        }
        for name in KEPT {
            tools::remove(&directory.join(name))?;
        }
        // A run that was killed may have been writing one of them.
        files::remove_abandoned(&directory).map_err(Diagnostic::from)?;
        tools::remove(&directory.join("lab.json"))?;
        // Both may hold what is not the lab's.
        let _ = fs::remove_dir(&directory);
        if directory.parent().is_some_and(|parent| parent.ends_with(".rolecast")) {
            let _ = directory.parent().map(fs::remove_dir);
        }
        Ok(true)
    }
}

/// The nodes that were asked for, in the order of the image file.
fn choose<'a>(cluster: &'a Cluster, names: &[String]) -> Result<Vec<&'a NodeFacts>, Diagnostic> {
    if let Some(unknown) = names.iter().find(|name| !cluster.nodes.iter().any(|node| node.name == **name)) {
        let known: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let message = format!("the cluster `{}` has no node `{unknown}`", cluster.name);
        return Err(Diagnostic::error(Kind::Usage, message).hint(format!("its nodes: {}", known.join(", "))));
    }
    Ok(cluster.nodes.iter().filter(|node| names.is_empty() || names.contains(&node.name)).collect())
}

/// A node as the ledger has it. What the image file leaves open follows from the lab and the name.
fn node(spec: &Spec, facts: &NodeFacts, lab: &str) -> Node {
    let own = Digest::of(format!("{lab}/{}", facts.name).as_bytes()).to_string();
    // 02: a locally administered address.
    let mac = || {
        let pairs: Vec<&str> = (0..5).map(|index| &own[2 * index..2 * index + 2]).collect();
        format!("02:{}", pairs.join(":"))
    };
    let size = |option: &str| spec.size_of(option).unwrap_or(512 << 20);
    let role = spec.roles.iter().find(|role| role.name == facts.role);
    let is_region = role.is_some_and(|role| role.kind == RoleKind::Region);
    Node {
        identity: Identity {
            name: facts.name.clone(),
            role: facts.role.clone(),
            address: facts.address,
            mac: facts.mac.clone().unwrap_or_else(mac),
            machine_id: own[..32].to_owned(),
        },
        state_size: size("disk.state_size"),
        database_size: is_region.then(|| size("disk.database_size")),
    }
}

/// Loop devices whose file lies under `directory` (sysfs, `loop/backing_file`).
fn loop_devices_under(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let devices = entries.map(|entry| entry.path()).filter(|device| {
        let file = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        Path::new(file.trim_end()).starts_with(directory)
    });
    devices.collect()
}
