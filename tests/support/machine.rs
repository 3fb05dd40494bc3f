//! A virtual machine under QEMU: firmware, boot loader, kernel and all.
//!
//! The machine's state is seen without a login: a unit travels as a systemd credential in SMBIOS (systemd.exec(5),
//! `systemd.extra-unit.*` of systemd-debug-generator(8), systemd 256 or newer), runs once `multi-user.target` is
//! reached, writes its findings to the second serial port and powers the machine off. Nothing is added to the image.
//!
//! Waits are on events, never on time; bounds are four times what a loaded machine was measured to need. Emulation
//! only (`tcg`): the test machines have no hardware acceleration.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rolecast::lab::EMULATED_PROCESSOR;

use crate::support::namespace::Namespace;
use crate::support::report::{LOOK, Report};

/// Longest wait for the kernel's first line, from power-on: firmware and boot loader, or the network loader.
const KERNEL_WITHIN: Duration = Duration::from_secs(300);
/// The same where the firmware loads everything, root and all, by TFTP.
const KERNEL_BY_TFTP_WITHIN: Duration = Duration::from_secs(1200);
/// Longest wait for the finished report.
const REPORT_WITHIN: Duration = Duration::from_secs(1500);
/// An emulated machine was once seen to stop before its kernel, cause unknown (about 1 start of 20). Such a start is
/// repeated this often, and each repeat is printed.
const RESTARTS: u32 = 2;
/// The kernel's first line, without its time.
const KERNEL_SPEAKS: &str = "Linux version ";
/// Lines after which nothing good will come.
const FAULTS: &[&str] = &[
    "Shell>",
    "No bootable device",
    "No bootable option",
    "Kernel panic",
    "emergency mode",
    "Dependency failed for initrd-root",
];

/// Clock ticks per second as the kernel shows them on every architecture that we test.
const CLOCK_TICKS: f64 = 100.0;

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Firmware whose variables only itself can write, in system management mode, as Secure Boot wants.
const SECURE_FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Variables of a firmware that knows no key.
pub const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// What the firmware, or the boot loader in its name, says of a program that it will not start.
const REFUSALS: &[&str] = &["access denied", "security violation"];

/// Where a machine boots from.
enum Medium {
    /// A raw disk under UEFI.
    Disk(PathBuf),
    /// QEMU's iPXE, with this folder served by TFTP and this file of it loaded first.
    Network(PathBuf, String),
    /// UEFI's own network boot, of this file of this folder by TFTP.
    FirmwareNetwork(PathBuf, String),
}

/// A machine to be started.
pub struct Machine {
    medium: Medium,
    /// In MiB.
    memory: u32,
    checked: bool,
    /// The script whose findings are the report.
    look: String,
    /// A raw disk beside the one that is booted.
    second_disk: Option<PathBuf>,
    /// What the hardware clock shows at power-on, UTC; the host's time otherwise.
    clock: Option<String>,
    /// Variables of a firmware that enforces Secure Boot.
    enforcing: Option<PathBuf>,
    /// Whether it has a TPM 2.0.
    tpm: bool,
    /// Whether a machine that boots from disk has QEMU's user network, which ends at the namespace's loopback.
    networked: bool,
    /// Longest wait for the finished report.
    report_within: Duration,
}

impl Machine {
    /// Boots the raw disk at `image` under UEFI, and writes to it.
    pub fn from_disk(image: &Path) -> Self {
        Self::new(Medium::Disk(image.into()), 1024)
    }

    /// Boots the iPXE script `first` of `folder` over QEMU's own TFTP.
    pub fn from_network(folder: &Path, first: &str) -> Self {
        Self::new(Medium::Network(folder.into(), first.into()), 2048)
    }

    /// Has its firmware load the UEFI program `first` of `folder` over QEMU's own TFTP.
    pub fn from_firmware_network(folder: &Path, first: &str) -> Self {
        Self::new(Medium::FirmwareNetwork(folder.into(), first.into()), 2048)
    }

    fn new(medium: Medium, memory: u32) -> Self {
        Self {
            medium,
            memory,
            checked: true,
            look: LOOK.to_owned(),
            second_disk: None,
            clock: None,
            enforcing: None,
            tpm: false,
            networked: false,
            report_within: REPORT_WITHIN,
        }
    }

    /// Runs `script` in place of the look that every machine gets, with `disk` as `/dev/vdb` and its clock at `clock`
    /// (`2040-01-01T00:00:00`).
    #[must_use]
    pub fn running(mut self, script: &str, disk: &Path, clock: &str) -> Self {
        self.look = script.to_owned();
        self.second_disk = Some(disk.into());
        self.clock = Some(clock.to_owned());
        self
    }

    /// Has firmware with the keys in `variables`, which enforces Secure Boot.
    #[must_use]
    pub fn enforcing(mut self, variables: &Path) -> Self {
        self.enforcing = Some(variables.into());
        self
    }

    /// Has a TPM 2.0, an empty one at each start.
    #[must_use]
    pub fn with_tpm(mut self) -> Self {
        self.tpm = true;
        self
    }

    /// Runs `script` in place of the look that every machine gets.
    #[must_use]
    pub fn looking(mut self, script: &str) -> Self {
        self.look = script.to_owned();
        self
    }

    /// Gives it a network card; the namespace's loopback is 10.0.2.2 to it.
    #[must_use]
    pub fn networked(mut self) -> Self {
        self.networked = true;
        self
    }

    /// Waits so long for the report, where the machine restarts before it.
    #[must_use]
    pub fn within(mut self, bound: Duration) -> Self {
        self.report_within = bound;
        self
    }

    /// Passes no check: the machine stays on.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    /// Powers it on, and waits for the kernel's first line.
    pub fn start(&self, namespace: &Namespace) -> Running {
        for restarts in 0..=RESTARTS {
            let mut running = self.power_on(namespace, restarts);
            let within = match self.medium {
                Medium::FirmwareNetwork(..) => KERNEL_BY_TFTP_WITHIN,
                Medium::Disk(_) | Medium::Network(..) => KERNEL_WITHIN,
            };
            if running.kernel_speaks(within) {
                return running;
            }
            eprintln!("machine: no line of a kernel within {} s, restart {}", within.as_secs(), restarts + 1);
            eprintln!("{}", running.tail());
        }
        panic!("no line of a kernel in {} starts", RESTARTS + 1);
    }

    /// Boots, waits for the check's report and the machine's own power-off.
    pub fn report(&self, namespace: &Namespace) -> Report {
        self.start(namespace).report()
    }

    /// Powers it on, and waits until firmware or boot loader refuse to start what they should; what the console showed.
    #[track_caller]
    pub fn refusal(&self, namespace: &Namespace) -> String {
        let mut running = self.power_on(namespace, 0);
        loop {
            let console = running.console();
            assert!(!console.contains(KERNEL_SPEAKS), "it was started\n{}", running.tail());
            if REFUSALS.iter().any(|refusal| console.to_lowercase().contains(refusal)) {
                return console;
            }
            assert!(!running.has_ended(), "the machine ended before a refusal\n{}", running.tail());
            let waited = running.since.elapsed();
            assert!(waited < KERNEL_WITHIN, "no refusal within {KERNEL_WITHIN:?}\n{}", running.tail());
            pause();
        }
    }

    fn power_on(&self, namespace: &Namespace, restarts: u32) -> Running {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let serial = scratch.path().join("serial.log");
        let findings = scratch.path().join("report.log");
        let errors = scratch.path().join("qemu.log");
        let mut command = namespace.command("qemu-system-x86_64");
        // Without graphics, SeaBIOS and iPXE speak on the serial port too.
        let smm = if self.enforcing.is_some() { ",smm=on" } else { "" };
        // One processor: two emulated ones do not always see code that the other has just changed, and a kernel that changes
        // itself early in its boot then stops with `Oops: int3`; nor do they boot much sooner than one.
        command.args([
            "-machine",
            &format!("q35,graphics=off{smm}"),
            "-cpu",
            EMULATED_PROCESSOR,
            "-accel",
            "tcg,thread=multi,tb-size=512",
            "-smp",
            "1",
        ]);
        command.args(["-m", &self.memory.to_string(), "-nodefaults", "-no-user-config", "-display", "none"]);
        // A machine has an identity in its firmware, the same at every start.
        command.args(["-device", "virtio-rng-pci", "-uuid", "7c1f9a52-6d0b-4b53-9d7e-0242ac120002"]);
        for log in [&serial, &findings] {
            command.arg("-serial").arg(format!("file:{}", log.display()));
        }
        if !matches!(self.medium, Medium::Network(..)) {
            let variables = scratch.path().join("variables.fd");
            let (firmware, from) = match &self.enforcing {
                Some(enrolled) => (SECURE_FIRMWARE, enrolled.as_path()),
                None => (FIRMWARE, Path::new(VARIABLES)),
            };
            fs::copy(from, &variables).expect("package ovmf is installed");
            if self.enforcing.is_some() {
                // OVMF: the variables' flash can be written in system management mode only; no sleep that leaves it.
                command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                command.args(["-global", "ICH9-LPC.disable_s3=1"]);
            }
            command.arg("-drive").arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={firmware}"));
            command.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", variables.display()));
        }
        match &self.medium {
            Medium::Disk(disk) => {
                command.arg("-drive").arg(format!("if=virtio,format=raw,file={}", disk.display()));
                command.args(["-nic", if self.networked { "user,model=virtio-net-pci" } else { "none" }]);
            }
            Medium::Network(folder, first) | Medium::FirmwareNetwork(folder, first) => {
                command.arg("-netdev").arg(format!("user,id=net,tftp={},bootfile={first}", folder.display()));
                // The card's own ROM is iPXE.
                let rom = if matches!(self.medium, Medium::Network(..)) { "" } else { ",romfile=" };
                command.args(["-device", &format!("virtio-net-pci,netdev=net{rom}"), "-boot", "n"]);
            }
        }
        if let Some(disk) = &self.second_disk {
            command.arg("-drive").arg(format!("if=virtio,format=raw,file={}", disk.display()));
        }
        let tpm = self.tpm.then(|| Tpm::start(namespace, scratch.path()));
        if let Some(tpm) = &tpm {
            command.arg("-chardev").arg(format!("socket,id=tpm,path={}", tpm.socket.display()));
            command.args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]);
        }
        if let Some(clock) = &self.clock {
            command.arg("-rtc").arg(format!("base={clock},clock=vm"));
        }
        if self.checked {
            for (name, text) in Report::units("/dev/ttyS1", &self.look) {
                let value = format!("io.systemd.credential.binary:{name}={}", base64(text.as_bytes()));
                command.arg("-smbios").arg(format!("type=11,value={value}"));
            }
        }
        command.stdout(Stdio::null()).stderr(File::create(&errors).expect("a file in the temporary folder"));
        let since = Instant::now();
        let child = command.spawn().expect("package qemu-system-x86 is installed");
        let report_within = self.report_within;
        Running { child, serial, findings, errors, since, restarts, report_within, _tpm: tpm, _scratch: scratch }
    }
}

/// An emulated TPM 2.0, ended when dropped.
struct Tpm {
    child: Child,
    socket: PathBuf,
}

impl Tpm {
    fn start(namespace: &Namespace, scratch: &Path) -> Self {
        let (state, socket) = (scratch.join("tpm"), scratch.join("tpm.socket"));
        fs::create_dir(&state).expect("the temporary folder takes a folder");
        let mut command = namespace.command("swtpm");
        command.args(["socket", "--tpm2", "--tpmstate"]).arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("package iproute2 is installed");
        let mut started = Self { child, socket };
        while !started.socket.exists() {
            let ended = started.child.try_wait().expect("the TPM can be asked");
            assert!(ended.is_none(), "the TPM ended ({ended:?}): is the package swtpm installed?");
            pause();
        }
        started
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine that was powered on; powered off when dropped.
pub struct Running {
    child: Child,
    serial: PathBuf,
    findings: PathBuf,
    errors: PathBuf,
    since: Instant,
    restarts: u32,
    // Behind the emulator, which needs it.
    _tpm: Option<Tpm>,
    report_within: Duration,
    _scratch: tempfile::TempDir,
}

impl Running {
    /// Waits until the console shows `marker`; `within` counts from power-on. Any fault that is not the marker itself, the end
    /// of the machine or the bound fails the test with the console's last lines.
    #[track_caller]
    pub fn wait_for(&mut self, marker: &str, within: Duration) {
        loop {
            let console = self.console();
            if console.contains(marker) {
                return;
            }
            if let Some(fault) = FAULTS.iter().find(|fault| !marker.contains(**fault) && console.contains(**fault)) {
                panic!("`{fault}` while waiting for `{marker}`\n{}", self.tail());
            }
            assert!(!self.has_ended(), "the machine ended before `{marker}`\n{}", self.tail());
            assert!(self.since.elapsed() < within, "no `{marker}` within {within:?}\n{}", self.tail());
            pause();
        }
    }

    /// Waits until a kernel speaks for the second time: after a panic, that the machine restarted.
    #[track_caller]
    pub fn wait_for_restart(&mut self, within: Duration) {
        let asked = Instant::now();
        while self.console().matches(KERNEL_SPEAKS).count() < 2 {
            assert!(!self.has_ended(), "the machine ended before it restarted\n{}", self.tail());
            assert!(asked.elapsed() < within, "no restart within {within:?}\n{}", self.tail());
            pause();
        }
    }

    /// Waits for the check's report, then for the machine's own power-off.
    #[track_caller]
    pub fn report(mut self) -> Report {
        let mut booted = None;
        loop {
            let console = self.console();
            let findings = fs::read(&self.findings).unwrap_or_default();
            // The firmware speaks on this port too.
            if booted.is_none() && findings.windows(9).any(|part| part == b"@@ state\n" || part == b"@@ state\r") {
                booted = Some((self.since.elapsed(), self.processor_seconds()));
            }
            if let Some(mut report) = Report::parse(&String::from_utf8_lossy(&findings)) {
                let (seconds, processor) = booted.expect("a whole report is not empty");
                report.seconds_to_boot = seconds.as_secs_f64();
                report.processor_seconds = processor;
                report.restarts = self.restarts;
                self.wait_for_power_off();
                report.console = self.console();
                return report;
            }
            if let Some(fault) = FAULTS.iter().find(|fault| console.contains(**fault)) {
                panic!("`{fault}` before the report\n{}", self.tail());
            }
            assert!(!self.has_ended(), "the machine ended before its report\n{}", self.tail());
            let within = self.report_within;
            assert!(self.since.elapsed() < within, "no report within {within:?}\n{}", self.tail());
            pause();
        }
    }

    /// Everything that the console showed so far.
    pub fn console(&self) -> String {
        plain(&String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()))
    }

    fn kernel_speaks(&mut self, within: Duration) -> bool {
        while self.since.elapsed() < within {
            let console = self.console();
            if console.contains(KERNEL_SPEAKS) {
                return true;
            }
            // The firmware's shell will not go away by itself, nor will another start help.
            assert!(!console.contains("Shell>"), "nothing to boot was found\n{}", self.tail());
            assert!(!self.has_ended(), "the machine ended before its kernel\n{}", self.tail());
            pause();
        }
        false
    }

    fn wait_for_power_off(&mut self) {
        let asked = Instant::now();
        while !self.has_ended() {
            assert!(asked.elapsed() < Duration::from_secs(180), "no power-off within 180 s\n{}", self.tail());
            pause();
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the machine can be asked").is_some()
    }

    /// User and system seconds of the emulator so far (proc(5), `stat` fields 14 and 15, in clock ticks).
    fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        ticks as f64 / CLOCK_TICKS
    }

    /// The emulator's own words and the console's last lines, for a failure.
    fn tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let last = lines[lines.len().saturating_sub(60)..].join("\n");
        format!("--- qemu\n{}--- console\n{last}", fs::read_to_string(&self.errors).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A console's text without carriage returns and control sequences (ECMA-48: ESC `[`, parameters, a letter).
fn plain(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => {}
            '\x1b' => {
                let _ = characters.find(|next| next.is_ascii_alphabetic());
            }
            other => found.push(other),
        }
    }
    found
}

/// Between two looks at a log.
fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Base64 (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = (group >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() { ALPHABET[digit as usize] as char } else { '=' });
        }
    }
    text
}
