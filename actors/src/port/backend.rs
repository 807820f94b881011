//! Where nodes coordinate.

use std::{any::Any, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Able, Backfills, Capabilities, Catalogue, Clock, Control, Elector, History, Locker, MemoryBounds,
};
use crate::{error::Fault, name::NodeId, word::words};

/// An elector and a locker on one store: a term means something only in the store that granted it.
///
/// Their futures are polled on the coordination thread, whose tokio runtime also runs whatever tasks they
/// spawn.
pub trait Backend: Send + Sync + 'static {
    /// What the store is called in health reports: `local`, `postgres`.
    fn name(&self) -> &'static str;

    /// What the nodes that share a leader have in common, and others do not: the label `scope` of every
    /// metric of the node. Asked once, when the node starts.
    fn scope(&self) -> Arc<str>;

    /// What is wrong with the way it was set up. Asked before anything is started. Default: nothing.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// The id under which the store knows this node, which is then the node's id everywhere. Default: the
    /// engine makes one, and the store knows none.
    fn node(&self) -> Option<NodeId> {
        None
    }

    /// The node's clocks, told once, before anything is opened. A store with a clock of its own measures
    /// against them how much the node's is ahead: see [`Locker::clock_ahead`]. Default: nothing is measured.
    fn set_clock(&self, clock: Arc<dyn Clock>) {
        let _ = clock;
    }

    /// The version of the time zone data by which this node computes fire times, told once, before anything
    /// is opened; empty if it is not known. A store for several nodes answers it to the others: see
    /// [`Locker::other_zone_data`] and [`Grant::former_zone_data`](super::Grant::former_zone_data). Default:
    /// nobody hears of it.
    fn set_zone_data(&self, version: Arc<str>) {
        let _ = version;
    }

    /// What the application calls this node, told once, before anything is opened; empty if nothing. It is for
    /// people: two nodes of one name are two nodes. Default: nobody hears of it.
    fn set_node_name(&self, name: Arc<str>) {
        let _ = name;
    }

    /// The elector of this node.
    fn elector(&self) -> Arc<dyn Elector>;

    /// The locker of this node.
    fn locker(&self) -> Arc<dyn Locker>;

    /// Where what happened is kept, to be asked later; a history in memory keeps as much as this. Asked once,
    /// unless the application keeps none or elsewhere. Default: nowhere.
    fn history(&self, in_memory: MemoryBounds) -> Option<Arc<dyn History>> {
        let _ = in_memory;
        None
    }

    /// Where backfills are kept. Asked once. Default: nowhere, and each is refused.
    fn backfills(&self) -> Option<Arc<dyn Backfills>> {
        None
    }

    /// Where jobs are kept as data, for all nodes. Asked once, unless the application has them elsewhere. Default:
    /// nowhere.
    fn catalogue(&self) -> Option<Arc<dyn Catalogue>> {
        None
    }

    /// How this node sees the others of its scope, and asks things of them. Asked once. Default: it does not, and what
    /// is asked of all nodes is refused, unless there is [no other](Self::single_node).
    fn control(&self) -> Option<Arc<dyn Control>> {
        None
    }

    /// What every run gets from the store: a trait that extends [`Run`](crate::Run) finds it there by its
    /// type, see [`Run::extension`](crate::Run::extension). Default: nothing.
    fn run_extension(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// How long the store keeps a term or a session for a node that it does not hear of. What fails for
    /// longer than that, or a cluster without a leader for longer, is a problem of the node's
    /// [health](crate::HealthReport). Default: 5 s.
    fn lease(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// How long a run may go on after it was cancelled since the lead was lost: then another node may run its job, and
    /// does not know of the run. A job whose [`abort_after`](crate::Job::abort_after) is longer is warned of when it
    /// is added. Default: `None`, other nodes know of it by the store.
    fn abort_within(&self) -> Option<Duration> {
        None
    }

    /// Whether there can be no other node. Default: `false`.
    fn single_node(&self) -> bool {
        false
    }

    /// What the store can do: a job whose policies need something else is refused when it is added, by the name
    /// of the policy and of the backend. Default: all that there is.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }
}

impl dyn Backend {
    /// What decides which jobs can be added.
    pub(crate) fn able(&self) -> Able {
        Able { backend: self.name(), capabilities: self.capabilities(), single_node: self.single_node() }
    }
}

/// What a node is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// The only node there can be.
    Local,
    /// The node whose jobs fire.
    Leader,
    /// A node that waits.
    Follower,
}

words!(Role { Local: "local", Leader: "leader", Follower: "follower" });
