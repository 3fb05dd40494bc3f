//! Processes as nothing else that may later have their number.

/// When a process started, in clock ticks since boot, from its `/proc/PID/stat` (proc_pid_stat(5), field 22). None where
/// it has ended, also when nobody has waited for it yet.
pub fn started(stat: &str) -> Option<u64> {
    // The program's name is in parentheses, and may hold some.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processs_start_is_found_whatever_its_name() {
        let stat = |name: &str, state: &str| {
            format!("7 ({name}) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 2 0 123456 9 8 18446744073709551615\n")
        };
        for name in ["rolecast-join", "a ) S 1 2", "(x)"] {
            assert_eq!(started(&stat(name, "S")), Some(123_456), "{name}");
        }
        assert_eq!(started(&stat("rolecast-join", "Z")), None);
        assert_eq!(started("7 (rolecast-join) S 1"), None);
        assert_eq!(started(""), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(started(&own).is_some_and(|ticks| ticks > 0));
    }
}
