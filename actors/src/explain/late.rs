//! Why a run started later than planned.

use std::time::Duration;

use super::{
    answer::{Delay, Evidence},
    known::{Known, TickView},
};
use crate::port::{Decision, JobOperation, RunRecord};

/// A run that starts no later than this is on time.
const ON_TIME: Duration = Duration::from_secs(1);

/// What delayed a run; nothing if it was on time.
pub(super) fn delays(
    view: &TickView,
    record: &RunRecord,
    known: &Known,
    evidence: &mut Vec<Evidence>,
) -> Vec<Delay> {
    let Some(started_at) = record.started_at.filter(|_| record.lateness > ON_TIME) else {
        return Vec::new();
    };
    let mut delays = Vec::new();
    for decision in &known.decisions {
        let delay = match decision.decision {
            Decision::LeaderGap { from, to } if from < started_at && to > view.at => {
                Delay::LeaderGap { from, to }
            }
            // Of the node that started it.
            Decision::ClockStepped { by }
                if decision.node == record.node
                    && decision.at > view.at
                    && decision.at.checked_sub_signed(by.abs()).is_none_or(|from| from <= started_at) =>
            {
                Delay::ClockStepped { by }
            }
            Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RecordsDropped { .. }
            | Decision::Skipped { .. }
            | Decision::Vetoed { .. }
            | Decision::TriggerRefused { .. }
            | Decision::RunLost { .. } => continue,
        };
        delays.push(delay);
        evidence.push(Evidence::Decision(Box::new(decision.clone())));
    }
    let resumed = known.operations.iter().find(|operation| {
        operation.operation == JobOperation::Resumed && operation.at > view.at && operation.at <= started_at
    });
    if let Some(resumed) = resumed {
        delays.push(Delay::Paused { resumed_by: resumed.by.clone() });
        evidence.push(Evidence::Operation(Box::new(resumed.clone())));
    }
    let before = known.runs.iter().filter(|run| view.waits && run.run != record.run);
    let in_the_way = before.filter_map(|run| Some((run, run.ended_at?))).filter(|(run, ended_at)| {
        let began = run.started_at.is_some_and(|began| began < started_at);
        began && *ended_at > view.at && *ended_at <= started_at
    });
    if let Some((run, ended_at)) = in_the_way.max_by_key(|(_, ended_at)| *ended_at) {
        delays.push(Delay::Run { run: run.run, ended_at });
        evidence.push(Evidence::Run(Box::new(run.clone())));
    }
    if delays.is_empty() && record.attempt > 1 {
        delays.push(Delay::Lost { attempt: record.attempt });
    }
    if delays.is_empty() {
        delays.push(if view.has_slots { Delay::Slot } else { Delay::NotRecorded });
    }
    delays
}
