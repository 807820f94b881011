//! What is known of a cluster afterwards, as values: what the store has, what the bodies wrote, what the nodes said.

use std::collections::BTreeMap;

use callsheet::Term;
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// What is heard last of a node.
pub(crate) const ENDED: &str = "ended";

/// A tick: a job's name, and its fire time in microseconds since 1970.
pub(crate) type Tick = (String, i64);

/// What the store has: every move of every cursor, in order, and every run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pub(crate) advances: Vec<Advance>,
    pub(crate) runs: Vec<Claimed>,
}

/// A move of a job's cursor.
#[derive(Debug, Clone)]
pub(crate) struct Advance {
    pub(crate) job: String,
    /// `None`: the job was created.
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: DateTime<Utc>,
    /// The run that was claimed for the newest of its ticks; `None`: all of them are skipped.
    pub(crate) run: Option<String>,
    /// The term in which the store was when it was made.
    pub(crate) term: Option<i64>,
}

/// A run as the store has it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) key: String,
    pub(crate) token: i64,
    pub(crate) term: Option<i64>,
    pub(crate) fire_time: Option<DateTime<Utc>>,
    pub(crate) claimed_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) outcome: Option<String>,
    /// The id of the node that claimed it.
    pub(crate) node: Option<String>,
}

impl Claimed {
    pub(crate) fn is_lost(&self) -> bool {
        self.outcome.as_deref() == Some("lost")
    }

    pub(crate) fn tick(&self) -> Option<Tick> {
        self.fire_time.map(|fire_time| (self.job.clone(), fire_time.timestamp_micros()))
    }
}

/// The row that a body wrote when it began, and completed when it ended.
#[derive(Debug, Clone)]
pub(crate) struct BodyMark {
    pub(crate) node: usize,
    pub(crate) job: String,
    pub(crate) key: String,
    pub(crate) run: String,
    pub(crate) token: i64,
    pub(crate) fire_time: Option<DateTime<Utc>>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

/// A line of a node: an event, or what its reporter says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Said {
    /// By the node's own clock.
    pub(crate) at: DateTime<Utc>,
    /// By the clock of whoever listens.
    #[serde(skip, default = "Utc::now")]
    pub(crate) heard_at: DateTime<Utc>,
    pub(crate) event: String,
    pub(crate) node: Option<String>,
    pub(crate) job: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) fire_time: Option<DateTime<Utc>>,
    pub(crate) reason: Option<String>,
    /// Why a run was cancelled.
    pub(crate) why: Option<String>,
    pub(crate) count: Option<u64>,
    pub(crate) term: Option<Term>,
    /// The process of the node, once it is ready.
    pub(crate) pid: Option<u32>,
    /// What its health says, of a report.
    pub(crate) healthy: Option<bool>,
    /// How long ago its health was asked for, of a report, in milliseconds.
    pub(crate) waited_ms: Option<i64>,
    /// The problems that it has, of a report.
    pub(crate) problems: Option<Vec<String>>,
    /// Its counters, of a report.
    pub(crate) counters: Option<BTreeMap<String, u64>>,
}

impl Said {
    pub(crate) fn ended() -> Self {
        Self { at: Utc::now(), heard_at: Utc::now(), event: ENDED.to_owned(), ..Self::default() }
    }
}

/// The id of a node, as it said it.
pub(crate) fn id_of(heard: &[(usize, Said)], node: usize) -> Option<&str> {
    heard.iter().filter(|(by, _)| *by == node).find_map(|(_, said)| said.node.as_deref())
}
