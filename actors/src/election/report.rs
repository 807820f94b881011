//! What the election actor reports to the supervisor of the jobs.

use actix::prelude::*;

use crate::name::Term;

/// What the election actor reports.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Report {
    /// The term in which this node leads from now on.
    LeadershipChanged(Option<Term>),
    /// The store's time, as this node knows it, has moved against the monotonic clock.
    StoreClockMoved,
    /// The actor died while this node led, in this term.
    Died(Term),
}
