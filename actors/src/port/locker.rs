//! Who may run what.

mod at_once;
mod claim;
mod completion;
mod cursor_advance;
mod enrolment;
mod forgetting;
mod notification;
mod pending_retry;
mod session;

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join3, ready},
};

pub use self::{
    at_once::AtOnce,
    claim::{Authority, ClaimRequest, TickClaim, Verdict},
    completion::{Completed, Completion},
    cursor_advance::{Advanced, CursorAdvance},
    enrolment::{
        Declaration, Enrolled, EnrolledSchedule, Enrolment, Inquiry, LeaderView, NameUse, StoredState,
    },
    forgetting::{AGES_AT_MOST, Forgotten},
    notification::Notification,
    pending_retry::{ClosedRuns, LostRun, PendingRetry, PendingRetryOfJob},
    session::{Decided, Proof, Proved, Session},
};
use super::{Divergence, KnownHistory, Obstacle, OtherZoneData};
use crate::{
    core::pause::Pause,
    name::{JobName, LockKey, RunId, Term},
};

/// Hands out claims, in order and in batches.
///
/// Every call takes effect as a whole before the next one made on the same session. It belongs to the session
/// that was open when it was made: if that one is lost meanwhile, the answer is [`LockError::SessionLost`],
/// and nothing is taken in the name of a later one. Answers come one per request, in the order of the
/// requests; an answer is not an error. One bad request fails alone.
///
/// Sessions: [`open`](Self::open) starts one; while it lives this node holds what it claimed. When it dies,
/// its keys can be taken over by others, completions of its runs are refused, and [`lost`](Self::lost)
/// resolves.
pub trait Locker: Send + Sync + 'static {
    /// Opens a session, after the former one was lost or for the first time.
    ///
    /// # Errors
    ///
    /// * [`LockError::Unavailable`], [`LockError::Timeout`]: no session is open; ask again later.
    /// * [`LockError::Refused`]: no session is open, and none will be until somebody changes something.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no session open.
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>>;

    /// Resolves when `session` is lost, or at once if it is lost already, with the reason, which is logged:
    /// what happened, and the cure where there is one, without passwords or connection strings.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    fn lost(&self, session: Session) -> BoxFuture<'_, String>;

    /// Whether this node may still start what `session` was granted: whether nobody else may have been
    /// granted it meanwhile, as far as this node's monotonic clock tells.
    ///
    /// Asked on the body's thread right before each attempt of a run, so that a process that was frozen
    /// between the grant and the body starts nothing when it goes on. Answers at once, without I/O. `false`
    /// for a session that is lost, or that was followed by another one.
    fn trusts(&self, session: Session) -> bool;

    /// Takes `session` for lost, if it is open still, so that [`lost`](Self::lost) answers `reason`: the store
    /// has forgotten what it recorded of the session, as one that was restored from before has. What it holds
    /// can be taken over then. Answers at once, without I/O. Default: nothing, for a store whose state nobody
    /// sets back while nodes run.
    fn discard(&self, _session: Session, _reason: &str) {}

    /// Waits until it may be worthwhile to ask again what a node asks now and then, because it may not have
    /// been told: whether the leader has its jobs, which runs are lost, by which time zone data others go.
    ///
    /// Default: `period` from now. A store that knows of every change may wait for one, and answer a whole
    /// number of periods after the call.
    fn next_look(&self, period: Duration) -> BoxFuture<'_, ()> {
        async move { tokio::time::sleep(period).await }.boxed()
    }

    /// How much the wall clock of this node is ahead of the store's (negative: behind), as the last round
    /// trip measured it. The engine decides by the store's time what is due. Default: not at all, for a store
    /// that uses the node's clock.
    fn clock_ahead(&self) -> TimeDelta {
        TimeDelta::zero()
    }

    /// How long a round trip to the store takes at present: what the shortest of the last few took. Answers
    /// at once, without I/O. Default: it is not known, as for a store in the same process.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// For how long one snapshot, of anybody, has made the store keep dead versions of rows, as this session
    /// has seen it; zero while none has. Answers at once, without I/O. Default: zero, for a store whose
    /// claims cost the same however old a snapshot is.
    fn snapshot_age(&self) -> Duration {
        Duration::ZERO
    }

    /// What is in the way of the session at present, as the last round trips found it: at most
    /// [`OBSTACLES_MAX`](super::OBSTACLES_MAX). Answers at once, without I/O. Default: nothing, for a store
    /// in which nobody can hold anything for longer than a lease.
    fn obstacles(&self) -> Vec<Obstacle> {
        Vec::new()
    }

    /// Ends the session and frees what it holds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it unknown whether the session ended.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Marks jobs as scheduled under a term and answers their cursors. Declares the overlap policies of their
    /// keys: of several that are enrolled at once with one key and different policies, on however many nodes,
    /// those with one policy are. One's own declarations, of this session and of its terms, stand in nobody's
    /// own way.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: ask again, it does no harm.
    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>>;

    /// Answers, for each, the overlap policy that others who live declare for the key, if it is another one,
    /// and unless the leader, another node, schedules the job. Changes nothing: the enrolment decides.
    /// Default: none, for a store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        ready(Ok(vec![None; asked.len()])).boxed()
    }

    /// This session, and its term, declare no policy for these keys any more, and the session fires no jobs of
    /// these names without a term. Default: nothing, for a store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: some may still be declared, until the engine asks
    /// again, or the term or the session ends.
    fn retract<'a>(&'a self, _: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        ready(Ok(())).boxed()
    }

    /// The versions of the time zone data by which the nodes of other open sessions go, if they differ from
    /// [this node's](super::Backend::set_zone_data) and are known: each once, at most
    /// [`OTHER_ZONE_DATA_MAX`](super::OTHER_ZONE_DATA_MAX) of them. Asked once a minute. Default: none, for a
    /// store of one node.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        ready(Ok(Vec::new())).boxed()
    }

    /// What of a node's own history the store does not know: it is another store than the one that granted
    /// it, or one that was put in its place without its last commits. Asked once in each session but the
    /// first one, and again of the runs that were answered; more often after an error. Changes nothing.
    /// Default: nothing, for a store that ends with the process.
    ///
    /// # Errors
    ///
    /// Any: it is not known.
    fn compare<'a>(&'a self, _: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        ready(Ok(Divergence::default())).boxed()
    }

    /// Answers what the present leader does with `jobs`, as it stands now. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>>;

    /// Says, as the leader of `term`, that jobs were removed on purpose. Their cursors are kept as a lower
    /// bound for a job of the same name: a node that has it all the time goes on from there. If the term is
    /// over, nothing changes: its successor decides which jobs there are. A job that somebody else has locked
    /// stays enrolled, which does no harm.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: the jobs may still stand as enrolled, which does
    /// no harm.
    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>>;

    /// Pauses jobs for all nodes, or resumes them, and tells every node: [`Notification::PauseChanged`]. A
    /// job that the store does not know can be paused: it is when it is enrolled. Once it is answered, no
    /// tick of a paused job is granted. Who resumes a job starts the count of its failures again. A pause
    /// until an instant that is over by the store's clock resumes. Answers which jobs were changed by it: one
    /// that was paused alike, or was not paused when it is resumed, was not.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: it is unknown which were changed; ask again, it does no harm. Perhaps
    ///   somebody else has locked one all the time.
    /// * [`LockError::SessionLost`]: as well.
    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>>;

    /// The next thing that another node, or this one, did and that concerns this session; pending for ever
    /// once the session is lost. Notifications are hints: one may be lost, and what it says is in the store,
    /// where a claim meets it. If so many wait that the oldest are dropped, [`Notification::Lagged`] comes in
    /// their place.
    ///
    /// Where anybody else could forge what nodes are told, the store is asked before it is believed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing that a later call would have answered.
    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification>;

    /// Proves that this node could claim, by doing what a claim does without claiming anything: whatever
    /// would refuse a claim (missing tables or rights, a read-only store, a full disk) is to refuse this as
    /// well. The store must know the term of a leader. It keeps what the leader says, and answers what
    /// leaders said last. Asked about once a lease, and four times a lease, or once a second if that is more
    /// often, while no leader says that what is due is decided. Default: nothing, for a store of one node.
    ///
    /// # Errors
    ///
    /// Any: a claim would probably fail.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        ready(Ok(Proved::new(proof.overdue_since, None))).boxed()
    }

    /// Claims each run in `requests`, in one round trip, without waiting for other holders.
    ///
    /// A claim that this session was granted already and has not completed is granted again, with the same
    /// token. A [recheck](ClaimRequest::recheck) is [`GrantedBefore`](Verdict::GrantedBefore) or
    /// [`NotGranted`](Verdict::NotGranted) otherwise, and nothing changes. One without a tick whose run has
    /// ended or was lost is `GrantedBefore`, unless it [resumes](ClaimRequest::resume_lost) it. A claim of a
    /// tick may be refused for another reason although its run was granted before: then the engine rechecks
    /// it. At most one claim per job and one per key is granted in a batch; the second is `Busy`.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: no answer within the deadline. It is unknown which claims were taken; ask
    ///   again with the same run ids.
    /// * [`LockError::SessionLost`]: everything that this node held is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>>;

    /// Records the ends of runs and frees their keys. An end that was recorded already is recorded, by
    /// whichever session. [`Stale`](Completed::Stale) is final: it is not answered while a former session of
    /// the node may still record the end.
    ///
    /// # Errors
    ///
    /// * [`LockError::Timeout`]: it is unknown which were recorded; ask again, it does no harm.
    /// * [`LockError::SessionLost`]: none will be; the next leader closes the runs as lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`LockError::Timeout`].
    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>>;

    /// Frees the keys of runs whose ends the store refuses for their data, one by one: nothing else of these
    /// ends is kept, and a run of which its store keeps no end is in none of its lists. A key that was freed
    /// before, also if it has been claimed since, is [`Recorded`](Completed::Recorded), unless the run was
    /// closed as lost. Otherwise as [`complete`](Self::complete), which is the default, for a store that
    /// refuses no end.
    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.complete(ends)
    }

    /// The way to ask without waiting, for a store in the memory of this process. Default: none.
    fn at_once(&self) -> Option<&dyn AtOnce> {
        None
    }

    /// Moves cursors over ticks that nobody runs.
    ///
    /// # Errors
    ///
    /// As for [`claim`](Self::claim).
    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>>;

    /// Completes, claims and moves, as three calls do that are made one after the other in this order: a key
    /// that is freed can be claimed at once. What is empty is not asked. Default: these three calls, side by
    /// side; a store whose commits are dear makes it one.
    ///
    /// # Cancel safety
    ///
    /// As for the three calls.
    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move {
            let (ended, claimed, advanced) = join3(
                unless_empty(ends, |ends| self.complete(ends)),
                unless_empty(claims, |claims| self.claim(claims)),
                unless_empty(advances, |advances| self.advance(advances)),
            )
            .await;
            RoundAnswers { ended, claimed, advanced }
        }
        .boxed()
    }

    /// Closes, as lost, up to `limit` open runs of dead sessions, and frees their keys. It may search for a
    /// bounded time only, and says whether there may be more. The engine asks on the leader alone, but the
    /// store asks for no term: whichever node asks, each run is closed once.
    /// Every node is notified of what is to be retried: [`Notification::PendingRetry`], as it is when a claim
    /// takes the key of a dead session.
    ///
    /// # Errors
    ///
    /// As for [`claim`](Self::claim).
    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>>;

    /// This node still has these jobs: they are not to be [forgotten](Self::forget), unless they were
    /// withdrawn. Asked again and again; what was held within the last `fresh` of the store's
    /// [age](Self::forget) may stay as it is. Jobs that somebody else has locked are left for the next time.
    /// Default: nothing, for a store of one node, whose jobs are enrolled and withdrawn by that node alone.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: ask again, it does no harm.
    fn keep_names<'a>(&'a self, _: &'a [JobName], _fresh: Duration) -> BoxFuture<'a, Result<(), LockError>> {
        ready(Ok(())).boxed()
    }

    /// Forgets, as the leader of `term`, names of jobs and lock keys that were withdrawn, or not
    /// [kept](Self::keep_names), enrolled or claimed by any node, for as long as `after`; not one that has an
    /// open run, a pending retry, a pause that is not over, or whose policy is declared by anybody who lives.
    /// Time counts only while somebody leads: a store that nobody uses does not age. It may work for a
    /// bounded time only, and says whether there may be more.
    ///
    /// Nothing of a name is kept. One that is created again owes no tick up to the newest cursor that was
    /// ever forgotten, and its tokens are greater than any that was: no tick is opened again, and no token
    /// lowered. If the term is over, nothing changes. Default: nothing is ever forgotten.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: some may be forgotten; ask again, it does no harm.
    fn forget(&self, _: Term, _after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        ready(Ok(Forgotten::default())).boxed()
    }

    /// The pending retries of all jobs, in the order of their runs: up to `limit` of those `after` a run, or
    /// the first ones. Fewer than `limit` answers mean that there are no more. Changes nothing. This is how a
    /// node learns of what it was not told.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`], [`LockError::SessionLost`]: it is not known.
    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>>;
}

/// The answers to what was asked in one round.
#[derive(Debug, Clone)]
pub struct RoundAnswers {
    /// As [`Locker::complete`] answers.
    pub ended: Result<Vec<Completed>, LockError>,
    /// As [`Locker::claim`] answers.
    pub claimed: Result<Vec<Verdict>, LockError>,
    /// As [`Locker::advance`] answers.
    pub advanced: Result<Vec<Advanced>, LockError>,
}

impl RoundAnswers {
    /// The same error to all.
    pub fn failed(error: &LockError) -> Self {
        Self { ended: Err(error.clone()), claimed: Err(error.clone()), advanced: Err(error.clone()) }
    }
}

async fn unless_empty<'a, T, A>(
    items: &'a [T],
    ask: impl FnOnce(&'a [T]) -> BoxFuture<'a, Result<Vec<A>, LockError>>,
) -> Result<Vec<A>, LockError> {
    if items.is_empty() { Ok(Vec::new()) } else { ask(items).await }
}

/// Why a locker did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// No session was opened, and waiting may help: the store is not there, or is not ready. Nothing was
    /// asked, nothing is held.
    #[error("{reason}")]
    Unavailable {
        /// What happened and, after `"; "`, what would mend it, without passwords or connection strings.
        reason: String,
    },
    /// No session was opened: the store refuses this node, and asking again does not help until somebody
    /// changes something. Nothing was asked, nothing is held.
    #[error("{reason}")]
    Refused {
        /// What is refused and, after `"; "`, what would mend it, without passwords or connection strings.
        reason: String,
    },
    /// No answer within the deadline: what was asked may have been done or not.
    #[error("the store did not answer within the deadline")]
    Timeout,
    /// The store refuses something in this call for its data: a text, a number or an instant that it cannot
    /// keep, or a rule of its own that an item breaks. Nothing was done for the bad item, nor for those that
    /// the store takes together with it; for others of the call it may have been: asking again with the same
    /// ids does no harm.
    ///
    /// The engine halves the call until the bad item stands alone, and parks the job of that item once
    /// something of another job gets through. Not for what concerns every call: that is
    /// [`NotDone`](Self::NotDone).
    #[error("the store refuses its data: {reason}")]
    BadData {
        /// What the store says, without passwords or connection strings.
        reason: String,
    },
    /// The store refuses whatever it is asked, or cannot do it just now: rights, a full disk, a read-only
    /// server. Or it answered what the adapter does not understand, so that what was asked may have been done
    /// as well. In each case asking again with the same ids does no harm, and no item is to blame.
    #[error("{reason}")]
    NotDone {
        /// What the store says and, after `"; "`, what would mend it, without passwords or connection
        /// strings.
        reason: String,
    },
    /// The session is over, and with it everything that this node held.
    #[error("the session with the store is lost: {reason}")]
    SessionLost {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
