//! Why the nodes of a cluster were not asked, or did not do something.

use std::sync::Arc;

use super::kind::ErrorKind;
use crate::{
    core::control::Unconfirmed,
    fault::Faults,
    name::{NodeId, RunId},
};

/// Why something that was asked of all nodes of a cluster was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The backend does not let nodes ask each other: an answer would be that of one node alone.
    #[error(
        "the {backend} backend does not let nodes ask each other; ask each node for itself, by the same call without `cluster()`, or use a backend that does, such as Postgres"
    )]
    Unsupported {
        /// What the backend is called.
        backend: &'static str,
    },
    /// No node has a job of this name, and all have answered.
    #[error("there is no job {name:?} on any node; list the jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// No node has the run, and all have answered.
    #[error("run {run} is neither in progress nor waits on any node; it has ended")]
    UnknownRun {
        /// The run.
        run: RunId,
    },
    /// What was asked breaks a rule. Nobody was asked.
    #[error("{0}")]
    Invalid(Faults),
    /// As many requests of the cluster are open as may be. Nobody was asked.
    #[error("{max} requests of the cluster are open, and no more may; ask again in a moment")]
    TooMany {
        /// So many.
        max: usize,
    },
    /// The node that was to do it says no.
    #[error("{}: {reason}", node_of(name, *node))]
    Refused {
        /// The node.
        node: NodeId,
        /// What people call it; empty if it has no name.
        name: Arc<str>,
        /// What it says, with the cure.
        reason: String,
        /// What kind of error that is.
        kind: ErrorKind,
    },
    /// The node that was to do it has not answered: it may have done it, or may still do it.
    #[error("{} has not answered within the deadline; look at the active runs before you ask again", node_of(name, *node))]
    Unanswered {
        /// The node.
        node: NodeId,
        /// What people call it; empty if it has no name.
        name: Arc<str>,
    },
    /// The store did not answer, or nodes that would have to did not: some may have done it.
    #[error("the nodes were not all asked: {reason}; ask again")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The engine shuts down or has stopped.
    #[error("nothing is asked of the cluster any more: the engine shuts down")]
    ShuttingDown,
}

/// What people call a node, and otherwise its id.
fn node_of(name: &str, node: NodeId) -> String {
    if name.is_empty() { format!("node {node}") } else { format!("node {name:?} ({node})") }
}

impl ClusterError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob { .. } | Self::UnknownRun { .. } => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::TooMany { .. } => ErrorKind::Busy,
            Self::Refused { kind, .. } => *kind,
            Self::Unsupported { .. } | Self::Unanswered { .. } | Self::Unavailable { .. } => {
                ErrorKind::Unavailable
            }
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

impl ClusterError {
    /// Nobody who has answered has the job, and not all have.
    pub(crate) fn not_all(unconfirmed: &[Unconfirmed]) -> Self {
        let first = unconfirmed.iter().take(NAMED_MAX);
        let mut named: Vec<_> = first.map(|one| node_of(&one.name, one.node)).collect();
        if unconfirmed.len() > NAMED_MAX {
            named.push(format!("{} more", unconfirmed.len() - NAMED_MAX));
        }
        let reason =
            format!("no node that has answered has the job, and these have not: {}", named.join(", "));
        Self::Unavailable { reason }
    }
}

/// So many nodes are named in a text.
const NAMED_MAX: usize = 5;
