//! Jobs that are stored as data, for all nodes.

use std::sync::Arc;

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    error::Fault,
    name::By,
    note::{Attribution, says_who_and_why},
    port::{CatalogueQuery, Expected},
    schedule_override::ScheduleOverride,
    stored_job::{StoredJob, StoredJobError, written},
};

/// Stores a job as data, for all nodes of the scope: each that has its task holds it within a second, and again when it
/// starts. Answers once it is stored and this node holds it.
///
/// The definition is checked by this node: its task has to be one of this node's.
///
/// # Errors
///
/// [`StoredJobError`]: the definition breaks a rule; it is not the [expected](Self::expecting) version that stands,
/// which is told; a job of code has the name; the catalogue did not answer, or there is none; the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<StoredStatus, StoredJobError>")]
pub struct PutJob {
    pub(crate) job: String,
    pub(crate) definition: Result<Arc<str>, Fault>,
    pub(crate) expected: Expected,
    /// One that is there already is the answer, and not an error.
    pub(crate) keeps: bool,
    pub(crate) asked: Attribution,
}

impl PutJob {
    /// The job of this name, as it is to be from now on.
    pub fn new<S: Serialize>(job: impl Into<String>, definition: &StoredJob<S>) -> Self {
        let (definition, expected) = (written(definition), Expected::Any);
        Self { job: job.into(), definition, expected, keeps: false, asked: Attribution::default() }
    }

    /// Only if this is so: of two who change the version that both have read, one is told that the other came first.
    /// Default: anything.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }

    /// Says what becomes of a job that is stored under this name already. Default: [`IfStored::Replace`].
    #[must_use]
    pub fn if_stored(self, if_stored: IfStored) -> Self {
        match if_stored {
            IfStored::Replace => Self { expected: Expected::Any, keeps: false, ..self },
            IfStored::Keep => Self { expected: Expected::Absent, keeps: true, ..self },
            IfStored::Refuse => Self { expected: Expected::Absent, keeps: false, ..self },
        }
    }
}

/// What becomes of a job that is stored, when one of its name is put.
///
/// | | there is none | there is one |
/// |---|---|---|
/// | `Replace` | it is stored | it takes the place of the stored one |
/// | `Keep` | it is stored | the stored one stays, and is the answer |
/// | `Refuse` | it is stored | [`StoredJobError::Elsewhere`], with the stored one |
///
/// Two nodes that put one name at once store one job, whatever they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfStored {
    /// The new one takes its place.
    #[default]
    Replace,
    /// It stays.
    Keep,
    /// It stays, and the new one is refused.
    Refuse,
}

/// Deletes a stored job, on all nodes. Answers its version once it is deleted and this node has let go of it. Runs in
/// progress go on to their end.
///
/// # Errors
///
/// [`StoredJobError`]: there is no stored job of this name; it is not the expected version that stands; the catalogue
/// did not answer, or there is none; the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u64, StoredJobError>")]
pub struct DeleteJob {
    pub(crate) job: String,
    pub(crate) expected: Expected,
    pub(crate) asked: Attribution,
}

impl DeleteJob {
    /// The stored job of this name.
    pub fn new(job: impl Into<String>) -> Self {
        Self { job: job.into(), expected: Expected::Any, asked: Attribution::default() }
    }

    /// Only if this is so. Default: anything.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }
}

/// Overrides the schedule of a job of code, on all nodes that have it, until it is [cleared](ClearOverride): after a
/// restart as well, and when the code of a later version says another schedule. Everything else of the job is the
/// code's. Answers once it is stored and this node fires by it.
///
/// It is for jobs that are in the code of all nodes. A [stored](PutJob) job is changed by [`PutJob`]. Jobs on other
/// backends than the default one have none.
///
/// # Errors
///
/// [`StoredJobError`]: this node has no such job of code; the schedule breaks a rule; somebody else came first, who is
/// told; the catalogue did not answer, or there is none; the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ScheduleOverride, StoredJobError>")]
pub struct OverrideSchedule {
    pub(crate) job: String,
    pub(crate) schedule: Result<Value, Fault>,
    pub(crate) expected: Option<Expected>,
    pub(crate) asked: Attribution,
}

impl OverrideSchedule {
    /// The job of this name, and a schedule that is data.
    pub fn new<S: Serialize>(job: impl Into<String>, schedule: &S) -> Self {
        let schedule = serde_json::to_value(schedule).map_err(|error| {
            let rule = format!("it cannot be written as JSON: {error}");
            Fault::new("schedule", "a schedule", rule, "use a schedule that is data")
        });
        Self { job: job.into(), schedule, expected: None, asked: Attribution::default() }
    }

    /// Only if this is so. Default: the override stands that this node knows, or none.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected: Some(expected), ..self }
    }
}

/// Clears the [override](OverrideSchedule) of a schedule, on all nodes: each goes on by what its code says. Answers the
/// version of the catalogue, once this node does.
///
/// # Errors
///
/// [`StoredJobError`]: there is no override of this name; somebody has changed it meanwhile; the catalogue did not
/// answer, or there is none; the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<u64, StoredJobError>")]
pub struct ClearOverride {
    pub(crate) job: String,
    pub(crate) asked: Attribution,
}

impl ClearOverride {
    /// The override of the job of this name, whether this node has the job or not.
    pub fn new(job: impl Into<String>) -> Self {
        Self { job: job.into(), asked: Attribution::default() }
    }
}

says_who_and_why!(PutJob, DeleteJob, OverrideSchedule, ClearOverride);

/// Lists stored jobs, also those that this node cannot run, in the order of the bytes of their names.
///
/// # Errors
///
/// [`StoredJobError`]: the catalogue did not answer, or there is none.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<StoredPage, StoredJobError>")]
pub struct ListStored(pub CatalogueQuery);

/// One page of stored jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredPage {
    /// The jobs of the page.
    pub jobs: Vec<StoredStatus>,
    /// After which name the next page starts; `None` if this is the last.
    pub next: Option<Arc<str>>,
}

/// Asks for one stored job: its definition, and whether this node can run it.
///
/// # Errors
///
/// [`StoredJobError`]: there is no stored job of this name; the catalogue did not answer, or there is none.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<StoredStatus, StoredJobError>")]
pub struct StoredDetails(pub String);

/// A stored job, as its node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredStatus {
    /// The name.
    pub job: Arc<str>,
    /// The version: see [`PutJob::expecting`].
    pub version: u64,
    /// The definition: a [`StoredJob`]; `{"override": {"schedule": …}}` of an [override](OverrideSchedule); a text,
    /// if somebody has written something that is no JSON.
    pub definition: Value,
    /// When it was changed, by the store's clock.
    pub changed_at: DateTime<Utc>,
    /// Who changed it, if it was said.
    pub changed_by: Option<By>,
    /// How it stands on this node.
    #[serde(flatten)]
    pub here: StoredHere,
}

/// How a stored job stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "here", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredHere {
    /// It is one of the node's jobs.
    Held,
    /// It is not to run.
    Disabled,
    /// This node cannot run it: it has no such task, say, or cannot read the definition.
    Parked {
        /// Why.
        reason: Arc<str>,
    },
    /// It is a one-shot that is not near yet: the node reads it in time. See
    /// [`ONE_SHOTS_HELD_WITHIN`](crate::port::ONE_SHOTS_HELD_WITHIN).
    Far,
    /// It is no job: it [overrides](OverrideSchedule) the schedule of a job of code, which this node has.
    Overrides,
    /// It overrides the schedule of a job of code which this node does not have.
    NoJob,
    /// The node has not heard of this version yet.
    Unread,
}
