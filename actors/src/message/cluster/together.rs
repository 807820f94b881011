//! How the answers of the engines of one node, which has several backends, are one.

use super::{
    ActiveRuns, Nodes,
    answers::{
        CancelledRuns, ChangedJobs, DetailsInCluster, NodeList, PageInCluster, RunsInCluster,
        StoredInCluster, TriggeredOn,
    },
};
use crate::{
    core::control::Unconfirmed,
    error::ClusterError,
    message::{
        CancelRun, CancelRuns, DeleteJob, JobDetails, ListJobs, PauseJobs, PutJob, ResumeJobs, Selector,
        TriggerJob,
    },
};

/// A message that can be asked of a whole cluster.
pub trait ClusterCall: Clone + Send + 'static {
    /// What all nodes answer.
    type Together: Together;

    /// It is about one thing: one engine has it, and what the others say does not matter.
    fn is_about_one(&self) -> bool;
}

/// What the nodes of several clusters answer, as one answer.
pub trait Together: Send + 'static {
    /// With what those of another cluster answer.
    fn and(self, other: Self) -> Self;
}

impl ClusterCall for Nodes {
    type Together = NodeList;

    fn is_about_one(&self) -> bool {
        false
    }
}

impl ClusterCall for ActiveRuns {
    type Together = RunsInCluster;

    fn is_about_one(&self) -> bool {
        false
    }
}

impl ClusterCall for CancelRun {
    type Together = CancelledRuns;

    fn is_about_one(&self) -> bool {
        true
    }
}

impl ClusterCall for CancelRuns {
    type Together = CancelledRuns;

    fn is_about_one(&self) -> bool {
        matches!(self.jobs, Selector::Name(_))
    }
}

impl ClusterCall for PauseJobs {
    type Together = ChangedJobs;

    fn is_about_one(&self) -> bool {
        matches!(self.jobs, Selector::Name(_))
    }
}

impl ClusterCall for ResumeJobs {
    type Together = ChangedJobs;

    fn is_about_one(&self) -> bool {
        matches!(self.jobs, Selector::Name(_))
    }
}

impl ClusterCall for TriggerJob {
    type Together = TriggeredOn;

    fn is_about_one(&self) -> bool {
        true
    }
}

impl ClusterCall for JobDetails {
    type Together = DetailsInCluster;

    fn is_about_one(&self) -> bool {
        true
    }
}

impl ClusterCall for ListJobs {
    type Together = PageInCluster;

    fn is_about_one(&self) -> bool {
        false
    }
}

impl ClusterCall for PutJob {
    type Together = StoredInCluster;

    fn is_about_one(&self) -> bool {
        true
    }
}

impl ClusterCall for DeleteJob {
    type Together = StoredInCluster;

    fn is_about_one(&self) -> bool {
        true
    }
}

fn both(one: Vec<Unconfirmed>, other: Vec<Unconfirmed>) -> Vec<Unconfirmed> {
    one.into_iter().chain(other).collect()
}

impl Together for NodeList {
    fn and(mut self, other: Self) -> Self {
        self.nodes.extend(other.nodes);
        Self { unconfirmed: both(self.unconfirmed, other.unconfirmed), ..self }
    }
}

impl Together for RunsInCluster {
    fn and(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        self.runs.sort_by_key(|run| (run.run.status.started_at, run.run.status.run));
        let unconfirmed = both(self.unconfirmed, other.unconfirmed);
        Self { runs: self.runs, count: self.count + other.count, unconfirmed }
    }
}

impl Together for CancelledRuns {
    fn and(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        Self { unconfirmed: both(self.unconfirmed, other.unconfirmed), ..self }
    }
}

impl Together for ChangedJobs {
    fn and(mut self, other: Self) -> Self {
        self.jobs.extend(other.jobs);
        self.jobs.sort();
        Self { unconfirmed: both(self.unconfirmed, other.unconfirmed), ..self }
    }
}

/// A run is triggered on one backend.
impl Together for TriggeredOn {
    fn and(self, _: Self) -> Self {
        self
    }
}

/// A job is on one backend.
impl Together for DetailsInCluster {
    fn and(self, other: Self) -> Self {
        Self { unconfirmed: both(self.unconfirmed, other.unconfirmed), ..self }
    }
}

impl Together for PageInCluster {
    fn and(mut self, other: Self) -> Self {
        // Each says nothing of the names behind its end.
        let next = self.next.into_iter().chain(other.next).min();
        self.jobs.extend(other.jobs);
        self.jobs.retain(|job| next.as_deref().is_none_or(|next| job.job.name.as_str() <= next));
        self.jobs.sort_by(|one, other| one.job.name.cmp(&other.job.name));
        Self { jobs: self.jobs, next, unconfirmed: both(self.unconfirmed, other.unconfirmed) }
    }
}

/// Stored jobs are on the default backend.
impl Together for StoredInCluster {
    fn and(self, _: Self) -> Self {
        self
    }
}

/// The answers of the clusters of one node as one. What is about one thing is answered by whoever has it.
pub(crate) fn together<T: Together>(
    answers: Vec<Result<T, ClusterError>>,
    is_about_one: bool,
) -> Result<T, ClusterError> {
    let is_unknown = |error: &ClusterError| {
        matches!(error, ClusterError::UnknownJob { .. } | ClusterError::UnknownRun { .. })
    };
    let (mut all, mut unknown) = (None::<T>, None);
    let mut failed = None;
    for answer in answers {
        match answer {
            Ok(answer) => {
                all = Some(match all {
                    Some(before) => before.and(answer),
                    None => answer,
                });
            }
            Err(error) if is_unknown(&error) => unknown = unknown.or(Some(error)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match (all, failed) {
        (Some(all), None) => Ok(all),
        (Some(all), Some(_)) if is_about_one => Ok(all),
        (_, Some(error)) => Err(error),
        (None, None) => Err(unknown.unwrap_or(ClusterError::ShuttingDown)),
    }
}
