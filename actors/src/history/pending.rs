//! Decisions that are counted together until their minute is over.

use std::time::Duration;

use foldhash::HashMap;

use crate::{name::JobName, port::DecisionRecord};

/// How long equal decisions are counted together.
pub(super) const COUNTED_FOR: Duration = Duration::from_mins(1);

/// The most decisions that are counted at once. When there are more, all are handed on, and counted anew.
const COUNTED_MAX: usize = 4_096;

/// Decisions that are counted together: of one job, for one reason.
#[derive(Default)]
pub(super) struct Pending(HashMap<(Option<JobName>, &'static str), Counted>);

struct Counted {
    since: Duration,
    record: DecisionRecord,
    /// It counts more than was handed on.
    is_new: bool,
}

impl Pending {
    /// Takes a decision in at the monotonic reading `now`. What is over goes to `over`.
    pub(super) fn add(&mut self, now: Duration, record: DecisionRecord, over: &mut Vec<DecisionRecord>) {
        if !record.decision.is_coalesced() {
            over.push(record);
            return;
        }
        if self.0.len() >= COUNTED_MAX {
            self.close(None, over);
        }
        let key = (record.job.clone(), record.decision.reason());
        if let Some(counted) = self.0.get_mut(&key) {
            if now.saturating_sub(counted.since) < COUNTED_FOR {
                counted.record.add(record);
                counted.is_new = true;
                return;
            }
            if counted.is_new {
                over.push(counted.record.clone());
            }
        }
        self.0.insert(key, Counted { since: now, record, is_new: true });
    }

    /// Hands on those whose minute is over; all if there is no `now`.
    pub(super) fn close(&mut self, now: Option<Duration>, over: &mut Vec<DecisionRecord>) {
        self.0.retain(|_, counted| {
            let goes_on = now.is_some_and(|now| now.saturating_sub(counted.since) < COUNTED_FOR);
            if !goes_on && counted.is_new {
                over.push(counted.record.clone());
            }
            goes_on
        });
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands on what was counted so far. It is counted on.
    pub(super) fn show(&mut self, shown: &mut Vec<DecisionRecord>) {
        for counted in self.0.values_mut().filter(|counted| counted.is_new) {
            counted.is_new = false;
            shown.push(counted.record.clone());
        }
    }
}
