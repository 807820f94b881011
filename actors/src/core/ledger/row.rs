//! What a ledger keeps of a job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    core::{policy::PENDING_RETRIES_MAX, seldom::Seldom},
    name::{RunId, Term},
    port::{Enrolment, Pause, PendingRetry, ScheduleIdentity, StoredState},
};

#[derive(Debug)]
pub(super) struct JobRow {
    pub(super) cursor: DateTime<Utc>,
    /// `None` for a row that is only there for its pause.
    pub(super) schedule: Option<ScheduleIdentity>,
    /// The run of the tick at the cursor.
    pub(super) run: Option<RunId>,
    /// The newest move of the cursor over ticks that nobody ran.
    pub(super) newest_advance: Option<Uuid>,
    /// The term under which it was last enrolled, if it was under one.
    pub(super) term: Option<Term>,
    pub(super) withdrawn: bool,
    /// How many of its ticks were granted, since it was enrolled for the first time, or added again after it
    /// was withdrawn.
    pub(super) runs: u64,
    pub(super) pause: Option<Box<Pause>>,
    /// How many of its last runs in a row failed.
    pub(super) failures: u32,
    /// A run that is lost is retried.
    pub(super) retry_lost: bool,
    /// The cursor moves to the end of a run that is lost.
    pub(super) from_completion: bool,
    /// How old the ledger was when the job was last enrolled, kept or withdrawn.
    pub(super) held: Duration,
    /// Its pending retries, in the order of the runs.
    pub(super) pending_retries: Seldom<PendingRetry>,
}

/// How many bytes a ledger takes for a job, besides its name.
#[cfg(any(test, feature = "testkit"))]
pub(crate) const ROW_BYTES: usize = size_of::<JobRow>();

impl JobRow {
    pub(super) fn new(cursor: DateTime<Utc>, schedule: Option<ScheduleIdentity>, term: Option<Term>) -> Self {
        Self {
            cursor,
            schedule,
            run: None,
            newest_advance: None,
            term,
            withdrawn: false,
            runs: 0,
            pause: None,
            failures: 0,
            retry_lost: false,
            from_completion: false,
            held: Duration::ZERO,
            pending_retries: Seldom::default(),
        }
    }

    /// Its schedule is known to be another one, or it had none.
    pub(super) fn has_other(&self, schedule: ScheduleIdentity) -> bool {
        self.schedule.is_none_or(|own| own.differs_from(schedule))
    }

    /// Adds a pending retry: whether it is still there once the oldest beyond the bound are dropped.
    pub(super) fn add_retry(&mut self, retry: PendingRetry) -> bool {
        let at = self.pending_retries.partition_point(|pending| pending.run < retry.run);
        let pending_retries = self.pending_retries.list_mut();
        pending_retries.insert(at, retry);
        let dropped = pending_retries.len().saturating_sub(PENDING_RETRIES_MAX);
        pending_retries.drain(..dropped);
        at >= dropped
    }

    /// It is another job from now on, or the same one with another schedule: it owes ticks only `since` then,
    /// and its cursor never goes back. The node that enrols it has held it since `known_since`.
    pub(super) fn restart(&mut self, since: DateTime<Utc>, known_since: DateTime<Utc>, job: &Enrolment) {
        let mut fresh = Self::new(self.cursor.max(since), Some(job.schedule), job.authority.term());
        fresh.newest_advance = self.newest_advance;
        fresh.pause = self.pause.take();
        // A copy that was there before the last tick is the same job; one that was added later begins again.
        if !self.withdrawn || known_since <= self.cursor {
            fresh.runs = self.runs;
        }
        if !self.withdrawn {
            fresh.failures = self.failures;
            if job.retry_lost {
                fresh.pending_retries = std::mem::take(&mut self.pending_retries);
            }
        }
        (fresh.retry_lost, fresh.from_completion) = (job.retry_lost, job.from_completion);
        *self = fresh;
    }

    /// The pause that is not over.
    pub(super) fn pause(&self, now: DateTime<Utc>) -> Option<&Pause> {
        self.pause.as_deref().filter(|pause| lasts(pause, now))
    }

    pub(super) fn stored(&self, now: DateTime<Utc>) -> Box<StoredState> {
        let pending_retries = self.pending_retries.iter().copied().collect();
        Box::new(StoredState { pause: self.pause(now).cloned(), failures: self.failures, pending_retries })
    }
}

/// Whether these are the same pause, or none.
pub(super) fn is_same(known: Option<&Pause>, asked: Option<&Pause>) -> bool {
    match (known, asked) {
        (Some(known), Some(asked)) => known.is_same_as(asked),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether a pause is not over.
pub(super) fn lasts(pause: &Pause, now: DateTime<Utc>) -> bool {
    pause.until.is_none_or(|until| until > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{NodeId, RunIds};

    #[test]
    fn of_too_many_pending_retries_the_oldest_are_dropped() {
        let now = DateTime::UNIX_EPOCH;
        let (ids, mut row) = (RunIds::of(NodeId::numbered(1)), JobRow::new(now, None, None));
        let runs: Vec<_> = (0..PENDING_RETRIES_MAX + 2).map(|_| ids.next(now)).collect();
        let retry = |run| PendingRetry { run, fire_time: None, losses: 1 };

        assert!(runs[1..].iter().all(|run| row.add_retry(retry(*run))));
        assert!(!row.add_retry(retry(runs[0])), "it is older than all");

        assert!(row.pending_retries.iter().map(|pending| pending.run).eq(runs[2..].iter().copied()));
    }
}
