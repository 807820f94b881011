//! The file of the history, and what its thread knows.

use chrono::{DateTime, Utc};
use rusqlite::Connection;

use super::super::{migrations::Format, thread::Books};

/// The file of the history, "CShi" in its header.
pub(in super::super) const HISTORY: Format = Format {
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
    fire_time INTEGER,
    ended_at INTEGER,
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
    unpruned INTEGER NOT NULL,
    -- When the newest of those had ended that were deleted since there were too many.
    pruned_to INTEGER
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

/// The thread of the history knows nothing but its file: what is not known to be written is written again.
#[derive(Debug)]
pub(in super::super) struct HistoryBooks;

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

/// An instant as it is kept.
pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}
