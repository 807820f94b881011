//! Every backend and every kind of schedule passes the suites of the test kit.

use std::sync::Arc;

use callsheet::{
    FencingToken, NodeId,
    backend::Local,
    port::{Backend, ClaimRequest, Clock, Records, SystemClock, Verdict},
    schedule::{
        Definition, Fold, Gap, Schedule,
        Weekday::{Mon, Sun, Thu},
        any, at, calendar, cron, custom, daily, every, monthly, random, weekly,
    },
    testkit::{
        MemoryRecords, SharedStore, VirtualClock,
        conformance::{self, Cluster, RecordStore},
        fakes::Period,
    },
};
use callsheet_actors::{
    MemoryBounds, RunIds,
    adapter::{MemoryCatalogue, MemoryHistory},
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

/// One of each kind, of each option, and of each default of what becomes of the hours that clocks skip and
/// repeat.
fn every_kind_of_schedule() -> Vec<Definition> {
    let holidays = || calendar("holidays").dates("2026-01-01").weekdays([Sun]).fire_times(cron("0 9 1 * *"));
    let lisbon = "Europe/Lisbon";
    vec![
        cron("0 9 * * MON-FRI").into(),
        cron("*/7 * * * *").timezone("America/New_York").into(),
        cron("30 1,2 * * *").timezone("Australia/Lord_Howe").into(),
        cron("15 30 2 L * *").timezone(lisbon).into(),
        cron("0 0 0 29 2 * 2028-2096").into(),
        cron("0 12 13 * FRI").into(),
        cron("0 0 * * MON#2").timezone("Asia/Kathmandu").into(),
        cron("@every 5m").into(),
        every("1ms").into(),
        every("90m").anchored_at("2026-01-01T00:00:00.0005Z").into(),
        every("1h").from_completion().into(),
        every("7h").starting_at("2026-01-02T00:00:00Z").until("2026-02-01T00:00:00Z").into(),
        random("1m", "5m").into(),
        random("1ms", "1h").seed("mail").into(),
        daily().at(["01:30", "02:30"]).timezone("America/New_York").gap(Gap::Shift).fold(Fold::Both).into(),
        daily().every(3).at("02:30").timezone(lisbon).gap(Gap::AfterGap).fold(Fold::Second).into(),
        weekly().on([Mon, Thu]).every(2).at("09:30").timezone("Asia/Tehran").gap(Gap::Skip).into(),
        monthly().on([1, -1, 31]).at("00:00:15").timezone("Pacific/Apia").into(),
        at("2026-05-01T00:00:00Z").into(),
        at(["2026-05-01T00:00:00.0001Z", "1960-01-01T00:00:00Z", "2096-03-01T00:00:00Z"]).into(),
        cron("0 * * * *").except(holidays()).into(),
        daily().at("09:00").timezone(lisbon).except(holidays()).jitter("20h").into(),
        every("10s").jitter("10s").or(at("2026-01-01T00:00:05Z")).into(),
        any([cron("0 9 * * *").timezone(lisbon).into(), every("8h").into(), monthly().on([2]).into()])
            .except(calendar("nights").times("22:00", "06:00"))
            .into(),
        custom(Period::hours(5)).jitter("1h").into(),
    ]
}

#[test]
fn every_kind_of_schedule_passes_the_suite() {
    for definition in every_kind_of_schedule() {
        eprintln!("{}", definition.describe().expect("it is a good one"));
        conformance::schedule(|| definition.clone());
    }
}

/// Whatever is made of it: what a schedule of the application breaks, a definition around it breaks as well.
#[test]
#[should_panic = "`next_after` answers something later"]
fn a_definition_around_a_bad_schedule_does_not_pass_the_suite() {
    conformance::schedule(|| custom(Stuck).or(every("1h")));
}

/// Answers what it was asked.
#[derive(Debug)]
struct Stuck;

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("for ever now")
    }
}

impl Schedule for Stuck {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(before)
    }
}

#[tokio::test]
async fn a_history_in_memory_is_a_history() {
    conformance::history(&MemoryHistory::new(MemoryBounds::default())).await;
}

#[tokio::test(start_paused = true)]
async fn a_catalogue_in_memory_is_a_catalogue() {
    let catalogue = MemoryCatalogue::new(Arc::new(VirtualClock::starting_at(Utc::now())));
    conformance::catalogue(Arc::new(catalogue.clone()), Arc::new(catalogue)).await;
}

#[tokio::test(start_paused = true)]
async fn the_catalogue_of_a_shared_store_is_a_catalogue() {
    let clock = VirtualClock::starting_at(Utc::now());
    let store = SharedStore::new(clock.clone());
    let [first, second] = [1, 2].map(|node| store.backend(NodeId::numbered(node), clock.another()));
    let catalogue = |backend: &dyn Backend| backend.catalogue().expect("it keeps one");
    conformance::catalogue(catalogue(&first), catalogue(&second)).await;
}

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

    fn restart(&mut self) -> BoxFuture<'_, Option<Arc<dyn Backend>>> {
        // It ends with the process.
        self.local = Arc::new(Local::new(Arc::new(self.clock.clone())));
        self.node().map(Some).boxed()
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

/// Records in memory, of two scopes.
struct RecordsInMemory {
    own: MemoryRecords,
    other: MemoryRecords,
}

impl RecordsInMemory {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { own: MemoryRecords::new(clock.clone()), other: MemoryRecords::new(clock) }
    }
}

impl RecordStore for RecordsInMemory {
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client = Arc::new(self.own.clone());
        async move { client as _ }.boxed()
    }

    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client = Arc::new(self.other.clone());
        async move { client as _ }.boxed()
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

#[tokio::test(start_paused = true)]
async fn local_keeps_backfills() {
    conformance::backfills(&mut local()).await;
}

#[tokio::test(start_paused = true)]
async fn the_shared_store_keeps_backfills() {
    conformance::backfills(&mut shared()).await;
}

#[tokio::test(start_paused = true)]
async fn the_nodes_of_a_shared_store_ask_each_other() {
    conformance::control(&mut shared()).await;
}

#[tokio::test(start_paused = true)]
async fn records_in_memory_are_records() {
    conformance::records(&mut RecordsInMemory::new(Arc::new(clock()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_in_memory_are_records_for_several_threads() {
    conformance::records(&mut RecordsInMemory::new(Arc::new(SystemClock::default()))).await;
}

#[tokio::test]
async fn closing_the_embedded_store_frees_what_is_held() {
    let local = Local::new(Arc::new(SystemClock::default()));
    let locker = local.locker();
    locker.open().await.unwrap();
    let ids = RunIds::of(NodeId::random());
    let (job, key) = (callsheet::JobName::new("job").unwrap(), callsheet::LockKey::new("job").unwrap());
    let claim = || ClaimRequest::new(job.clone(), key.clone(), ids.next(Utc::now()));
    assert!(matches!(
        locker.claim(&[claim()]).await.unwrap()[0],
        Verdict::Granted { token: FencingToken(_), .. }
    ));
    locker.close().await;
    locker.open().await.unwrap();

    let again = locker.claim(&[claim()]).await.unwrap();

    assert!(matches!(again[0], Verdict::Granted { .. }), "{again:?}");
}
