//! A ledger as a store of records keeps it: what stands under one name, and how it is written.
//!
//! The names of the fields are those of the stored form. They never change their meaning; a field that is
//! added has a default, and comes with another number of the format.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    NEVER,
    enrolments::Declared,
    row::{JobRow, is_false},
};
use crate::{
    core::{policy::Overlap, time::FireTime},
    name::{FencingToken, JobName, RunId, Term},
    port::{Pause, PendingRetry, Session},
};

/// The most ended runs of a key that are remembered, so that an end that is told again is recognised.
pub(super) const ENDED_MAX: usize = 8;
/// The most lost runs of a job that are remembered, so that a claim that is made again is recognised.
pub(super) const LOST_MAX: usize = 16;

/// What is stored under a name: that of a job, of a lock key, or of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct NameRow {
    /// The job of this name, if one was ever enrolled or paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<Box<JobRow>>,
    /// The runs of the job that were lost last, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<RunId>,
    /// The greatest token that was granted for the key.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) token: u64,
    /// The run that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<OpenRow>,
    /// The runs that had it last and ended, with their tokens, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<(RunId, u64)>,
    /// The policy that is declared for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<PolicyRow>,
    /// How old the store was when the key was used last, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) used: u64,
}

impl NameRow {
    /// The session and the job of the run that has the key of this name, and the run.
    pub(crate) fn holder(&self, name: &str) -> Option<(Session, RunId, JobName)> {
        let open = self.open.as_ref()?;
        Some((Session(open.session), open.run, open.job_of(name)))
    }

    /// Whether the run that has the key was told to stop.
    pub(crate) fn stops(&self, run: RunId, session: Session) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.stops && open.run == run && open.session == session.0)
    }

    /// The greatest token that was granted for the key.
    pub(crate) fn token(&self) -> FencingToken {
        FencingToken(self.token)
    }

    /// Another run of the key to which this token was granted.
    pub(crate) fn other_of_token(&self, FencingToken(token): FencingToken, run: RunId) -> Option<RunId> {
        let open = self.open.iter().map(|open| (open.run, open.token));
        let of_token = self.ended.iter().copied().chain(open).filter(|(_, granted)| *granted == token);
        of_token.map(|(other, _)| other).find(|other| *other != run)
    }

    /// Another run of a tick of the job.
    pub(crate) fn other_of_tick(&self, tick: FireTime, run: RunId) -> Option<RunId> {
        let job = self.job.as_ref().filter(|job| job.cursor == tick.instant());
        job.and_then(|job| job.run).filter(|other| *other != run)
    }

    /// Up to where the ticks of the job are decided, if it was ever enrolled.
    pub(crate) fn cursor(&self) -> Option<DateTime<Utc>> {
        self.job.as_ref().map(|job| job.cursor).filter(|cursor| *cursor > NEVER)
    }

    /// Moves the cursor of the job to where it is known to have been, and never back: whether it moved.
    pub(crate) fn move_forward(&mut self, seen: DateTime<Utc>) -> bool {
        let Some(job) = self.job.as_mut().filter(|job| job.cursor < seen) else { return false };
        (job.cursor, job.run, job.newest_advance) = (seen, None, None);
        true
    }

    /// Whether there is a job of this name.
    pub(crate) fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// The pause of the job of this name that is not over.
    pub(crate) fn pause(&self, now: DateTime<Utc>) -> Option<Pause> {
        self.job.as_ref()?.pause(now).cloned()
    }

    /// The sessions that declare its policy without a term.
    pub(crate) fn declared_by(&self) -> impl Iterator<Item = Session> {
        self.policy.iter().flat_map(|policy| &policy.by).map(|by| Session(*by))
    }
}

/// A run that has the key under whose name it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenRow {
    pub(super) run: RunId,
    pub(super) session: u64,
    pub(super) token: u64,
    /// `None`: it is the one of the same name as the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobName>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fire_time")]
    pub(super) tick: Option<FireTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fire_time")]
    pub(super) named: Option<FireTime>,
    #[serde(default, skip_serializing_if = "is_none_lost")]
    pub(super) losses: u32,
    /// It was told to stop.
    #[serde(rename = "stop", default, skip_serializing_if = "is_false")]
    pub(super) stops: bool,
}

impl OpenRow {
    pub(super) fn job_of(&self, name: &str) -> JobName {
        self.job.clone().unwrap_or_else(|| JobName::stored(name))
    }
}

/// Who declares an overlap policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PolicyRow {
    overlap: Overlap,
    /// The term, and its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    term: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by: Vec<u64>,
}

impl From<&Declared> for PolicyRow {
    fn from(declared: &Declared) -> Self {
        Self {
            overlap: declared.overlap,
            term: declared.term.map(|(Term(term), Session(session))| (term, session)),
            by: declared.by.iter().map(|Session(session)| *session).collect(),
        }
    }
}

impl From<&PolicyRow> for Declared {
    fn from(row: &PolicyRow) -> Self {
        Self {
            overlap: row.overlap,
            term: row.term.map(|(term, session)| (Term(term), Session(session))),
            by: row.by.iter().map(|session| Session(*session)).collect(),
        }
    }
}

/// A pending retry, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetryRow {
    run: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fire_time")]
    tick: Option<FireTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "fire_time")]
    named: Option<FireTime>,
    losses: u32,
}

impl From<&PendingRetry> for RetryRow {
    fn from(retry: &PendingRetry) -> Self {
        Self { run: retry.run, tick: retry.fire_time, named: retry.named, losses: retry.losses }
    }
}

impl From<&RetryRow> for PendingRetry {
    fn from(row: &RetryRow) -> Self {
        Self { run: row.run, fire_time: row.tick, named: row.named, losses: row.losses }
    }
}

/// What a store knows of all names together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct FloorRow {
    /// No token is below it.
    #[serde(default)]
    pub(crate) token: u64,
    /// No tick up to here is owed by a job that is created.
    #[serde(default, with = "instant_option")]
    pub(crate) cursor: Option<DateTime<Utc>>,
    /// For how long somebody has led, in milliseconds, and up to when that was counted.
    #[serde(default)]
    pub(super) age: u64,
    #[serde(default, with = "instant_option")]
    pub(super) aged_at: Option<DateTime<Utc>>,
}

impl FloorRow {
    /// For how long somebody has led.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.age)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn token(FencingToken(token): FencingToken) -> u64 {
    token
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none_lost(losses: &u32) -> bool {
    *losses == 0
}

/// Microseconds since 1970.
pub(super) mod instant {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        instant: &DateTime<Utc>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(instant.timestamp_micros())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let micros = i64::deserialize(deserializer)?;
        DateTime::from_timestamp_micros(micros).ok_or_else(|| D::Error::custom("no such instant"))
    }
}

mod instant_option {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        instant: &Option<DateTime<Utc>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        instant.map(|instant| instant.timestamp_micros()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.and_then(DateTime::from_timestamp_micros))
    }
}

/// Milliseconds since 1970.
mod fire_time {
    use chrono::DateTime;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::FireTime;

    pub(crate) fn serialize<S: Serializer>(
        tick: &Option<FireTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        tick.map(|tick| tick.instant().timestamp_millis()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<FireTime>, D::Error> {
        let millis = Option::<i64>::deserialize(deserializer)?;
        Ok(millis.and_then(DateTime::from_timestamp_millis).map(FireTime::new))
    }
}
