//! Where the actors of a node say what of the store fails: counted, logged, and kept for the health.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    core::{
        failures::{Failing, Failures, Note, REASON_BYTES_MAX},
        operation::Operation,
        text::one_line,
    },
    health::{Problem, before},
    metrics::Meters,
    port::Clock,
};

/// The last failure of each operation of a node.
pub(crate) struct FailureLog {
    clock: Arc<dyn Clock>,
    meters: Arc<Meters>,
    failures: Mutex<Failures>,
    /// One bit for each operation that fails: a success of one that does not costs one look here.
    failing: AtomicU32,
}

// A bit for each.
const _: () = assert!(Operation::ALL.len() <= u32::BITS as usize);

impl FailureLog {
    pub(crate) fn new(clock: Arc<dyn Clock>, meters: Arc<Meters>) -> Self {
        Self { clock, meters, failures: Mutex::default(), failing: AtomicU32::new(0) }
    }

    /// An operation failed, or the store refused it.
    pub(crate) fn failed(&self, operation: Operation, reason: &dyn fmt::Display) {
        self.meters.coordination_error(operation);
        // On one line, of which what is kept is cut once more.
        let reason = one_line(reason, REASON_BYTES_MAX);
        let now = self.clock.elapsed();
        if let Some(note) = self.change(|failures| failures.failed(now, operation, &reason)) {
            log(operation, &note);
        }
    }

    /// An operation succeeded.
    pub(crate) fn succeeded(&self, operation: Operation) {
        if self.failing.load(Ordering::Relaxed) & bit(operation) == 0 {
            return;
        }
        let now = self.clock.elapsed();
        if let Some(note) = self.change(|failures| failures.succeeded(now, operation)) {
            log(operation, &note);
        }
    }

    /// An operation is not asked any more: whether it fails is not known, and does not matter.
    pub(crate) fn dropped(&self, operation: Operation) {
        if self.failing.load(Ordering::Relaxed) & bit(operation) != 0 {
            self.change(|failures| failures.dropped(operation));
        }
    }

    /// A claim would be possible.
    pub(crate) fn proved(&self) {
        self.succeeded(Operation::Prove);
        if self.failing.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = self.clock.elapsed();
        let over = self.change(|failures| failures.proved(now));
        over.iter().for_each(|(operation, note)| log(*operation, note));
    }

    /// Changes what fails. The bits are set before anybody else can change it: they say the same.
    fn change<T>(&self, change: impl FnOnce(&mut Failures) -> T) -> T {
        let mut failures = self.lock();
        let changed = change(&mut failures);
        let failing = failures.all().map(|failing| bit(failing.operation)).fold(0, |all, bit| all | bit);
        self.failing.store(failing, Ordering::Relaxed);
        changed
    }

    /// Why an operation failed last, if it fails.
    pub(crate) fn reason(&self, operation: Operation) -> Option<String> {
        let failures = self.lock();
        failures
            .all()
            .find(|failing| failing.operation == operation)
            .map(|failing| failing.reason.to_string())
    }

    /// The operations that have been failing for longer than `bound`.
    pub(crate) fn problems(&self, wall: DateTime<Utc>, bound: Duration) -> Vec<Problem> {
        let now = self.clock.elapsed();
        let failures = self.lock();
        failures.longer_than(now, bound).map(|failing| problem(failing, now, wall)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(operation: Operation) -> u32 {
    1 << operation as u32
}

fn problem(failing: &Failing, now: Duration, wall: DateTime<Utc>) -> Problem {
    let instant = |at: Duration| before(wall, now.saturating_sub(at));
    // As the ports say: what happened, then what would mend it.
    let (reason, cure) = match failing.reason.split_once("; ") {
        Some((reason, cure)) => (reason.to_owned(), Some(cure.to_owned())),
        None => (failing.reason.to_string(), None),
    };
    Problem::OperationFailing {
        operation: failing.operation,
        reason,
        cure,
        since: instant(failing.since),
        last: instant(failing.last),
        count: failing.count,
    }
}

fn log(operation: Operation, note: &Note) {
    match note {
        Note::Fails { reason } => {
            tracing::warn!(target: "callsheet", %operation, "the store: {reason}");
        }
        Note::StillFails { reason, lasts, count } => {
            tracing::warn!(target: "callsheet", %operation, ?lasts, count, "the store, still: {reason}");
        }
        Note::Over { took, count } => {
            tracing::info!(target: "callsheet", %operation, ?took, count, "the store is well again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::testkit::VirtualClock;

    #[test]
    fn nobody_sees_a_bit_that_differs_from_what_fails() {
        const ROUNDS: usize = 20_000;
        let clock = Arc::new(VirtualClock::starting_at(DateTime::UNIX_EPOCH));
        let log = FailureLog::new(clock, Arc::new(Meters::new("test".into(), None, 1, &"".into())));
        let operation = Operation::Renew;

        let differs = thread::scope(|scope| {
            let drops = scope.spawn(|| (0..ROUNDS).for_each(|_| log.dropped(operation)));
            let mut differs = 0;
            while !drops.is_finished() {
                log.failed(operation, &"no right");
                let failures = log.lock();
                let said = log.failing.load(Ordering::Relaxed) & bit(operation) != 0;
                differs += usize::from(said != failures.fails(operation));
            }
            differs
        });

        assert_eq!(differs, 0, "a failure whose bit is not set is not ended by a success");
    }
}
