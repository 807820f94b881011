//! What a leader leaves to the next one.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::name::{JobName, Term};

/// The most jobs of which a [`Handover`] says by name that they are behind.
pub const HANDOVER_BEHIND_MAX: usize = 64;

/// What a leader leaves to the next one, where the system that elects keeps no claims: up to when ticks are
/// decided, and up to when they may have been started.
///
/// ```text
/// ticks      |  |  |  |  |  |  |  |  |
///            decided │ unproven │ not started
///                    decided_to starts_to
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The term whose leader left it.
    pub term: Term,
    /// Every tick up to here is decided, but for those of the jobs that are `behind`.
    pub decided_to: DateTime<Utc>,
    /// The jobs of which an earlier tick is not decided, and that tick: all from it on are not. At most
    /// [`HANDOVER_BEHIND_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<(JobName, DateTime<Utc>)>,
    /// No tick after this instant was started by any leader before. Ticks that are not decided may have been
    /// up to here. `None`: none was started that is not decided.
    #[serde(default)]
    pub starts_to: Option<DateTime<Utc>>,
    /// What that leader said of what is due.
    #[serde(default)]
    pub said: LeaderSaid,
}

/// What a leader says of what is due, for the health of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeaderSaid {
    /// Since when a tick is due and not decided: see [`Proof::overdue_since`](crate::port::Proof::overdue_since).
    #[serde(default)]
    pub overdue_since: Option<DateTime<Utc>>,
    /// How often leaders said that all is decided.
    #[serde(default)]
    pub mark: u64,
    /// When one did last, by its clock.
    #[serde(default)]
    pub at: DateTime<Utc>,
}
