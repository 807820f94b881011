//! Who fires a job.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::port::LeaderView;

/// Who fires a job that was added, as it stood then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scheduled", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scheduled {
    /// This node: it leads, or the job is [`Local`](crate::Fires::Local), or [any
    /// node](crate::Fires::AnyNode) may fire it.
    Here,
    /// The leader, another node, which holds it as well.
    ByLeader,
    /// Nobody yet: no node leads. The next leader does if it holds the job.
    NoLeader,
    /// The nodes that have it, this one among them: the leader, another node, does not. Each tick runs on the
    /// one that claims it first, until the job is added on the leader.
    WithoutLeader,
    /// The leader, another node, fires a job of this name by another schedule.
    OtherSchedule,
    /// It is not known: the store did not answer.
    Unknown {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}

impl From<LeaderView> for Scheduled {
    fn from(standing: LeaderView) -> Self {
        match standing {
            LeaderView::Scheduled => Self::ByLeader,
            LeaderView::OtherSchedule => Self::OtherSchedule,
            LeaderView::NotScheduled => Self::WithoutLeader,
            LeaderView::NoLeader => Self::NoLeader,
        }
    }
}

impl fmt::Display for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("scheduled by this node"),
            Self::ByLeader => f.write_str("scheduled by the leader"),
            Self::NoLeader => f.write_str("not scheduled yet: no node leads"),
            Self::WithoutLeader => {
                f.write_str("scheduled by the nodes that have it, since the leader does not")
            }
            Self::OtherSchedule => f.write_str("scheduled by the leader, but by another schedule"),
            Self::Unknown { reason } => write!(f, "not known to be scheduled: {reason}"),
        }
    }
}
