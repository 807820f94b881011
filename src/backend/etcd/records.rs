//! The port of versioned records.

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::{
    Commit, Committed, HintStream, ListedRecord, RecordKind, RecordLimits, RecordName, RecordPage,
    RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, StoredRecord,
};
use etcd_client::{Error, GetOptions, KeyValue, LeaseGrantOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    commit::{answer, transaction, version},
    connection::{EtcdConnection, Servers},
    failure::{Failure, is_not_found},
    hints::EtcdEar,
    keys::Keys,
    settings::{LEASE_MIN, Settings},
};
use crate::backend::{hints::Hints, link::Link, random::random};

/// What one call may hold. A server takes 128 operations in a transaction, and in a transaction within it as many as
/// are left: 96 units, of 31 records and what it tells. And it takes 1.5 MiB, with the names.
const LIMITS: RecordLimits = RecordLimits {
    reads: 120,
    units: 96,
    unit_records: 31,
    commit_records: 384,
    record_bytes: 64 * 1_024,
    commit_bytes: 512 * 1_024,
    ttl: LEASE_MIN..=Duration::from_hours(24),
};
const TRAITS: RecordTraits = RecordTraits {
    name: "etcd",
    time: false,
    hints: true,
    durable: true,
    // It counts whole seconds, and looks twice a second.
    expires_within: Duration::from_secs(2),
};
/// How many records one page has at most: as many of the largest as one answer may hold.
const PAGE_RECORDS_MAX: usize = 200;
/// How often a renewal is tried again when another server leads the cluster.
const RENEWALS_MAX: usize = 3;

/// The records of a scope on an etcd cluster.
pub(super) struct EtcdRecords {
    link: Arc<Link<Servers>>,
    hints: Hints<EtcdEar>,
    keys: Keys,
}

impl EtcdRecords {
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        let seed = random();
        let link = Link::new(Arc::new(Servers::new(settings.clone())), seed);
        let hints = Hints::new(EtcdEar::new(Servers::new(settings.clone())), seed);
        Self { link, hints, keys: Keys::of(&settings.scope) }
    }
}

/// The lease of a session. A session without one was never opened here.
fn lease_of(session: RecordSession) -> Option<i64> {
    i64::try_from(session.0).ok().filter(|id| *id > 0)
}

fn stored(found: Option<&KeyValue>) -> StoredRecord {
    found.map_or(StoredRecord::ABSENT, |found| StoredRecord {
        version: version(found.mod_revision()),
        bytes: found.value().to_vec(),
    })
}

/// Grants a lease, and writes the key that is there as long as it lasts.
async fn open(
    connection: &EtcdConnection,
    keys: &Keys,
    session: RecordSession,
    ttl: Duration,
) -> Result<(), Failure> {
    let Some(lease) = lease_of(session) else { return Err(Failure::Unknown) };
    // Whole seconds, and never less than what was asked for.
    let seconds = i64::try_from(ttl.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i64::MAX);
    let options = LeaseGrantOptions::new().with_id(lease);
    let granted = connection.leases().grant(seconds, Some(options)).await?.ttl();
    if granted > seconds {
        // It ends by itself otherwise.
        let _ = connection.leases().revoke(lease).await;
        return Err(Failure::Refused(format!(
            "the servers keep a lease for at least {granted} s, as their election timeout is long, and {seconds} s were \
             asked for; choose a lease of {granted} s or more, or a shorter --election-timeout"
        )));
    }
    let options = PutOptions::new().with_lease(lease);
    connection.kv().put(keys.session(session), "", Some(options)).await?;
    Ok(())
}

/// Lets a lease begin anew: in which term of the servers' leader it was, or `None`: there is no such lease.
async fn keep_alive(connection: &EtcdConnection, lease: i64) -> Result<Option<u64>, Failure> {
    let (mut keeper, mut answers) = match connection.leases().keep_alive(lease).await {
        Ok(stream) => stream,
        // It has read the first answer, and says so when there is no such lease.
        Err(Error::LeaseKeepAliveError(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The first answer is not handed out, and the term stands in it.
    keeper.keep_alive().await?;
    let answer = answers.message().await?.ok_or(Failure::Unknown)?;
    let term = answer.header().map(etcd_client::ResponseHeader::raft_term).ok_or(Failure::Unknown)?;
    Ok((answer.ttl() > 0).then_some(term))
}

/// Renews a session.
///
/// The servers do not agree on the renewal of a lease: the one that believes that it leads them does it alone, and a
/// former leader which was cut off, or stood still, renews what the others have long ended. So what it says counts only
/// if a majority confirms afterwards that the session is there, and that nobody else has led since.
async fn renew(connection: &EtcdConnection, keys: &Keys, session: RecordSession) -> Result<bool, Failure> {
    let Some(lease) = lease_of(session) else { return Ok(false) };
    for _ in 0..RENEWALS_MAX {
        let renewed_in = keep_alive(connection, lease).await?;
        let look = GetOptions::new().with_keys_only();
        let found = connection.kv().get(keys.session(session), Some(look)).await?;
        if found.kvs().is_empty() {
            return Ok(false);
        }
        let term = found.header().map(etcd_client::ResponseHeader::raft_term);
        if renewed_in.is_some() && renewed_in == term {
            return Ok(true);
        }
    }
    Err(Failure::Unknown)
}

/// Records and sessions in one transaction that only reads, after a majority has confirmed who leads.
async fn read(
    connection: &EtcdConnection,
    keys: &Keys,
    names: &[RecordName],
    sessions: &[RecordSession],
) -> Result<RecordSnapshot, Failure> {
    let look = Some(GetOptions::new().with_keys_only());
    let mut asked: Vec<_> = names.iter().map(|name| TxnOp::get(keys.record(name), None)).collect();
    asked.extend(sessions.iter().map(|session| TxnOp::get(keys.session(*session), look.clone())));
    if asked.is_empty() {
        asked.push(TxnOp::get(keys.leader(), look));
    }
    let answers = connection.kv().txn(Txn::new().and_then(asked)).await?.op_responses();
    let found = answers.iter().map(|answer| match answer {
        TxnOpResponse::Get(found) => Ok(found),
        _ => Err(Failure::NotUnderstood("a read")),
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    if found.len() < names.len() + sessions.len() {
        return Err(Failure::NotUnderstood("a read"));
    }
    let records = found.iter().take(names.len()).map(|found| stored(found.kvs().first())).collect();
    let alive = found.iter().skip(names.len()).take(sessions.len());
    let alive = alive.map(|found| !found.kvs().is_empty()).collect();
    Ok(RecordSnapshot { records, alive, time: None })
}

async fn list(
    connection: &EtcdConnection,
    keys: &Keys,
    kind: RecordKind,
    after: Option<&str>,
    limit: usize,
) -> Result<RecordPage, Failure> {
    let start = keys.kind(kind);
    let from = match after {
        // The next key.
        Some(after) => format!("{start}{after}\0"),
        None => start.clone(),
    };
    let limit = limit.min(PAGE_RECORDS_MAX);
    let options = GetOptions::new()
        .with_range(keys.after_kind(kind))
        // No limit is none at all.
        .with_limit(i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
    let found = connection.kv().get(from, Some(options)).await?;
    let records = found.kvs().iter().take(limit).map(|found| {
        let id = std::str::from_utf8(found.key()).ok()?.strip_prefix(&start)?;
        Some(ListedRecord { id: id.into(), record: stored(Some(found)) })
    });
    let records = records.collect::<Option<Vec<_>>>().ok_or(Failure::NotUnderstood("a list"))?;
    Ok(RecordPage { more: found.more() && !records.is_empty(), records })
}

impl Records for EtcdRecords {
    fn limits(&self) -> RecordLimits {
        LIMITS
    }

    fn traits(&self) -> RecordTraits {
        TRAITS
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            LIMITS.check_ttl(ttl)?;
            // An id that fits into the servers' type, and is not 0.
            let session = RecordSession((random() >> 1).max(1));
            self.link.call(async |connection| open(connection, &self.keys, session, ttl).await).await?;
            Ok(session)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move { self.link.call(async |connection| renew(connection, &self.keys, session).await).await }
            .boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move {
            let Some(lease) = lease_of(session) else { return Ok(()) };
            let revoke = async |connection: &EtcdConnection| match connection.leases().revoke(lease).await {
                Ok(_) => Ok(()),
                Err(error) if is_not_found(&error) => Ok(()),
                Err(error) => Err(error.into()),
            };
            self.link.call(revoke).await
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            LIMITS.check_reads(names, sessions)?;
            self.link.call(async |connection| read(connection, &self.keys, names, sessions).await).await
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&LIMITS)?;
            let asked = transaction(&self.keys, commit);
            self.link
                .call(async |connection| {
                    let answered = connection.kv().txn(asked).await.map_err(Failure::of_commit)?;
                    answer(commit, &answered)
                })
                .await
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        async move {
            self.link.call(async |connection| list(connection, &self.keys, kind, after, limit).await).await
        }
        .boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        self.hints.subscribe().boxed()
    }
}
