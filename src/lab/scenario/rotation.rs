//! Proof 13: every secret is rotated on a live cluster; and beside the proofs: no secret lies where it can be read.

use std::collections::BTreeSet;

use crate::lab::machine::Exec;
use crate::lab::timeline::measure;
use crate::seed::Vault;

use super::operator;
use super::stage::{Failure, Outcome, Stage};
use super::{Begins, CONTAINERS, Scenario};

/// Passwords, MAAS's secret and all certificates, with writes going on.
pub const ROTATION: Scenario = Scenario {
    name: "rotation",
    number: 13,
    proves: "Every secret is rotated over SSH on a live cluster with writes going on, and the old ones open nothing",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let file = stage.lab.secrets();
        let old = file.read()?;
        let mut vault = old.clone();
        let fault = stage.fault("rotate every secret");
        let changed = vault.rotate(&[], now())?;
        stage.tell(&format!("rotated: {}", changed.join(", ")));
        file.replace(&old, &vault)?;
        let everyone: Vec<&str> = stage.cast.everyone();
        operator::apply(stage, &everyone)?;
        let wanted = vault.generation;
        stage.expect_within("every machine to run with the new secrets", stage.patience(240), |stage| {
            for name in &everyone {
                let record = stage.shell(name, "cat /var/lib/rolecast/join.json")?;
                let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
                if record["secrets_generation"].as_u64() != Some(wanted) {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        let took = stage.recorder.now() - fault;
        stage.seconds("rotation, all machines", took, None);
        stage.wait_whole()?;
        let requests = stage.recorder.read().requests.clone();
        let window = (fault, stage.recorder.now());
        let gap = measure::longest_gap(&requests, stage.writes(), window);
        stage.seconds("longest gap of writes in it", gap, None);
        let failed = measure::failures(&requests, stage.writes(), fault, window.1);
        stage.figure("writes that failed", (failed.in_flight + failed.new) as f64, "requests", None);
        old_ones_open_nothing(stage, &old)?;
        // The next boots find the new ones.
        for name in stage.cast.everyone() {
            stage.seed(name, |_| {})?;
        }
        Ok(())
    },
};

/// The database refuses the old password.
fn old_ones_open_nothing(stage: &Stage<'_>, old: &Vault) -> Outcome {
    let leader = stage.leader()?;
    let Some(password) = old.secret.get("database_password") else {
        return Err(Failure("the vault has no database password".into()));
    };
    let script =
        "read -r PGPASSWORD; export PGPASSWORD; psql -XAtqc 'SELECT 1' -h 127.0.0.1 -p 5433 -U maas maasdb 2>&1";
    let exec = Exec::shell(script).input(format!("{}\n", password.value.0));
    let outcome = stage.machine(&leader)?.exec(&exec)?;
    stage.check(!outcome.succeeded() && outcome.output.contains("authentication failed"), || {
        format!("the old database password was not refused: {}", outcome.output.trim())
    })
}

/// Secrets are searched for by value where anyone, or a log's reader, could see them.
pub const NO_SECRET_SHOWS: Scenario = Scenario {
    name: "no-secret-shows",
    number: 13,
    proves: "No secret of the running cluster is in a journal, a process list, an environment or a world-readable file",
    on: CONTAINERS,
    begins: Begins::Formed,
    run: |stage| {
        let vault = stage.lab.secrets().read()?;
        let values: BTreeSet<String> = values(&vault);
        stage.figure("secrets searched for, by value", values.len() as f64, "values", None);
        let patterns: String = values.iter().map(|value| format!("{value}\n")).collect();
        let mut found = Vec::new();
        for name in stage.cast.everyone() {
            let exec = Exec::shell(SEARCH).input(patterns.clone()).within(stage.patience(120));
            let said = stage.machine(name)?.exec(&exec)?.expect(&format!("search {name} for secrets"))?;
            found.extend(said.lines().map(|line| format!("{name}: {line}")));
            let console = crate::sys::files::read(&stage.machine(name)?.console()).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            if values.iter().any(|value| console.contains(value.as_str())) {
                found.push(format!("{name}: on the console"));
            }
        }
        stage.check(found.is_empty(), || format!("secrets were found:\n{}", found.join("\n")))
    },
};

/// Reads values from standard input, and names every place where one is: never the value itself. The first line proves
/// that the search finds what is there.
const SEARCH: &str = r#"
umask 077; values=/run/rolecast-lab-values; cat >$values; trap 'rm -f $values' EXIT
head -n1 $values | grep -qFf $values || { echo "the search does not work"; exit 1; }
journalctl --no-pager --output=cat --all | grep -qFf $values && echo "in the journal"
for process in /proc/[0-9]*; do
    [ "$process" = /proc/$$ ] && continue
    for part in cmdline environ; do
        tr '\0' '\n' <$process/$part 2>/dev/null | grep -qFf $values && echo "$part of $(cat $process/comm)"
    done
done
# Reachable by anyone: each directory above can be passed through as well. What is below /usr is the image's.
setpriv --reuid=65534 --regid=65534 --clear-groups find / \( -path /proc -o -path /sys -o -path /usr \) -prune -o \
    -type f -readable -size -4096k -print0 2>/dev/null |
    xargs -0 -r grep -lFf $values 2>/dev/null | sed 's/^/world-readable: /'
true
"#;

/// Everything in a vault that opens something. Of a private key, one of its lines.
fn values(vault: &Vault) -> BTreeSet<String> {
    let mut values: BTreeSet<String> = vault.secret.values().map(|kept| kept.value.0.clone()).collect();
    let keys = vault.node.values().map(|certificate| &certificate.key);
    for key in keys.chain([&vault.authority.key, &vault.operator.private]) {
        values.extend(
            key.0.lines().filter(|line| !line.starts_with("-----") && line.len() >= 40).map(str::to_owned).take(2),
        );
    }
    values.retain(|value| value.len() >= 8);
    values
}

/// Seconds since the Epoch.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
