//! A session, and what a node proves in it.

use chrono::{DateTime, Utc};

use crate::name::Term;

/// One life of the connection to the store. Whatever is held is held by a session and goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub u64);

/// What a node says when it proves that it could claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// The term in which it leads; `None` for a follower, which says nothing.
    pub term: Option<Term>,
    /// Since when a tick of a job that it leads is due and not decided, if there is one.
    pub overdue_since: Option<DateTime<Utc>>,
}

/// What the leader of the present term said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Proved {
    /// Since when a tick is due and not decided, if there is one.
    pub overdue_since: Option<DateTime<Utc>>,
}

impl Proved {
    /// What the leader said.
    pub fn new(overdue_since: Option<DateTime<Utc>>) -> Self {
        Self { overdue_since }
    }
}
