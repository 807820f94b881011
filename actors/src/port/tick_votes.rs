//! Where nodes agree on who starts a tick without a leader and without shared cursors.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    core::{skip::SkipReason, time::FireTime},
    name::{JobName, RunId},
};

/// Gives each tick to one run: several servers vote, and a majority decides.
///
/// It keeps no cursor, no key and no token. A tick is given away from the instant at which it is due until its
/// [window](TickVote::window) is over, by the clocks of the voters: what is asked for earlier or later is refused by
/// each of them. A voter remembers a vote for as long as it could be asked for the tick. One that may have forgotten
/// votes gives none for ticks that were due before it did. So no tick is given to two runs, whatever becomes of
/// messages, nodes and a minority of voters.
pub trait TickVotes: Send + Sync + 'static {
    /// Asks for ticks, each by itself: one answer for each, in their order, within
    /// [`CALL_DEADLINE`](crate::CALL_DEADLINE). Votes for a tick that is not [given](TickVoted::Given) to the run are
    /// given back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave votes that nobody uses: then the tick may be given to no run.
    fn ask<'a>(&'a self, ticks: &'a [TickVote]) -> BoxFuture<'a, Vec<TickVoted>>;

    /// Gives back ticks that were given, and that are not run.
    ///
    /// # Cancel safety
    ///
    /// As for [`ask`](Self::ask).
    fn give_back<'a>(&'a self, ticks: &'a [TickVote]) -> BoxFuture<'a, ()>;
}

/// A tick that a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickVote {
    /// The job.
    pub job: JobName,
    /// When the tick is due.
    pub fire_time: FireTime,
    /// The run. Asking again for the same one does no harm.
    pub run: RunId,
    /// The greatest lateness at which anybody may ask for the tick. All nodes name the same one: it follows from the
    /// job's misfire policy.
    pub window: Duration,
}

/// What became of a request for a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TickVoted {
    /// The run has it, and no other one ever gets it.
    Given,
    /// A majority voted for another run.
    GivenTo(RunId),
    /// No run has a majority, as far as is known, and one may get it: several asked at once, or some voters remember
    /// too little. Ask again for the same run, also where what was taken could not be given back.
    Split,
    /// No majority gives it to anybody any more, and it is unknown which run has it: so many voters may have forgotten
    /// how they voted, or find its window to be over, that the others are no majority. It is final.
    Lapsed {
        /// Why: [`Unproven`](SkipReason::Unproven) if some may have forgotten, [`Misfire`](SkipReason::Misfire)
        /// otherwise.
        reason: SkipReason,
    },
    /// It is not due by the clocks of a majority.
    Early {
        /// How long until it is.
        wait: Duration,
    },
    /// It is unknown: no majority answered.
    Unknown {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
