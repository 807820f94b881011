//! What became of an instant of a job, and why: explained from the job's schedule and from what was recorded.
//!
//! [`decide`](decide()) is a function of values, so that a table can test every reason. The supervisor collects what it
//! is given.

mod answer;
mod decide;
mod known;
mod late;
#[cfg(test)]
mod tests;
mod text;

use std::ops::{Range, RangeInclusive};

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::answer::{Answer, Delay, Evidence, Explanation, Explanations, NotDecided, NotKnown};
pub(crate) use self::{
    decide::{backfilled, decide, is_of_tick, is_skip_known, triggered_for},
    known::{Known, TickView},
};
use crate::{core::time::FireTime, error::ExplainError};

/// The most fire times that one answer explains.
pub const EXPLAINED_MAX: usize = 100;

/// Asks what became of a job at an instant, or at each of its fire times in a range, and why: "why did the
/// report not run last night?"
///
/// It is answered from the schedule of this node and from the [history](crate::port::History): whichever node
/// decided, if the history is the store's. Nothing is decided by it, and nothing waits for it.
///
/// An instant is meant exactly. If the job does not fire then, the answer names the fire times beside it.
///
/// # Errors
///
/// [`ExplainError`]: no job of this node has the name, its schedule or the history did not answer, or the range
/// ends before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Explanations, ExplainError>")]
pub struct Explain {
    pub(crate) job: String,
    pub(crate) when: When,
}

impl Explain {
    /// What became of this job then: an instant, or a range of instants.
    pub fn new(job: impl Into<String>, when: impl Into<When>) -> Self {
        Self { job: job.into(), when: when.into() }
    }
}

/// An instant, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// This instant, whether the job fires then or not.
    At(DateTime<Utc>),
    /// Each fire time from `from` on and before `to`, the first [`EXPLAINED_MAX`].
    Between {
        /// The first instant.
        from: DateTime<Utc>,
        /// The first instant that is not meant any more.
        to: DateTime<Utc>,
    },
}

impl From<DateTime<Utc>> for When {
    fn from(at: DateTime<Utc>) -> Self {
        Self::At(at)
    }
}

impl From<FireTime> for When {
    fn from(at: FireTime) -> Self {
        Self::At(at.instant())
    }
}

impl From<Range<DateTime<Utc>>> for When {
    fn from(Range { start, end }: Range<DateTime<Utc>>) -> Self {
        Self::Between { from: start, to: end }
    }
}

impl From<RangeInclusive<DateTime<Utc>>> for When {
    fn from(range: RangeInclusive<DateTime<Utc>>) -> Self {
        let (from, last) = range.into_inner();
        // Fire times are whole milliseconds.
        let to = last.checked_add_signed(chrono::TimeDelta::milliseconds(1)).unwrap_or(last);
        Self::Between { from, to }
    }
}
