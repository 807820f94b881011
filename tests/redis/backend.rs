//! Elector and locker over the records of a real server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    backend::Redis,
    port::{
        Backend, Commit, Committed, HintStream, RecordKind, RecordLimits, RecordName, RecordPage,
        RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError,
    },
    testkit::conformance::{self, Cluster},
};
use callsheet_actors::adapter::RecordsBackend;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::harness;

/// None of a suite's cases waits for the end of a lease, and none may lose its term on a busy machine.
const LEASE: Duration = Duration::from_secs(30);

/// A client that remembers the sessions that it opened, so that they can be ended as if its process had died.
struct Client {
    records: Arc<dyn Records>,
    opened: Mutex<Vec<RecordSession>>,
}

impl Records for Client {
    fn limits(&self) -> RecordLimits {
        self.records.limits()
    }

    fn traits(&self) -> RecordTraits {
        self.records.traits()
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            let session = self.records.open(ttl).await?;
            self.opened.lock().expect("nobody panicked").push(session);
            Ok(session)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        self.records.renew(session)
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        self.records.end(session)
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        self.records.read(names, sessions)
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        self.records.commit(commit)
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        self.records.list(kind, after, limit)
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        self.records.subscribe()
    }
}

/// The nodes of one scope.
struct Nodes {
    scope: String,
    nodes: Vec<(Arc<dyn Backend>, Arc<Client>)>,
}

impl Nodes {
    fn new(test: &str) -> Self {
        Self { scope: harness::scope(test), nodes: Vec::new() }
    }
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let records = Redis::new(&*self.scope, harness::server().url()).records();
        let client = Arc::new(Client { records, opened: Mutex::default() });
        let backend: Arc<dyn Backend> = Arc::new(RecordsBackend::new(client.clone(), &*self.scope, LEASE));
        self.nodes.push((backend.clone(), client));
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let of = |(node, _): &&(Arc<dyn Backend>, Arc<Client>)| Arc::ptr_eq(node, backend);
        let (_, client) = self.nodes.iter().find(of).expect("a node of this cluster");
        let opened = client.opened.lock().expect("nobody panicked").clone();
        let keys: Vec<_> = opened
            .iter()
            .map(|session| format!("callsheet:{{{}}}:session:{:016x}", self.scope, session.0))
            .collect();
        async move {
            harness::server().ask(&format!("DEL {}", keys.join(" ")));
        }
        .boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::test]
async fn redis_is_an_elector() {
    conformance::elector(&mut Nodes::new("elector")).await;
}

#[tokio::test]
async fn redis_is_a_locker() {
    conformance::locker(&mut Nodes::new("locker")).await;
}
