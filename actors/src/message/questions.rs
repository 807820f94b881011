//! Asking for jobs and for their fire times.

use actix::{Addr, Message};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    error::{NextFireTimesError, SelectError},
    job::{JobActor, JobState, JobStatus},
    task::TaskDetails,
};

/// The most jobs in one page of a listing, or of an enrolment.
pub const PAGE_MAX: usize = 1_024;

/// Asks for the next fire times of a job: the first that is not decided yet, and those after it.
/// Fewer mean that the schedule is exhausted.
///
/// # Errors
///
/// [`NextFireTimesError`]: more than [`FIRE_TIMES_MAX`](crate::FIRE_TIMES_MAX) were asked for, no job of this
/// node has the name, or its actor did not answer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<DateTime<Utc>>, NextFireTimesError>")]
pub struct NextFireTimes {
    /// The job.
    pub job: String,
    /// How many, at most [`FIRE_TIMES_MAX`](crate::FIRE_TIMES_MAX), 1,000.
    pub count: usize,
}

/// Lists jobs in the order of their names. A page costs one question to the actor of each of its jobs,
/// however many jobs there are and whatever the filter.
///
/// The default is the first page of all jobs.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "JobPage")]
#[non_exhaustive]
pub struct ListJobs {
    /// Only names that start with this.
    pub prefix: Option<String>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs in this state, as this node sees them; those that were [removed](JobState::Removed) are
    /// listed only if they are asked for so. The actor of each job has to be asked for it, so that one page
    /// looks at [`PAGE_MAX`] jobs with the prefix and the tag and no more: it may have fewer jobs than
    /// `limit`, or none, and still have a next one.
    pub state: Option<JobState>,
    /// Only names after this one: [`JobPage::next`] of the page before.
    pub after: Option<String>,
    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    pub limit: usize,
}

impl ListJobs {
    /// Only names that start with this.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: Some(prefix.into()), ..self }
    }

    /// Only jobs with this tag.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..self }
    }

    /// Only jobs in this state: see the field of the same name.
    #[must_use]
    pub fn state(self, state: JobState) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Only names after this one, [`JobPage::next`] of the page before; `None`: from the first on.
    #[must_use]
    pub fn after(self, name: impl Into<Option<String>>) -> Self {
        Self { after: name.into(), ..self }
    }

    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// How many are to be answered at most.
    pub(crate) fn page_limit(&self) -> usize {
        if self.limit == 0 { PAGE_MAX } else { self.limit.min(PAGE_MAX) }
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs of the page.
    pub jobs: Vec<JobStatus>,
    /// Where the next page starts; `None` if this is the last.
    pub next: Option<String>,
}

/// Asks for one job. One that was removed while runs of it were in progress is answered, as
/// [removed](JobState::Removed), until the last of them has ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<JobStatus>")]
pub struct JobDetails(pub String);

/// Asks for an address of the actor of a job, to send it messages without the supervisor in between. It is
/// made when it is asked for, and costs nothing once nobody holds it; two of one job are not equal.
///
/// The actor understands [`FireTimes`](crate::FireTimes) and [`CancelItsRuns`](crate::CancelItsRuns). It stays
/// the same when the job is updated. The address is closed when the job was removed and its last run has
/// ended, and when the actor has panicked: ask again then.
///
/// # Errors
///
/// [`SelectError`]: no job of this node has the name.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Addr<JobActor>, SelectError>")]
pub struct JobAddress(pub String);

/// Asks which [tasks](crate::Task) this node has, with the JSON Schemas of their arguments, in the order of their
/// names. Nodes of one cluster may have different ones.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<TaskDetails>")]
pub struct ListTasks;
