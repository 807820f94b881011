//! Where nodes elect a leader.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};

use super::{Backend, Clock, Elector, LockError, Locker, Obstacle, TickVotes};
use crate::{error::Fault, name::NodeId};

/// A system in which nodes elect a leader, and that need not keep claims.
///
/// That of a [`Backend`] is one as well: [`ElectionOf`].
/// [`Elected`](crate::adapter::Elected) and [`Composed`](crate::adapter::Composed) make a backend of one.
pub trait Election: Send + Sync + 'static {
    /// What the system is called in health reports and errors: `kubernetes`.
    fn name(&self) -> &'static str;

    /// As [`Backend::scope`].
    fn scope(&self) -> Arc<str>;

    /// As [`Backend::faults`]. Default: nothing.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// As [`Backend::node`]. Default: none.
    fn node(&self) -> Option<NodeId> {
        None
    }

    /// As [`Backend::set_clock`]. Default: nothing.
    fn set_clock(&self, clock: Arc<dyn Clock>) {
        let _ = clock;
    }

    /// As [`Backend::set_zone_data`]. Default: nobody hears of it.
    fn set_zone_data(&self, version: Arc<str>) {
        let _ = version;
    }

    /// As [`Backend::set_node_name`]. Default: nobody hears of it.
    fn set_node_name(&self, name: Arc<str>) {
        let _ = name;
    }

    /// The elector of this node. If it keeps [handovers](Elector::handovers), the next leader knows up to when
    /// ticks are decided.
    fn elector(&self) -> Arc<dyn Elector>;

    /// Whoever opens and closes the session that the elector needs. Nothing else is asked of it. Default: the
    /// elector needs none.
    fn session(&self) -> Option<Arc<dyn Locker>> {
        None
    }

    /// Asked when a session is opened: whether the system answers, and lets this node in. Default: it is not known,
    /// and whoever opens the [session](Self::session), or campaigns, finds out.
    ///
    /// # Errors
    ///
    /// As for [`Locker::open`].
    fn reach(&self) -> BoxFuture<'_, Result<(), LockError>> {
        ready(Ok(())).boxed()
    }

    /// As [`Locker::obstacles`]: what is in the way of the election. Default: nothing.
    fn obstacles(&self) -> Vec<Obstacle> {
        Vec::new()
    }

    /// Where nodes ask for the ticks of jobs that any of them fires. Default: nowhere, and such a job is refused.
    fn votes(&self) -> Option<Arc<dyn TickVotes>> {
        None
    }

    /// As [`Backend::lease`].
    fn lease(&self) -> Duration;

    /// How much earlier than the lease a leader stops trusting its term: the margin of what it is
    /// [granted](super::Lease). Default: a fifth of the lease.
    fn margin(&self) -> Duration {
        self.lease() / 5
    }
}

/// The election of a [`Backend`], of which nothing else is used.
pub struct ElectionOf(Arc<dyn Backend>);

impl ElectionOf {
    /// The election of a backend.
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }
}

impl Election for ElectionOf {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn scope(&self) -> Arc<str> {
        self.0.scope()
    }

    fn faults(&self) -> Vec<Fault> {
        self.0.faults()
    }

    fn node(&self) -> Option<NodeId> {
        self.0.node()
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.0.set_clock(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        self.0.set_zone_data(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        self.0.set_node_name(name);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        self.0.elector()
    }

    fn session(&self) -> Option<Arc<dyn Locker>> {
        Some(self.0.locker())
    }

    fn lease(&self) -> Duration {
        self.0.lease()
    }
}
