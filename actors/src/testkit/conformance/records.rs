//! What every store of records does.

mod compares;
mod guards;
mod hints;
mod limits;
mod lists;
mod names;
mod races;
mod sessions;
mod snapshots;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::port::{
    Change, Commit, Committed, RecordChange, RecordKind, RecordName, RecordServer, RecordSession,
    RecordSnapshot, Records, RecordsError, StoredRecord, Unit, UnitAnswer, Version,
};

/// For how long a session lives that outlives most checks, also on a busy machine.
const OUTLIVES_MOST: Duration = Duration::from_mins(30);
/// How long a check waits for what is to come soon.
const SOON: Duration = Duration::from_secs(10);

/// A store of records under test, and its clients.
pub trait RecordStore {
    /// Another client of the same scope, as another process has it.
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>>;

    /// A client of another scope of the same store.
    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>>;
}

/// Checks a store of records: compares, guards, sessions that are final, snapshots, lists, hints and limits. The
/// scope is empty at the start.
///
/// Takes a few times the shortest time to live that the store [allows](crate::port::RecordLimits::ttl).
///
/// # Panics
///
/// If a check fails.
pub async fn records(store: &mut impl RecordStore) {
    let (first, second) = (store.client().await, store.client().await);
    let stranger = store.stranger().await;
    let ttl = *first.limits().ttl.start();
    let long = ttl.max(OUTLIVES_MOST).min(*first.limits().ttl.end());
    let own = first.open(long).await.expect("a session opens");
    let suite = Suite { first, second, stranger, own, ttl, long };

    suite.compares().await;
    suite.names().await;
    suite.guards().await;
    suite.snapshots().await;
    suite.lists().await;
    suite.hints().await;
    suite.limits().await;
    suite.races().await;
    suite.sessions().await;
}

struct Suite {
    first: Arc<dyn Records>,
    second: Arc<dyn Records>,
    stranger: Arc<dyn Records>,
    /// A session of the first client that outlives most checks.
    own: RecordSession,
    /// The shortest time to live, and one in which most is done.
    ttl: Duration,
    long: Duration,
}

impl Suite {
    /// What both clients see of a record, which is the same.
    async fn stored(&self, id: &str) -> StoredRecord {
        let [one, two] = [read(&*self.first, &[id]).await, read(&*self.second, &[id]).await];
        assert_eq!(one, two, "what was answered is seen by every client: {id}");
        let [record] = <[_; 1]>::try_from(one).expect("one record per name");
        record
    }

    /// Writes a new record.
    async fn create(&self, id: &str, bytes: &[u8]) -> Version {
        only(made(&*self.first, vec![put(id, Version::ABSENT, bytes)]).await)
    }
}

fn name(id: &str) -> RecordName {
    RecordName::new(RecordKind::Name, id)
}

fn put(id: &str, version: Version, bytes: &[u8]) -> RecordChange {
    RecordChange { name: name(id), version, change: Change::Put(bytes.to_vec()) }
}

fn keep(id: &str, version: Version) -> RecordChange {
    RecordChange { name: name(id), version, change: Change::Keep }
}

fn delete(id: &str, version: Version) -> RecordChange {
    RecordChange { name: name(id), version, change: Change::Delete }
}

fn unit(records: Vec<RecordChange>) -> Unit {
    Unit { records, hints: Vec::new() }
}

fn unguarded(units: Vec<Unit>) -> Commit {
    Commit { units, ..Commit::default() }
}

async fn commit(client: &dyn Records, commit: &Commit) -> Committed {
    client.commit(commit).await.expect("an answer")
}

/// What becomes of the units of a commit whose guards hold.
async fn answers(client: &dyn Records, asked: &Commit) -> Vec<UnitAnswer> {
    match commit(client, asked).await {
        Committed::Units { answers, .. } => {
            assert_eq!(answers.len(), asked.units.len(), "one answer per unit");
            answers
        }
        other => panic!("the guards of {asked:?} hold, and it was answered with {other:?}"),
    }
}

/// What becomes of one unit without guards.
async fn answer(client: &dyn Records, records: Vec<RecordChange>) -> UnitAnswer {
    only(answers(client, &unguarded(vec![unit(records)])).await)
}

/// The versions after a unit that is made.
async fn made(client: &dyn Records, records: Vec<RecordChange>) -> Vec<Version> {
    let asked = records.len();
    match answer(client, records.clone()).await {
        UnitAnswer::Made { versions } => {
            assert_eq!(versions.len(), asked, "one version per record");
            versions
        }
        UnitAnswer::Conflict => panic!("{records:?} conflicts"),
    }
}

async fn snapshot(client: &dyn Records, ids: &[&str], sessions: &[RecordSession]) -> RecordSnapshot {
    let names: Vec<_> = ids.iter().map(|id| name(id)).collect();
    let snapshot = client.read(&names, sessions).await.expect("an answer");
    assert_eq!(snapshot.records.len(), names.len(), "one record per name");
    assert_eq!(snapshot.alive.len(), sessions.len(), "one answer per session");
    for record in &snapshot.records {
        assert!(record.version.is_present() || record.bytes.is_empty(), "what is absent is empty");
    }
    snapshot
}

async fn read(client: &dyn Records, ids: &[&str]) -> Vec<StoredRecord> {
    snapshot(client, ids, &[]).await.records
}

async fn is_alive(client: &dyn Records, session: RecordSession) -> bool {
    only(snapshot(client, &[], &[session]).await.alive)
}

fn only<T>(answers: Vec<T>) -> T {
    let mut answers = answers.into_iter();
    match (answers.next(), answers.next()) {
        (Some(answer), None) => answer,
        (_, _) => panic!("one answer to one question"),
    }
}

/// That nothing was done, as the caller is at fault.
fn assert_over_limit(answer: Result<Committed, RecordsError>, what: &str) {
    assert!(matches!(answer, Err(RecordsError::OverLimit { .. })), "{what} was answered with {answer:?}");
}
