//! The history in a file of its own, beside that by which the node decides: SQLite has one writer a file, and no
//! claim waits for a batch of records or for a page that is deleted.
//!
//! Records are kept as JSON, beside the columns by which they are asked for. Other programs may read the file.
//!
//! * `books`: the file, and its thread. `write`: records on their way in. `ask`: pages, and the row of a job. `prune`: what is deleted.

mod ask;
mod books;
mod prune;
mod write;

use std::{fmt, sync::atomic::AtomicUsize};

use callsheet_actors::{
    JobName,
    port::{
        AskGaps, Batch, DecisionPage, Decisions, Gaps, History, HistoryError, JobHistory, JobRecord,
        LastEnds, OperationPage, Operations, Retention, RunHistory, RunPage,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use rusqlite::Connection;

use super::{failure::NAME, thread::FileThread};

pub(super) use self::books::{HISTORY, HistoryBooks};

/// The history of one file.
pub(super) struct SqliteHistory {
    thread: FileThread<HistoryBooks>,
    /// How many times something was pruned: each kind of record in its turn.
    turn: AtomicUsize,
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

    fn last_ends<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        let jobs = jobs.to_vec();
        self.ask(move |connection| ask::last_ends(connection, &jobs))
    }

    fn decisions<'a>(&'a self, asked: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::decisions(connection, &asked))
    }

    fn operations<'a>(&'a self, asked: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::operations(connection, &asked))
    }

    fn gaps<'a>(&'a self, asked: &'a AskGaps) -> BoxFuture<'a, Result<Gaps, HistoryError>> {
        let asked = asked.clone();
        self.ask(move |connection| ask::gaps(connection, &asked))
    }

    fn prune<'a>(
        &'a self,
        now: DateTime<Utc>,
        retention: &'a Retention,
    ) -> BoxFuture<'a, Result<bool, HistoryError>> {
        prune::prune(&self.thread, &self.turn, now, retention).boxed()
    }
}

impl fmt::Debug for SqliteHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteHistory").field(&self.thread).finish()
    }
}
