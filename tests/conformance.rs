//! Every backend passes the suites of the test kit.

use std::sync::Arc;

use callsheet::{
    NodeId,
    backend::Local,
    port::{Backend, Clock},
    testkit::{
        SharedStore, VirtualClock,
        conformance::{self, Cluster},
    },
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

struct LocalCluster {
    clock: VirtualClock,
    local: Arc<dyn Backend>,
}

impl Cluster for LocalCluster {
    fn nodes_max(&self) -> usize {
        1
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let backend = self.local.clone();
        async move { backend }.boxed()
    }

    fn kill(&mut self, _: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        unreachable!("there is one node")
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

struct StoreCluster {
    clock: VirtualClock,
    store: SharedStore,
    nodes: Vec<(NodeId, Arc<dyn Backend>)>,
}

impl Cluster for StoreCluster {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let id = NodeId::numbered(self.nodes.len() as u128 + 1);
        let backend: Arc<dyn Backend> = Arc::new(self.store.backend(id, self.clock.another()));
        self.nodes.push((id, backend.clone()));
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let dead =
            self.nodes.iter().find(|(_, node)| Arc::ptr_eq(node, backend)).expect("a node of this cluster");
        self.store.end_session(dead.0);
        async {}.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

fn clock() -> VirtualClock {
    VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().expect("an instant"))
}

fn local() -> LocalCluster {
    let clock = clock();
    let local = Arc::new(Local::new(Arc::new(clock.clone())));
    LocalCluster { clock, local }
}

fn shared() -> StoreCluster {
    let clock = clock();
    StoreCluster { store: SharedStore::new(clock.clone()), clock, nodes: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn local_is_an_elector() {
    conformance::elector(&mut local()).await;
}

#[tokio::test(start_paused = true)]
async fn local_is_a_locker() {
    conformance::locker(&mut local()).await;
}

#[tokio::test(start_paused = true)]
async fn the_shared_store_is_an_elector() {
    conformance::elector(&mut shared()).await;
}

#[tokio::test(start_paused = true)]
async fn the_shared_store_is_a_locker() {
    conformance::locker(&mut shared()).await;
}
