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
use mysql_async::{Error, Row};
use tokio::time::timeout_at;

use super::{
    connection::{Answers, Connection, Connector, is_off},
    failure::{READ_ONLY, failure, is_contention, is_duplicate, not_understood, of_commit},
    settings::Settings,
    statement::Statements,
};
use crate::backend::{
    random::random,
    sql::{
        PAGE_MAX, Tried, Tries,
        lane::{Failure, Lane},
        limits,
        names::{Range, id_of, stored},
        plan::{Decision, Found, LeaderLock, Locks, decide},
    },
    versions::Versions,
};

/// The records of a scope in a database.
pub(super) struct MysqlRecords {
    /// Reads and commits.
    work: Lane<Connector>,
    /// Sessions: no renewal waits behind a commit.
    life: Lane<Connector>,
    statements: Statements,
    versions: Versions,
    /// For how long somebody who stands still in the middle of a commit keeps its session.
    expires_within: Duration,
}

impl MysqlRecords {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let deadline = settings.deadline();
        let statements = Statements::new(&settings.scope, deadline);
        let connector = Arc::new(Connector(settings));
        Self {
            work: Lane::new(connector.clone(), deadline, random()),
            life: Lane::new(connector, deadline, random()),
            expires_within: Duration::from_secs(statements.silence()),
            statements,
            versions: Versions::new(),
        }
    }

    async fn open_on(&self, connection: &mut Connection, ttl: Duration) -> Result<RecordSession, Failure> {
        let mut tries = Tries::new();
        loop {
            self.sweep(connection).await?;
            let session = RecordSession(random().max(1));
            match connection.ask(self.statements.open(session, ttl)).await {
                Ok(mut answers) => return header(&mut answers).map(|_| session),
                Err(error) if is_duplicate(&error) || is_contention(&error) => {}
                Err(error) => return Err(failure(&error)),
            }
            tries.failed().await?;
        }
    }

    async fn renew_on(&self, connection: &mut Connection, session: RecordSession) -> Result<bool, Failure> {
        let mut tries = Tries::new();
        loop {
            if let Some(mut answers) = asked(connection, self.statements.renew(session)).await? {
                header(&mut answers)?;
                let found = answers.next_back().unwrap_or_default().into_iter().next();
                let Some(mut row) = found else { return Ok(false) };
                if take::<u8>(&mut row, 0, "a renewal")? == 0 {
                    return Ok(true);
                }
                asked(connection, self.statements.delete_expired(&[session])).await?;
            }
            tries.failed().await?;
        }
    }

    async fn end_on(&self, connection: &mut Connection, session: RecordSession) -> Result<(), Failure> {
        let mut tries = Tries::new();
        loop {
            if let Some(mut answers) = asked(connection, self.statements.end(session)).await? {
                return header(&mut answers).map(drop);
            }
            tries.failed().await?;
        }
    }

    async fn read_on(
        &self,
        connection: &mut Connection,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<RecordSnapshot, Failure> {
        let mut tries = Tries::new();
        loop {
            if let Tried::Done(snapshot) = self.try_read(connection, names, sessions).await? {
                return Ok(snapshot);
            }
            tries.failed().await?;
        }
    }

    async fn commit_on(&self, connection: &mut Connection, commit: &Commit) -> Result<Committed, Failure> {
        // One for all of them is enough: no record is written twice.
        let made = self.versions.next();
        let mut tries = Tries::new();
        loop {
            if let Tried::Done(committed) = self.try_commit(connection, commit, made).await? {
                return Ok(committed);
            }
            tries.failed().await?;
        }
    }

    async fn list_on(
        &self,
        connection: &mut Connection,
        kind: RecordKind,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RecordPage, Failure> {
        let (range, limit) = (Range::after(kind, after), limit.min(PAGE_MAX));
        let mut tries = Tries::new();
        let mut answers = loop {
            // One more, to see whether there is more.
            if let Some(answers) = asked(connection, self.statements.list(&range, limit + 1)).await? {
                break answers;
            }
            tries.failed().await?;
        };
        header(&mut answers)?;
        let rows = answers.next().unwrap_or_default();
        let more = limit > 0 && rows.len() > limit;
        let mut records = Vec::with_capacity(rows.len());
        for mut row in rows.into_iter().take(limit) {
            let name = take_bytes(&mut row, 0).unwrap_or_default();
            let id = id_of(kind, &name).ok_or_else(|| unknown("a list"))?.into();
            let version = Version(take(&mut row, 1, "a list")?);
            let bytes = take_bytes(&mut row, 2).ok_or_else(|| unknown("a list"))?;
            records.push(ListedRecord { id, record: StoredRecord { version, bytes } });
        }
        Ok(RecordPage { records, more })
    }

    async fn try_read(
        &self,
        connection: &mut Connection,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<Tried<RecordSnapshot>, Failure> {
        let wanted: Vec<String> = names.iter().map(stored).collect();
        let distinct: BTreeSet<String> = wanted.iter().cloned().collect();
        let Some(mut answers) = asked(connection, self.statements.read(&distinct, sessions)).await? else {
            return Ok(Tried::Again);
        };
        let time = header(&mut answers)?;
        let (mut records, mut alive, mut expired) = (HashMap::new(), HashSet::new(), Vec::new());
        for mut row in answers.next().unwrap_or_default() {
            let number: u64 = take(&mut row, 1, "a read")?;
            match take_bytes(&mut row, 0) {
                Some(name) => {
                    let name = String::from_utf8(name).map_err(|_| unknown("a read"))?;
                    let bytes = take_bytes(&mut row, 2).ok_or_else(|| unknown("a read"))?;
                    records.insert(name, StoredRecord { version: Version(number), bytes });
                }
                None => {
                    let over = take::<u8>(&mut row, 3, "a read")? != 0;
                    expired.extend(over.then_some(RecordSession(number)));
                    alive.insert(number);
                }
            }
        }
        if !expired.is_empty() {
            // It is known only then whether they are gone.
            asked(connection, self.statements.delete_expired(&expired)).await?;
            return Ok(Tried::Again);
        }
        let record = |name: &String| records.get(name).cloned().unwrap_or(StoredRecord::ABSENT);
        Ok(Tried::Done(RecordSnapshot {
            records: wanted.iter().map(record).collect(),
            alive: sessions.iter().map(|session| alive.contains(&session.0)).collect(),
            time: Some(time),
        }))
    }

    async fn try_commit(
        &self,
        connection: &mut Connection,
        commit: &Commit,
        made: Version,
    ) -> Result<Tried<Committed>, Failure> {
        let locks = Locks::of(commit);
        let answers = match connection.ask(self.statements.lock(&locks, &commit.alive)).await {
            Ok(answers) => answers,
            Err(error) => return self.undo(connection, &error).await,
        };
        let locked = Locked::read(answers, &locks, commit);
        let (time, found) = match locked {
            Ok(Locked::All(time, found)) => (time, found),
            Ok(Locked::Expired(expired)) => {
                self.roll_back(connection).await?;
                asked(connection, self.statements.delete_expired(&expired)).await?;
                return Ok(Tried::Again);
            }
            Err(failure) => {
                self.roll_back(connection).await?;
                return Err(failure);
            }
        };
        let writes = match decide(commit, &locks, &found, made) {
            Decision::Dead(session) => {
                return self.roll_back(connection).await.map(|()| Tried::Done(Committed::Dead(session)));
            }
            Decision::LeaderMoved => {
                return self.roll_back(connection).await.map(|()| Tried::Done(Committed::LeaderMoved));
            }
            Decision::Units(writes) => writes,
        };
        if writes.only_compares {
            self.roll_back(connection).await?;
        } else if let Err((done, error)) =
            connection.ask_and_count(self.statements.write(&writes, made)).await
        {
            return match of_commit(&error) {
                Failure::Broken if done >= Statements::before_commit(&writes) => Err(Failure::Broken),
                Failure::Broken | Failure::Answered(_) | Failure::Elsewhere(_) => {
                    self.undo(connection, &error).await
                }
            };
        }
        Ok(Tried::Done(Committed::Units { answers: writes.answers, time: Some(time) }))
    }

    /// Ends a commit of which nothing was done. After an error the connection is given up: it may be in the middle of
    /// it.
    async fn roll_back(&self, connection: &mut Connection) -> Result<(), Failure> {
        match connection.ask(self.statements.roll_back()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match failure(&error) {
                Failure::Answered(error) | Failure::Elsewhere(error) => Failure::Elsewhere(error),
                Failure::Broken => Failure::Broken,
            }),
        }
    }

    /// Rolls back after an error of the server, which has not committed.
    async fn undo<T>(&self, connection: &mut Connection, error: &Error) -> Result<Tried<T>, Failure> {
        let failed = failure(error);
        if matches!(failed, Failure::Broken) {
            return Err(failed);
        }
        if connection.ask(self.statements.roll_back()).await.is_err() {
            // The server does it when the connection is closed.
            return Err(match failed {
                Failure::Answered(error) | Failure::Elsewhere(error) => Failure::Elsewhere(error),
                Failure::Broken => Failure::Broken,
            });
        }
        if is_contention(error) { Ok(Tried::Again) } else { Err(failed) }
    }

    /// Deletes some sessions that are long gone, and that nobody asks for.
    async fn sweep(&self, connection: &mut Connection) -> Result<(), Failure> {
        let found = match connection.ask(self.statements.find_expired()).await {
            Ok(mut answers) => answers.next_back().unwrap_or_default(),
            Err(error) => return self.undo::<()>(connection, &error).await.map(|_| ()),
        };
        let mut expired = Vec::with_capacity(found.len());
        for mut row in found {
            expired.push(RecordSession(take(&mut row, 0, "a sweep")?));
        }
        let text =
            if expired.is_empty() { self.statements.roll_back() } else { self.statements.sweep(&expired) };
        match connection.ask(text).await {
            Ok(_) => Ok(()),
            Err(error) => self.undo::<()>(connection, &error).await.map(|_| ()),
        }
    }
}

/// Asks outside of a transaction; `None`: others did something at the same time.
async fn asked(connection: &mut Connection, text: String) -> Result<Option<Answers>, Failure> {
    match connection.ask(text).await {
        Ok(answers) => Ok(Some(answers)),
        Err(error) if is_contention(&error) => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

fn unknown(what: &str) -> Failure {
    Failure::Elsewhere(not_understood(what))
}

fn take<T: mysql_async::prelude::FromValue>(row: &mut Row, column: usize, what: &str) -> Result<T, Failure> {
    row.take_opt(column).and_then(Result::ok).ok_or_else(|| unknown(what))
}

fn take_bytes(row: &mut Row, column: usize) -> Option<Vec<u8>> {
    row.take_opt::<Option<Vec<u8>>, _>(column)?.ok()?
}

/// The server's time. One that is read-only answers nothing that counts.
fn header(answers: &mut Answers) -> Result<DateTime<Utc>, Failure> {
    let mut row = answers.next().unwrap_or_default().into_iter().next().ok_or_else(|| unknown("its time"))?;
    let micros: i64 = take(&mut row, 0, "its time")?;
    let read_only: String = take(&mut row, 1, "whether it is read-only")?;
    if !is_off(&read_only) {
        return Err(Failure::Elsewhere(RecordsError::NotDone { reason: READ_ONLY.to_owned() }));
    }
    DateTime::from_timestamp_micros(micros).ok_or_else(|| unknown("its time"))
}

/// What a commit has locked.
enum Locked {
    All(DateTime<Utc>, Found),
    /// The time of these sessions is over.
    Expired(Vec<RecordSession>),
}

impl Locked {
    /// Reads the answers in the order of the statements.
    fn read(mut answers: Answers, locks: &Locks, commit: &Commit) -> Result<Self, Failure> {
        // The setting, and the start of the transaction.
        answers.nth(1);
        let time = header(&mut answers)?;
        let mut found = Found::default();
        if let Some(lock) = locks.leader {
            if lock == LeaderLock::Absent {
                answers.next();
            }
            for mut row in answers.next().unwrap_or_default() {
                found.leader = Some(Version(take(&mut row, 0, "a lock")?));
            }
        }
        let mut expired = Vec::new();
        if !commit.alive.is_empty() {
            for mut row in answers.next().unwrap_or_default() {
                let session: u64 = take(&mut row, 0, "a lock")?;
                if take::<u8>(&mut row, 1, "a lock")? == 0 {
                    found.alive.insert(session);
                } else {
                    expired.push(RecordSession(session));
                }
            }
        }
        if !expired.is_empty() {
            return Ok(Self::Expired(expired));
        }
        if !locks.absent.is_empty() {
            answers.next();
        }
        for mut row in answers.next().unwrap_or_default() {
            let name = take_bytes(&mut row, 0).and_then(|name| String::from_utf8(name).ok());
            let version = Version(take(&mut row, 1, "a lock")?);
            found.versions.insert(name.ok_or_else(|| unknown("a lock"))?, version);
        }
        Ok(Self::All(time, found))
    }
}

impl Records for MysqlRecords {
    fn limits(&self) -> RecordLimits {
        limits()
    }

    fn traits(&self) -> RecordTraits {
        RecordTraits {
            name: "mysql",
            time: true,
            hints: false,
            durable: true,
            expires_within: self.expires_within,
        }
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            limits().check_ttl(ttl)?;
            let mut turn = self.life.turn().await?;
            let opened = timeout_at(turn.deadline(), self.open_on(turn.connection()?, ttl)).await;
            turn.end(opened)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move {
            let mut turn = self.life.turn().await?;
            let renewed = timeout_at(turn.deadline(), self.renew_on(turn.connection()?, session)).await;
            turn.end(renewed)
        }
        .boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move {
            let mut turn = self.life.turn().await?;
            let ended = timeout_at(turn.deadline(), self.end_on(turn.connection()?, session)).await;
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
            let read = timeout_at(turn.deadline(), self.read_on(turn.connection()?, names, sessions)).await;
            turn.end(read)
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&limits())?;
            let mut turn = self.work.turn().await?;
            let committed = timeout_at(turn.deadline(), self.commit_on(turn.connection()?, commit)).await;
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
                timeout_at(turn.deadline(), self.list_on(turn.connection()?, kind, after, limit)).await;
            turn.end(listed)
        }
        .boxed()
    }

    /// The server tells nobody what others did.
    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        async { Ok(stream::pending().boxed()) }.boxed()
    }
}
