//! What an application says to the supervisor.

use std::time::Duration;

use actix::Message;
use serde::Serialize;

use crate::{
    definition::Job,
    drain::ShutdownReport,
    error::{AddError, RemoveError, TriggerError},
    job::JobStatus,
    name::{JobName, NodeId, RunId, Term},
    port::Role,
};

/// The most jobs in one page of a listing, or of an enrolment.
pub const PAGE_MAX: usize = 1_024;

/// Adds one job.
#[derive(Message)]
#[rtype(result = "Result<JobName, AddError>")]
pub struct AddJob(pub Job);

/// Adds all of the jobs, or none.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, AddError>")]
pub struct AddJobs(pub Vec<Job>);

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// The job of this name.
    Name(String),
    /// Every job with this tag.
    Tag(String),
    /// Every job.
    All,
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&JobName> for Selector {
    fn from(name: &JobName) -> Self {
        Self::Name(name.as_str().to_owned())
    }
}

/// Removes jobs from this node, and answers their names. A run in progress goes on to its end.
///
/// Definitions in code are each node's own: a job that is removed on a follower goes on firing on the leader that holds
/// it, and one that is removed on the leader fires again where another node that holds it comes to lead.
#[derive(Message)]
#[rtype(result = "Result<Vec<JobName>, RemoveError>")]
pub struct RemoveJobs(pub Selector);

/// Starts a run now, on this node, under the job's lock key, without moving the schedule. Answers when it is decided
/// whether it starts.
#[derive(Message)]
#[rtype(result = "Result<RunId, TriggerError>")]
pub struct TriggerJob(pub String);

/// Lists jobs in the order of their names.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "JobPage")]
pub struct ListJobs {
    /// Only names after this one: [`JobPage::next`] of the page before.
    pub after: Option<String>,
    /// How many at most, up to [`PAGE_MAX`]; 0 is [`PAGE_MAX`].
    pub limit: usize,
}

/// One page of a listing.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs of the page.
    pub jobs: Vec<JobStatus>,
    /// Where the next page starts; `None` if this is the last.
    pub next: Option<String>,
}

/// Asks for one job.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<JobStatus>")]
pub struct JobDetails(pub String);

/// Asks how the node is.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "HealthReport")]
pub struct Health;

/// How a node is.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// The node.
    pub node: NodeId,
    /// What its store is called.
    pub backend: &'static str,
    /// What it is to its cluster.
    pub role: Role,
    /// The term in which it leads; `None` for a follower.
    pub term: Option<Term>,
    /// How many jobs it holds.
    pub jobs: usize,
    /// It can do its work.
    pub healthy: bool,
    /// Why it cannot.
    pub problems: Vec<String>,
}

/// Stops the engine: no tick is armed any more, the term is given up, runs may end until `deadline` has passed, are then
/// cancelled, and aborted after a grace. Answers when it is over. Asking twice is harmless; the first deadline holds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct Shutdown {
    /// How long runs may drain; at most a day.
    pub deadline: Duration,
}
