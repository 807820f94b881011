//! Where backfills are kept.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::LockError;
pub use crate::core::backfill::{
    BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX,
    BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillState,
    StoredBackfill,
};
use crate::name::{By, JobName, Term};

/// Keeps backfills, for all nodes of a scope.
///
/// It decides nothing of their runs: these are claimed of the [`Locker`](super::Locker) of the same backend,
/// as every run. Three things are to hold there:
///
/// * While a backfill [is running](BackfillState::Running) and a fire time of it is
///   [in flight](BackfillProgress::in_flight), a claim of [its run](BackfillId::run), which has no tick, is
///   [`GrantedBefore`](super::Verdict::GrantedBefore) if that run has ended, however long ago that was and
///   whatever else ended since.
/// * A backfill that is kept or cancelled is told to every session:
///   [`Notification::BackfillsChanged`](super::Notification::BackfillsChanged).
/// * What is kept is bounded: [`BACKFILLS_OPEN_MAX`] that are running, and [`BACKFILLS_KEPT_MAX`] that are
///   over, the newest by their ids.
///
/// All calls go by the session that is open. Dropping a future has the same effect as
/// [`LockError::Timeout`].
pub trait Backfills: Send + Sync + 'static {
    /// Keeps a new backfill. One that is there already, by its id, stays as it is, and is kept.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it may be kept; ask again with the same id.
    fn put<'a>(&'a self, backfill: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>>;

    /// The backfills, of one job or of all, the newest first, with those that are over or without.
    ///
    /// # Errors
    ///
    /// Any: they are not known.
    fn list<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>>;

    /// Up to where the ticks of a job are decided: its cursor, of which a later tick may still run. `None` if the
    /// store knows no cursor of it: then none of its ticks is due.
    ///
    /// # Errors
    ///
    /// Any: it is not known.
    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>>;

    /// Changes how far a backfill is, as the leader of `term`: from the revision before that of `progress`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it may be done. If it is, the answer to the same
    /// call is [`Elsewhere`](BackfillMoved::Elsewhere).
    fn advance<'a>(
        &'a self,
        term: Term,
        backfill: BackfillId,
        progress: &'a BackfillProgress,
    ) -> BoxFuture<'a, Result<BackfillMoved, LockError>>;

    /// Cancels a backfill that is running: nothing changes its progress any more. Answers how it was left;
    /// `None` if none of this id is running.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it may be cancelled.
    fn cancel<'a>(
        &'a self,
        backfill: BackfillId,
        by: Option<&'a By>,
    ) -> BoxFuture<'a, Result<Option<StoredBackfill>, LockError>>;
}
