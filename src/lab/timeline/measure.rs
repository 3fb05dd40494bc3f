//! What the clients' requests say: gaps, first successes, failures. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Request, RequestKind};

/// Which requests to look at.
#[derive(Clone, Copy, Debug)]
pub struct Of {
    /// Index of the client.
    pub client: usize,
    /// Writes, else reads.
    pub writes: bool,
}

impl Of {
    fn covers(self, request: &Request) -> bool {
        request.client == self.client && request.kind.is_write() == self.writes
    }
}

/// The numbers of the rows that a client was told are committed.
pub fn acknowledged(requests: &[Request], client: usize) -> BTreeSet<u64> {
    let done = requests.iter().filter(|request| request.client == client && request.failure.is_none());
    done.filter_map(|request| match request.kind {
        RequestKind::Write(number) => Some(number),
        RequestKind::Read => None,
    })
    .collect()
}

/// The longest time within `from..to` without a success: from the end of one to the end of the next. The window's edges
/// count as successes, so that a client that never gets through has a gap as long as the window.
pub fn longest_gap(requests: &[Request], of: Of, (from, to): (Duration, Duration)) -> Duration {
    let done = requests.iter().filter(|request| of.covers(request) && request.failure.is_none());
    let mut ends: Vec<Duration> = done.map(|request| request.ended).filter(|end| *end > from && *end < to).collect();
    ends.sort();
    ends.push(to);
    let mut last = from;
    let mut longest = Duration::ZERO;
    for end in ends {
        longest = longest.max(end - last);
        last = end;
    }
    longest
}

/// How long after `fault` the first request came through that was sent after it; none when none has.
pub fn first_success(requests: &[Request], of: Of, fault: Duration) -> Option<Duration> {
    let after = requests.iter().filter(|request| of.covers(request) && request.sent >= fault);
    after.filter(|request| request.failure.is_none()).map(|request| request.ended).min().map(|end| end - fault)
}

/// How long after `fault` the first request came through that was sent after the first failure that the fault caused:
/// what is acknowledged between a fault and its first effect ends no outage. Zero when nothing failed.
pub fn first_success_after_failure(requests: &[Request], of: Of, fault: Duration) -> Option<Duration> {
    let failed = requests.iter().filter(|request| of.covers(request) && request.failure.is_some());
    match failed.filter(|request| request.ended >= fault).map(|request| request.sent).min() {
        None => Some(Duration::ZERO),
        Some(first) => first_success(requests, of, first.max(fault)).map(|time| first.max(fault) + time - fault),
    }
}

/// How long after `fault` the last request was acknowledged; none when none was after it.
pub fn last_success(requests: &[Request], of: Of, fault: Duration) -> Option<Duration> {
    let done = requests.iter().filter(|request| of.covers(request) && request.failure.is_none());
    done.map(|request| request.ended).filter(|end| *end >= fault).max().map(|end| end - fault)
}

/// How long after `fault` a request that was sent after it found a connection, whatever the answer was.
pub fn first_contact(requests: &[Request], of: Of, fault: Duration) -> Option<Duration> {
    let after = requests.iter().filter(|request| of.covers(request) && request.sent >= fault);
    let reached = |request: &&Request| request.failure.as_deref().is_none_or(|why| !why.starts_with(NO_CONNECTION));
    after.filter(reached).map(|request| request.sent).min().map(|sent| sent - fault)
}

/// How the client's message of a request that reached nobody begins.
pub const NO_CONNECTION: &str = "no connection";

/// How long the client saw failures after `fault`: until the end of the first success that no failure of a later request
/// follows. Zero when nothing failed, none when it still fails at the end of `until`.
pub fn outage(requests: &[Request], of: Of, fault: Duration, until: Duration) -> Option<Duration> {
    let mut after: Vec<&Request> = requests
        .iter()
        .filter(|request| of.covers(request) && request.ended >= fault && request.sent <= until)
        .collect();
    after.sort_by_key(|request| request.sent);
    let Some(last_failed) = after.iter().rposition(|request| request.failure.is_some()) else {
        return Some(Duration::ZERO);
    };
    after[last_failed + 1..].iter().map(|request| request.ended).min().map(|end| end.saturating_sub(fault))
}

/// Failures after a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Of requests that were under way when it happened.
    pub in_flight: usize,
    /// Of requests that were sent later.
    pub new: usize,
}

/// Counts the failures of requests that ended after `fault` and were sent before `until`.
pub fn failures(requests: &[Request], of: Of, fault: Duration, until: Duration) -> Failures {
    let failed = requests.iter().filter(|request| of.covers(request) && request.failure.is_some());
    let mut count = Failures::default();
    for request in failed.filter(|request| request.ended >= fault && request.sent < until) {
        if request.sent < fault {
            count.in_flight += 1;
        } else {
            count.new += 1;
        }
    }
    count
}

/// The failures of requests that were sent in a window: of those that were under way at `moment`, and of the others.
pub fn failures_around(requests: &[Request], of: Of, (from, to): (Duration, Duration), moment: Duration) -> Failures {
    let failed = requests.iter().filter(|request| of.covers(request) && request.failure.is_some());
    let sent = failed.filter(|request| request.sent >= from && request.sent < to);
    let (in_flight, new): (Vec<&Request>, Vec<&Request>) =
        sent.partition(|request| request.sent < moment && request.ended >= moment);
    Failures { in_flight: in_flight.len(), new: new.len() }
}

/// Why requests failed, each reason with its count, the most frequent first.
pub fn reasons(requests: &[Request], of: Of, (from, to): (Duration, Duration)) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for request in requests.iter().filter(|request| of.covers(request) && request.sent >= from && request.sent < to) {
        if let Some(failure) = &request.failure {
            *counts.entry(failure).or_default() += 1;
        }
    }
    let mut reasons: Vec<(String, usize)> = counts.into_iter().map(|(why, count)| (why.to_owned(), count)).collect();
    reasons.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const WRITES: Of = Of { client: 0, writes: true };
    const READS: Of = Of { client: 0, writes: false };

    fn seconds(value: f64) -> Duration {
        Duration::from_millis((value * 1000.0) as u64)
    }

    fn close(value: Duration, expected: f64) {
        assert!((value.as_secs_f64() - expected).abs() < 0.15, "{value:?}, expected {expected}");
    }

    #[test]
    fn gaps_of_reads_and_writes_are_those_of_the_outage() {
        let requests = sample::recording().requests;
        let whole = (seconds(0.0), seconds(60.0));
        close(longest_gap(&requests, WRITES, whole), 18.5);
        close(longest_gap(&requests, READS, whole), 2.1);
        close(longest_gap(&requests, READS, (seconds(20.0), seconds(30.0))), 0.1);
        assert_eq!(longest_gap(&requests, Of { client: 1, writes: true }, whole), seconds(60.0), "it never asked");
    }

    #[test]
    fn the_first_success_is_of_a_request_sent_after_the_fault() {
        let mut requests = sample::recording().requests;
        close(first_success(&requests, WRITES, seconds(10.0)).unwrap(), 18.4);
        // One that was sent before the fault and answered after it proves nothing.
        requests[0] = Request { sent: seconds(9.9), ended: seconds(10.1), failure: None, ..requests[0].clone() };
        close(first_success(&requests, READS, seconds(10.0)).unwrap(), 2.0);
        assert_eq!(first_success(&requests, READS, seconds(61.0)), None);
    }

    #[test]
    fn an_outage_lasts_until_no_failure_follows() {
        let mut requests = sample::recording().requests;
        close(outage(&requests, READS, seconds(10.0), seconds(40.0)).unwrap(), 2.0);
        assert_eq!(outage(&requests, READS, seconds(30.0), seconds(40.0)), Some(Duration::ZERO));
        assert_eq!(outage(&requests, WRITES, seconds(10.0), seconds(20.0)), None, "it has not ended yet");
        let late = Request {
            client: 0,
            kind: RequestKind::Read,
            sent: seconds(15.0),
            ended: seconds(15.4),
            failure: Some("answered 503".into()),
        };
        requests.push(late);
        close(outage(&requests, READS, seconds(10.0), seconds(40.0)).unwrap(), 5.1);
    }

    #[test]
    fn failures_in_flight_are_counted_apart() {
        let request = |sent, ended| Request {
            client: 0,
            kind: RequestKind::Read,
            sent: seconds(sent),
            ended: seconds(ended),
            failure: Some("cut off".into()),
        };
        let requests = [request(9.0, 9.5), request(9.9, 10.2), request(10.1, 11.1), request(10.2, 11.2)];
        let counted = failures(&requests, READS, seconds(10.0), seconds(20.0));
        assert_eq!(counted, Failures { in_flight: 1, new: 2 });
        let window = (seconds(9.0), seconds(20.0));
        let around = |moment| failures_around(&requests, READS, window, seconds(moment));
        assert_eq!(around(11.0), Failures { in_flight: 2, new: 2 });
        assert_eq!(around(15.0), Failures { in_flight: 0, new: 4 });
        assert_eq!(reasons(&requests, READS, (seconds(0.0), seconds(20.0))), [("cut off".to_owned(), 4)]);
    }
}
