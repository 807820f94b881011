//! Records in the memory of the process: the trivial adapter, which documents the port.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::yield_now,
    time::Instant,
};

use crate::{
    deadline,
    port::{
        Change, Clock, Commit, Committed, HINTS_WAITING_MAX, Heard, HintStream, ListedRecord, RecordKind,
        RecordLimits, RecordName, RecordPage, RecordSession, RecordSnapshot, RecordTraits, Records,
        RecordsError, StoredRecord, Unit, UnitAnswer, Version,
    },
};

const UNITS_MAX: usize = 1_024;
const RECORD_BYTES_MAX: usize = 256 * 1_024;

/// A store of records in memory, for tests. Each clone is another client of the same store and scope.
///
/// Its time is that of a clock; its sessions end by the time of tokio, which may be paused.
#[derive(Clone)]
pub struct MemoryRecords {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    hints: broadcast::Sender<Arc<[u8]>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<RecordName, StoredRecord>,
    /// The last version that was given to a record, whichever.
    version: u64,
    sessions: BTreeMap<RecordSession, Lease>,
    /// The last session that was opened.
    session: u64,
}

struct Lease {
    ttl: Duration,
    expires_at: Instant,
}

impl MemoryRecords {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), clock, hints: broadcast::Sender::new(HINTS_WAITING_MAX) }
    }

    /// Ends a session at once, as if its time to live were over.
    pub fn expire(&self, session: RecordSession) {
        self.lock().sessions.remove(&session);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state without the sessions whose time to live is over.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.sessions.retain(|_, lease| lease.expires_at > now);
        state
    }

    /// One call, which others may come before.
    fn call<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut State, DateTime<Utc>) -> T + Send + 'a,
    ) -> BoxFuture<'a, T> {
        async move {
            yield_now().await;
            let mut state = self.lock();
            work(&mut state, self.clock.now())
        }
        .boxed()
    }
}

impl State {
    fn stored(&self, name: &RecordName) -> StoredRecord {
        self.records.get(name).cloned().unwrap_or(StoredRecord::ABSENT)
    }

    fn version_of(&self, name: &RecordName) -> Version {
        self.records.get(name).map_or(Version::ABSENT, |record| record.version)
    }

    fn commit(&mut self, commit: &Commit, time: DateTime<Utc>) -> Committed {
        if let Some(dead) = commit.alive.iter().find(|session| !self.sessions.contains_key(session)) {
            return Committed::Dead(*dead);
        }
        let leader = self.version_of(&RecordName::only(RecordKind::Leader));
        if commit.leader.is_some_and(|expected| expected != leader) {
            return Committed::LeaderMoved;
        }
        let answers = commit.units.iter().map(|unit| self.make(unit)).collect();
        Committed::Units { answers, time: Some(time) }
    }

    fn make(&mut self, unit: &Unit) -> UnitAnswer {
        if unit.records.iter().any(|change| self.version_of(&change.name) != change.version) {
            return UnitAnswer::Conflict;
        }
        let mut versions = Vec::with_capacity(unit.records.len());
        for change in &unit.records {
            versions.push(match &change.change {
                Change::Keep => change.version,
                Change::Put(bytes) => {
                    self.version += 1;
                    let version = Version(self.version);
                    let record = StoredRecord { version, bytes: bytes.clone() };
                    self.records.insert(change.name.clone(), record);
                    version
                }
                Change::Delete => {
                    self.records.remove(&change.name);
                    Version::ABSENT
                }
            });
        }
        UnitAnswer::Made { versions }
    }

    fn list(&self, kind: RecordKind, after: Option<&str>, limit: usize) -> RecordPage {
        let from = RecordName::new(kind, after.unwrap_or_default());
        let from = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        let mut of_kind =
            self.records.range((from, Bound::Unbounded)).take_while(|(name, _)| name.kind == kind);
        let listed = of_kind.by_ref().take(limit);
        let records = listed
            .map(|(name, record)| ListedRecord { id: name.id.clone(), record: record.clone() })
            .collect();
        RecordPage { records, more: of_kind.next().is_some() }
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

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        self.call(move |state, _| {
            self.limits().check_ttl(ttl)?;
            state.session += 1;
            let session = RecordSession(state.session);
            let expires_at = deadline::after(Instant::now(), ttl);
            state.sessions.insert(session, Lease { ttl, expires_at });
            Ok(session)
        })
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        self.call(move |state, _| {
            let Some(lease) = state.sessions.get_mut(&session) else { return Ok(false) };
            lease.expires_at = deadline::after(Instant::now(), lease.ttl);
            Ok(true)
        })
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        self.call(move |state, _| {
            state.sessions.remove(&session);
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        self.call(move |state, now| {
            self.limits().check_reads(names, sessions)?;
            let records = names.iter().map(|name| state.stored(name)).collect();
            let alive = sessions.iter().map(|session| state.sessions.contains_key(session)).collect();
            Ok(RecordSnapshot { records, alive, time: Some(now) })
        })
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        self.call(move |state, now| {
            commit.check(&self.limits())?;
            let committed = state.commit(commit, now);
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
        self.call(move |state, _| Ok(state.list(kind, after, limit)))
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
