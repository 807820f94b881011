//! Versioned records, for a coordination store that keeps values and compares before it writes.

mod commit;
mod error;
mod hint;
mod limits;
mod name;
mod snapshot;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::{
    commit::{Change, Commit, Committed, RecordChange, Unit, UnitAnswer},
    error::RecordsError,
    hint::{HINT_BYTES_MAX, HINTS_WAITING_MAX, Heard, HintStream},
    limits::{RecordLimits, RecordTraits},
    name::{RECORD_ID_MAX, RecordKind, RecordName, RecordServer, RecordSession, Version},
    snapshot::{ListedRecord, RecordPage, RecordSnapshot, StoredRecord},
};

/// A store of versioned records, as one client of one scope sees it: the smallest thing on which nodes can
/// coordinate.
///
/// A record is a name and at most [`RecordLimits::record_bytes`] bytes, which mean nothing to the store. Each
/// write gives it another [`Version`]. Sessions are leases: they end when they are not renewed. All clients of
/// one scope see the same records and sessions; those of another scope see none of them.
///
/// An adapter holds no rules of scheduling. Those are written once, in the engine, and work over this port. The
/// suite `testkit::conformance::records` checks everything that is said here; [`Backend`](super::Backend)s over
/// a store that passes it obey `testkit::conformance::{elector, locker}`.
///
/// # What is atomic
///
/// * [`read`](Self::read) answers all records and sessions as they were at one instant.
/// * Each [`Unit`] of a [`commit`](Self::commit) is made as a whole, at one instant at which all guards of the
///   commit held and all versions that it names were the present ones. Two units of one commit may be made at
///   different instants, in any order, and one may be made while another is refused.
/// * [`list`](Self::list) is not: its records are as they were at some instant during the call.
///
/// Whatever was answered is seen by every call of every client that begins afterwards.
///
/// # Deadlines
///
/// Each call answers within the deadline that its adapter is configured with, which is at most
/// [`CALL_DEADLINE`](crate::CALL_DEADLINE), or is an error. An adapter connects again by itself. It makes no
/// call twice of its own accord, as the first one may have been made.
///
/// # Sessions are final
///
/// An id is used once: it is random, or given by the store. Once anybody was answered that a session is gone, it
/// is gone in every answer from then on, and no renewal brings it back. So a decision that rests on a session
/// being gone needs no guard; one that rests on a session being alive does. A store whose sessions end by a
/// clock makes sure of that by ending for good whatever it finds expired, before it says so.
pub trait Records: Send + Sync + 'static {
    /// What one call may hold. Does not change while the client lives.
    fn limits(&self) -> RecordLimits;

    /// What the store can do beyond what every store can. Does not change while the client lives.
    fn traits(&self) -> RecordTraits;

    /// Which server answered the last call, of a store that may put another one in its place which does not know what
    /// the former one had answered: a replica that is promoted, or one that starts again without its newest writes.
    /// `None`: none has answered yet; or the store does not tell, or loses nothing.
    ///
    /// A store that tells compares it with [`Commit::server`] when it makes a commit. The engine then grants no tick
    /// that
    /// was due before such a change until every node that lives has said what it knows of it.
    fn server(&self) -> Option<RecordServer> {
        None
    }

    /// Opens a session that lives for `ttl` from the instant at which the store opens it, unless it is renewed
    /// or ended. A store may keep it for longer, up to [`RecordTraits::expires_within`] more, but never for
    /// less.
    ///
    /// # Errors
    ///
    /// * [`RecordsError::Timeout`]: one may be open, which nobody knows, and which ends by itself.
    /// * [`RecordsError::Refused`]: the store is set up so that it cannot keep what it promises, or `ttl` is
    ///   none that it [takes](RecordLimits::ttl).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`RecordsError::Timeout`].
    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>>;

    /// Lets a session live for another `ttl`, the one with which it was opened, from now on: whether it was
    /// alive. `false` is final.
    ///
    /// # Errors
    ///
    /// [`RecordsError::Timeout`]: it is unknown. The session is known to live only as long as without the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`RecordsError::Timeout`].
    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>>;

    /// Ends a session at once and for good. Ending one that is gone is no error.
    ///
    /// # Errors
    ///
    /// [`RecordsError::Timeout`]: it may live until its time to live is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`RecordsError::Timeout`].
    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>>;

    /// Reads records and says which sessions are alive, all as at one instant: at most
    /// [`RecordLimits::reads`] of both together. A name may occur twice.
    ///
    /// # Errors
    ///
    /// Any: nothing is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>>;

    /// Makes the units whose versions are the present ones, if the guards hold.
    ///
    /// The adapter calls [`Commit::check`] first, so that what breaks a limit is refused before anything is
    /// done. A commit without units says whether the guards hold.
    ///
    /// # Errors
    ///
    /// * [`RecordsError::Timeout`]: each unit may have been made, or not, or may yet be made. Read the records
    ///   again: once a unit's record has another version, that unit has been made or never will be.
    /// * [`RecordsError::Unavailable`], [`RecordsError::NotDone`], [`RecordsError::OverLimit`]: nothing was done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as [`RecordsError::Timeout`]. The engine does not do it: a task of
    /// its own waits for the answer.
    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>>;

    /// The records of one kind, in the order of the bytes of their ids: at most `limit` of those `after` an id,
    /// or the first ones. A store may answer fewer, and says whether there may be more.
    ///
    /// Who asks page by page, each page after the last id of the one before, meets every record that is there
    /// all the time exactly once, whatever is written meanwhile.
    ///
    /// # Errors
    ///
    /// Any: nothing is known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>>;

    /// Subscribes to the hints of all clients of the scope, its own included: those of units that are made after
    /// this was answered. Several subscriptions may be open.
    ///
    /// The stream goes on when the store was away: after each gap it answers [`Heard::Lagged`]. It ends only if
    /// the client is dropped. A store that [has no hints](RecordTraits::hints) answers a stream of which nothing
    /// comes.
    ///
    /// # Errors
    ///
    /// Any: there is no subscription.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the stream, ends the subscription.
    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>>;
}
