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
    /// The term in which it leads, once it knows of all its jobs whether something is due. `None` for a
    /// follower, and for a leader that does not know yet: they say nothing.
    pub term: Option<Term>,
    /// Since when a tick of a job that it leads is due and not decided, if one has been for longer than a
    /// lease.
    pub overdue_since: Option<DateTime<Utc>>,
    /// The leader knows of no tick that is due and not decided, for however short a time, nor of one that was missed and
    /// waits for its turn.
    pub all_decided: bool,
    /// Missed ticks wait for their turns to be made up for at a [pace](crate::EngineOptions::catch_up_per_second), and
    /// by then each of them is to have begun; `None`: none waits.
    pub catching_up_until: Option<DateTime<Utc>>,
}

/// What leaders said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Proved {
    /// Since when a tick is due and not decided, as the leader of the present term said, if there is one.
    pub overdue_since: Option<DateTime<Utc>>,
    /// By when each missed tick that waits for its turn is to have begun, as the leader of the present term said, if one
    /// waits.
    pub catching_up_until: Option<DateTime<Utc>>,
    /// When a leader of any term said last that [all is decided](Proof::all_decided); a term that begins
    /// changes nothing. `None`: the present leader never says so, as it is of a version before.
    pub decided: Option<Decided>,
}

/// When a leader said last that all is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decided {
    /// Another one each time that a leader says so; 0: none did yet. Only this tells that somebody said
    /// something.
    pub mark: u64,
    /// How long ago, by the store's clock: the node believes it no further than back to its last proof.
    pub ago: Duration,
}

impl Proved {
    /// What leaders said.
    pub fn new(overdue_since: Option<DateTime<Utc>>, decided: Option<Decided>) -> Self {
        Self { overdue_since, catching_up_until: None, decided }
    }

    /// The leader makes up for missed ticks until then.
    #[must_use]
    pub fn catching_up_until(self, until: Option<DateTime<Utc>>) -> Self {
        Self { catching_up_until: until, ..self }
    }
}
