//! The port of versioned records.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
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
    Client, Error, Row, SimpleQueryRow,
    types::{FromSql, ToSql, Type},
};

use super::{
    connection::{Answers, Connector, ask},
    failure::{READ_ONLY, failure, follows, is_contention, not_understood, of_commit},
    settings::Settings,
    statement::{BEFORE_SESSION_COMMIT, Statements},
};
use crate::backend::{
    random::random,
    sql::{
        PAGE_MAX, SWEPT_MAX, Tried, Tries,
        lane::{Failure, Lane},
        limits, micros,
        names::{Range, id_of, stored},
        plan::{Decision, Found, LeaderLock, Locks, decide},
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
    /// Up to which session the last sweep has looked.
    swept: AtomicI64,
    /// For how long somebody who stands still in the middle of a commit keeps its session.
    expires_within: Duration,
}

/// A parameter with its type.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl LeaseRecords {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let deadline = settings.deadline();
        let statements = Arc::new(Statements::new(&settings.store.schema, &settings.scope, deadline));
        let scope = settings.scope.as_bytes().to_vec();
        let connector = Arc::new(Connector { settings, statements: statements.clone() });
        Self {
            work: Lane::new(connector.clone(), deadline, random()),
            life: Lane::new(connector, deadline, random()),
            scope,
            statements,
            versions: Versions::new(),
            // Nodes that open one session each look at different ones.
            swept: AtomicI64::new(random().cast_signed()),
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
            self.sweep(client).await?;
            let session = RecordSession(random().max(1));
            let opened = changed(client, &self.statements.open(session, ttl)).await?;
            if opened.is_some_and(|rows| !rows.is_empty()) {
                return Ok(session);
            }
            tries.failed().await?;
        }
    }

    /// Deletes some sessions that are long gone, and that nobody asks for.
    async fn sweep(&self, client: &Client) -> Result<(), Failure> {
        let after = self.swept.load(Ordering::Relaxed);
        if let Some(page) = changed(client, &self.statements.sweep(after)).await? {
            let last = page.last().filter(|_| page.len() >= SWEPT_MAX);
            let last = last.map(|row| field(row, 0, "a sweep")).transpose()?;
            self.swept.store(last.unwrap_or(after), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn renew_on(&self, client: &Client, session: RecordSession) -> Result<bool, Failure> {
        let mut tries = Tries::new();
        loop {
            if let Some(rows) = changed(client, &self.statements.renew(session)).await? {
                if !rows.is_empty() {
                    return Ok(true);
                }
                // It is known only then whether it is gone.
                changed(client, &self.statements.delete_expired(&[session])).await?;
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
        let mut tries = Tries::new();
        loop {
            if changed(client, &self.statements.end(session)).await?.is_some() {
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
            changed(client, &self.statements.delete_expired(&expired)).await?;
            return Ok(Tried::Again);
        }
        let record = |name: &String| records.get(name).cloned().unwrap_or(StoredRecord::ABSENT);
        Ok(Tried::Done(RecordSnapshot {
            records: wanted.iter().map(record).collect(),
            alive: sessions.iter().map(|session| alive.contains(&session.0)).collect(),
            time: Some(time.ok_or_else(|| unknown("its time"))?),
        }))
    }

    async fn try_commit(
        &self,
        client: &Client,
        commit: &Commit,
        made: Version,
    ) -> Result<Tried<Committed>, Failure> {
        let locks = Locks::of(commit);
        let answers = match ask(client, &self.statements.lock(&locks, &commit.alive)).await {
            Ok(answers) => answers,
            Err((_, error)) => return undo(client, failure(&error), &error).await,
        };
        let Locked { found, expired, transaction } = match Locked::read(answers, &locks, commit) {
            Ok(locked) => locked,
            Err(failure) => {
                roll_back(client).await?;
                return Err(failure);
            }
        };
        // One that was there when its place was to be held, and is gone since.
        let leader_unheld = locks.leader == Some(LeaderLock::Absent) && found.leader.is_none();
        let unheld = leader_unheld || locks.absent.iter().any(|name| !found.versions.contains_key(name));
        if !expired.is_empty() || unheld {
            roll_back(client).await?;
            if !expired.is_empty() {
                changed(client, &self.statements.delete_expired(&expired)).await?;
            }
            return Ok(Tried::Again);
        }
        let writes = match decide(commit, &locks, &found, made) {
            Decision::Dead(session) => {
                return roll_back(client).await.map(|()| Tried::Done(Committed::Dead(session)));
            }
            Decision::LeaderMoved => {
                return roll_back(client).await.map(|()| Tried::Done(Committed::LeaderMoved));
            }
            Decision::Units(writes) => writes,
        };
        match ask(client, &self.statements.write(&writes, made, transaction)).await {
            Ok(answers) => {
                let rows = answers.last().unwrap_or_default();
                let time = field(rows.first().ok_or_else(|| unknown("its time"))?, 0, "its time")?;
                let time = Some(header(time, false)?);
                Ok(Tried::Done(Committed::Units { answers: writes.answers, time }))
            }
            Err((done, error)) if done >= Statements::before_commit(&writes) => {
                undo(client, of_commit(&error), &error).await
            }
            Err((_, error)) => undo(client, failure(&error), &error).await,
        }
    }
}

/// What a commit has locked.
struct Locked {
    found: Found,
    /// The sessions whose time is over.
    expired: Vec<RecordSession>,
    /// Which transaction holds the locks.
    transaction: u64,
}

impl Locked {
    /// Reads the answers in the order of the statements.
    fn read(mut answers: Answers, locks: &Locks, commit: &Commit) -> Result<Self, Failure> {
        let (mut found, mut expired) = (Found::default(), Vec::new());
        if locks.leader.is_some() {
            for row in answers.next().unwrap_or_default() {
                found.leader = Some(Version(field::<i64>(&row, 0, "a lock")?.cast_unsigned()));
            }
        }
        if !commit.alive.is_empty() {
            for row in answers.next().unwrap_or_default() {
                let session = field::<i64>(&row, 0, "a lock")?.cast_unsigned();
                match row.try_get(1) {
                    Ok(Some("f")) => drop(found.alive.insert(session)),
                    Ok(Some("t")) => expired.push(RecordSession(session)),
                    Ok(_) | Err(_) => return Err(unknown("a lock")),
                }
            }
        }
        if !locks.names.is_empty() {
            let rows = answers.next().unwrap_or_default();
            if rows.len() != locks.names.len() {
                return Err(unknown("a lock"));
            }
            for (name, row) in locks.names.iter().zip(&rows) {
                if row.try_get(0).is_ok_and(|version| version.is_some()) {
                    let version = Version(field::<i64>(row, 0, "a lock")?.cast_unsigned());
                    found.versions.insert(name.clone(), version);
                }
            }
        }
        let transaction = answers.next().unwrap_or_default();
        let transaction = transaction.first().ok_or_else(|| unknown("a lock"))?;
        Ok(Self { found, expired, transaction: field(transaction, 0, "a lock")? })
    }
}

/// Changes a session in a transaction of its own; `None`: others did something at the same time.
async fn changed(client: &Client, text: &str) -> Result<Option<Vec<SimpleQueryRow>>, Failure> {
    let (done, error) = match ask(client, text).await {
        Ok(mut answers) => return Ok(Some(answers.next().unwrap_or_default())),
        Err(failed) => failed,
    };
    let failed = if done >= BEFORE_SESSION_COMMIT { of_commit(&error) } else { failure(&error) };
    match undo(client, failed, &error).await? {
        Tried::Done(()) | Tried::Again => Ok(None),
    }
}

/// Rolls back after an error of the server, which has not committed.
async fn undo<T>(client: &Client, failed: Failure, error: &Error) -> Result<Tried<T>, Failure> {
    if matches!(failed, Failure::Broken) {
        return Err(failed);
    }
    roll_back(client).await?;
    if is_contention(error) || follows(error) { Ok(Tried::Again) } else { Err(failed) }
}

async fn roll_back(client: &Client) -> Result<(), Failure> {
    client.batch_execute("ROLLBACK").await.map_err(|_| Failure::Broken)
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

/// A column of a row of a text of several statements.
fn field<T: FromStr>(row: &SimpleQueryRow, column: usize, what: &str) -> Result<T, Failure> {
    let text = row.try_get(column).ok().flatten().and_then(|text| text.parse().ok());
    text.ok_or_else(|| unknown(what))
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
