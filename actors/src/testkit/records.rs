//! Records in the memory of the process: the trivial adapter, which documents the port.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::yield_now,
    time::Instant,
};

use crate::{
    port::{
        Clock, Commit, Committed, HINTS_WAITING_MAX, Heard, HintStream, RecordKind, RecordLimits, RecordName,
        RecordPage, RecordServer, RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError,
        UnitAnswer,
    },
    records::RecordTable,
};

const UNITS_MAX: usize = 1_024;
const RECORD_BYTES_MAX: usize = 256 * 1_024;

/// A store of records in memory, for tests. Each clone is another client of the same store and scope.
///
/// Its time is that of a clock; its sessions end by the time of tokio, which may be paused.
#[derive(Clone)]
pub struct MemoryRecords {
    table: Arc<Mutex<RecordTable>>,
    /// Which server answers.
    server: Arc<AtomicU64>,
    /// When the time began by which sessions end.
    began: Instant,
    clock: Arc<dyn Clock>,
    hints: broadcast::Sender<Arc<[u8]>>,
}

impl MemoryRecords {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            table: Arc::default(),
            server: Arc::new(AtomicU64::new(1)),
            began: Instant::now(),
            clock,
            hints: broadcast::Sender::new(HINTS_WAITING_MAX),
        }
    }

    /// Ends a session at once, as if its time to live were over.
    pub fn expire(&self, session: RecordSession) {
        self.lock().end(session);
    }

    /// What is in the store, as a replica has it that gets nothing more.
    pub fn copy(&self) -> RecordTable {
        self.lock().clone()
    }

    /// Another server takes the place of this one, and knows only what was copied.
    pub fn fail_over(&self, mut copied: RecordTable) {
        let mut table = self.lock();
        copied.follow(&table);
        *table = copied;
        self.server.fetch_add(1, Ordering::SeqCst);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table without the sessions whose time to live is over.
    fn lock(&self) -> MutexGuard<'_, RecordTable> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.expire(self.began.elapsed());
        table
    }

    /// One call, which others may come before.
    fn call<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut RecordTable, Duration) -> T + Send + 'a,
    ) -> BoxFuture<'a, T> {
        async move {
            yield_now().await;
            let mut table = self.lock();
            work(&mut table, self.began.elapsed())
        }
        .boxed()
    }
}

impl Records for MemoryRecords {
    fn limits(&self) -> RecordLimits {
        RecordLimits {
            reads: 4 * UNITS_MAX,
            units: UNITS_MAX,
            unit_records: 64,
            commit_records: 4 * UNITS_MAX,
            record_bytes: RECORD_BYTES_MAX,
            commit_bytes: 16 * RECORD_BYTES_MAX,
            ttl: Duration::from_millis(100)..=Duration::from_secs(86_400),
        }
    }

    fn traits(&self) -> RecordTraits {
        RecordTraits {
            name: "memory",
            time: true,
            hints: true,
            durable: false,
            expires_within: Duration::ZERO,
        }
    }

    fn server(&self) -> Option<RecordServer> {
        Some(RecordServer(self.server.load(Ordering::SeqCst)))
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        self.call(move |table, now| {
            self.limits().check_ttl(ttl)?;
            Ok(table.open(now, ttl))
        })
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        self.call(move |table, now| Ok(table.renew(now, session)))
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        self.call(move |table, _| {
            table.end(session);
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        self.call(move |table, _| {
            self.limits().check_reads(names, sessions)?;
            Ok(table.read(names, sessions, Some(self.clock.now())))
        })
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        self.call(move |table, _| {
            commit.check(&self.limits())?;
            if commit.server.is_some_and(|server| Some(server) != self.server()) {
                return Ok(Committed::OtherServer);
            }
            let committed = table.commit(commit, Some(self.clock.now()));
            if let Committed::Units { answers, .. } = &committed {
                let made = commit.units.iter().zip(answers);
                let made = made.filter(|(_, answer)| **answer != UnitAnswer::Conflict);
                for hint in made.flat_map(|(unit, _)| &unit.hints) {
                    // Perhaps nobody listens.
                    let _ = self.hints.send(hint.clone());
                }
            }
            Ok(committed)
        })
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        self.call(move |table, _| Ok(table.list(kind, after, limit)))
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        let heard = stream::unfold(self.hints.subscribe(), |mut hints| async move {
            match hints.recv().await {
                Ok(hint) => Some((Heard::Hint(hint), hints)),
                Err(RecvError::Lagged(_)) => Some((Heard::Lagged, hints)),
                Err(RecvError::Closed) => None,
            }
        });
        async move { Ok(heard.boxed()) }.boxed()
    }
}
