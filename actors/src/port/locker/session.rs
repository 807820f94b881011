//! A session, and what a node proves in it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::name::Term;

/// One life of the connection to the store. Whatever is held is held by a session and goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub u64);

/// What a node says when it proves that it could claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// The term in which it leads, once it knows of all its jobs whether something is due. `None` for a follower, and for a leader
    /// that does not know yet: they say nothing.
    pub term: Option<Term>,
    /// Since when a tick of a job that it leads is due and not decided, if one has been for longer than a lease.
    pub overdue_since: Option<DateTime<Utc>>,
    /// Since when the first tick is due that is not decided, however short that is. `None`: all that is due is decided.
    pub undecided_since: Option<DateTime<Utc>>,
}

/// What leaders said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Proved {
    /// Since when a tick is due and not decided, as the leader of the present term said, if there is one.
    pub overdue_since: Option<DateTime<Utc>>,
    /// How long ago, by the store's clock, all was decided that was due: when the leader of any term said so last, or since when
    /// the tick is due that it [said](Proof::undecided_since) is not. A term that begins changes nothing. `None`: none said it yet.
    pub decided_ago: Option<Duration>,
}

impl Proved {
    /// What leaders said.
    pub fn new(overdue_since: Option<DateTime<Utc>>, decided_ago: Option<Duration>) -> Self {
        Self { overdue_since, decided_ago }
    }
}
