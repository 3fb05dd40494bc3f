//! What has to hold whatever a scenario does: no acknowledged row is gone, never two writers, the cluster is whole again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lab::client::Rows;
use crate::lab::machine::Exec;
use crate::lab::timeline::measure::{self, Of};

use super::stage::{Failure, Outcome, Stage};

/// Most memory that an agent should hold, MiB.
const AGENT_MEMORY: f64 = 10.0;

/// How long a cluster may take to become whole, in seconds.
const WHOLE_WITHIN: u64 = 240;

/// … after a scenario that failed: longer, and it is better made anew.
pub(super) const REPAIRED_WITHIN: u64 = 75;

impl Stage<'_> {
    /// Waits until the cluster is whole: all members, one leader, every other region streams and one is in sync, one
    /// holder of the virtual address, and every client gets through.
    pub fn wait_whole(&self) -> Result<Duration, Failure> {
        self.wait_whole_within(self.patience(WHOLE_WITHIN))
    }

    /// The same within another time.
    pub(super) fn wait_whole_within(&self, limit: Duration) -> Result<Duration, Failure> {
        let since = self.recorder.now();
        self.wait_joined(&self.cast.everyone(), limit)?;
        self.wait("every region to stream and one to be in sync", limit, |stage| {
            let leader = stage.leader()?;
            let streaming = stage.sql(
                &leader,
                "postgres",
                "SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication \
                 WHERE state = 'streaming';\n",
            )?;
            let standbys = stage.cast.regions.len() - 1;
            let (streams, in_sync) = streaming.split_once('|').unwrap_or_default();
            let enough = streams.parse() == Ok(standbys) && (standbys == 0 || in_sync != "0");
            Ok(enough.then_some(()))
        })?;
        let regions = &self.cast.regions;
        self.wait("Patroni to know the synchronous standby", limit, |stage| {
            let mut known = regions.len() < 2;
            for region in regions {
                known = known || stage.may_lead(region)?;
            }
            Ok(known.then_some(()))
        })?;
        self.holder()?;
        self.wait_served(limit)?;
        Ok(self.recorder.now() - since)
    }

    /// Whether Patroni holds a region for the synchronous standby: only that one takes over from a leader. It writes that
    /// down a round after PostgreSQL calls it synchronous.
    pub(super) fn may_lead(&self, name: &str) -> Result<bool, Failure> {
        let address = self.machine(name)?.identity().address;
        let asks = format!("curl --silent --fail --cacert /etc/rolecast/ca.pem https://{address}:8008/sync");
        Ok(self.machine(name)?.exec(&Exec::shell(&asks))?.succeeded())
    }

    /// Says how much memory the agents hold: that of the one which holds most.
    pub(super) fn weigh_agents(&mut self) -> Outcome {
        // VmRSS, KiB (proc_pid_status(5)).
        let script = "sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB$/\\1/p' \
                      /proc/$(systemctl show --property MainPID --value rolecast-join.service)/status";
        let mut most = 0.0_f64;
        for name in self.cast.everyone() {
            let said = self.shell(name, script)?;
            let held: f64 = said.trim().parse().map_err(|_| Failure(format!("the agent of {name} holds `{said}`")))?;
            most = most.max(held / 1024.0);
        }
        self.figure("resident memory of the agent, at most", most, "MiB", Some(AGENT_MEMORY));
        Ok(())
    }

    /// Stops the clients and says what they saw: rows that are gone, gaps.
    pub(super) fn count_rows(&mut self) -> Outcome {
        let mut failed = Vec::new();
        for client in &mut self.clients {
            client.stop().map_err(Failure)?;
        }
        let window = (self.began, self.recorder.now());
        for index in 0..self.clients.len() {
            let client = self.clients[index].index();
            let label = if self.clients.len() == 1 { String::new() } else { format!(" of {}", self.station(index)) };
            let acknowledged = measure::acknowledged(&self.recorder.read().requests, client);
            let rows = Rows::compare(&acknowledged, &self.present(index)?);
            self.figure(&format!("acknowledged rows{label}"), rows.acknowledged as f64, "rows", None);
            if !acknowledged.is_empty() {
                self.figure(
                    &format!("acknowledged rows{label} that are gone"),
                    rows.lost.len() as f64,
                    "rows",
                    Some(0.0),
                );
            }
            for (writes, name) in [(false, "reads"), (true, "writes")] {
                let gap = measure::longest_gap(&self.recorder.read().requests, Of { client, writes }, window);
                self.seconds(&format!("longest gap of {name}{label}"), gap, None);
            }
            if !rows.lost.is_empty() {
                let some: Vec<String> = rows.lost.iter().take(20).map(u64::to_string).collect();
                let count = rows.lost.len();
                failed.push(format!("{count} acknowledged rows{label} are gone: {} …", some.join(", ")));
            }
        }
        self.check(failed.is_empty(), || failed.join("\n"))
    }

    fn station(&self, index: usize) -> String {
        self.clients[index].name().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// A client's rows as the API and the leader's own database give them; both have to agree.
    fn present(&self, index: usize) -> Result<BTreeSet<u64>, Failure> {
        let client = &self.clients[index];
        let through_api =
            self.wait("the API to list the rows", self.patience(60), |_| client.present().map(Some).map_err(Failure))?;
        let leader = self.leader()?;
        // The name is ours, and holds no quote.
        let statement = format!("SELECT n FROM stub_rows WHERE client = '{}';\n", client.name());
        let listed = self.sql(&leader, "maasdb", &statement)?;
        let in_database: BTreeSet<u64> = listed.lines().filter_map(|line| line.parse().ok()).collect();
        self.check(through_api == in_database, || {
            let (api, database) = (through_api.len(), in_database.len());
            format!("the API lists {api} rows of {}, the database of {leader} holds {database}", client.name())
        })?;
        Ok(in_database)
    }

    /// Fails when two databases took writes at once since the scenario began.
    pub(super) fn check_writers(&self) -> Outcome {
        let found = self.recorder.read().two_writers((self.began, self.recorder.now()));
        let shown: Vec<String> = found
            .iter()
            .map(|(at, length)| {
                let at = at.saturating_sub(self.began).as_secs_f64();
                format!("two databases took writes at {at:.1} s, for {:.1} s", length.as_secs_f64())
            })
            .collect();
        self.check(shown.is_empty(), || shown.join("\n"))
    }
}
