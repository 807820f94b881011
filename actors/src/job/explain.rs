//! What a job's actor says of instants that are to be explained.

use chrono::{DateTime, Utc};

use crate::{
    core::{
        contract::next_after,
        job::JobMachine,
        pause::Pause,
        policy::{Misfire, Overlap},
        time::{FireTime, Now},
    },
    definition::Definition,
    explain::{EXPLAINED_MAX, TickView, When},
    port::{NotDue, Schedule},
};

/// The most fire times that are counted for one question.
const COUNTED_MAX: u64 = 20_000;

/// What a job's actor says of some instants.
pub(crate) struct TickViews {
    pub(crate) views: Vec<TickView>,
    /// From when on there are more than one answer explains.
    pub(crate) next: Option<DateTime<Utc>>,
    /// The fire times of the range, but for those here, are only known from what is recorded: they count from
    /// the end of runs. The views of them are as this one.
    pub(crate) recorded: Option<Box<TickView>>,
}

impl TickViews {
    pub(super) fn of(
        definition: &Definition,
        machine: &JobMachine,
        now: Now,
        when: When,
        has_slots: bool,
    ) -> Self {
        let schedule = &*definition.schedule;
        let asked = Asked { definition, machine, now: now.wall, has_slots };
        let one = |view| Self { views: vec![view], next: None, recorded: None };
        if schedule.counts_from_completion() {
            // It has no fire times but the one that comes next.
            let next = machine.upcoming(now.wall, 1).first().copied();
            return match when {
                When::At(at) => one(asked.of_completion(at, next)),
                When::Between { from, to } => {
                    let is_meant = |tick: &FireTime| (from..to).contains(&tick.instant());
                    let views = next.filter(is_meant).map(|tick| asked.of_completion(tick.instant(), next));
                    let recorded = Some(Box::new(asked.of_completion(from, next)));
                    Self { views: views.into_iter().collect(), next: None, recorded }
                }
            };
        }
        let fires_at = |at: DateTime<Utc>| schedule.next_after(before(at)) == Some(at);
        match when {
            When::At(at) => one(asked.view(at, fires_at(at))),
            When::Between { from, to } => {
                let mut views = Vec::new();
                let mut after = before(from);
                while let Some(at) = schedule.next_after(after).filter(|at| *at < to && *at > after) {
                    if views.len() == EXPLAINED_MAX {
                        return Self { views, next: Some(at), recorded: None };
                    }
                    views.push(asked.view(at, true));
                    after = at;
                }
                if views.is_empty() {
                    views.push(asked.view(from, fires_at(from)));
                }
                Self { views, next: None, recorded: None }
            }
        }
    }
}

/// The job that is asked.
struct Asked<'a> {
    definition: &'a Definition,
    machine: &'a JobMachine,
    now: DateTime<Utc>,
    has_slots: bool,
}

impl Asked<'_> {
    fn view(&self, at: DateTime<Utc>, is_fire_time: bool) -> TickView {
        let schedule = &self.definition.schedule;
        TickView {
            previous: schedule.previous_before(at).map(FireTime::new),
            next: schedule.next_after(at).map(FireTime::new),
            why_not: if is_fire_time { None } else { schedule.why_not(at) },
            ..self.without_neighbours(at, is_fire_time)
        }
    }

    /// Of a job whose fire times count from the end of its runs: only the `next` one is known.
    fn of_completion(&self, at: DateTime<Utc>, next: Option<FireTime>) -> TickView {
        let is_next = next.is_some_and(|next| next.instant() == at);
        TickView {
            next: next.filter(|next| next.instant() > at),
            why_not: if is_next { None } else { Some(NotDue::AfterCompletion) },
            ..self.without_neighbours(at, is_next)
        }
    }

    fn without_neighbours(&self, at: DateTime<Utc>, is_fire_time: bool) -> TickView {
        let Self { definition, machine, has_slots, .. } = *self;
        let held = machine.held().any(|tick| tick.instant() == at);
        let lasts = |pause: &&Pause| pause.until.is_none_or(|until| until > self.now);
        let policies = &definition.policies;
        TickView {
            at,
            schedule: definition.description(),
            is_fire_time,
            previous: None,
            next: None,
            why_not: None,
            cursor: machine.cursor(),
            fires: machine.fires(),
            held_by: machine.pause().filter(|_| held).cloned(),
            pause: machine.pause().filter(lasts).cloned(),
            waits_for_turn: machine.waiting_for_turn().is_some_and(|tick| tick.instant() == at),
            run: machine.active_runs().next().map(|run| run.run),
            waits: matches!(policies.overlap, Overlap::Queue(_) | Overlap::Replace)
                || matches!(policies.misfire, Misfire::All { .. }),
            has_slots,
            used_up: policies.limit.filter(|_| machine.is_exhausted()),
        }
    }
}

/// How many fire times there are in each span, its ends included; without those that are too many.
pub(super) fn count_fire_times(
    schedule: &dyn Schedule,
    spans: &[(FireTime, FireTime)],
) -> Vec<(FireTime, FireTime, u64)> {
    let mut left = COUNTED_MAX;
    let count = |(first, last): &(FireTime, FireTime)| {
        let (mut count, mut after) = (0, before(first.instant()));
        while let Some(tick) = next_after(schedule, after).ok()?.filter(|tick| tick <= last) {
            left = left.checked_sub(1)?;
            (count, after) = (count + 1, tick.instant());
        }
        Some((*first, *last, count))
    };
    spans.iter().filter_map(count).collect()
}

/// The last instant before another one, as far as schedules tell instants apart.
pub(super) fn before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(chrono::TimeDelta::nanoseconds(1)).unwrap_or(at)
}
