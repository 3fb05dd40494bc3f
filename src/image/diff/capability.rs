//! File capabilities as text. Specification: `capabilities(7)`, the kernel's `uapi/linux/capability.h`.

/// The capabilities, by number.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `VFS_CAP_REVISION_2` and `_3`: two words of permitted and inheritable bits each; the third revision adds an owner.
const REVISIONS: [u32; 2] = [0x0200_0000, 0x0300_0000];

/// An extended attribute's name and value as text.
pub fn shown(name: &[u8], value: &[u8]) -> (String, String) {
    let hexadecimal = || value.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = if name == b"security.capability" { capability(value) } else { None };
    (String::from_utf8_lossy(name).into_owned(), text.unwrap_or_else(hexadecimal))
}

/// `cap_net_raw+ep`, as `getcap(8)` prints it where all capabilities have the same flags.
fn capability(value: &[u8]) -> Option<String> {
    let word = |at: usize| value.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let head = word(0)?;
    if !REVISIONS.contains(&(head & 0xff00_0000)) || !matches!(value.len(), 20 | 24) {
        return None;
    }
    let permitted = u64::from(word(4)?) | u64::from(word(12)?) << 32;
    let inheritable = u64::from(word(8)?) | u64::from(word(16)?) << 32;
    let effective = if head & 1 == 1 { "e" } else { "" };
    let list = |bits: u64| {
        let name = |bit: usize| NAMES.get(bit).map_or_else(|| format!("{bit}"), |name| format!("cap_{name}"));
        (0..64).filter(|bit| bits >> bit & 1 == 1).map(name).collect::<Vec<_>>().join(",")
    };
    let sets = [(permitted & !inheritable, "p"), (permitted & inheritable, "ip"), (inheritable & !permitted, "i")];
    let sets = sets.into_iter().filter(|(bits, _)| *bits != 0);
    let mut text = sets.map(|(bits, flags)| format!("{}={effective}{flags}", list(bits))).collect::<Vec<_>>().join(" ");
    if value.len() == 24 {
        text.push_str(&format!(" [rootid={}]", word(20)?));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_read_as_getcap_prints_them() {
        // What `setcap cap_net_raw+ep` writes on ping.
        let ping = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(shown(b"security.capability", &ping).1, "cap_net_raw=ep");
        assert_eq!(shown(b"security.capability", &ping[..7]).1, "01000002002000");
        assert_eq!(shown(b"user.x", &[255]), ("user.x".to_owned(), "ff".to_owned()));
    }
}
