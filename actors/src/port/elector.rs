//! Who leads.

mod handover;
mod term;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::handover::{HANDOVER_BEHIND_MAX, Handover, LeaderSaid};
pub use self::term::{Campaign, Grant, Lease, Observation, Renewal};
use crate::name::Term;

/// Grants terms. At any instant at most one node holds the newest term of a store and scope.
///
/// Leadership is an optimisation, the claim is the guarantee: a store may grant a new term while the old
/// leader still thinks that it leads, as long as the old term's claims are refused from then on.
pub trait Elector: Send + Sync + 'static {
    /// Asks for a term. If another node leads, waits at most `patience` for that to change. A store may
    /// answer earlier; the engine allows `patience` and [`CALL_DEADLINE`](crate::CALL_DEADLINE) for the whole
    /// call.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: it is unknown whether a term was granted. The caller does not lead; a
    /// term granted all the same lapses with its lease or its session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as an error.
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>>;

    /// Says whether this node stands as a candidate, to whom nodes leave the lead that would rather not have
    /// it; and looks at the others. A node stands from the opening of its session on, until it says
    /// otherwise. It asks for no term, and does not wait.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: it is unknown whether the others have heard of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as an error.
    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>>;

    /// Extends `term` by another lease.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: it is unknown whether the term was extended. It may be trusted only as
    /// long as without the attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as an error.
    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>>;

    /// Gives `term` up, so that another node can win at once. Claims of this node stay held. Giving up a term
    /// that is over already is no error.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: the term may last until its lease runs out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as an error.
    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>>;

    /// Where leaders leave word to the next one. It is not asked where a store keeps claims. Default: nowhere.
    fn handovers(&self) -> Option<&dyn Handovers> {
        None
    }
}

/// Where leaders leave their [`Handover`]s. There is one, the newest.
pub trait Handovers: Send + Sync {
    /// The handover that the newest leader left, if any did. It may be asked by any node.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: it is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>>;

    /// Extends `term` as [`Elector::renew`] does, and keeps `handover` in place of the one
    /// before. If the term is over, nothing is kept.
    ///
    /// # Errors
    ///
    /// [`ElectError::Unavailable`]: it is unknown whether the handover was kept, and whether the term was
    /// extended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has the same effect as an error.
    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>>;
}

/// Why an elector did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ElectError {
    /// The store could not be reached, or did not answer within its deadline.
    #[error("the store did not answer the elector: {reason}")]
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
