//! The port [`Records`] on a file.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet_actors::port::{
    Change, Commit, Committed, HINTS_WAITING_MAX, Heard, HintStream, ListedRecord, RecordKind, RecordLimits,
    RecordName, RecordPage, RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, StoredRecord,
    Unit, UnitAnswer, Version,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    failure::{Failure, NAME},
    migrations::Format,
    sessions::Sessions,
    thread::{Books, FileThread},
};

/// The most units of a commit, and as many times four records.
const UNITS_MAX: usize = 1_024;
/// The longest record, in bytes.
const RECORD_BYTES_MAX: usize = 64 * 1_024;
/// The most bytes that a commit writes, and that a page of a list holds.
const CALL_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// The most records of a page of a list.
const PAGE_MAX: usize = 1_000;

/// The file of the records, "CSsr" in its header.
pub(super) const RECORDS: Format = Format {
    application: 0x4353_7372,
    is: "store of callsheet",
    steps: &["
-- One row: the version of the record that was written last, whichever, and how many times the file was opened.
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    openings INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0, 0);
-- Ids are compared byte by byte, which is how SQLite compares texts unless it is told otherwise.
CREATE TABLE records (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;"],
};

/// One client. Each clone is another one.
#[derive(Debug, Clone)]
pub(super) struct SqliteRecords {
    /// Why there is none, if the file could not be opened.
    thread: Result<Arc<FileThread<RecordBooks>>, String>,
    hints: Hints,
}

/// Where the hints of a store go.
pub(super) type Hints = broadcast::Sender<Arc<[u8]>>;

/// What the thread of the records knows besides what is in their file.
#[derive(Debug)]
pub(super) struct RecordBooks {
    /// The last version that was given to a record, and the last one that stands in the file.
    version: u64,
    stored: u64,
    sessions: Sessions,
    /// What is told once the transaction is committed.
    told: Vec<Arc<[u8]>>,
    hints: Hints,
}

impl SqliteRecords {
    /// Whoever asks that thread, whose books have these hints.
    pub(super) fn new(thread: Result<Arc<FileThread<RecordBooks>>, String>, hints: Hints) -> Self {
        Self { thread, hints }
    }

    /// The way to the thread.
    #[cfg(test)]
    pub(super) fn thread(&self) -> &FileThread<RecordBooks> {
        self.thread.as_ref().expect("it is open")
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        work: impl FnMut(&Connection, &mut RecordBooks) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, RecordsError>> {
        async move {
            let thread = self.thread.as_ref().map_err(|reason| Failure::Refused(reason.clone()))?;
            Ok(thread.ask(work).await?)
        }
        .boxed()
    }
}

impl RecordBooks {
    pub(super) fn new(hints: Hints) -> Self {
        Self { version: 0, stored: 0, sessions: Sessions::default(), told: Vec::new(), hints }
    }

    /// Of a file that this process opens for the first time: its sessions are none of those before it. Counted
    /// through a loss of power: an id that came back could be one that a record names.
    pub(super) fn first_opened(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute("UPDATE store SET openings = openings + 1", [])?;
        let opening = transaction.query_row("SELECT openings FROM store", [], |row| row.get(0))?;
        // A statement that answers rows would hide that this failed.
        transaction.commit()?;
        self.sessions = Sessions::of_opening(opening);
        self.opened(connection)
    }

    /// Where the hints go that it tells.
    pub(super) fn hints(&self) -> Hints {
        self.hints.clone()
    }

    pub(super) fn commit(&mut self, connection: &Connection, asked: &Commit) -> rusqlite::Result<Committed> {
        let now = Instant::now();
        if let Some(dead) = asked.alive.iter().find(|session| !self.sessions.is_alive(**session, now)) {
            return Ok(Committed::Dead(*dead));
        }
        if let Some(expected) = asked.leader
            && version(connection, &RecordName::only(RecordKind::Leader))? != expected
        {
            return Ok(Committed::LeaderMoved);
        }
        let answers = asked.units.iter().map(|unit| self.make(connection, unit)).collect::<Result<_, _>>()?;
        Ok(Committed::Units { answers, time: None })
    }

    /// Everything is compared before anything is written, so that nothing has to be taken back.
    fn make(&mut self, connection: &Connection, unit: &Unit) -> rusqlite::Result<UnitAnswer> {
        for change in &unit.records {
            if version(connection, &change.name)? != change.version {
                return Ok(UnitAnswer::Conflict);
            }
        }
        let mut versions = Vec::with_capacity(unit.records.len());
        for change in &unit.records {
            let (kind, id) = (change.name.kind.code(), &*change.name.id);
            versions.push(match &change.change {
                Change::Keep => change.version,
                Change::Put(bytes) => {
                    self.version += 1;
                    connection
                        .prepare_cached("INSERT OR REPLACE INTO records (kind, id, version, bytes) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![kind, id, stored(self.version), bytes])?;
                    Version(self.version)
                }
                Change::Delete => {
                    let mut delete =
                        connection.prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?;
                    // That it was deleted is found by this number, should the commit be in doubt.
                    self.version += u64::try_from(delete.execute([kind, id])?).unwrap_or(1);
                    Version::ABSENT
                }
            });
        }
        self.told.extend(unit.hints.iter().cloned());
        Ok(UnitAnswer::Made { versions })
    }

    fn snapshot(
        &mut self,
        connection: &Connection,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> rusqlite::Result<RecordSnapshot> {
        let mut read =
            connection.prepare_cached("SELECT version, bytes FROM records WHERE kind = ?1 AND id = ?2")?;
        let records = names.iter().map(|name| {
            let found = read.query_row([name.kind.code(), &name.id], |row| {
                Ok(StoredRecord { version: Version(given(row.get(0)?)), bytes: row.get(1)? })
            });
            Ok(found.optional()?.unwrap_or(StoredRecord::ABSENT))
        });
        let records = records.collect::<rusqlite::Result<_>>()?;
        let now = Instant::now();
        let alive = sessions.iter().map(|session| self.sessions.is_alive(*session, now)).collect();
        Ok(RecordSnapshot { records, alive, time: None })
    }
}

impl Books for RecordBooks {
    fn opened(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.stored = connection.query_row("SELECT version FROM store", [], |row| row.get(0)).map(given)?;
        self.version = self.stored;
        Ok(())
    }

    fn before_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.version == self.stored {
            return Ok(());
        }
        let mut write = connection.prepare_cached("UPDATE store SET version = ?1")?;
        write.execute([stored(self.version)]).map(drop)
    }

    fn is_committed(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let found = connection.query_row("SELECT version FROM store", [], |row| row.get(0)).map(given)?;
        Ok(found == self.version)
    }

    fn ended(&mut self, committed: bool) {
        let told = mem::take(&mut self.told);
        if committed {
            self.stored = self.version;
            // Perhaps nobody listens.
            told.into_iter().for_each(|hint| drop(self.hints.send(hint)));
        } else {
            // Nobody was told of those. What only reads has nothing to write then, also on a disk that is full.
            self.version = self.stored;
        }
    }
}

fn version(connection: &Connection, name: &RecordName) -> rusqlite::Result<Version> {
    let mut read = connection.prepare_cached("SELECT version FROM records WHERE kind = ?1 AND id = ?2")?;
    let found = read.query_row([name.kind.code(), &name.id], |row| row.get(0)).optional()?;
    Ok(found.map_or(Version::ABSENT, |number| Version(given(number))))
}

/// A version as SQLite keeps it, which has 63 bits for it: they last for ever.
fn stored(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn given(version: i64) -> u64 {
    version.unsigned_abs()
}

/// A page of a list: it has at most so many records, and not many more bytes than a call may have.
fn page(
    connection: &Connection,
    kind: RecordKind,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<RecordPage> {
    let limit = limit.min(PAGE_MAX);
    let text = match after {
        Some(_) => "SELECT id, version, bytes FROM records WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        None => "SELECT id, version, bytes FROM records WHERE kind = ?1 AND id >= ?2 ORDER BY id LIMIT ?3",
    };
    let mut read = connection.prepare_cached(text)?;
    // One more, to see whether there is more.
    let most = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let mut rows = read.query(params![kind.code(), after.unwrap_or_default(), most])?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if records.len() == limit || bytes >= CALL_BYTES_MAX {
            return Ok(RecordPage { more: !records.is_empty(), records });
        }
        let record = StoredRecord { version: Version(given(row.get(1)?)), bytes: row.get(2)? };
        bytes += record.bytes.len();
        records.push(ListedRecord { id: row.get::<_, String>(0)?.into(), record });
    }
    Ok(RecordPage { records, more: false })
}

impl Records for SqliteRecords {
    fn limits(&self) -> RecordLimits {
        RecordLimits {
            reads: UNITS_MAX,
            units: UNITS_MAX,
            unit_records: 64,
            commit_records: 4 * UNITS_MAX,
            record_bytes: RECORD_BYTES_MAX,
            commit_bytes: CALL_BYTES_MAX,
            ttl: Duration::from_secs(1)..=Duration::from_hours(24),
        }
    }

    fn traits(&self) -> RecordTraits {
        // Its time would be the node's own.
        RecordTraits { name: NAME, time: false, hints: true, durable: true, expires_within: Duration::ZERO }
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        let mut opened = None;
        let ask = self.ask(move |_, books| {
            opened = opened.or_else(|| books.sessions.open(ttl, Instant::now()));
            Ok(opened)
        });
        async move {
            self.limits().check_ttl(ttl)?;
            let reason = || "four billion sessions were opened; start the process again".to_owned();
            ask.await?.ok_or_else(|| RecordsError::Refused { reason: reason() })
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        self.ask(move |_, books| Ok(books.sessions.renew(session, Instant::now())))
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        self.ask(move |_, books| {
            books.sessions.end(session);
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            self.limits().check_reads(names, sessions)?;
            let (names, sessions) = (names.to_vec(), sessions.to_vec());
            self.ask(move |connection, books| books.snapshot(connection, &names, &sessions)).await
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&self.limits())?;
            let commit = commit.clone();
            self.ask(move |connection, books| books.commit(connection, &commit)).await
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        let after = after.map(str::to_owned);
        self.ask(move |connection, _| page(connection, kind, after.as_deref(), limit))
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

/// Those of a store of which nobody has a subscription yet.
pub(super) fn hints() -> Hints {
    broadcast::Sender::new(HINTS_WAITING_MAX)
}
