//! A backend over any store of records: elector and locker with the rules of the [ledger](crate::core::ledger).
//!
//! ```text
//! requests ─▶ rows that are not cached are read ─▶ the rules run on a cut of the ledger ─▶ a commit under guards
//!     ▲                                                                                        │
//!     └──────────────── what conflicted is read anew, and decided again ◀──────────────────────┘
//! ```
//!
//! Whatever is decided rests on versions that the commit compares, refusals as well; on sessions of others that are
//! gone, which is final; and on this node's own session and the term, which guard the commit. So a cache that is
//! out of date costs another round, and decides nothing.

mod cache;
mod elector;
mod format;
mod handovers;
mod histories;
mod locker;
mod manifests;
mod notices;
mod plan;
mod request;
mod rounds;
mod servers;
mod session;
mod shared;
mod sweep;
mod table;
mod views;

use std::{sync::Arc, time::Duration};

use self::shared::Shared;
pub use self::table::RecordTable;
use crate::{
    core::duration::DurationText,
    error::Fault,
    name::NodeId,
    port::{Backend, Capabilities, Capability, Clock, Elector, Locker, RecordTraits, Records},
};

/// Coordination over a store of [records](crate::port::Records): what an adapter to such a system wraps.
///
/// All nodes with one scope of one store share a leader. The node's id is a fresh random one for each value that is
/// made, so two of them in one process, or on one host, are two nodes.
pub struct RecordsBackend {
    name: &'static str,
    shared: Arc<Shared>,
}

impl RecordsBackend {
    /// A node of the scope of `records`. `scope` is what the metrics and the health of the node say. A session and a
    /// term that are not renewed last for `lease`.
    pub fn new(records: Arc<dyn Records>, scope: impl Into<Arc<str>>, lease: Duration) -> Self {
        Self { name: records.traits().name, shared: Arc::new(Shared::new(records, scope.into(), lease)) }
    }
}

impl Backend for RecordsBackend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scope(&self) -> Arc<str> {
        self.shared.scope.clone()
    }

    fn faults(&self) -> Vec<Fault> {
        let (lease, ttl) = (self.shared.lease, self.shared.records.limits().ttl);
        if ttl.contains(&lease) {
            return Vec::new();
        }
        let [least, most] = [*ttl.start(), *ttl.end()].map(DurationText);
        let rule = format!("a lease on {} is at least {least} and at most {most}", self.name);
        vec![Fault::new("lease", DurationText(lease).to_string(), &rule, "choose another one")]
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.shared.node)
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.shared.clock.set_node(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.shared.zone_data.set(version);
    }

    fn set_node_name(&self, name: Arc<str>) {
        // Told once.
        let _ = self.shared.node_name.set(name);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(elector::RecordsElector { shared: self.shared.clone() })
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(locker::RecordsLocker { shared: self.shared.clone() })
    }

    fn lease(&self) -> Duration {
        self.shared.lease
    }

    fn capabilities(&self) -> Capabilities {
        let RecordTraits { time, hints, durable, .. } = self.shared.records.traits();
        Capabilities::ALL
            .without(Capability::DurableCursor)
            .without(Capability::StoreTime)
            .without(Capability::Notifications)
            .without(Capability::Renames)
            .with_if(durable, Capability::DurableCursor)
            .with_if(time, Capability::StoreTime)
            .with_if(hints, Capability::Notifications)
    }
}
