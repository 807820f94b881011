//! Which operations fail at present, why, since when, and when that is worth a line in the log.
//!
//! ```text
//! answers   ok  no no no no no no no no  ok      of one operation, one reason
//! log           ▲              ▲         ▲       first; again after a minute; over, and how long it took
//! health    ────────┬──────────────────┬───      a problem from one lease after the first failure on
//! ```

use std::{collections::VecDeque, time::Duration};

use crate::core::{operation::Operation, text::bounded};

/// A reason that was logged is not logged again for this long.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The most reasons of one operation that are logged within [`AGAIN_AFTER`].
pub(crate) const REASONS_MAX: usize = 4;
/// The most bytes of a reason that are kept; where it was longer, a mark behind them says so.
pub(crate) const REASON_BYTES_MAX: usize = 512;
/// An operation that has not been asked for so long is taken to work again once a claim would be possible.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(120);

/// An operation that fails. Instants are readings of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failing {
    /// What fails.
    pub operation: Operation,
    /// Why it failed last: at most [`REASON_BYTES_MAX`] bytes of it.
    pub reason: Box<str>,
    /// When it failed first after it had succeeded.
    pub since: Duration,
    /// When it failed last.
    pub last: Duration,
    /// How often it has failed since then.
    pub count: u64,
    /// There is a line in the log that says so.
    said: bool,
}

impl Failing {
    /// For how long it has been known to fail at `now`.
    fn lasts(&self, now: Duration) -> Duration {
        // Nobody asks again, so that nobody knows whether it would fail.
        let until = if self.operation.is_on_demand() { self.last } else { now };
        until.saturating_sub(self.since)
    }
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The operation fails, or fails for another reason than before.
    Fails {
        /// Why.
        reason: Box<str>,
    },
    /// It still fails, for a reason that was logged a minute ago or earlier.
    StillFails {
        /// Why.
        reason: Box<str>,
        /// For how long.
        lasts: Duration,
        /// How often it has failed.
        count: u64,
    },
    /// It succeeds again.
    Over {
        /// For how long it failed.
        took: Duration,
        /// How often it failed.
        count: u64,
    },
}

/// What was logged of one operation, the oldest first.
#[derive(Debug, Default)]
struct Said(VecDeque<(Box<str>, Duration)>);

impl Said {
    /// Whether a reason may be logged, and whether it was before. If it may, it counts as logged.
    fn say(&mut self, reason: &str, now: Duration) -> Option<bool> {
        let old = |at: Duration| now.saturating_sub(at) >= AGAIN_AFTER;
        if let Some(at) = self.0.iter().position(|(said, _)| &**said == reason) {
            if !old(self.0[at].1) {
                return None;
            }
            self.0.remove(at);
            self.0.push_back((reason.into(), now));
            return Some(true);
        }
        if self.0.len() >= REASONS_MAX {
            if !self.0.front().is_some_and(|(_, at)| old(*at)) {
                return None;
            }
            self.0.pop_front();
        }
        self.0.push_back((reason.into(), now));
        Some(false)
    }
}

/// The last failure of each operation.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    failing: [Option<Failing>; Operation::ALL.len()],
    said: [Said; Operation::ALL.len()],
}

impl Failures {
    /// An operation failed, or was refused.
    pub(crate) fn failed(&mut self, now: Duration, operation: Operation, reason: &str) -> Option<Note> {
        let reason = &*bounded(reason, REASON_BYTES_MAX);
        let failing = self.failing[operation as usize].get_or_insert_with(|| Failing {
            operation,
            reason: Box::default(),
            since: now,
            last: now,
            count: 0,
            said: false,
        });
        failing.last = now;
        failing.count = failing.count.saturating_add(1);
        if &*failing.reason != reason {
            failing.reason = reason.into();
        }
        let before = self.said[operation as usize].say(reason, now)?;
        // Not if it succeeded meanwhile: then it fails again.
        let still = before && failing.said;
        failing.said = true;
        let (reason, lasts, count) = (reason.into(), now.saturating_sub(failing.since), failing.count);
        Some(if still { Note::StillFails { reason, lasts, count } } else { Note::Fails { reason } })
    }

    /// An operation succeeded.
    pub(crate) fn succeeded(&mut self, now: Duration, operation: Operation) -> Option<Note> {
        let Failing { since, count, said, .. } = self.failing[operation as usize].take()?;
        said.then(|| Note::Over { took: now.saturating_sub(since), count })
    }

    /// An operation is not asked any more, whether it would succeed or not.
    pub(crate) fn dropped(&mut self, operation: Operation) {
        self.failing[operation as usize] = None;
    }

    /// A claim would be possible: what has not been asked for long is taken to work again. Answers what that
    /// ends.
    pub(crate) fn proved(&mut self, now: Duration) -> Vec<(Operation, Note)> {
        let quiet = |failing: &Failing| now.saturating_sub(failing.last) > QUIET_MAX;
        let over = Operation::ALL.into_iter().filter_map(|operation| {
            let failing = self.failing[operation as usize].take_if(|failing| quiet(failing))?;
            let Failing { since, last, count, said, .. } = failing;
            said.then(|| (operation, Note::Over { took: last.saturating_sub(since), count }))
        });
        over.collect()
    }

    /// Whether an operation fails at present.
    #[cfg(test)]
    pub(crate) fn fails(&self, operation: Operation) -> bool {
        self.failing[operation as usize].is_some()
    }

    /// Whatever fails at present.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Failing> {
        self.failing.iter().flatten()
    }

    /// Whatever has been failing for longer than `bound`.
    pub(crate) fn longer_than(&self, now: Duration, bound: Duration) -> impl Iterator<Item = &Failing> {
        self.all().filter(move |failing| failing.lasts(now) > bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Operation = Operation::Claim;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fails(reason: &str) -> Option<Note> {
        Some(Note::Fails { reason: reason.into() })
    }

    #[test]
    fn a_reason_is_logged_once_then_once_a_minute_then_when_it_is_over() {
        let mut failures = Failures::default();
        let mut log = Vec::new();

        for second in 10..=135 {
            log.extend(failures.failed(s(second), CLAIM, "no right").map(|note| (second, note)));
        }
        log.extend(failures.succeeded(s(136), CLAIM).map(|note| (136, note)));
        log.extend(failures.succeeded(s(137), CLAIM).map(|note| (137, note)));

        let still = |lasts, count| Note::StillFails { reason: "no right".into(), lasts: s(lasts), count };
        let expected = [
            (10, Note::Fails { reason: "no right".into() }),
            (70, still(60, 61)),
            (130, still(120, 121)),
            (136, Note::Over { took: s(126), count: 126 }),
        ];
        assert_eq!(log, expected);
    }

    #[test]
    fn another_reason_is_logged_at_once_but_not_more_than_a_few_a_minute() {
        let mut failures = Failures::default();

        assert_eq!(failures.failed(s(0), CLAIM, "a"), fails("a"));
        assert_eq!(failures.failed(s(1), CLAIM, "b"), fails("b"));
        assert_eq!(failures.failed(s(2), CLAIM, "a"), None);
        assert_eq!(failures.failed(s(3), CLAIM, "c"), fails("c"));
        assert_eq!(failures.failed(s(4), CLAIM, "d"), fails("d"));
        assert_eq!(failures.failed(s(5), CLAIM, "e"), None, "each may hold a number of its own");
        assert_eq!(failures.failed(s(60), CLAIM, "f"), fails("f"));
        assert_eq!(failures.failed(s(60), CLAIM, "g"), None);

        let failing: Vec<_> = failures.all().collect();
        assert_eq!((failing.len(), &*failing[0].reason, failing[0].count), (1, "g", 8));
    }

    #[test]
    fn what_comes_and_goes_is_not_logged_each_time() {
        let mut failures = Failures::default();
        let mut lines = 0;

        for second in 0..60 {
            lines += usize::from(failures.failed(s(second), CLAIM, "now and then").is_some());
            lines += usize::from(failures.succeeded(s(second), CLAIM).is_some());
        }

        assert_eq!(lines, 2);
        assert_eq!(failures.failed(s(60), CLAIM, "now and then"), fails("now and then"));
    }

    #[test]
    fn a_failure_is_a_problem_once_it_lasts() {
        let mut failures = Failures::default();
        let lasting = |failures: &Failures, now| failures.longer_than(s(now), s(5)).count();

        failures.failed(s(10), CLAIM, "no right");
        assert_eq!([lasting(&failures, 15), lasting(&failures, 16)], [0, 1]);
        failures.succeeded(s(20), CLAIM);
        assert_eq!(lasting(&failures, 30), 0);

        // Nobody asks again, or does so for long.
        failures.failed(s(30), Operation::Pause, "no answer");
        assert_eq!(lasting(&failures, 90), 0);
        failures.failed(s(90), Operation::Pause, "no answer");
        assert_eq!(lasting(&failures, 90), 1);
    }

    #[test]
    fn what_nobody_asks_any_more_ends_with_a_proof() {
        let mut failures = Failures::default();
        failures.failed(s(0), CLAIM, "no right");
        failures.failed(s(100), Operation::Enrol, "no right");

        assert_eq!(failures.proved(s(120)), []);
        assert_eq!(failures.proved(s(121)), [(CLAIM, Note::Over { took: s(0), count: 1 })]);

        assert!(!failures.fails(CLAIM) && failures.fails(Operation::Enrol));
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let mut failures = Failures::default();

        failures.failed(s(0), CLAIM, &format!("a{}", "é".repeat(400)));

        let reason = &failures.all().next().unwrap().reason;
        assert_eq!(**reason, *format!("a{}… (cut at 512 bytes)", "é".repeat(255)));
    }
}
