//! A machine as a virtual machine: firmware, boot loader, kernel and verity of the disk image.
//!
//! Its disk is a layer over `ROLE.raw`, which is never written to; its seed is a second disk. Programs run over ssh, as
//! the operator, by the link-local address of its card: that works before it has an address and while it is cut off.
//! With KVM where there is any, else emulated, which takes minutes. Reference: qemu(1), ssh(1).

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::report::{Diagnostic, Kind, Report};
use crate::seed::NoCloud;
use crate::sys::Program;
use crate::sys::files::Context as _;
use crate::sys::namespace;

use super::group::Group;
use super::ledger::{Ledger, Node};
use super::machine::{BackEnd, Exec, Identity, Machine, Outcome};
use super::network::Network;
use super::role::RoleImage;
use super::tools::{self, FIRMWARE, FIRMWARE_VARIABLES};

/// Size of a machine's disk: two slots of the lab's image file, and room for state.
const DISK: &str = "4G";
/// What an emulated processor is. An Intel model without PCID makes the guest's kernel isolate its page tables, so that each
/// system call empties the emulator's tables twice: a third of a boot. With SVM the guest's udev loads kvm, and stalls.
pub const EMULATED_PROCESSOR: &str = "qemu64,svm=off";

/// Memory in MiB: a region with its database takes about 700.
const MEMORY: &str = "1536";
/// … and of one that boots over the network, whose root is in memory twice while it starts.
const NETWORK_MEMORY: &str = "2048";
/// An emulated machine was once seen to stop in its firmware and stay there, cause unknown (about 1 start of 20). One
/// whose kernel has not spoken after this time, and that does next to nothing, is started again.
const HUNG_AFTER: Duration = Duration::from_secs(90);
/// Processor seconds in [`LOOK_EVERY`] under which a machine does next to nothing.
const IDLE: f64 = 0.5;
/// How often a starting machine is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often a machine is started again before it is left as it is.
const RESTARTS: u32 = 2;
/// The kernel's first line, without its time.
const KERNEL_SPEAKS: &[u8] = b"Linux version ";

/// Joins the group, so that it ends with the machine, and becomes the program. Positional: group, directory, program.
const INTO_GROUP: &str = "echo $$ >\"$1/cgroup.procs\" && cd \"$2\" && shift 2 && exec \"$@\"";

/// A virtual machine.
#[derive(Debug)]
pub struct Qemu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    ledger: Arc<Ledger>,
    network: Network,
    /// Everything of this machine.
    group: Group,
    /// QEMU itself.
    machine: Group,
    /// Our ssh clients, which share one connection.
    clients: Group,
    directory: PathBuf,
    manager: Mutex<Option<Child>>,
    /// Counts how often it was powered on or off, so that who watches over a start knows when it is no longer theirs.
    power: AtomicU64,
    restarts: AtomicU32,
    clock_offset: AtomicI64,
    network_boot: AtomicBool,
}

impl Qemu {
    /// The virtual machine of a node, made or not.
    pub(super) fn of(node: &Node, ledger: &Arc<Ledger>, network: &Network) -> Result<Self, Diagnostic> {
        let name = &node.identity.name;
        let group = ledger.read().group(name);
        let inner = Inner {
            node: node.clone(),
            ledger: Arc::clone(ledger),
            network: network.clone(),
            machine: Group::at(&format!("{group}/qemu"))?,
            clients: Group::at(&format!("{group}/ssh"))?,
            group: Group::at(&group)?,
            directory: ledger.node_directory(name),
            manager: Mutex::new(None),
            power: AtomicU64::new(0),
            restarts: AtomicU32::new(0),
            clock_offset: AtomicI64::new(0),
            network_boot: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn name(&self) -> &str {
        &self.node.identity.name
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    fn manager(&self) -> MutexGuard<'_, Option<Child>> {
        self.manager.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn power_on(&self) -> Result<(), Diagnostic> {
        self.power_off()?;
        let role = RoleImage::open(&self.ledger.read().outputs, &self.node.identity.role)?;
        self.make_disk(&role.disk)?;
        self.machine.make()?;
        self.clients.make()?;
        let tap = self.network.plug_tap(self.name())?;
        let console = self.console();
        let mut log = File::options().create(true).append(true).mode(0o600).open(&console).on("open", &console)?;
        let _ = writeln!(log, "--- power on");
        let said = self.directory.join("qemu.log");
        let said = File::options().create(true).append(true).mode(0o600).open(&said).on("open", &said)?;
        let mut command = Command::new("setsid");
        command.args(["/bin/sh", "-c", INTO_GROUP, "machine"]).arg(self.machine.path()).arg(&self.directory);
        let network = namespace::path(&self.network.switch());
        command.arg("nsenter").arg(format!("--net={}", network.display())).args(self.arguments(&tap)?);
        command.env_clear().env("PATH", tools::PATH).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command.stdout(said.try_clone().on("open", &console)?).stderr(said);
        let child = command.spawn();
        let child = child.map_err(|error| Diagnostic::error(Kind::World, format!("cannot run `setsid`: {error}")))?;
        *self.manager() = Some(child);
        tools::wait_for(&format!("QEMU to start `{}`", self.name()), Duration::from_secs(30), || {
            if self.machine.is_populated() {
                return Ok(Some(()));
            }
            let ended = self.manager().as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_some()));
            if ended { Err(self.failed_start()) } else { Ok(None) }
        })
    }

    fn failed_start(&self) -> Diagnostic {
        let log = fs::read(self.directory.join("qemu.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(2048)..]).into_owned();
        Diagnostic::error(Kind::World, format!("QEMU did not start `{}`", self.name())).note(log.trim())
    }

    /// The disk, as if the image had been written to a larger one, and an empty store of firmware variables.
    fn make_disk(&self, image: &Path) -> Result<(), Diagnostic> {
        let disk = self.directory.join("disk.qcow2");
        if disk.exists() {
            return Ok(());
        }
        let variables = self.directory.join("variables.fd");
        fs::copy(FIRMWARE_VARIABLES, &variables).on("write", &variables)?;
        let new = disk.with_extension("new");
        let (image, made) = (image.to_string_lossy(), new.to_string_lossy());
        tools::run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &image, &made, DISK])?;
        fs::rename(&new, &disk).on("write", &disk).map_err(Diagnostic::from)
    }

    fn arguments(&self, tap: &str) -> Result<Vec<String>, Diagnostic> {
        let identity = &self.node.identity;
        let id = &identity.machine_id;
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        let hardware = has_hardware_acceleration();
        let (accelerator, processor) = if hardware { ("kvm", "host") } else { ("tcg,tb-size=512", EMULATED_PROCESSOR) };
        let network_boot = self.network_boot.load(Ordering::Relaxed);
        let from = match network_boot {
            // SeaBIOS and the card's own iPXE; without graphics, both speak on the serial port. The root is in memory.
            true => format!("-machine q35,graphics=off -m {NETWORK_MEMORY} -boot n"),
            // The host's kernel outlives the machine, so nothing waits for the disk.
            false => format!(
                "-machine q35 -m {MEMORY} -drive if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE} \
                 -drive if=pflash,unit=1,format=raw,file=variables.fd \
                 -drive if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=disk.qcow2 \
                 -device virtio-blk-pci,drive=disk,bootindex=0"
            ),
        };
        let card = if network_boot { "" } else { "romfile=," };
        let mut words: Vec<String> = [
            "qemu-system-x86_64 -nodefaults -no-user-config -display none -smp 1",
            &format!("-accel {accelerator} -cpu {processor} -uuid {uuid} -device virtio-rng-pci"),
            &from,
            "-chardev file,id=serial,append=on,path=console.log -serial chardev:serial",
            &format!("-netdev tap,id=lan,ifname={tap},script=no,downscript=no"),
            &format!("-device virtio-net-pci,netdev=lan,{card}mac={}", identity.mac),
        ]
        .iter()
        .flat_map(|line| line.split(' ').map(str::to_owned))
        .collect();
        if !network_boot && self.directory.join("seed.img").exists() {
            words.extend(["-drive".to_owned(), "if=virtio,format=raw,readonly=on,file=seed.img".to_owned()]);
        }
        let offset = self.clock_offset.load(Ordering::Relaxed);
        if offset != 0 {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let then = format!("@{}", now.saturating_add_signed(offset));
            let base = tools::run("date", &["--utc", "--date", &then, "+%Y-%m-%dT%H:%M:%S"])?;
            words.extend(["-rtc".to_owned(), format!("base={},clock=host", base.trim())]);
        }
        Ok(words)
    }

    fn power_off(&self) -> Result<(), Diagnostic> {
        self.group.remove()?;
        if let Some(mut manager) = self.manager().take() {
            let _ = manager.wait();
        }
        self.network.unplug(self.name())
    }

    /// Watches over a start: a machine that hangs before its kernel has spoken is started again, and it is counted.
    fn guard(&self, power: u64, console: u64) {
        let mut since = Instant::now();
        let mut used = 0.0;
        while self.power.load(Ordering::SeqCst) == power && self.machine.is_populated() {
            std::thread::sleep(LOOK_EVERY);
            let now = self.machine.processor_seconds();
            let idle = now - used < IDLE;
            used = now;
            if self.kernel_spoke(console) {
                return;
            }
            let mine = self.power.load(Ordering::SeqCst) == power;
            if mine && idle && since.elapsed() > HUNG_AFTER && self.restarts.load(Ordering::SeqCst) < RESTARTS {
                self.restarts.fetch_add(1, Ordering::SeqCst);
                if let Ok(mut log) = File::options().append(true).open(self.console()) {
                    let _ = writeln!(log, "--- no kernel spoke within {} s: started again", since.elapsed().as_secs());
                }
                // A start that fails shows in that the machine is off.
                let _ = self.power_on();
                since = Instant::now();
            }
        }
    }

    /// Whether a kernel spoke on the console after its first `after` bytes.
    fn kernel_spoke(&self, after: u64) -> bool {
        let read = || {
            let mut file = File::open(self.console())?;
            file.seek(SeekFrom::Start(after))?;
            let mut bytes = Vec::new();
            file.take(4 << 20).read_to_end(&mut bytes)?;
            std::io::Result::Ok(bytes)
        };
        read().is_ok_and(|bytes| bytes.windows(KERNEL_SPEAKS.len()).any(|window| window == KERNEL_SPEAKS))
    }

    /// `ssh` as the operator inside the switch's namespace, and what it is to be told first.
    fn ssh(&self) -> Result<Vec<String>, Diagnostic> {
        if !self.machine.is_populated() {
            return Err(Diagnostic::error(Kind::World, format!("the machine `{}` is off", self.name())));
        }
        let target = format!("root@{}%{}", link_local(&self.node.identity.mac), self.network.bridge_of(self.name())?);
        let key = self.ledger.directory().join("operator.key");
        let network = namespace::path(&self.network.switch());
        let mut words = vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            INTO_GROUP.to_owned(),
            "client".to_owned(),
            self.clients.path().display().to_string(),
            self.directory.display().to_string(),
            "nsenter".to_owned(),
            format!("--net={}", network.display()),
            "ssh".to_owned(),
            format!("-i{}", key.display()),
        ];
        // Nobody else is on this network, and a re-imaged machine rightly has another host key.
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
            "ServerAliveInterval=10",
            "ControlMaster=auto",
            "ControlPath=ssh.sock",
            "ControlPersist=120",
        ] {
            words.push(format!("-o{option}"));
        }
        words.push(target);
        Ok(words)
    }
}

impl Machine for Qemu {
    fn identity(&self) -> &Identity {
        &self.inner.node.identity
    }

    fn back_end(&self) -> BackEnd {
        BackEnd::Qemu
    }

    fn start(&self) -> Result<(), Diagnostic> {
        if self.is_running() {
            return Ok(());
        }
        let console = fs::metadata(self.inner.console()).map_or(0, |metadata| metadata.len());
        let power = self.inner.power.fetch_add(1, Ordering::SeqCst) + 1;
        self.inner.power_on().inspect_err(|_| {
            let _ = self.inner.power_off();
        })?;
        let inner = Arc::clone(&self.inner);
        std::thread::spawn(move || inner.guard(power, console));
        Ok(())
    }

    fn stop(&self, within: Duration) -> Result<(), Diagnostic> {
        self.inner.power.fetch_add(1, Ordering::SeqCst);
        if self.is_running() {
            // The connection may end before the command does.
            self.exec(&Exec::new("systemctl", &["poweroff", "--no-block"]))?;
            tools::wait_for(&format!("`{}` to shut down", self.inner.name()), within, || {
                Ok((!self.is_running()).then_some(()))
            })?;
        }
        self.inner.power_off()
    }

    fn kill(&self) -> Result<(), Diagnostic> {
        self.inner.power.fetch_add(1, Ordering::SeqCst);
        self.inner.power_off()
    }

    fn is_running(&self) -> bool {
        self.inner.machine.is_populated()
    }

    fn wipe_state(&self) -> Result<(), Diagnostic> {
        if self.is_running() {
            let message = format!("the machine `{}` runs: its state cannot be removed", self.inner.name());
            return Err(Diagnostic::error(Kind::Usage, message).hint("stop or kill it first"));
        }
        // The whole disk: what is re-imaged is written anew.
        tools::remove(&self.inner.directory.join("disk.qcow2"))
    }

    fn exec(&self, exec: &Exec) -> Result<Outcome, Diagnostic> {
        let words = self.inner.ssh()?;
        let limit = format!("{:.3}", exec.limit.as_secs_f64());
        let command = ["timeout", "--kill-after=2", &limit, &exec.program].into_iter();
        let command =
            command.chain(exec.arguments.iter().map(String::as_str)).map(quoted).collect::<Vec<_>>().join(" ");
        let (program, arguments) = words.split_first().map_or(("", words.as_slice()), |(first, rest)| (first, rest));
        let ssh = Program::new(program, arguments.iter().cloned().chain([command])).input(exec.input.clone());
        let since = Instant::now();
        let said = ssh.limit(exec.limit + Duration::from_secs(30)).ask();
        let took = since.elapsed();
        let failed = |why: String| {
            let message = format!("cannot run `{}` on `{}`: {why}", exec.program, self.inner.name());
            Diagnostic::error(Kind::World, message)
        };
        let said = said.map_err(|error| failed(error.to_string()))?;
        // ssh(1): 255 is its own failure.
        if said.status.code() == Some(255) && took < exec.limit + Duration::from_secs(25) && said.output.is_empty() {
            return Err(failed(said.reason()));
        }
        let late = took >= exec.limit && matches!(said.status.code(), Some(124 | 137));
        let code = said.status.code().filter(|_| !late);
        Ok(Outcome { code, output: said.output, errors: said.errors, took })
    }

    fn interact(&self) -> Result<(), Diagnostic> {
        let words = self.inner.ssh()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..words.len() - 1]).arg("-t").args(&words[words.len() - 1..]);
        tools::interact(command)
    }

    fn set_seed(&self, seed: Option<&NoCloud>) -> Result<(), Report> {
        let place = self.inner.directory.join("seed.img");
        tools::remove(&place)?;
        seed.map_or(Ok(()), |seed| seed.write_volume(&place))
    }

    fn set_clock_offset(&self, seconds: i64) -> Result<(), Diagnostic> {
        self.inner.clock_offset.store(seconds, Ordering::Relaxed);
        Ok(())
    }

    fn set_network_boot(&self, network: bool) -> Result<(), Diagnostic> {
        self.inner.network_boot.store(network, Ordering::Relaxed);
        Ok(())
    }

    fn console(&self) -> PathBuf {
        self.inner.console()
    }

    fn processor_seconds(&self) -> f64 {
        self.inner.machine.processor_seconds()
    }

    fn restarts(&self) -> u32 {
        self.inner.restarts.load(Ordering::SeqCst)
    }
}

/// Whether KVM works here. There are hosts with the device and without a processor that it could use.
fn has_hardware_acceleration() -> bool {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let able = flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"));
    able && File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// The link-local address that a card has of itself (RFC 4291, appendix A).
fn link_local(mac: &str) -> Ipv6Addr {
    let mut octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap_or_default());
    let mut next = || octets.next().unwrap_or_default();
    let mac = [next(), next(), next(), next(), next(), next()];
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let own = [pair(mac[0] ^ 2, mac[1]), pair(mac[2], 0xff), pair(0xfe, mac[3]), pair(mac[4], mac[5])];
    Ipv6Addr::new(0xfe80, 0, 0, 0, own[0], own[1], own[2], own[3])
}

/// A word as the shell at the other end takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_has_its_link_local_address() {
        assert_eq!(link_local("52:54:00:77:00:11").to_string(), "fe80::5054:ff:fe77:11");
    }

    #[test]
    fn words_reach_the_other_end_as_they_are() {
        assert_eq!(quoted("a 'b' $c"), r"'a '\''b'\'' $c'");
    }
}
