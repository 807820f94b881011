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
        let mut failures = self.lock();
        let note = failures.failed(now, operation, &reason);
        self.failing.fetch_or(bit(operation), Ordering::Relaxed);
        drop(failures);
        if let Some(note) = note {
            log(operation, &note);
        }
    }

    /// An operation succeeded.
    pub(crate) fn succeeded(&self, operation: Operation) {
        if self.failing.load(Ordering::Relaxed) & bit(operation) == 0 {
            return;
        }
        let now = self.clock.elapsed();
        let mut failures = self.lock();
        let note = failures.succeeded(now, operation);
        self.failing.fetch_and(!bit(operation), Ordering::Relaxed);
        drop(failures);
        if let Some(note) = note {
            log(operation, &note);
        }
    }

    /// An operation is not asked any more: whether it fails is not known, and does not matter.
    pub(crate) fn dropped(&self, operation: Operation) {
        if self.failing.load(Ordering::Relaxed) & bit(operation) != 0 {
            self.lock().dropped(operation);
            self.failing.fetch_and(!bit(operation), Ordering::Relaxed);
        }
    }

    /// A claim would be possible.
    pub(crate) fn proved(&self) {
        self.succeeded(Operation::Prove);
        if self.failing.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = self.clock.elapsed();
        let mut failures = self.lock();
        let over = failures.proved(now);
        let failing = failures.all().map(|failing| bit(failing.operation)).fold(0, |all, bit| all | bit);
        self.failing.store(failing, Ordering::Relaxed);
        drop(failures);
        over.iter().for_each(|(operation, note)| log(*operation, note));
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
    Problem::Failing {
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
