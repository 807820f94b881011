//! One store elects, another one keeps claims: nodes of one application, in real time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Callsheet, FireTime, Job, JobName, LockKey, Overlap, StartError,
    backend::{Composed, Local},
    port::{
        Authority, Backend, Campaign, Capabilities, Declaration, ElectionOf, Enrolment, RecordKind, Records,
        Role, ScheduleIdentity, SystemClock,
    },
    schedule::every,
    testkit::MemoryRecords,
};
use callsheet_actors::adapter::RecordsBackend;

use crate::secs;

const PERIOD: Duration = Duration::from_millis(100);

/// The runs of each tick, with the token of the last one.
type Runs = Arc<Mutex<BTreeMap<FireTime, Vec<u64>>>>;

fn store() -> MemoryRecords {
    MemoryRecords::new(Arc::new(SystemClock::default()))
}

fn composed(elects: &MemoryRecords, keeps: &MemoryRecords) -> Composed {
    let election = RecordsBackend::new(Arc::new(elects.clone()), "elects", secs(2));
    let claims = RecordsBackend::new(Arc::new(keeps.clone()), "keeps", secs(2));
    Composed::new(ElectionOf::new(election), claims)
}

async fn node(elects: &MemoryRecords, keeps: &MemoryRecords, runs: &Runs) -> Callsheet {
    let runs = runs.clone();
    let job = Job::new("tick", every(PERIOD)).run(move |run| {
        let tick = FireTime::new(run.fire_time().expect("nobody triggers it"));
        let token = run.token().expect("it has one").0;
        runs.lock().expect("nobody panicked").entry(tick).or_default().push(token);
        async {}
    });
    Callsheet::builder().job(job).backend(composed(elects, keeps)).start().await.expect("it starts")
}

/// Waits until so many more ticks ran.
async fn go_on(runs: &Runs, ticks: usize) {
    let count = || runs.lock().expect("nobody panicked").len();
    let until = count() + ticks;
    let waiting = async {
        while count() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(secs(60), waiting).await.expect("it goes on");
}

async fn leader(nodes: &[Callsheet]) -> usize {
    loop {
        for (at, node) in nodes.iter().enumerate() {
            if node.health().await.is_ok_and(|health| health.role == Role::Leader) {
                return at;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn claims_in_another_store_than_the_one_that_elects_run_each_tick_once() {
    let (elects, keeps, runs) = (store(), store(), Runs::default());
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&elects, &keeps, &runs).await);
    }
    go_on(&runs, 10).await;

    let leads = leader(&nodes).await;
    nodes.remove(leads).shutdown(secs(5)).await;
    go_on(&runs, 10).await;

    let follower = (leader(&nodes).await + 1) % nodes.len();
    nodes[follower].pause("tick").await.expect("the store keeps pauses");
    for node in nodes {
        node.shutdown(secs(5)).await;
    }
    let runs = runs.lock().expect("nobody panicked").clone();
    let tokens: Vec<_> = runs.values().flatten().copied().collect();
    assert!(runs.values().all(|tokens| tokens.len() == 1), "{runs:?}");
    assert!(tokens.is_sorted(), "tokens grow from leader to leader: {tokens:?}");
    let jobs = async |store: &MemoryRecords| {
        store.list(RecordKind::Name, None, 10).await.expect("an answer").records.len()
    };
    assert_eq!((jobs(&elects).await, jobs(&keeps).await), (0, 1));
}

#[test]
fn what_the_system_of_claims_can_do_remains() {
    let (elects, keeps) = (store(), store());
    let claims = RecordsBackend::new(Arc::new(keeps.clone()), "keeps", secs(2));

    let composed = composed(&elects, &keeps);

    assert_eq!(composed.capabilities(), claims.capabilities());
    assert_ne!(composed.capabilities(), Capabilities::NONE);
    assert_eq!(&*composed.scope(), "keeps");
}

#[tokio::test]
async fn claims_in_the_memory_of_a_process_are_refused() {
    let election = ElectionOf::new(RecordsBackend::new(Arc::new(store()), "elects", secs(2)));
    let backend = Composed::new(election, Local::new(Arc::new(SystemClock::default())));

    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(backend).start().await else {
        panic!("it started");
    };

    assert!(faults.to_string().contains("composed: claims"), "{faults}");
}

#[tokio::test]
async fn a_campaign_takes_back_nothing_that_a_job_of_any_node_declares() {
    let (elects, keeps) = (store(), store());
    let [backend, other] = [composed(&elects, &keeps), composed(&elects, &keeps)];
    let (locker, other) = (backend.locker(), other.locker());
    locker.open().await.expect("a session");
    other.open().await.expect("a session");
    let term = match backend.elector().campaign(secs(1)).await.expect("an answer") {
        Campaign::Won(grant) => grant.term,
        lost @ Campaign::Lost { .. } => panic!("{lost:?}"),
    };
    let key = LockKey::new("shared").expect("a good key");
    let of = |name: &str, authority| {
        let schedule = ScheduleIdentity::of_text("every minute");
        let mut job = Enrolment::new(JobName::new(name).expect("a good name"), schedule, authority);
        job.key = key.clone();
        job
    };
    let both = [of("of-any", Authority::Any), of("of-leader", Authority::Term(term))];
    locker.enrol(&both).await.expect("an answer");
    backend.elector().resign(term).await.expect("an answer");

    backend.elector().campaign(secs(1)).await.expect("an answer");

    let asked =
        Declaration { job: JobName::new("new").expect("a good name"), key, overlap: Overlap::Queue(2) };
    let conflicts = other.conflicts(&[asked]).await.expect("an answer");
    assert!(conflicts[0].is_some(), "a job of the first node still declares it");
}
