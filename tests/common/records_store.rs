//! What the tests of stores of records share: short words for what they ask, and jobs that count their runs.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Callsheet, FireTime, Fires, Job,
    port::{
        Backend, Change, Commit, Committed, RecordChange, RecordKind, RecordName, RecordSession, Records,
        Role, Unit, UnitAnswer, Version,
    },
    schedule::every,
    testkit::conformance::RecordStore,
};
use futures_util::{FutureExt, future::BoxFuture};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what is to happen in real time.
pub(crate) const SOON: Duration = Duration::from_secs(150);

pub(crate) fn name(id: &str) -> RecordName {
    RecordName::new(RecordKind::Name, id)
}

/// A commit of one unit with one record.
pub(crate) fn one(id: &str, version: Version, change: Change) -> Commit {
    let records = vec![RecordChange { name: name(id), version, change }];
    Commit { units: vec![Unit { records, hints: Vec::new() }], ..Commit::default() }
}

pub(crate) fn put(id: &str, version: Version, bytes: &str) -> Commit {
    one(id, version, Change::Put(bytes.into()))
}

/// A commit that tells something, and does nothing.
pub(crate) fn telling(what: &str) -> Commit {
    let unit = Unit { records: Vec::new(), hints: vec![what.as_bytes().into()] };
    Commit { units: vec![unit], ..Commit::default() }
}

/// The version of the one record of a commit that was made; `None`: it was not.
pub(crate) fn made(committed: &Committed) -> Option<Version> {
    match committed {
        Committed::Units { answers, .. } => match answers.as_slice() {
            [UnitAnswer::Made { versions }] => versions.first().copied(),
            [UnitAnswer::Conflict] => None,
            other => panic!("one unit has one answer: {other:?}"),
        },
        other => panic!("no guard was given: {other:?}"),
    }
}

/// Writes a record, and answers its version.
pub(crate) async fn write(records: &dyn Records, id: &str, version: Version, bytes: &str) -> Version {
    let committed = records.commit(&put(id, version, bytes)).await.expect("an answer");
    made(&committed).expect("nobody else writes it")
}

/// What is stored, as text; `None`: nothing.
pub(crate) async fn stored(records: &dyn Records, id: &str) -> Option<String> {
    let snapshot = records.read(&[name(id)], &[]).await.expect("an answer");
    let record = snapshot.records.into_iter().next().expect("one record per name");
    record.version.is_present().then(|| String::from_utf8(record.bytes).expect("text"))
}

pub(crate) async fn alive(records: &dyn Records, session: RecordSession) -> bool {
    let snapshot = records.read(&[], &[session]).await.expect("an answer");
    snapshot.alive == [true]
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("not {what}"));
}

/// Clients of a store, each with connections of its own, by their scopes.
pub(crate) struct Clients<F> {
    pub(crate) scope: String,
    pub(crate) connect: F,
}

impl<F: Fn(&str) -> Arc<dyn Records> + Send> RecordStore for Clients<F> {
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client = (self.connect)(&self.scope);
        async { client }.boxed()
    }

    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client = (self.connect)(&format!("{}x", self.scope));
        async { client }.boxed()
    }
}

/// How often the jobs fire.
const PERIOD: Duration = Duration::from_millis(200);
const JOBS: [(&str, Fires); 2] = [("led", Fires::Leader), ("any", Fires::AnyNode)];

/// What ran: the job, the tick, and how often.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<BTreeMap<(String, FireTime), u32>>>);

impl Runs {
    /// How many ticks of a job ran.
    fn ticks(&self, of: &str) -> usize {
        self.0.lock().expect("nobody panicked").keys().filter(|(job, _)| job == of).count()
    }

    /// The ticks that ran more than once.
    pub(crate) fn twice(&self) -> Vec<(String, FireTime)> {
        let runs = self.0.lock().expect("nobody panicked");
        runs.iter().filter(|(_, count)| **count > 1).map(|(tick, _)| tick.clone()).collect()
    }

    fn job(&self, name: &'static str, fires: Fires) -> Job {
        let runs = self.clone();
        Job::new(name, every(PERIOD)).fires(fires).run(move |run| {
            let tick = FireTime::new(run.fire_time().expect("nobody triggers it"));
            *runs.0.lock().expect("nobody panicked").entry((name.to_owned(), tick)).or_default() += 1;
            async {}
        })
    }

    /// A node with two jobs: one that the leader fires, and one that any node does.
    pub(crate) async fn node(&self, backend: impl Backend) -> Callsheet {
        let jobs = JOBS.map(|(name, fires)| self.job(name, fires));
        Callsheet::builder().jobs(jobs).backend(backend).start().await.expect("it starts")
    }

    /// Waits until so many more ticks of both jobs ran.
    pub(crate) async fn go_on(&self, ticks: usize) {
        let before = JOBS.map(|(job, _)| self.ticks(job));
        until("at work", async || {
            JOBS.iter().zip(before).all(|((job, _), before)| self.ticks(job) >= before + ticks)
        })
        .await;
    }
}

/// Which of the nodes leads.
pub(crate) async fn leader(nodes: &[Callsheet]) -> Option<usize> {
    for (at, node) in nodes.iter().enumerate() {
        if node.health().await.is_ok_and(|health| health.role == Role::Leader) {
            return Some(at);
        }
    }
    None
}
