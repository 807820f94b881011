//! The backend over records: the suites of elector and locker over records in memory, outages of a store, and a race
//! over records that lose answers.

mod client;
mod outages;
mod race;
mod servers;

use std::{sync::Arc, time::Duration};

use callsheet::{
    Callsheet, Job,
    port::{
        Backend, Change, Clock, Commit, LockError, RecordChange, RecordKind, RecordLimits, RecordName,
        Records, SystemClock, Unit, Version,
    },
    schedule::every,
    testkit::{
        MemoryRecords, VirtualClock,
        conformance::{self, Cluster, RecordStore},
    },
};
use callsheet_actors::adapter::RecordsBackend;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::client::{Broken, Client};

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

    fn restart(&mut self) -> BoxFuture<'_, Option<Arc<dyn Backend>>> {
        // They end with the process.
        self.store = MemoryRecords::new(Arc::new(self.clock.clone()));
        self.node().map(Some).boxed()
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

/// A store that leaves something out.
struct BrokenStore {
    store: MemoryRecords,
    broken: Broken,
}

impl RecordStore for BrokenStore {
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client: Arc<dyn Records> = Arc::new(Client::broken(self.store.clone(), self.broken));
        async move { client }.boxed()
    }

    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let stranger: Arc<dyn Records> = Arc::new(memory());
        async move { stranger }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_of_records_finds_what_a_store_leaves_out() {
    let passes = async |broken| {
        let clock = VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().expect("an instant"));
        let mut store = BrokenStore { store: MemoryRecords::new(Arc::new(clock)), broken };
        let suite = tokio::spawn(async move { conformance::records(&mut store).await });
        // One that goes on for ever does not pass.
        matches!(tokio::time::timeout(Duration::from_secs(600), suite).await, Ok(Ok(())))
    };

    assert!(passes(Broken::Nothing).await);
    for broken in [
        Broken::Leader,
        Broken::Session,
        Broken::Versions,
        Broken::Units,
        Broken::Renewals,
        Broken::Expiry,
        Broken::Hints,
        Broken::Lists,
        Broken::Server,
    ] {
        assert!(!passes(broken).await, "{broken:?}");
    }
}

fn memory() -> MemoryRecords {
    MemoryRecords::new(Arc::new(SystemClock::default()))
}

#[tokio::test(start_paused = true)]
async fn records_of_a_newer_format_are_refused_by_its_number() {
    let store = memory();
    // A map of one entry, `format`, with the number 2, in MessagePack.
    let bytes = b"\x81\xa6format\x02".to_vec();
    let name = RecordName::only(RecordKind::Format);
    let records = vec![RecordChange { name, version: Version::ABSENT, change: Change::Put(bytes) }];
    let newer = Commit { units: vec![Unit { records, hints: Vec::new() }], ..Commit::default() };
    store.commit(&newer).await.expect("it is written");

    let opened = RecordsBackend::new(Arc::new(store), "records", LEASE).locker().open().await;

    let Err(LockError::Refused { reason }) = opened else { panic!("{opened:?}") };
    assert!(reason.contains("format 2") && reason.contains("run the newer version"), "{reason}");
}

#[tokio::test]
async fn a_job_that_needs_what_the_backend_lacks_is_refused_with_policy_backend_and_cure() {
    // They end with the process.
    let backend = || RecordsBackend::new(Arc::new(memory()), "records", LEASE);
    let limited = || Job::new("limited", every("1h")).limit(3).run(async |_| {});
    let words = ["job \"limited\": limit", "durable_cursor", "\"memory\"", "choose another policy"];

    let Err(error) = Callsheet::builder().backend(backend()).job(limited()).start().await else {
        panic!("it started")
    };
    words.iter().for_each(|word| assert!(error.to_string().contains(word), "{word}: {error}"));

    let jobs = Callsheet::builder().backend(backend()).start().await.expect("it starts");
    let error = jobs.add(limited()).await.expect_err("it is refused");
    words.iter().for_each(|word| assert!(error.to_string().contains(word), "{word}: {error}"));
    jobs.add(Job::new("limited", every("1h")).run(async |_| {})).await.expect("it needs nothing");
    jobs.shutdown(Duration::from_secs(5)).await;
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
