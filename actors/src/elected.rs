//! A backend of an elector alone: the leader runs everything, and keeps the claims in its memory.
//!
//! ```text
//! campaign ─▶ the handover of the leader before is read ─▶ the own one is written ─▶ claims, in memory
//!                                                              ▲                        │
//!                                                              └── with each renewal ◀──┘
//! ```
//!
//! A tick is granted only up to the instant that the newest handover names. So whoever leads next knows which ticks
//! were not started, whatever the clocks say; which ones were decided; and that of those between nobody knows.

mod elector;
mod leading;
mod locker;
mod session;
mod shared;
mod votes;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use self::{elector::ElectedElector, locker::ElectedLocker, shared::Shared};
use crate::{
    error::Fault,
    history::MemoryHistory,
    name::NodeId,
    port::{
        Backend, Capabilities, Capability, Clock, Election, ElectionOf, Elector, History, Locker,
        MemoryBounds,
    },
};

/// All-or-nothing leadership: one node leads and runs every job, the others wait. Of the system in which they elect
/// it nothing is needed but the election; the leader keeps claims, cursors and pauses in its memory.
///
/// | | |
/// |---|---|
/// | once per tick | yes, with [`OnUnproven::Skip`], where the elector keeps [handovers](crate::port::Handovers) |
/// | a deposed leader | starts nothing: it is trusted for less than its lease, and its session ends with its term |
/// | the lead is lost | every run of the node is cancelled, as when a lock is lost |
/// | the leader resigns or shuts down | it keeps the lead, without starting anything, until its runs have ended |
/// | overlap of a key on two nodes | possible if a cancelled run ends, or is aborted after
/// [`abort_after`](crate::Job::abort_after) (5 s by default), later than the margin of the lease |
/// | fencing, durable cursors, lost runs that are retried, pauses that outlive the leader | no |
///
/// It has no [capability](Capabilities) but the one below, so that a job whose policies need one is refused by name
/// when it is added: that is one which fires on any node, which queues, replaces or allows overlaps, which retries
/// lost runs, which pauses itself after failures, or whose runs are limited. All nodes are to have the same jobs: one
/// that the leader lacks does not run. A pause is asked of the leader, and ends with its term. So is a manual trigger:
/// other nodes, and a leader that resigns, refuse it.
///
/// # Jobs that any node fires
///
/// Where the system that elects also [votes](Election::votes) on single ticks, as `backend::Redlock` does, there is one
/// capability, [`ClusterTicks`](Capability::ClusterTicks): each tick of a job that fires on [any
/// node](crate::Fires::AnyNode) is given to one node, whoever leads. Nothing else of the job is shared: each node keeps
/// a cursor and the overlap of its own. So two ticks may run on two nodes at the same time; a node that was not there
/// owes nothing; and each node says by itself what it skipped, also of a tick that another one has run. A tick that was
/// given to a node which died is not recorded as lost. The leader asks for no votes: a job is not to fire by
/// [`Leader`](crate::Fires::Leader) on some nodes and on any node on others, or its ticks may run twice. Of ticks that
/// wait for no node, none is decided while all are down.
///
/// # What nobody knows after a leader died
///
/// With each renewal the leader stores up to when ticks are decided, and up to when it may start some. When it dies,
/// those between are *unproven*: it may have started them or not. By default they are skipped, with the reason
/// [`unproven`](crate::SkipReason::Unproven), which is an event, a metric, a decision in the history and the answer
/// of `explain`. What was due later was not started by anybody, and is decided by the misfire policy. A leader that
/// resigns leaves nothing unproven.
///
/// ```text
/// ticks          |   |   |   |   |   |   |   |   |   |
/// leader 1       run run run x (killed)
/// last renewal       ▲ decided to here, may start up to ▼
/// leader 2                       unproven: 3, 4, 5       6 … by the misfire policy
/// ```
///
/// A leader knows nothing of its jobs from before it started. If it takes over from one that had decided less, the
/// ticks between neither run nor are skipped as unproven: a warning in its log says from when to when, and so does the
/// decision [`LeaderGap`](crate::port::Decision::LeaderGap) in its history.
///
/// # Clocks
///
/// What is due is decided by the clock of the system that elects, where it has one. Elsewhere, as on Kubernetes, by
/// that of the leader, and it hands on what it decided: no tick runs twice if clocks differ, but those up to the clock
/// that is furthest ahead do not run again. What a leader left that is later than the clock of the next node by more
/// than 5 min is not taken over: that node does not lead, and its health says so
/// ([`Problem::Obstructed`](crate::Problem::Obstructed)).
///
/// An elector that keeps no handovers says nothing of it: then every tick between the start of a node and its
/// takeover is unproven to it, unless it decided the tick itself.
pub struct Elected {
    election: Arc<dyn Election>,
    on_unproven: OnUnproven,
    shared: OnceLock<Arc<Shared>>,
}

/// What becomes of ticks of which nobody knows whether a leader before started them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnUnproven {
    /// They are skipped, with the reason [`unproven`](crate::SkipReason::Unproven): no tick runs twice.
    #[default]
    Skip,
    /// The misfire policy decides, as if nobody had started them: none is left out, and some may run twice.
    Run,
}

impl Elected {
    /// A node that elects its leader there.
    pub fn new(election: impl Election) -> Self {
        Self { election: Arc::new(election), on_unproven: OnUnproven::default(), shared: OnceLock::new() }
    }

    /// A node that elects its leader by a backend. What else the backend can do is not used.
    pub fn over(backend: impl Backend) -> Self {
        Self::new(ElectionOf::new(backend))
    }

    /// Sets what becomes of ticks of which nobody knows whether a leader before started them. Default:
    /// [`OnUnproven::Skip`].
    #[must_use]
    pub fn on_unproven(self, on_unproven: OnUnproven) -> Self {
        Self { election: self.election, on_unproven, shared: OnceLock::new() }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| Arc::new(Shared::new(self.election.clone(), self.on_unproven)))
    }
}

impl Backend for Elected {
    fn name(&self) -> &'static str {
        "elected"
    }

    fn scope(&self) -> Arc<str> {
        self.election.scope()
    }

    fn faults(&self) -> Vec<Fault> {
        self.election.faults()
    }

    fn node(&self) -> Option<NodeId> {
        self.election.node()
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.election.set_clock(clock.clone());
        self.shared().set_clock(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        self.election.set_zone_data(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        self.election.set_node_name(name);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(ElectedElector { shared: self.shared().clone() })
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(ElectedLocker { shared: self.shared().clone() })
    }

    fn history(&self, in_memory: MemoryBounds) -> Option<Arc<dyn History>> {
        Some(Arc::new(MemoryHistory::new(in_memory)))
    }

    fn lease(&self) -> Duration {
        self.election.lease()
    }

    fn abort_within(&self) -> Option<Duration> {
        Some(self.election.margin())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_if(self.shared().votes.is_some(), Capability::ClusterTicks)
    }
}

impl fmt::Debug for Elected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { election, on_unproven, .. } = self;
        let mut shown = f.debug_struct("Elected");
        shown.field("election", &election.name()).field("on_unproven", on_unproven).finish_non_exhaustive()
    }
}
