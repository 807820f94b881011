//! Where backfills are kept.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::LockError;
pub use crate::core::backfill::{
    BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX,
    BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillState,
    BackfillStatus, StoredBackfill,
};
use crate::{
    core::time::FireTime,
    name::{By, JobName, Term},
};

/// Keeps backfills, for all nodes of a scope.
///
/// Their [runs](BackfillId::run) are claimed of the [`Locker`](super::Locker) of the same backend, without a tick. The
/// row of the backfill decides these claims, besides the lock key:
///
/// * A claim is [`NotGranted`](super::Verdict::NotGranted) unless the backfill
///   [is running](BackfillState::Running) and the fire time is [in flight](BackfillProgress::in_flight): whoever
///   led before, or asks for one that was cancelled, starts nothing.
/// * The fire times whose runs were [granted](StoredBackfill::granted) are kept for as long as they are in flight, and
///   after it was cancelled.
/// * A run is granted once. A further claim is [`RanBefore`](super::Verdict::RanBefore), whatever its lock key. It
///   says how the run ended, however long ago that was and whatever else ended since; it does not while the run is
///   open, or lost and to be retried. Only the session that has the run, and asks for it under the same key, is
///   granted it again.
/// * The store notes when it granted one last: [`since_start`](StoredBackfill::since_start).
///
/// Three more things are to hold:
///
/// * A backfill has no fire time in common with another one of its job that [has or had a run of
///   it](StoredBackfill::taken_fire_times), though they are put at one instant, unless it is to run them
///   [again](StoredBackfill::again).
/// * A backfill that is kept or cancelled is told to every session:
///   [`Notification::BackfillsChanged`](super::Notification::BackfillsChanged).
/// * What is kept is bounded: [`BACKFILLS_OPEN_MAX`] that are running, and [`BACKFILLS_KEPT_MAX`] that are
///   over, the newest by their ids.
///
/// All calls go by the session that is open. Dropping a future has the same effect as
/// [`LockError::Timeout`].
pub trait Backfills: Send + Sync + 'static {
    /// Keeps a new backfill, unless it [overlaps](BackfillPut::Overlaps) with a running one of the job, or there are
    /// too many. One that is there already, by its id, stays as it is, and is kept.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it may be kept; ask again with the same id.
    fn put<'a>(&'a self, backfill: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>>;

    /// The backfills, of one job or of all, the newest first, with all of their fire times; with those that are
    /// over or without.
    ///
    /// # Errors
    ///
    /// Any: they are not known.
    fn rows<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>>;

    /// How far the backfills are, of one job or of all, the newest first. It costs nothing for each fire time.
    ///
    /// # Errors
    ///
    /// Any: they are not known.
    fn list<'a>(&'a self, job: Option<&'a JobName>) -> BoxFuture<'a, Result<Vec<BackfillStatus>, LockError>>;

    /// Up to where the ticks of a job are decided: its cursor, of which a later tick may still run. `None` if the
    /// store knows no cursor of it: then none of its ticks is due.
    ///
    /// # Errors
    ///
    /// Any: it is not known.
    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>>;

    /// The fire times of the ticks of a job whose runs are not over: those that were granted and have not ended, as
    /// far as the store knows, whether or not their bodies are in progress, and those that were lost and are to be
    /// retried. In any order.
    ///
    /// # Errors
    ///
    /// Any: they are not known.
    fn open_fire_times<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Vec<FireTime>, LockError>>;

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
    ) -> BoxFuture<'a, Result<Option<BackfillStatus>, LockError>>;
}
