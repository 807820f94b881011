//! The backend over records: the suites of elector and locker over records in memory, and a race over records that
//! lose answers.

mod client;
mod race;

use std::{sync::Arc, time::Duration};

use callsheet::{
    port::{Backend, Clock, RecordLimits},
    testkit::{
        MemoryRecords, VirtualClock,
        conformance::{self, Cluster},
    },
};
use callsheet_actors::adapter::RecordsBackend;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::client::Client;

const LEASE: Duration = Duration::from_secs(5);

/// Nodes over one store of records in memory.
struct Nodes {
    clock: VirtualClock,
    store: MemoryRecords,
    limits: Option<RecordLimits>,
    nodes: Vec<(Arc<dyn Backend>, Arc<Client>)>,
}

impl Nodes {
    fn new(limits: Option<RecordLimits>) -> Self {
        let clock = VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().expect("an instant"));
        let store = MemoryRecords::new(Arc::new(clock.clone()));
        Self { clock, store, limits, nodes: Vec::new() }
    }
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let client = Arc::new(Client::new(self.store.clone(), self.limits.clone()));
        let backend = RecordsBackend::new(client.clone(), "records", LEASE);
        backend.set_clock(Arc::new(self.clock.another()));
        let backend: Arc<dyn Backend> = Arc::new(backend);
        self.nodes.push((backend.clone(), client));
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let of = |(node, _): &&(Arc<dyn Backend>, _)| Arc::ptr_eq(node, backend);
        let (_, client) = self.nodes.iter().find(of).expect("a node of this cluster");
        client.opened().into_iter().for_each(|session| self.store.expire(session));
        async {}.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// The least that a store may take.
fn least() -> Option<RecordLimits> {
    Some(RecordLimits {
        reads: 64,
        units: 1,
        unit_records: 16,
        commit_records: 16,
        record_bytes: 64 * 1_024,
        commit_bytes: 64 * 1_024,
        ttl: Duration::from_secs(1)..=Duration::from_secs(60),
    })
}

#[tokio::test(start_paused = true)]
async fn a_backend_over_records_is_an_elector() {
    conformance::elector(&mut Nodes::new(None)).await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_over_records_is_a_locker() {
    conformance::locker(&mut Nodes::new(None)).await;
}

#[tokio::test(start_paused = true)]
async fn so_it_is_over_a_store_that_takes_little_at_once() {
    conformance::elector(&mut Nodes::new(least())).await;
    conformance::locker(&mut Nodes::new(least())).await;
}
