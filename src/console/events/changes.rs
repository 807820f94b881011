//! What is different from what was sent last.

use std::collections::BTreeMap;

use callsheet_actors::{Event, EventName};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::console::view::Row;

/// The most jobs of one diff.
pub(crate) const CHANGED_MAX: usize = 200;
/// The most runs of one diff.
pub(crate) const RUNS_MAX: usize = 100;

/// The events that are shown as they are.
pub(crate) const SHOWN: [EventName; 12] = [
    EventName::RunStarted,
    EventName::RunProgressed,
    EventName::RunRetried,
    EventName::RunSucceeded,
    EventName::RunFailed,
    EventName::RunPanicked,
    EventName::RunTimedOut,
    EventName::RunCancelled,
    EventName::RunLost,
    EventName::TickSkipped,
    EventName::LeadershipGained,
    EventName::LeadershipLost,
];

/// What changed of the jobs.
#[derive(Debug, Serialize)]
pub(crate) struct JobsChanged<'a> {
    pub(crate) changed: Vec<&'a Row>,
    pub(crate) removed: Vec<&'a str>,
    total: usize,
}

impl<'a> JobsChanged<'a> {
    /// What is different in `now` from what was sent `before`; `None` if nothing is.
    pub(crate) fn between(before: &'a BTreeMap<String, Row>, now: &'a BTreeMap<String, Row>) -> Option<Self> {
        let changed: Vec<_> = now.values().filter(|row| before.get(&row.name) != Some(row)).collect();
        let removed: Vec<_> =
            before.keys().filter(|name| !now.contains_key(*name)).map(String::as_str).collect();
        let total = now.len();
        (!changed.is_empty() || !removed.is_empty()).then_some(Self { changed, removed, total })
    }

    pub(crate) fn is_too_much(&self) -> bool {
        self.changed.len() + self.removed.len() > CHANGED_MAX
    }
}

/// What happened to runs.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunsChanged {
    runs: Vec<Happened>,
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Happened {
    at: DateTime<Utc>,
    #[serde(flatten)]
    kind: callsheet_actors::EventKind,
}

impl RunsChanged {
    /// One more event; of those that are too many the first are kept.
    pub(crate) fn add(&mut self, Event { at, kind, .. }: Event) {
        if self.runs.len() < RUNS_MAX {
            self.runs.push(Happened { at, kind });
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}
