//! A term, and what a node hears of it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::name::{NodeId, Term};

/// How long a grant or a renewal may be trusted without another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// How long the store keeps the term for its leader after it granted or renewed it.
    pub duration: Duration,
    /// How much earlier the leader stops trusting it. Less than `duration`.
    pub margin: Duration,
}

/// A term that this node has won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The term: greater than every one granted before in this store and scope.
    pub term: Term,
    /// For how long it may be trusted; `None` is for ever.
    pub lease: Option<Lease>,
    /// How long the campaign had waited before it asked the store for the term: the lease is counted from
    /// then. Rather too short than too long.
    pub waited: Duration,
    /// The version of the time zone data by which the leader of the term before went, whichever node that
    /// was; `None` if there was none, or it is not known.
    pub former_zone_data: Option<Arc<str>>,
    /// Since when nobody is known to have decided ticks: what came due from then on until this node began is neither
    /// run nor skipped, as nobody knows of it. The engine records it as a
    /// [`LeaderGap`](super::super::Decision::LeaderGap). `None`: every tick is accounted for, or that is not for the
    /// store to say.
    pub undecided_from: Option<DateTime<Utc>>,
}

/// The answer to a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Campaign {
    /// This node leads.
    Won(Grant),
    /// Another node leads.
    Lost {
        /// The leader, if the store knows it.
        leader: Option<NodeId>,
        /// When to ask again; zero if the call itself waited.
        retry_in: Duration,
    },
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The term goes on for another lease, counted from the start of the attempt.
    Renewed,
    /// The term is over: another one was granted, or it was resigned or ran out.
    Deposed,
}

/// What a node sees of the others that may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// Who leads, if the store knows of somebody.
    pub leader: Option<NodeId>,
    /// Another node has a session that lives, and stands as a candidate.
    pub candidate: bool,
}
