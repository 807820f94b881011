//! The port of versioned records.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use callsheet_actors::port::{
    Commit, Committed, HintStream, ListedRecord, RecordKind, RecordLimits, RecordName, RecordPage,
    RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, StoredRecord, Version,
};
use futures_util::{FutureExt, future::BoxFuture};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    agent::{Agents, Answer, Question, path},
    commit::{Committer, OPERATIONS_MAX, OPERATIONS_MIN},
    failure::{Failure, not_understood},
    hints::{ConsulEar, Teller},
    keys::{Keys, id_of},
    settings::{LEASE_MIN, Settings},
    transaction::{Done, Entry, Operation, transact},
};
use crate::backend::{hints::Hints, random::random};

/// What one call may hold. A transaction of the oldest servers has 64 operations: three guards, and two for each of the
/// records of a unit, and one of what it tells.
const LIMITS: RecordLimits = RecordLimits {
    reads: OPERATIONS_MIN,
    units: 60,
    unit_records: 30,
    commit_records: 120,
    record_bytes: 64 * 1_024,
    commit_bytes: 256 * 1_024,
    ttl: LEASE_MIN..=Duration::from_hours(24),
};
/// How many records one page has at most.
const PAGE_RECORDS_MAX: usize = OPERATIONS_MIN;

/// The records of a scope on a Consul cluster.
pub(super) struct ConsulRecords {
    agents: Agents,
    keys: Keys,
    hints: Hints<ConsulEar>,
    teller: Teller,
    /// What Consul calls the sessions that were opened here.
    sessions: Mutex<HashMap<RecordSession, String>>,
    /// How many operations the servers take at once, as far as is known.
    operations: AtomicUsize,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession {
    name: &'static str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
    lock_delay: &'static str,
    /// None, by the older name and the newer: the health of the agent ends sessions otherwise.
    checks: [&'static str; 0],
    node_checks: [&'static str; 0],
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl ConsulRecords {
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        let agents = || Agents::new(settings.clone());
        Self {
            agents: agents(),
            keys: Keys::of(&settings.scope),
            hints: Hints::new(ConsulEar::new(agents()), random()),
            teller: Teller::new(),
            sessions: Mutex::default(),
            operations: AtomicUsize::new(OPERATIONS_MAX),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<RecordSession, String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, path: String, body: Option<&[u8]>) -> Result<Answer, Failure> {
        self.agents.ask(Question { method: Method::PUT, path, body, waits: Duration::ZERO }).await
    }

    /// What begins with these, at one instant.
    async fn entries(&self, prefixes: impl Iterator<Item = String>) -> Result<Vec<Entry>, Failure> {
        let operations: Vec<_> = prefixes.map(Operation::read).collect();
        match transact(&self.agents, &operations).await? {
            Done::All(entries) => Ok(entries),
            Done::Failed(_) => Err(not_understood("a read")),
        }
    }

    /// The key of a session; `None`: it is gone.
    async fn entry_of(&self, session: RecordSession) -> Result<Option<Entry>, Failure> {
        Ok(self.entries([self.keys.session(session)].into_iter()).await?.into_iter().next())
    }

    /// What Consul calls a session; `None`: it is gone.
    async fn id_of(&self, session: RecordSession) -> Result<Option<String>, Failure> {
        let known = self.sessions().get(&session).cloned();
        match known {
            Some(id) => Ok(Some(id)),
            None => Ok(self.entry_of(session).await?.and_then(|entry| entry.session)),
        }
    }

    async fn open_as(&self, session: RecordSession, ttl: Duration) -> Result<(), Failure> {
        let asked = NewSession {
            name: "callsheet",
            ttl: format!("{}ms", ttl.as_nanos().div_ceil(1_000_000)),
            behavior: "delete",
            // Ids are never used again: nobody waits for a lock that is gone.
            lock_delay: "0s",
            checks: [],
            node_checks: [],
        };
        let body = serde_json::to_vec(&asked).map_err(|error| Failure::NotDone(error.to_string()))?;
        let created = self.put("session/create".to_owned(), Some(&body)).await?;
        let Ok(Created { id }) = serde_json::from_slice(&created.body) else {
            return Err(not_understood("a session"));
        };
        let lock = Operation::lock(self.keys.session(session), &id);
        match transact(&self.agents, &[lock]).await? {
            Done::All(_) => {
                self.sessions().insert(session, id);
                Ok(())
            }
            Done::Failed(_) => Err(not_understood("a lock")),
        }
    }

    /// Renews a session. The leader of the servers does that alone; whether the session is there is confirmed by a
    /// majority afterwards.
    async fn renew_now(&self, session: RecordSession) -> Result<bool, Failure> {
        let Some(id) = self.id_of(session).await? else { return Ok(false) };
        let renewed = self.put(format!("session/renew/{}", path(&id)), None).await?;
        if self.entry_of(session).await?.is_none() {
            self.sessions().remove(&session);
            return Ok(false);
        }
        // A leader that does not know a session that is there leads no more.
        if renewed.status == 200 { Ok(true) } else { Err(Failure::Unknown) }
    }

    async fn end_now(&self, session: RecordSession) -> Result<(), Failure> {
        if let Some(id) = self.id_of(session).await? {
            let destroyed = self.put(format!("session/destroy/{}", path(&id)), None).await;
            // It says that it does not know one, if it has rights to look at.
            if destroyed.is_err() && self.entry_of(session).await?.is_some() {
                destroyed?;
            }
        }
        self.sessions().remove(&session);
        Ok(())
    }

    async fn snapshot(
        &self,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<RecordSnapshot, Failure> {
        let names: Vec<_> = names.iter().map(|name| self.keys.record(name)).collect();
        let sessions: Vec<_> = sessions.iter().map(|session| self.keys.session(*session)).collect();
        let mut asked: Vec<_> = names.iter().chain(&sessions).cloned().collect();
        if asked.is_empty() {
            asked.push(self.keys.leader());
        }
        let entries = self.entries(asked.into_iter()).await?;
        let found: HashMap<&str, &Entry> = entries.iter().map(|entry| (&*entry.key, entry)).collect();
        let records = names.iter().map(|name| stored(found.get(&**name).copied()));
        let records = records.collect::<Result<_, _>>()?;
        let alive = sessions.iter().map(|session| found.contains_key(&**session)).collect();
        Ok(RecordSnapshot { records, alive, time: None })
    }

    /// The servers list all keys, without their values: of those of the page the values are read.
    async fn page(&self, kind: RecordKind, after: Option<&str>, limit: usize) -> Result<RecordPage, Failure> {
        let start = self.keys.kind(kind);
        let path = format!("kv/{}?keys&consistent", path(&start));
        let waits = Duration::ZERO;
        let answer = self.agents.ask(Question { method: Method::GET, path, body: None, waits }).await?;
        let keys: Vec<String> = match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|_| not_understood("a list"))?,
            // There are none.
            _ => Vec::new(),
        };
        let mut ids: Vec<_> = keys.iter().filter_map(|key| id_of(key, &start)).collect();
        ids.sort_unstable();
        let from = after.map_or(0, |after| ids.partition_point(|id| *id <= after));
        let rest = ids.get(from..).unwrap_or_default();
        let page = rest.get(..limit.min(PAGE_RECORDS_MAX)).unwrap_or(rest);
        if page.is_empty() {
            return Ok(RecordPage::default());
        }
        let names = page.iter().map(|id| self.keys.record(&RecordName::new(kind, *id)));
        let entries = self.entries(names).await?;
        let records = entries.iter().filter_map(|entry| {
            let id = id_of(&entry.key, &start)?;
            Some(stored(Some(entry)).map(|record| ListedRecord { id: id.into(), record }))
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let more = rest.len() > page.len();
        if records.is_empty() && more {
            // All of these were deleted meanwhile. There may be more after them.
            let last = page.last().copied();
            return Box::pin(self.page(kind, last, limit)).await;
        }
        Ok(RecordPage { more, records })
    }
}

fn stored(found: Option<&Entry>) -> Result<StoredRecord, Failure> {
    let Some(found) = found else { return Ok(StoredRecord::ABSENT) };
    Ok(StoredRecord { version: Version(found.modify_index), bytes: found.bytes()? })
}

impl Records for ConsulRecords {
    fn limits(&self) -> RecordLimits {
        LIMITS
    }

    fn traits(&self) -> RecordTraits {
        RecordTraits {
            name: "consul",
            time: false,
            hints: true,
            durable: true,
            // The servers keep a session for twice its time to live.
            expires_within: self.agents.settings.lease,
        }
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            LIMITS.check_ttl(ttl)?;
            let session = RecordSession(random().max(1));
            self.agents.call(self.open_as(session, ttl)).await.map_err(Failure::told_first)?;
            Ok(session)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move { self.agents.call(self.renew_now(session)).await.map_err(Failure::told) }.boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move { self.agents.call(self.end_now(session)).await.map_err(Failure::told) }.boxed()
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            LIMITS.check_reads(names, sessions)?;
            self.agents.call(self.snapshot(names, sessions)).await.map_err(Failure::told)
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&LIMITS)?;
            let Self { agents, keys, teller, operations, .. } = self;
            let committer = Committer { agents, keys, teller, operations };
            agents.call(committer.commit(commit)).await.map_err(Failure::told)
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        async move { self.agents.call(self.page(kind, after, limit)).await.map_err(Failure::told) }.boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        self.hints.subscribe().boxed()
    }
}
