//! Nodes over a store of records, as the suites of elector and locker want them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::conformance::Cluster;
use crate::{
    port::{
        Backend, Clock, Commit, Committed, HintStream, RecordKind, RecordLimits, RecordName, RecordPage,
        RecordServer, RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, SystemClock,
    },
    records::RecordsBackend,
};

/// The lease of the nodes: none of a suite's checks waits for the end of one, and none may lose its term on a busy
/// machine.
const LEASE: Duration = Duration::from_secs(30);

/// Nodes of one scope of a store of records, for [`conformance::elector`](super::conformance::elector()) and
/// [`conformance::locker`](super::conformance::locker()). A node that is to die ends its sessions.
pub struct RecordNodes<F> {
    client: F,
    clock: Arc<dyn Clock>,
    nodes: Vec<(Arc<dyn Backend>, Arc<Client>)>,
}

impl<F: FnMut() -> Arc<dyn Records> + Send> RecordNodes<F> {
    /// Nodes, each over a client that this makes: another one of the same scope each time, which is empty at the
    /// start. Their time is that of this machine, their lease 30 s.
    pub fn new(client: F) -> Self {
        Self { client, clock: Arc::new(SystemClock::default()), nodes: Vec::new() }
    }

    /// Sets the clock of the nodes, which is that of the store.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl<F: FnMut() -> Arc<dyn Records> + Send> Cluster for RecordNodes<F> {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let client = Arc::new(Client { records: (self.client)(), opened: Mutex::default() });
        let backend = RecordsBackend::new(client.clone(), "conformance", LEASE);
        backend.set_clock(self.clock.clone());
        let backend: Arc<dyn Backend> = Arc::new(backend);
        self.nodes.push((backend.clone(), client));
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let of = |(node, _): &&(Arc<dyn Backend>, Arc<Client>)| Arc::ptr_eq(node, backend);
        let (_, client) = self.nodes.iter().find(of).expect("a node of this cluster");
        let client = client.clone();
        async move { client.die().await }.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// A client that remembers the sessions that it opened.
struct Client {
    records: Arc<dyn Records>,
    opened: Mutex<Vec<RecordSession>>,
}

impl Client {
    /// Ends its sessions, as if their time to live were over.
    async fn die(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for session in opened {
            self.records.end(session).await.expect("an answer");
        }
    }
}

impl Records for Client {
    fn limits(&self) -> RecordLimits {
        self.records.limits()
    }

    fn traits(&self) -> RecordTraits {
        self.records.traits()
    }

    fn server(&self) -> Option<RecordServer> {
        self.records.server()
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            let session = self.records.open(ttl).await?;
            self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(session);
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
