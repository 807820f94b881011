//! What is asked of all nodes of the cluster at once, and what they answer together.

mod answers;
mod together;

use std::time::Duration;

use actix::Message;

pub use self::answers::{
    ActiveRun, CancelledRun, CancelledRuns, ChangedJobs, DetailsInCluster, HeldBy, JobInCluster, NodeList,
    NodeNow, NodeStatus, PageInCluster, RunOnNode, RunsInCluster, RunsOnNode, StoredInCluster, TriggeredOn,
};
pub(crate) use self::together::{ClusterCall, together};
pub use crate::core::control::{CLUSTER_WITHIN_DEFAULT, CLUSTER_WITHIN_MAX, CLUSTER_WITHIN_MIN};
use crate::error::ClusterError;

/// Asks whether the nodes could be asked now, to answer within this time.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), ClusterError>")]
pub(crate) struct CanAsk(pub(crate) Duration);

/// Asks all nodes of the cluster for what a message asks one node for, from any of them. Answers when all of them
/// have answered, or names those that have not confirmed within the [deadline](Self::within).
///
/// The nodes that are asked are those that have a session with the store at that instant. Each does what the message
/// says by itself, and writes who asked, and why, into the history.
///
/// | message | what it means for the cluster | answers |
/// |---|---|---|
/// | [`Nodes`] | who the nodes are, and what each has | [`NodeList`] |
/// | [`ActiveRuns`] | the runs in progress on all nodes | [`RunsInCluster`] |
/// | [`CancelRun`](crate::CancelRun) | the run, whichever node has it | [`CancelledRuns`] |
/// | [`CancelRuns`](crate::CancelRuns) | the runs of the jobs on all nodes | [`CancelledRuns`] |
/// | [`PauseJobs`](crate::PauseJobs), [`ResumeJobs`](crate::ResumeJobs) | jobs that any node has; each has heard of it | [`ChangedJobs`] |
/// | [`TriggerJob`](crate::TriggerJob) | a run on one node: this one if it has the job, otherwise the leader, otherwise another one that has it | [`TriggeredOn`] |
/// | [`JobDetails`](crate::JobDetails) | the job, and which nodes have it | [`DetailsInCluster`] |
/// | [`ListJobs`](crate::ListJobs) | the jobs of all nodes, each once | [`PageInCluster`] |
/// | [`PutJob`](crate::PutJob), [`DeleteJob`](crate::DeleteJob) | a stored job; each node knows the change | [`StoredInCluster`] |
///
/// A job that is defined in code is each node's own: no other node can add, change or remove it.
///
/// # Errors
///
/// [`ClusterError`]: the backend does not let nodes ask each other, which is said by its name; or why nothing was done.
///
/// # Cancel safety
///
/// Dropping the answer changes nothing of what is done.
#[derive(Debug, Clone)]
pub struct InCluster<M> {
    pub(crate) asked: M,
    pub(crate) within: Duration,
}

impl<M> InCluster<M> {
    /// This, of all nodes.
    pub fn new(asked: M) -> Self {
        Self { asked, within: CLUSTER_WITHIN_DEFAULT }
    }

    /// Within which time the nodes are to answer, [`CLUSTER_WITHIN_MIN`] (100 ms) to [`CLUSTER_WITHIN_MAX`] (60 s).
    /// Default: [`CLUSTER_WITHIN_DEFAULT`] (5 s). Nobody waits longer than it takes.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { within: deadline, ..self }
    }
}

impl<M: ClusterCall> Message for InCluster<M> {
    type Result = Result<M::Together, ClusterError>;
}

/// Asks which nodes there are, in the order in which they opened their sessions: see [`InCluster`].
#[derive(Debug, Clone, Copy)]
pub struct Nodes;

/// Asks for the runs in progress on this node, or, by [`InCluster`], on all nodes.
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "RunsOnNode")]
#[non_exhaustive]
pub struct ActiveRuns {
    /// How many of each node at most, up to [`ACTIVE_RUNS_MAX`]; 0 is [`ACTIVE_RUNS_MAX`].
    pub limit: usize,
}

/// The most runs in progress of one node that are listed.
pub const ACTIVE_RUNS_MAX: usize = 200;

impl ActiveRuns {
    /// How many of each node at most, up to [`ACTIVE_RUNS_MAX`]; 0 is [`ACTIVE_RUNS_MAX`].
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit }
    }

    /// How many are to be answered at most.
    pub(crate) fn page_limit(self) -> usize {
        if self.limit == 0 { ACTIVE_RUNS_MAX } else { self.limit.min(ACTIVE_RUNS_MAX) }
    }
}
