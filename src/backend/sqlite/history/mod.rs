//! The history in a file of its own, beside that by which the node decides: SQLite has one writer a file, and no
//! claim waits for a batch of records or for a page that is deleted.
//!
//! Records are kept as JSON, beside the columns by which they are asked for. Other programs may read the file.
//!
//! * `write`: records on their way in. `ask`: pages, and the row of a job. `prune`: what is deleted.

mod ask;
mod prune;
mod write;

use std::{fmt, sync::atomic::AtomicUsize};

use callsheet_actors::port::{
    Batch, DecisionPage, Decisions, History, HistoryError, JobHistory, JobRecord, OperationPage, Operations,
    Retention, RunHistory, RunPage,
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::Connection;

use super::{
    NAME,
    file::Format,
    thread::{Books, FileThread},
};

/// The file of the history, "CShi" in its header.
pub(super) const HISTORY: Format = Format {
    application: 0x4353_6869,
    is: "history of callsheet",
    steps: &["
-- Instants are microseconds since 1970. Runs and nodes are the 16 bytes of their ids; those of runs grow with time.
CREATE TABLE runs (
    run BLOB PRIMARY KEY,
    job TEXT NOT NULL,
    -- None while it is in progress.
    outcome TEXT,
    -- When its node said last that it is in progress; of one that ended, when it was written.
    written_at INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_job ON runs (job, run);
CREATE INDEX runs_by_outcome ON runs (outcome, run);
CREATE INDEX runs_by_job_and_outcome ON runs (job, outcome, run);
-- One row for each job. It is never deleted.
CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    -- JSON: what became of the job so far.
    record TEXT NOT NULL,
    -- How many runs were added since it was looked for too many.
    unpruned INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_unpruned ON jobs (unpruned) WHERE unpruned > 0;
CREATE TABLE decisions (
    nth INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    node BLOB NOT NULL,
    -- Empty if it is about all jobs.
    job TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The run that was lost; empty if none was.
    lost BLOB NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    UNIQUE (at, node, job, reason, lost)
) STRICT;
CREATE INDEX decisions_by_time ON decisions (at, nth);
CREATE INDEX decisions_by_job ON decisions (job, at, nth);
CREATE TABLE operations (
    nth INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    node BLOB NOT NULL,
    -- Which one it is of those that the node recorded.
    number INTEGER NOT NULL,
    job TEXT NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    UNIQUE (at, node, number)
) STRICT;
CREATE INDEX operations_by_time ON operations (at, nth);
CREATE INDEX operations_by_job ON operations (job, at, nth);"],
};

/// The history of one file.
pub(super) struct SqliteHistory {
    thread: FileThread<HistoryBooks>,
    /// How many times something was pruned: each kind of record in its turn.
    turn: AtomicUsize,
}

/// The thread of the history knows nothing but its file: what is not known to be written is written again.
#[derive(Debug)]
pub(super) struct HistoryBooks;

impl Books for HistoryBooks {
    fn opened(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn before_commit(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn is_committed(&self, _: &Connection) -> rusqlite::Result<bool> {
        Ok(false)
    }

    fn ended(&mut self, _: bool) {}
}

impl SqliteHistory {
    pub(super) fn new(thread: FileThread<HistoryBooks>) -> Self {
        Self { thread, turn: AtomicUsize::new(0) }
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        mut work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, HistoryError>> {
        let asked = self.thread.ask(move |connection, _| work(connection));
        asked.map(|answer| answer.map_err(HistoryError::from)).boxed()
    }
}

impl History for SqliteHistory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        let batch = batch.clone();
        self.ask(move |connection| write::write(connection, &batch, Utc::now()))
    }

    fn runs<'a>(&'a self, asked: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::runs(connection, &asked, Utc::now()))
    }

    fn job<'a>(
        &'a self,
        JobHistory(job): &'a JobHistory,
    ) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        let job = job.clone();
        self.ask(move |connection| ask::job(connection, &job, Utc::now()))
    }

    fn decisions<'a>(&'a self, asked: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::decisions(connection, &asked))
    }

    fn operations<'a>(&'a self, asked: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::operations(connection, &asked))
    }

    fn prune<'a>(
        &'a self,
        now: DateTime<Utc>,
        retention: &'a Retention,
    ) -> BoxFuture<'a, Result<bool, HistoryError>> {
        prune::prune(self, now, retention).boxed()
    }
}

impl fmt::Debug for SqliteHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteHistory").field(&self.thread).finish()
    }
}

/// An instant as it is kept.
fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}
