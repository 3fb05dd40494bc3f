//! How long the join waits between two looks at the machine.
//!
//! Short at first and then in proportion to how long it has waited already, so that what a machine waits for is seen soon
//! after it is there, whether it takes a second or an hour. Owns the numbers; never sleeps.

use std::time::Duration;

use super::machine::JOINED;

/// The first pause at a step.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause of a machine that has not joined.
const LONGEST: Duration = Duration::from_secs(10);

/// … of one that others wait for.
const SOON: Duration = Duration::from_secs(1);

/// How much longer each pause of a joined machine is than the one before.
const JOINED_STEP: Duration = Duration::from_secs(5);

/// The longest pause of a joined machine.
const JOINED_LONGEST: Duration = Duration::from_secs(30);

/// The pauses of one machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// The step at which the last round ended.
    step: Option<String>,
    /// Pauses since the machine came to that step.
    pauses: u32,
}

impl Pace {
    /// The pause after a round that ended at `step` without what it waits for; `soon` where others wait for this machine.
    /// A quarter longer each time: what comes is seen late by a quarter of the time that it took, or ten seconds. A
    /// machine that is `patience` times as slow as others looks as many times less often.
    pub(super) fn waiting(&mut self, step: &str, soon: bool, patience: u32) -> Duration {
        let longest = if soon { SOON } else { LONGEST };
        let times = 1.25_f64.powi(i32::try_from(self.count(step)).unwrap_or(i32::MAX).min(60));
        (FIRST * patience).mul_f64(times).min(longest.max(FIRST * patience))
    }

    /// The pause of a joined machine; it is looked at soon again when it just had to be put right.
    pub(super) fn joined(&mut self, put_right: bool) -> Duration {
        if put_right {
            self.begin();
        }
        (JOINED_STEP * self.count(JOINED).saturating_add(1)).min(JOINED_LONGEST)
    }

    /// Everything is new: the next pause is the first.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// How many pauses there were at `step` before.
    fn count(&mut self, step: &str) -> u32 {
        if self.step.as_deref() != Some(step) {
            *self = Self { step: Some(step.to_owned()), pauses: 0 };
        }
        self.pauses = self.pauses.saturating_add(1);
        self.pauses - 1
    }
}

/// A fifth more or less, by the machine's name, so that not all machines ask at once.
pub(super) fn jitter(pause: Duration, name: &str) -> Duration {
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    pause * (80 + sum % 41) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_seen_late_by_a_quarter_of_its_time_at_most() {
        let mut pace = Pace::default();
        let mut waited = Duration::ZERO;
        for _ in 0..200 {
            let pause = pace.waiting("etcd-member", false, 1);
            assert!(pause <= FIRST + waited.mul_f64(0.26) && pause <= LONGEST, "{pause:?} after {waited:?}");
            waited += pause;
        }
        assert_eq!(pace.waiting("etcd-member", false, 1), LONGEST);
        assert_eq!(pace.waiting("etcd-vote", false, 1), FIRST, "another step");
    }

    #[test]
    fn who_is_waited_for_looks_every_second_and_who_is_slow_less_often() {
        let mut pace = Pace::default();
        let pauses: Vec<Duration> = (0..9).map(|_| pace.waiting("rotation", true, 1)).collect();
        assert!(pauses.is_sorted() && pauses[0] == FIRST && pauses[8] == SOON, "{pauses:?}");
        assert_eq!(Pace::default().waiting("etcd-member", false, 5), FIRST * 5);
        assert_eq!(Pace::default().waiting("rotation", true, 5), FIRST * 5);
    }

    #[test]
    fn a_joined_machine_is_looked_at_every_half_minute_and_sooner_when_it_was_put_right() {
        let mut pace = Pace::default();
        let pauses: Vec<u64> = (0..8).map(|_| pace.joined(false).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 15, 20, 25, 30, 30, 30]);
        assert_eq!(pace.joined(true).as_secs(), 5);
    }

    #[test]
    fn machines_do_not_all_ask_at_once() {
        let second = Duration::from_secs(1);
        let spread = ["region-1", "region-2", "rack-1", "rack-2"].map(|name| jitter(second, name));
        assert!(spread.iter().all(|pause| (800..=1200).contains(&pause.as_millis())), "{spread:?}");
        assert_ne!(spread[0], spread[1]);
    }
}
