//! What a ledger keeps of a job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::stored::{instant, is_zero};
use crate::{
    core::{policy::PENDING_RETRIES_MAX, seldom::Seldom},
    name::{RunId, Term},
    port::{Enrolment, Pause, PendingRetry, ScheduleIdentity, StoredState},
};

/// Its fields are those of the [stored form](super::stored) as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JobRow {
    #[serde(with = "instant")]
    pub(super) cursor: DateTime<Utc>,
    /// `None` for a row that is only there for its pause.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "identity")]
    pub(super) schedule: Option<ScheduleIdentity>,
    /// The run of the tick at the cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<RunId>,
    /// The newest move of the cursor over ticks that nobody ran.
    #[serde(rename = "advance", default, skip_serializing_if = "Option::is_none")]
    pub(super) newest_advance: Option<Uuid>,
    /// The term under which it was last enrolled, if it was under one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "term")]
    pub(super) term: Option<Term>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) withdrawn: bool,
    /// How many of its ticks were granted, since it was enrolled for the first time, or added again after it
    /// was withdrawn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) runs: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pause: Option<Box<Pause>>,
    /// How many of its last runs in a row failed.
    #[serde(default, skip_serializing_if = "none_failed")]
    pub(super) failures: u32,
    /// A run that is lost is retried.
    #[serde(rename = "retry", default, skip_serializing_if = "is_false")]
    pub(super) retry_lost: bool,
    /// The cursor moves to the end of a run that is lost.
    #[serde(rename = "anchor", default, skip_serializing_if = "is_false")]
    pub(super) from_completion: bool,
    /// How old the ledger was when the job was last enrolled, kept or withdrawn.
    #[serde(default, with = "age")]
    pub(super) held: Duration,
    /// Its pending retries, in the order of the runs.
    #[serde(skip)]
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

    /// Whether a run that was lost is to go on.
    pub(super) fn is_to_retry(&self, run: RunId) -> bool {
        self.retry_lost && !self.withdrawn && self.pending_retries.iter().any(|retry| retry.run == run)
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
        let (pause, failures) = (self.pause(now).cloned(), self.failures);
        Box::new(StoredState { pause, failures, pending_retries, unproven_to: None })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) fn is_false(is: &bool) -> bool {
    !is
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn none_failed(failures: &u32) -> bool {
    *failures == 0
}

/// The version and the digest.
mod identity {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    use crate::port::ScheduleIdentity;

    pub(super) fn serialize<S: Serializer>(
        identity: &Option<ScheduleIdentity>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // As a UUID, the sixteen bytes are sixteen bytes in every format.
        identity
            .map(|identity| (identity.version(), Uuid::from_bytes(identity.digest())))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ScheduleIdentity>, D::Error> {
        let stored = Option::<(u32, Uuid)>::deserialize(deserializer)?;
        Ok(stored.map(|(version, digest)| ScheduleIdentity::of_digest(version, digest.into_bytes())))
    }
}

mod term {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::name::Term;

    pub(super) fn serialize<S: Serializer>(term: &Option<Term>, serializer: S) -> Result<S::Ok, S::Error> {
        term.map(|Term(term)| term).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Term>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Term))
    }
}

/// Milliseconds.
mod age {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
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
        let retry = |run| PendingRetry { run, fire_time: None, named: None, losses: 1 };

        assert!(runs[1..].iter().all(|run| row.add_retry(retry(*run))));
        assert!(!row.add_retry(retry(runs[0])), "it is older than all");

        assert!(row.pending_retries.iter().map(|pending| pending.run).eq(runs[2..].iter().copied()));
    }
}
