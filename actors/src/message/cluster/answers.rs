//! What nodes answer together.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::catalogue::StoredStatus;
use crate::{
    core::control::{JobSet, Unconfirmed},
    job::{ActiveRunStatus, JobState, JobStatus, Triggered},
    name::{JobName, NodeId, RunId, Term},
    port::Role,
};

/// The nodes of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeList {
    /// The nodes that have a session, at most [`NODES_MAX`](crate::port::NODES_MAX), the oldest session first.
    pub nodes: Vec<NodeStatus>,
    /// Those of them that have not said how they are [now](NodeStatus::now).
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// The version of the scheduler; empty if it is not known.
    pub version: Arc<str>,
    /// What it is to the cluster.
    pub role: Role,
    /// The term in which it leads.
    pub term: Option<Term>,
    /// Since when it has its session with the store, by the store's clock.
    pub since: DateTime<Utc>,
    /// When the store heard of it last, by the store's clock; `None` if the store does not say so.
    pub seen_at: Option<DateTime<Utc>>,
    /// The version of its time zone data; empty if it is not known.
    pub zone_data: Arc<str>,
    /// The names of its [tasks](crate::Task), the first 100.
    pub tasks: Vec<Arc<str>>,
    /// The jobs that it has by its code, and not from the catalogue; `None` if it has not said so. A node says it
    /// within seconds after a change.
    pub code_jobs: Option<JobSet>,
    /// How it is now; `None` if it has not answered.
    pub now: Option<NodeNow>,
    /// It is the node that was asked.
    pub is_asked: bool,
}

/// How a node is at this instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeNow {
    /// How many seconds its wall clock is ahead of the store's.
    pub clock_ahead_seconds: f64,
    /// How many jobs it has.
    pub jobs: usize,
    /// How many runs are in progress on it; at least, if jobs do not answer.
    pub runs: usize,
}

impl NodeNow {
    pub(crate) fn new(clock_ahead_seconds: f64, jobs: usize, runs: usize) -> Self {
        Self { clock_ahead_seconds, jobs, runs }
    }
}

/// The runs in progress on one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunsOnNode {
    /// The runs, as many as were asked for, in the order of their jobs.
    pub runs: Vec<ActiveRun>,
    /// How many there are; at least, if not all are listed.
    pub count: usize,
    /// How many jobs have not said within a second whether they have more.
    #[serde(default)]
    pub unanswered: usize,
}

impl RunsOnNode {
    /// Those of several engines of one node.
    pub(crate) fn together(all: Vec<Self>, limit: usize) -> Self {
        let count = all.iter().map(|runs| runs.count).sum();
        let unanswered = all.iter().map(|runs| runs.unanswered).sum();
        let mut runs: Vec<_> = all.into_iter().flat_map(|runs| runs.runs).collect();
        runs.sort_by(|one, other| (&one.job, one.status.run).cmp(&(&other.job, other.status.run)));
        runs.truncate(limit);
        Self { runs, count, unanswered }
    }
}

/// A run in progress, and of which job it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActiveRun {
    /// The job.
    pub job: JobName,
    /// The run.
    #[serde(flatten)]
    pub status: ActiveRunStatus,
}

impl ActiveRun {
    pub(crate) fn new(job: JobName, status: ActiveRunStatus) -> Self {
        Self { job, status }
    }
}

/// The runs in progress on all nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunsInCluster {
    /// The runs, in the order in which they started.
    pub runs: Vec<RunOnNode>,
    /// How many there are; at least, if not all are listed.
    pub count: usize,
    /// The nodes that have not answered, or not for all of their jobs.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A run in progress, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunOnNode {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// The run.
    #[serde(flatten)]
    pub run: ActiveRun,
}

/// Runs that were asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CancelledRuns {
    /// The runs. Of a run that no node knows there is none here; that is an error, unless nodes have not confirmed.
    pub runs: Vec<CancelledRun>,
    /// The nodes that have not confirmed: they may have runs that go on.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A run that was asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CancelledRun {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run: RunId,
    /// The node that it is on.
    pub node: NodeId,
}

/// Jobs that were paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChangedJobs {
    /// Those that were not so before, in the order of their names.
    pub jobs: Vec<JobName>,
    /// The nodes that have not confirmed. The store knows the change all the same: none of their claims is granted
    /// against it.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A run that was triggered, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TriggeredOn {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// The run, and whether it has started.
    #[serde(flatten)]
    pub triggered: Triggered,
}

/// A job of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobInCluster {
    /// The job, as the leader sees it; if that does not have it, or has not answered, as the node that was asked; or
    /// else as another one that has it. In a list of jobs in one state a node that sees it in another one has not got
    /// it.
    pub job: JobStatus,
    /// The node that says so.
    pub said_by: NodeId,
    /// The nodes that have it, with what is in progress on each; in a list of jobs in one state those that see it so.
    pub on: Vec<HeldBy>,
}

/// A node that has a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldBy {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// What the job is doing there.
    pub state: JobState,
    /// The runs in progress there, with those of former jobs of this name.
    pub active_runs: Vec<ActiveRunStatus>,
}

/// A job, and who has not said whether it has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DetailsInCluster {
    /// The job.
    pub job: JobInCluster,
    /// The nodes that have not answered.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// One page of the jobs of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageInCluster {
    /// The jobs of the page, in the order of their names.
    pub jobs: Vec<JobInCluster>,
    /// Where the next page starts; `None` if this is the last.
    pub next: Option<String>,
    /// The nodes that have not answered: they may have more jobs.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A stored job that was changed, and who knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredInCluster {
    /// The version of the change.
    pub version: u64,
    /// The job as it is now; `None` if it was deleted.
    pub job: Option<StoredStatus>,
    /// The nodes that have not confirmed that they know the change.
    pub unconfirmed: Vec<Unconfirmed>,
}
