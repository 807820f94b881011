//! Coordination on a real Redis server: what it keeps, what it refuses, and what becomes of nodes when it is killed,
//! frozen, restarted, or replaced by a replica.

#[path = "../common/redis.rs"]
mod harness;
#[path = "../common/proxy.rs"]
mod proxy;

mod backend;
mod cluster;
mod faults;
mod nodes;
mod records;
mod refusals;
mod sentinel;
mod tls;

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Redis,
    port::{
        Change, Commit, Committed, RecordChange, RecordKind, RecordName, RecordSession, Records, Unit,
        UnitAnswer, Version,
    },
};

const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what is to happen in real time.
const SOON: Duration = Duration::from_secs(60);

/// A client of a scope on the server that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    Redis::new(scope, harness::server().url()).records()
}

fn name(id: &str) -> RecordName {
    RecordName::new(RecordKind::Name, id)
}

/// A commit of one unit with one record.
fn one(id: &str, version: Version, change: Change) -> Commit {
    let records = vec![RecordChange { name: name(id), version, change }];
    Commit { units: vec![Unit { records, hints: Vec::new() }], ..Commit::default() }
}

fn put(id: &str, version: Version, bytes: &str) -> Commit {
    one(id, version, Change::Put(bytes.into()))
}

/// The version of the one record of a commit that was made; `None`: it was not.
fn made(committed: &Committed) -> Option<Version> {
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
async fn write(records: &dyn Records, id: &str, version: Version, bytes: &str) -> Version {
    let committed = records.commit(&put(id, version, bytes)).await.expect("an answer");
    made(&committed).expect("nobody else writes it")
}

/// What is stored, as text; `None`: nothing.
async fn stored(records: &dyn Records, id: &str) -> Option<String> {
    let snapshot = records.read(&[name(id)], &[]).await.expect("an answer");
    let record = snapshot.records.into_iter().next().expect("one record per name");
    record.version.is_present().then(|| String::from_utf8(record.bytes).expect("text"))
}

async fn alive(records: &dyn Records, session: RecordSession) -> bool {
    let snapshot = records.read(&[], &[session]).await.expect("an answer");
    snapshot.alive == [true]
}

/// Waits until something is so.
async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("not {what}"));
}
