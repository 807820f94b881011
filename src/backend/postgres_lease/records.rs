//! The port of versioned records.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use callsheet_actors::port::{
    Commit, Committed, HintStream, ListedRecord, RecordKind, RecordLimits, RecordName, RecordPage,
    RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, StoredRecord, Version,
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::time::timeout_at;
use tokio_postgres::{
    Client, Error, Row,
    types::{FromSql, ToSql, Type},
};

use super::{
    connection::Connector,
    failure::{READ_ONLY, failure, follows, is_contention, not_understood},
    settings::Settings,
    statement::Statements,
};
use crate::backend::{
    random::random,
    sql::{
        PAGE_MAX, Tried, Tries,
        lane::{Failure, Lane},
        limits, micros,
        names::{Range, id_of, stored},
        plan::{Decision, Found, LeaderLock, Locks, Writes, decide, leader},
    },
    versions::Versions,
};

/// The records of a scope in a database.
pub(super) struct LeaseRecords {
    /// Reads and commits.
    work: Lane<Connector>,
    /// Sessions: no renewal waits behind a commit.
    life: Lane<Connector>,
    scope: Vec<u8>,
    statements: Arc<Statements>,
    versions: Versions,
    /// For how long somebody who stands still in the middle of a commit keeps its session.
    expires_within: Duration,
}

/// A parameter with its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl LeaseRecords {
    pub(super) fn new(settings: Settings) -> Self {
        let deadline = settings.common.deadline();
        let statements = Arc::new(Statements::new(&settings.schema, deadline));
        let scope = settings.common.scope.as_bytes().to_vec();
        let connector = Arc::new(Connector { settings: Arc::new(settings), statements: statements.clone() });
        Self {
            work: Lane::new(connector.clone(), deadline, random()),
            life: Lane::new(connector, deadline, random()),
            scope,
            statements,
            versions: Versions::new(),
            expires_within: deadline,
        }
    }

    /// The scope, as the first parameter of a statement.
    fn scope(&self) -> Parameter<'_> {
        (&self.scope, Type::BYTEA)
    }

    async fn open_on(&self, client: &Client, ttl: i64) -> Result<RecordSession, Failure> {
        let mut tries = Tries::new();
        loop {
            asked(client.query_typed(&self.statements.sweep, &[self.scope()]).await)?;
            let session = RecordSession(random().max(1));
            let id = session.0.cast_signed();
            let parameters = [self.scope(), (&id, Type::INT8), (&ttl, Type::INT8)];
            let opened = asked(client.query_typed(&self.statements.open, &parameters).await)?;
            if opened.is_some_and(|rows| !rows.is_empty()) {
                return Ok(session);
            }
            tries.failed().await?;
        }
    }

    async fn renew_on(&self, client: &Client, session: RecordSession) -> Result<bool, Failure> {
        let id = session.0.cast_signed();
        let parameters: [Parameter<'_>; 2] = [self.scope(), (&id, Type::INT8)];
        let mut tries = Tries::new();
        loop {
            if let Some(rows) = asked(client.query_typed(&self.statements.renew, &parameters).await)? {
                if !rows.is_empty() {
                    return Ok(true);
                }
                // It is known only then whether it is gone.
                self.delete_expired(client, &[session]).await?;
                if let Tried::Done(snapshot) = self.try_read(client, &[], &[session]).await?
                    && snapshot.alive != [true]
                {
                    return Ok(false);
                }
            }
            tries.failed().await?;
        }
    }

    async fn end_on(&self, client: &Client, session: RecordSession) -> Result<(), Failure> {
        let id = session.0.cast_signed();
        let parameters: [Parameter<'_>; 2] = [self.scope(), (&id, Type::INT8)];
        let mut tries = Tries::new();
        loop {
            if asked(client.query_typed(&self.statements.end, &parameters).await)?.is_some() {
                return Ok(());
            }
            tries.failed().await?;
        }
    }

    async fn read_on(
        &self,
        client: &Client,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<RecordSnapshot, Failure> {
        let mut tries = Tries::new();
        loop {
            if let Tried::Done(snapshot) = self.try_read(client, names, sessions).await? {
                return Ok(snapshot);
            }
            tries.failed().await?;
        }
    }

    async fn commit_on(&self, client: &Client, commit: &Commit) -> Result<Committed, Failure> {
        // One for all of them is enough: no record is written twice.
        let made = self.versions.next();
        let mut tries = Tries::new();
        loop {
            if let Tried::Done(committed) = self.try_commit(client, commit, made).await? {
                return Ok(committed);
            }
            tries.failed().await?;
        }
    }

    async fn list_on(
        &self,
        client: &Client,
        kind: RecordKind,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RecordPage, Failure> {
        let (range, limit) = (Range::after(kind, after), limit.min(PAGE_MAX));
        let (from, to) = (range.from.as_bytes(), range.to.as_bytes());
        // One more, to see whether there is more.
        let most = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
        let parameters: [Parameter<'_>; 5] = [
            self.scope(),
            (&from, Type::BYTEA),
            (&range.inclusive, Type::BOOL),
            (&to, Type::BYTEA),
            (&most, Type::INT8),
        ];
        let mut tries = Tries::new();
        let rows = loop {
            if let Some(rows) = asked(client.query_typed(&self.statements.list, &parameters).await)? {
                break rows;
            }
            tries.failed().await?;
        };
        let Some((first, rows)) = rows.split_first() else { return Err(unknown("a list")) };
        header(0, take(first, 3, "a list")?)?;
        let more = limit > 0 && rows.len() > limit;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows.iter().take(limit) {
            let id = id_of(kind, take(row, 0, "a list")?).ok_or_else(|| unknown("a list"))?.into();
            let version = Version(take::<i64>(row, 1, "a list")?.cast_unsigned());
            let bytes = take(row, 2, "a list")?;
            records.push(ListedRecord { id, record: StoredRecord { version, bytes } });
        }
        Ok(RecordPage { records, more })
    }

    async fn delete_expired(&self, client: &Client, sessions: &[RecordSession]) -> Result<(), Failure> {
        let ids = ids(sessions);
        let parameters: [Parameter<'_>; 2] = [self.scope(), (&ids, Type::INT8_ARRAY)];
        asked(client.query_typed(&self.statements.delete_expired, &parameters).await).map(drop)
    }

    async fn try_read(
        &self,
        client: &Client,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<Tried<RecordSnapshot>, Failure> {
        let wanted: Vec<String> = names.iter().map(stored).collect();
        let distinct: BTreeSet<String> = wanted.iter().cloned().collect();
        let (columns, ids) = (bytes_of(&distinct), ids(sessions));
        let parameters = [self.scope(), (&columns, Type::BYTEA_ARRAY), (&ids, Type::INT8_ARRAY)];
        let Some(rows) = asked(client.query_typed(&self.statements.read, &parameters).await)? else {
            return Ok(Tried::Again);
        };
        let (mut records, mut alive, mut expired, mut time) =
            (HashMap::new(), HashSet::new(), Vec::new(), None);
        for row in rows {
            let (number, flag): (i64, bool) = (take(&row, 1, "a read")?, take(&row, 3, "a read")?);
            if take(&row, 4, "a read")? {
                time = Some(header(number, flag)?);
                continue;
            }
            let number = number.cast_unsigned();
            match take::<Option<Vec<u8>>>(&row, 0, "a read")? {
                Some(name) => {
                    let name = String::from_utf8(name).map_err(|_| unknown("a read"))?;
                    let bytes = take(&row, 2, "a read")?;
                    records.insert(name, StoredRecord { version: Version(number), bytes });
                }
                None => {
                    expired.extend(flag.then_some(RecordSession(number)));
                    alive.insert(number);
                }
            }
        }
        if !expired.is_empty() {
            // It is known only then whether they are gone.
            self.delete_expired(client, &expired).await?;
            return Ok(Tried::Again);
        }
        let record = |name: &String| records.get(name).cloned().unwrap_or(StoredRecord::ABSENT);
        Ok(Tried::Done(RecordSnapshot {
            records: wanted.iter().map(record).collect(),
            alive: sessions.iter().map(|session| alive.contains(&session.0)).collect(),
            time: Some(time.ok_or_else(|| unknown("its time"))?),
        }))
    }

    /// Begins a transaction, and locks and reads what a commit rests on: all is sent at once, and done in this order.
    async fn lock(&self, client: &Client, locks: &Locks, commit: &Commit) -> Result<Locked, Error> {
        let Statements { begin, leader_shared, leader_alone, guards, hold, lock, .. } = &*self.statements;
        let (of_leader, alive) = (leader().into_bytes(), ids(&commit.alive));
        let (absent, names) = (bytes_of(&locks.absent), bytes_of(&locks.names));
        let only_leader = vec![of_leader.as_slice()];
        let of_leader: [Parameter<'_>; 2] = [self.scope(), (&of_leader, Type::BYTEA)];
        let held_leader: [Parameter<'_>; 2] = [self.scope(), (&only_leader, Type::BYTEA_ARRAY)];
        let of_guards: [Parameter<'_>; 2] = [self.scope(), (&alive, Type::INT8_ARRAY)];
        let of_absent: [Parameter<'_>; 2] = [self.scope(), (&absent, Type::BYTEA_ARRAY)];
        let of_names: [Parameter<'_>; 2] = [self.scope(), (&names, Type::BYTEA_ARRAY)];
        let leader_text = if locks.leader == Some(LeaderLock::Shared) { leader_shared } else { leader_alone };
        let (begun, placed, leader, guards, held, locked) = tokio::join!(
            biased;
            client.batch_execute(begin),
            ask_if(client, locks.leader == Some(LeaderLock::Absent), hold, &held_leader),
            ask_if(client, locks.leader.is_some(), leader_text, &of_leader),
            ask_if(client, !alive.is_empty(), guards, &of_guards),
            ask_if(client, !absent.is_empty(), hold, &of_absent),
            ask_if(client, !names.is_empty(), lock, &of_names),
        );
        // The first error is the cause of the others.
        begun?;
        placed?;
        let (leader, guards) = (leader?, guards?);
        held?;
        Ok(Locked { leader, guards, names: locked? })
    }

    async fn try_commit(
        &self,
        client: &Client,
        commit: &Commit,
        made: Version,
    ) -> Result<Tried<Committed>, Failure> {
        let locks = Locks::of(commit);
        let locked = match self.lock(client, &locks, commit).await {
            Ok(locked) => locked,
            Err(error) => return undo(client, &error).await,
        };
        let (found, expired) = match locked.read() {
            Ok(found) => found,
            Err(failure) => {
                roll_back(client).await?;
                return Err(failure);
            }
        };
        // One that was there when its place was to be held, and is gone since.
        let unheld = locks.absent.iter().any(|name| !found.versions.contains_key(name));
        if !expired.is_empty() || unheld {
            roll_back(client).await?;
            if !expired.is_empty() {
                self.delete_expired(client, &expired).await?;
            }
            return Ok(Tried::Again);
        }
        match decide(commit, &locks, &found, made) {
            Decision::Dead(session) => {
                roll_back(client).await.map(|()| Tried::Done(Committed::Dead(session)))
            }
            Decision::LeaderMoved => roll_back(client).await.map(|()| Tried::Done(Committed::LeaderMoved)),
            Decision::Units(writes) => match self.write(client, &writes, made).await {
                Ok(time) => {
                    let time = Some(header(time, false)?);
                    Ok(Tried::Done(Committed::Units { answers: writes.answers, time }))
                }
                Err(error) => undo(client, &error).await,
            },
        }
    }

    /// Writes what was decided, and ends the commit; answers the server's time.
    async fn write(&self, client: &Client, writes: &Writes<'_>, made: Version) -> Result<i64, Error> {
        const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let names: Vec<&[u8]> = writes.put.keys().map(|name| name.as_bytes()).collect();
        let bytes: Vec<&[u8]> = writes.put.values().copied().collect();
        let (deleted, made) = (bytes_of(&writes.delete), made.0.cast_signed());
        let of_put: [Parameter<'_>; 4] =
            [self.scope(), (&names, Type::BYTEA_ARRAY), (&made, Type::INT8), (&bytes, Type::BYTEA_ARRAY)];
        let of_delete: [Parameter<'_>; 2] = [self.scope(), (&deleted, Type::BYTEA_ARRAY)];
        let end = if writes.only_compares { "ROLLBACK" } else { "COMMIT" };
        let (put, deleted, time, ended) = tokio::join!(
            biased;
            ask_if(client, !names.is_empty(), &self.statements.put, &of_put),
            ask_if(client, !writes.only_compares && !deleted.is_empty(), &self.statements.delete, &of_delete),
            client.query_typed_one(TIME, &[]),
            client.batch_execute(end),
        );
        put?;
        deleted?;
        let time = time?.try_get(0)?;
        ended?;
        Ok(time)
    }
}

/// What a commit has locked.
struct Locked {
    leader: Vec<Row>,
    guards: Vec<Row>,
    names: Vec<Row>,
}

impl Locked {
    /// What was found, and the sessions whose time is over.
    fn read(&self) -> Result<(Found, Vec<RecordSession>), Failure> {
        let (mut found, mut expired) = (Found::default(), Vec::new());
        for row in &self.leader {
            found.leader = Some(Version(take::<i64>(row, 0, "a lock")?.cast_unsigned()));
        }
        for row in &self.guards {
            let session = take::<i64>(row, 0, "a lock")?.cast_unsigned();
            if take(row, 1, "a lock")? {
                expired.push(RecordSession(session));
            } else {
                found.alive.insert(session);
            }
        }
        for row in &self.names {
            let name = String::from_utf8(take(row, 0, "a lock")?).map_err(|_| unknown("a lock"))?;
            found.versions.insert(name, Version(take::<i64>(row, 1, "a lock")?.cast_unsigned()));
        }
        Ok((found, expired))
    }
}

/// Rolls back after an error of the server, which has not committed.
async fn undo<T>(client: &Client, error: &Error) -> Result<Tried<T>, Failure> {
    let failed = failure(error);
    if matches!(failed, Failure::Broken) {
        return Err(failed);
    }
    roll_back(client).await?;
    if is_contention(error) || follows(error) { Ok(Tried::Again) } else { Err(failed) }
}

async fn roll_back(client: &Client) -> Result<(), Failure> {
    client.batch_execute("ROLLBACK").await.map_err(|_| Failure::Broken)
}

/// Asks, if it is needed.
async fn ask_if(client: &Client, is: bool, text: &str, of: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
    if is { client.query_typed(text, of).await } else { Ok(Vec::new()) }
}

/// The rows of a statement outside of a transaction; `None`: others did something at the same time.
fn asked(answer: Result<Vec<Row>, Error>) -> Result<Option<Vec<Row>>, Failure> {
    match answer {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if is_contention(&error) => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

fn unknown(what: &str) -> Failure {
    Failure::Elsewhere(not_understood(what))
}

fn take<'a, T: FromSql<'a>>(row: &'a Row, column: usize, what: &str) -> Result<T, Failure> {
    row.try_get(column).map_err(|_| unknown(what))
}

/// The server's time. One that is read-only answers nothing that counts.
fn header(micros: i64, read_only: bool) -> Result<DateTime<Utc>, Failure> {
    if read_only {
        return Err(Failure::Elsewhere(RecordsError::NotDone { reason: READ_ONLY.to_owned() }));
    }
    DateTime::from_timestamp_micros(micros).ok_or_else(|| unknown("its time"))
}

fn bytes_of(names: &BTreeSet<String>) -> Vec<&[u8]> {
    names.iter().map(|name| name.as_bytes()).collect()
}

fn ids(sessions: &[RecordSession]) -> Vec<i64> {
    sessions.iter().map(|session| session.0.cast_signed()).collect()
}

impl Records for LeaseRecords {
    fn limits(&self) -> RecordLimits {
        limits()
    }

    fn traits(&self) -> RecordTraits {
        RecordTraits {
            name: "postgres_lease",
            time: true,
            hints: false,
            durable: true,
            expires_within: self.expires_within,
        }
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            limits().check_ttl(ttl)?;
            let ttl = i64::try_from(micros(ttl)).unwrap_or(i64::MAX);
            let mut turn = self.life.turn().await?;
            let opened = timeout_at(turn.deadline(), self.open_on(&turn.connection()?.client, ttl)).await;
            turn.end(opened)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move {
            let mut turn = self.life.turn().await?;
            let renewed =
                timeout_at(turn.deadline(), self.renew_on(&turn.connection()?.client, session)).await;
            turn.end(renewed)
        }
        .boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move {
            let mut turn = self.life.turn().await?;
            let ended = timeout_at(turn.deadline(), self.end_on(&turn.connection()?.client, session)).await;
            turn.end(ended)
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            limits().check_reads(names, sessions)?;
            let mut turn = self.work.turn().await?;
            let read =
                timeout_at(turn.deadline(), self.read_on(&turn.connection()?.client, names, sessions)).await;
            turn.end(read)
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&limits())?;
            let mut turn = self.work.turn().await?;
            let committed =
                timeout_at(turn.deadline(), self.commit_on(&turn.connection()?.client, commit)).await;
            turn.end(committed)
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
            let mut turn = self.work.turn().await?;
            let listed =
                timeout_at(turn.deadline(), self.list_on(&turn.connection()?.client, kind, after, limit))
                    .await;
            turn.end(listed)
        }
        .boxed()
    }

    /// A pooler hands on no notifications.
    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        async { Ok(stream::pending().boxed()) }.boxed()
    }
}
