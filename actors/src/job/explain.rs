//! What a job's actor says of instants that are to be explained.

use chrono::{DateTime, Utc};

use crate::{
    core::{
        job::JobMachine,
        time::{FireTime, Now},
    },
    definition::Definition,
    explain::{EXPLAINED_MAX, TickView, When},
};

/// What a job's actor says of some instants.
pub(crate) struct TickViews {
    pub(crate) views: Vec<TickView>,
    /// From when on there are more than one answer explains.
    pub(crate) next: Option<DateTime<Utc>>,
}

impl TickViews {
    pub(super) fn of(
        definition: &Definition,
        machine: &JobMachine,
        now: Now,
        when: When,
        has_slots: bool,
    ) -> Self {
        let schedule = &definition.schedule;
        let view = |at: DateTime<Utc>, is_fire_time: bool| {
            let held = machine.held().any(|tick| tick.instant() == at);
            TickView {
                at,
                schedule: definition.description(),
                is_fire_time,
                previous: schedule.previous_before(at).map(FireTime::new),
                next: schedule.next_after(at).map(FireTime::new),
                why_not: if is_fire_time { None } else { schedule.why_not(at) },
                cursor: machine.cursor(),
                fires: machine.fires(),
                held_by: machine.pause().filter(|_| held).cloned(),
                run: machine.active_runs().next().map(|run| run.run),
                has_slots,
            }
        };
        // What counts from the end of runs has no fire times but the one that comes next.
        let fires_at = |at: DateTime<Utc>| {
            if schedule.counts_from_completion() {
                return machine.upcoming(now.wall, 1).first().is_some_and(|tick| tick.instant() == at);
            }
            schedule.next_after(before(at)) == Some(at)
        };
        match when {
            When::At(at) => Self { views: vec![view(at, fires_at(at))], next: None },
            When::Between { from, to } => {
                let mut views = Vec::new();
                let mut after = before(from);
                while let Some(at) = schedule.next_after(after).filter(|at| *at < to && *at > after) {
                    if views.len() == EXPLAINED_MAX {
                        return Self { views, next: Some(at) };
                    }
                    views.push(view(at, true));
                    after = at;
                }
                if views.is_empty() {
                    views.push(view(from, fires_at(from)));
                }
                Self { views, next: None }
            }
        }
    }
}

/// The last instant before another one, as far as schedules tell instants apart.
fn before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(chrono::TimeDelta::nanoseconds(1)).unwrap_or(at)
}
