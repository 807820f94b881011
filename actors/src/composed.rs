//! A backend of two systems: one elects the leader, the other one keeps claims.

mod elector;
mod locker;

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use self::{elector::ComposedElector, locker::ComposedLocker};
use crate::{
    error::Fault,
    name::NodeId,
    port::{
        Backend, Capabilities, Capability, Clock, Election, Elector, History, Locker, MemoryBounds, Session,
    },
};

/// One system elects the leader, another one keeps claims: an application's own lock service beside an elector that it
/// has, or the other way round.
///
/// The system of claims does not know the terms. So the leader claims as any node would, and the cursor decides:
///
/// | | |
/// |---|---|
/// | once per tick, fencing, overlap of a key, pauses, lost runs, durable cursors | as the system of claims has them: its [capabilities](Capabilities) remain, but for renames |
/// | a deposed leader | stops when it is not trusted any more; until then its claims are granted, each tick once |
/// | jobs that the leader lacks | do not run: all nodes are to have the same jobs |
/// | removed jobs | are not forgotten: their names stay in the system of claims |
/// | that all is decided | is not said to other nodes: each goes by what it sees itself |
/// | backfills | are refused: they are driven by a term |
/// | jobs that had [another name](crate::Job::formerly) | are refused: who fires the former name is not known |
///
/// A node keeps a session with each of both; when one is lost, both are. The label `scope` of its metrics is that of
/// the system of claims.
pub struct Composed {
    election: Arc<dyn Election>,
    claims: Arc<dyn Backend>,
    shared: OnceLock<Arc<Shared>>,
}

/// What the elector and the locker of a node share.
struct Shared {
    election: Arc<dyn Election>,
    elector: Arc<dyn Elector>,
    /// Whoever opens the session that the elector needs.
    opener: Option<Arc<dyn Locker>>,
    locker: Arc<dyn Locker>,
    /// The node, as the election knows it, and as everybody else does.
    ids: Option<(NodeId, NodeId)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The session of claims, and that of the elector.
    open: Option<(Session, Option<Session>)>,
    /// Somebody is known to lead.
    has_leader: bool,
}

impl Composed {
    /// A node that elects its leader by one system, and claims in another one.
    pub fn new(election: impl Election, claims: impl Backend) -> Self {
        Self { election: Arc::new(election), claims: Arc::new(claims), shared: OnceLock::new() }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_init(|| {
            Arc::new(Shared {
                election: self.election.clone(),
                elector: self.election.elector(),
                opener: self.election.session(),
                locker: self.claims.locker(),
                ids: self.election.node().zip(self.claims.node()),
                state: Mutex::default(),
            })
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Composed {
    fn name(&self) -> &'static str {
        "composed"
    }

    fn scope(&self) -> Arc<str> {
        self.claims.scope()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.election.faults();
        faults.extend(self.claims.faults());
        if self.claims.single_node() {
            let rule = "nodes that elect a leader share the system of claims";
            let cure = format!("use backend::Elected, or another system than {:?}", self.claims.name());
            faults.push(Fault::new("composed: claims", self.claims.name(), rule, cure));
        }
        faults
    }

    fn node(&self) -> Option<NodeId> {
        self.claims.node().or_else(|| self.election.node())
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.election.set_clock(clock.clone());
        self.claims.set_clock(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        self.election.set_zone_data(version.clone());
        self.claims.set_zone_data(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        self.election.set_node_name(name.clone());
        self.claims.set_node_name(name);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(ComposedElector { shared: self.shared().clone() })
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(ComposedLocker { shared: self.shared().clone() })
    }

    fn history(&self, in_memory: MemoryBounds) -> Option<Arc<dyn History>> {
        self.claims.history(in_memory)
    }

    fn run_extension(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.claims.run_extension()
    }

    /// The longer one of both.
    fn lease(&self) -> Duration {
        self.election.lease().max(self.claims.lease())
    }

    fn capabilities(&self) -> Capabilities {
        self.claims.capabilities().without(Capability::Renames)
    }
}

impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { election, claims, .. } = self;
        let mut shown = f.debug_struct("Composed");
        shown.field("election", &election.name()).field("claims", &claims.name()).finish_non_exhaustive()
    }
}
