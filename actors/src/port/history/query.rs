//! What is asked of a history: the same values are the messages to the supervisor.

use std::ops::Range;

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    decision::DecisionRecord, error::HistoryError, job::JobRecord, operation::OperationRecord, run::RunRecord,
};
use crate::{
    core::{outcome::Outcome, time::FireTime},
    name::{JobName, RunId},
};

/// The most records of one page of history.
pub const HISTORY_PAGE_MAX: usize = 1_000;

/// How many records a page has that does not say how many.
pub const HISTORY_PAGE_DEFAULT: usize = 100;

/// What a page of history does not have of its time.
///
/// The time of a page ends where the page before began, or where the question said; it begins with the last record of
/// the page, or, if it is the last page, where the question said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gaps {
    /// Of what was recorded before, some is not kept any more: it is too [old](super::super::Retention), or was too
    /// much. `None`: of the time of the page all is kept.
    pub complete_from: Option<DateTime<Utc>>,
    /// How many records, of any kind and job, nodes dropped in the time of the page, as far as they could say so: the
    /// history did not take them in time.
    pub dropped: u64,
}

impl Gaps {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// What was recorded before is not all kept any more, and so many records were dropped.
    pub fn new(complete_from: Option<DateTime<Utc>>, dropped: u64) -> Self {
        Self { complete_from, dropped }
    }
}

/// A kind of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsOf {
    /// Runs.
    Runs,
    /// Decisions that started nothing.
    Decisions,
    /// What was done to jobs.
    Operations,
}

/// Asks a history what it does not have of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskGaps {
    /// Of which records.
    pub of: RecordsOf,
    /// Only of this job.
    pub job: Option<JobName>,
    /// From when on.
    pub from: Option<DateTime<Utc>>,
    /// Before when.
    pub to: Option<DateTime<Utc>>,
}

/// Where a page starts: after the last record of the page before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageStart {
    /// The time of that record.
    pub at: DateTime<Utc>,
    /// What tells it from others of that time.
    pub nth: i64,
    /// Which of the [backends of the node](crate::EngineOptions::named) has it, in their order; 0 is the default one. A
    /// history has nothing to do with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend: u8,
}

/// Whether a record is of the default backend.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_default(backend: &u8) -> bool {
    *backend == 0
}

/// How many records are asked for: 0 is [`HISTORY_PAGE_DEFAULT`], and no more than [`HISTORY_PAGE_MAX`] are
/// answered.
fn page_limit(limit: usize) -> usize {
    if limit == 0 { HISTORY_PAGE_DEFAULT } else { limit.min(HISTORY_PAGE_MAX) }
}

/// What a question for a page of records has in common with others: of which job, of which time, where the page
/// starts, and how long it is.
macro_rules! page_query {
    ($query:ident, start: $start:ty) => {
        impl $query {
            /// Of all jobs.
            pub fn new() -> Self {
                Self::default()
            }

            /// Only what is about this job, whether this node has it or not.
            #[must_use]
            pub fn job(self, job: JobName) -> Self {
                Self { job: Some(job), ..self }
            }

            /// Only what is of then or later.
            #[must_use]
            pub fn from(self, from: DateTime<Utc>) -> Self {
                Self { from: Some(from), ..self }
            }

            /// Only what is of before.
            #[must_use]
            pub fn to(self, to: DateTime<Utc>) -> Self {
                Self { to: Some(to), ..self }
            }

            /// Only what comes before this, `next` of the page before; `None`: from the newest on.
            #[must_use]
            pub fn before(self, start: impl Into<Option<$start>>) -> Self {
                Self { before: start.into(), ..self }
            }

            /// How many at most, up to [`HISTORY_PAGE_MAX`]; 0 is [`HISTORY_PAGE_DEFAULT`].
            #[must_use]
            pub fn limit(self, limit: usize) -> Self {
                Self { limit, ..self }
            }

            /// How many are to be answered at most.
            pub fn page_limit(&self) -> usize {
                page_limit(self.limit)
            }
        }
    };
}

/// A question for records of an instant each, and its page.
macro_rules! timed_query {
    ($query:ident => $page:ident { $records:ident: $record:ty }) => {
        page_query!($query, start: PageStart);

        impl $query {
            /// Whether a record of this time is asked for, which has this number among those of its time.
            pub fn admits(&self, at: DateTime<Utc>, nth: i64) -> bool {
                is_within(at, self.from, self.to)
                    && self.before.is_none_or(|before| (at, nth) < (before.at, before.nth))
            }
        }

        impl $page {
            /// Of records in their order with their numbers, one more than the page has if there are more.
            pub fn of(mut records: Vec<(i64, $record)>, limit: usize) -> Self {
                let more = records.len() > limit;
                records.truncate(limit);
                let start = |(nth, last): &(i64, $record)| PageStart { at: last.at, nth: *nth, backend: 0 };
                let next = records.last().map(start).filter(|_| more);
                let records = records.into_iter().map(|(_, record)| record).collect();
                Self { $records: records, next, ..Self::default() }
            }
        }
    };
}

/// Whether an instant is neither before the one nor at or after the other.
fn is_within(at: DateTime<Utc>, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> bool {
    from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
}

/// Asks for runs, the newest first, in the order of their [ids](RunRecord::run).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
#[serde(default)]
#[rtype(result = "Result<RunPage, HistoryError>")]
#[non_exhaustive]
pub struct RunHistory {
    /// Only of this job, whether this node has it or not.
    pub job: Option<JobName>,
    /// Only those that ended so.
    pub outcome: Option<Outcome>,
    /// Only those that were asked for then or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those that were asked for before.
    pub to: Option<DateTime<Utc>>,
    /// Only those of a [fire time](RunRecord::fire_time) of then or later. Give the job as well: without one, all
    /// runs since are read.
    pub fire_from: Option<DateTime<Utc>>,
    /// Only those of a [fire time](RunRecord::fire_time) before.
    pub fire_to: Option<DateTime<Utc>>,
    /// Only those before this one: [`RunPage::next`] of the page before.
    pub before: Option<RunId>,
    /// How many at most, up to [`HISTORY_PAGE_MAX`]; 0 is [`HISTORY_PAGE_DEFAULT`].
    pub limit: usize,
}

page_query!(RunHistory, start: RunId);

impl RunHistory {
    /// Only those that ended so.
    #[must_use]
    pub fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    /// Only runs of this job at fire times from the first instant on and before the last: ticks, and triggers that
    /// [name](crate::TriggerJob::fire_time) one. They are looked for among the runs of the job that were asked for
    /// since.
    #[must_use]
    pub fn fire_times(self, job: JobName, range: Range<DateTime<Utc>>) -> Self {
        Self { job: Some(job), fire_from: Some(range.start), fire_to: Some(range.end), ..self }
    }

    /// Whether a run is asked for, but for the page.
    pub fn admits(&self, run: &RunRecord) -> bool {
        let is_of_fire_times = |tick: FireTime| is_within(tick.instant(), self.fire_from, self.fire_to);
        self.job.as_ref().is_none_or(|job| *job == run.job)
            && self.outcome.is_none_or(|outcome| run.outcome == Some(outcome))
            && self.from.is_none_or(|from| run.run >= RunId::first_at(from))
            && self.to.is_none_or(|to| run.run < RunId::first_at(to))
            && self.before.is_none_or(|before| run.run < before)
            && (self.fire_from.or(self.fire_to).is_none() || run.fire_time.is_some_and(is_of_fire_times))
    }
}

/// One page of runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunPage {
    /// The runs, the newest first.
    pub runs: Vec<RunRecord>,
    /// What [`RunHistory::before`] is for the next page; `None` if this is the last.
    pub next: Option<RunId>,
    /// What it does not have.
    #[serde(default)]
    pub gaps: Gaps,
}

impl RunPage {
    /// Of runs in their order, one more than the page has if there are more.
    pub fn of(mut runs: Vec<RunRecord>, limit: usize) -> Self {
        let more = runs.len() > limit;
        runs.truncate(limit);
        let next = runs.last().map(|last| last.run).filter(|_| more);
        Self { runs, next, gaps: Gaps::default() }
    }
}

/// Asks what became of a job so far. `None` if the history knows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[rtype(result = "Result<Option<JobRecord>, HistoryError>")]
pub struct JobHistory(pub JobName);

/// Asks for decisions that started nothing, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
#[serde(default)]
#[rtype(result = "Result<DecisionPage, HistoryError>")]
#[non_exhaustive]
pub struct Decisions {
    /// Only those about this job, and those about all jobs of the scope.
    pub job: Option<JobName>,
    /// Only those of then or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those before.
    pub to: Option<DateTime<Utc>>,
    /// Only those before this one: [`DecisionPage::next`] of the page before.
    pub before: Option<PageStart>,
    /// How many at most, up to [`HISTORY_PAGE_MAX`]; 0 is [`HISTORY_PAGE_DEFAULT`].
    pub limit: usize,
}

/// One page of decisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DecisionPage {
    /// The decisions, the newest first.
    pub decisions: Vec<DecisionRecord>,
    /// So many more belong to this page that a newer version wrote, and that this one cannot read.
    #[serde(default)]
    pub unread: usize,
    /// What [`Decisions::before`] is for the next page; `None` if this is the last.
    pub next: Option<PageStart>,
    /// What it does not have.
    #[serde(default)]
    pub gaps: Gaps,
}

timed_query!(Decisions => DecisionPage { decisions: DecisionRecord });

/// Asks for what was done to jobs, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Message)]
#[serde(default)]
#[rtype(result = "Result<OperationPage, HistoryError>")]
#[non_exhaustive]
pub struct Operations {
    /// Only those on this job.
    pub job: Option<JobName>,
    /// Only those of then or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those before.
    pub to: Option<DateTime<Utc>>,
    /// Only those before this one: [`OperationPage::next`] of the page before.
    pub before: Option<PageStart>,
    /// How many at most, up to [`HISTORY_PAGE_MAX`]; 0 is [`HISTORY_PAGE_DEFAULT`].
    pub limit: usize,
}

/// One page of operations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperationPage {
    /// The operations, the newest first.
    pub operations: Vec<OperationRecord>,
    /// So many more belong to this page that a newer version wrote, and that this one cannot read.
    #[serde(default)]
    pub unread: usize,
    /// What [`Operations::before`] is for the next page; `None` if this is the last.
    pub next: Option<PageStart>,
    /// What it does not have.
    #[serde(default)]
    pub gaps: Gaps,
}

timed_query!(Operations => OperationPage { operations: OperationRecord });
