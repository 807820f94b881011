//! Over a store of records: the suite of electors, and what a leader leaves in the store.

#[path = "../records/client.rs"]
#[allow(dead_code, reason = "another program uses all of it")]
mod client;

use std::sync::Arc;

use callsheet::{
    backend::Elected,
    port::{Backend, Campaign, Clock, Election, ElectionOf, Elector, Handover, LeaderSaid, Renewal},
    testkit::{
        MemoryRecords, VirtualClock,
        conformance::{self, Cluster},
    },
};
use callsheet_actors::adapter::RecordsBackend;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use self::client::Client;
use crate::{START, secs};

fn clock() -> VirtualClock {
    VirtualClock::starting_at(START.parse().expect("an instant"))
}

/// Nodes that elect by records in memory.
struct Nodes {
    clock: VirtualClock,
    store: MemoryRecords,
    nodes: Vec<(Arc<dyn Backend>, Arc<Client>)>,
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let client = Arc::new(Client::new(self.store.clone(), None));
        let backend = Elected::over(RecordsBackend::new(client.clone(), "elected", secs(5)));
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

#[tokio::test(start_paused = true)]
async fn elected_over_records_is_an_elector() {
    let clock = clock();
    let store = MemoryRecords::new(Arc::new(clock.clone()));

    conformance::elector(&mut Nodes { clock, store, nodes: Vec::new() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_handover_is_left_by_the_leader_alone_and_outlives_it() {
    let store = MemoryRecords::new(Arc::new(clock()));
    let node = async || {
        let election = ElectionOf::new(RecordsBackend::new(Arc::new(store.clone()), "elected", secs(5)));
        election.session().expect("it needs one").open().await.expect("a session");
        election.elector()
    };
    let win = async |elector: &dyn Elector| match elector.campaign(secs(1)).await.expect("an answer") {
        Campaign::Won(grant) => grant.term,
        lost @ Campaign::Lost { .. } => panic!("{lost:?}"),
    };
    let [first, second] = [node().await, node().await];
    let of = |elector: &Arc<dyn Elector>| elector.clone();
    let term = win(&*first).await;
    let decided_to = START.parse().expect("an instant");
    let said = LeaderSaid::default();
    let handover = Handover { term, decided_to, behind: Vec::new(), starts_to: None, said };
    let newest = async |elector: &Arc<dyn Elector>| {
        let elector = of(elector);
        elector.handovers().expect("it keeps them").newest().await.expect("an answer")
    };
    let leave = async |elector: &Arc<dyn Elector>, term| {
        let elector = of(elector);
        let left = Handover { term, ..handover.clone() };
        elector.handovers().expect("it keeps them").leave(term, &left).await.expect("an answer")
    };
    assert_eq!(newest(&second).await, None);

    assert_eq!(leave(&first, term).await, Renewal::Renewed);
    assert_eq!(newest(&second).await, Some(handover.clone()));
    assert_eq!(leave(&second, term).await, Renewal::Deposed, "it is not its term");

    first.resign(term).await.expect("an answer");
    let next = win(&*second).await;
    assert_eq!(leave(&first, term).await, Renewal::Deposed, "its term is over");
    assert_eq!(newest(&second).await, Some(handover.clone()));
    assert_eq!(leave(&second, next).await, Renewal::Renewed);
    assert_eq!(newest(&first).await.map(|left| left.term), Some(next));
}
