//! Where jobs are stored as data, for all nodes of a scope.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::sleep;

pub use crate::core::catalogue::{
    CATALOGUE_PAGE_MAX, CatalogueChange, CatalogueChanges, CataloguePage, CatalogueQuery, CatalogueRow,
    CatalogueTable, Changed, DEFINITION_BYTES_MAX, DELETED_KEPT_MAX, DuePage, DueQuery, Expected, Facets,
    ONE_SHOTS_HELD_BYTES_MAX, ONE_SHOTS_HELD_MAX, ONE_SHOTS_HELD_WITHIN, ONE_SHOTS_LINGERING_BYTES_MAX,
    ONE_SHOTS_LINGERING_MAX, STORED_JOBS_MAX,
};
use crate::{fault::Fault, name::JobName};

/// How often nodes ask a catalogue that gives no hints what has changed.
pub const CATALOGUE_ASKED_EVERY: Duration = Duration::from_secs(1);

/// Keeps jobs as data, for all nodes of a scope. It does not read their definitions: what is in them, only a node
/// knows.
///
/// * **Versions.** Each change gets the next version of the catalogue, and none gets it twice. When the changes after a
///   version are answered, no change of that version or an earlier one is made any more: whoever goes on from the
///   newest version that he has read misses nothing. Of several changes of one job only the newest need be there.
/// * **A store that is set back** (a fail-over to a copy that was behind, a restore, a new schema) gives versions once
///   more. Whoever asks for the changes after a version that is newer than its newest is told to list all jobs anew.
/// * **One of two writers is told.** A change that expects a version, or that there is no such job, is made only if it
///   is so at that instant: see [`Expected`]. Otherwise it is answered with the row that stands.
/// * **Asked again.** A change that was made is made once, by its [id](CatalogueChange::change), for as long as no
///   other one was made of the same job.
/// * **Deleted jobs** are remembered: at least the newest [`DELETED_KEPT_MAX`] of them, so that those who read the
///   changes hear of it.
/// * **One-shots.** A job that fires once comes with the instant at which it is [due](CatalogueChange::due_at). A
///   store finds those by that instant, and lists all other jobs without them, at a cost that does not grow with how
///   many one-shots wait: nodes hold only those that are near.
/// * **Bounds.** [`STORED_JOBS_MAX`] jobs, one-shots among them.
///
/// The rules in memory are those of [`CatalogueTable`]. The suite is `testkit::conformance::catalogue`.
pub trait Catalogue: Send + Sync + fmt::Debug + 'static {
    /// What it is called in errors and logs: `memory`, `postgres`, `file`.
    fn name(&self) -> &'static str;

    /// What is wrong with it, told when a node starts. Default: nothing.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }

    /// Puts, replaces or deletes a job.
    ///
    /// # Errors
    ///
    /// * [`CatalogueError::Unavailable`]: whether it was made is not known; ask again with the same id.
    /// * [`CatalogueError::BadData`]: it was not made, and never will be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`CatalogueError::Unavailable`].
    fn change<'a>(&'a self, change: &'a CatalogueChange) -> BoxFuture<'a, Result<Changed, CatalogueError>>;

    /// The row of a job; `None` if there is none, or it was deleted.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Safe, as are the other questions.
    fn get<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<CatalogueRow>, CatalogueError>>;

    /// One page of the jobs, in the order of the bytes of their names.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unavailable`].
    fn list<'a>(&'a self, query: &'a CatalogueQuery) -> BoxFuture<'a, Result<CataloguePage, CatalogueError>>;

    /// The one-shots that are due before an instant, the next first.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unavailable`].
    fn due<'a>(&'a self, query: &'a DueQuery) -> BoxFuture<'a, Result<DuePage, CatalogueError>>;

    /// The changes after a version, at most `limit` of them, the oldest first.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unavailable`].
    fn changes(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<CatalogueChanges, CatalogueError>>;

    /// Resolves when there may be changes after a version. The engine asks when it resolves, and not before: where a
    /// hint can be lost unnoticed, it resolves within a second all the same. It may resolve in vain. Default: after
    /// [`CATALOGUE_ASKED_EVERY`].
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any time.
    fn changed(&self, after: u64) -> BoxFuture<'_, ()> {
        let _ = after;
        Box::pin(sleep(CATALOGUE_ASKED_EVERY))
    }

    /// Resolves when it may be worthwhile to ask again after a question had no answer. The engine asks when it
    /// resolves, and not before. It does not resolve while nothing can answer, if that is known without asking.
    /// Default: after [`CATALOGUE_ASKED_EVERY`].
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any time.
    fn available(&self) -> BoxFuture<'_, ()> {
        Box::pin(sleep(CATALOGUE_ASKED_EVERY))
    }
}

/// Why a catalogue did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// No answer: what was asked may have been done.
    #[error("the catalogue did not answer: {reason}")]
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
    /// It refuses the change for its data.
    #[error("the catalogue refuses the definition: {reason}")]
    BadData {
        /// What it says, without passwords or connection strings.
        reason: String,
    },
}
