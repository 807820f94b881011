//! Up to when the ticks of a node's jobs are decided, as its leader leaves it to the next one.
//!
//! Of each job the first tick is known that is not decided. So the answer takes a look at those that are due,
//! and at no other.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use foldhash::HashMap;

use crate::{
    core::contract::{MILLISECOND, next_after},
    name::JobName,
    port::{HANDOVER_BEHIND_MAX, Schedule},
};

/// The jobs of a node, and the first tick of each that is not decided.
#[derive(Debug, Default)]
pub(crate) struct DueTicks {
    jobs: HashMap<JobName, Ticks>,
    queue: BTreeSet<(DateTime<Utc>, JobName)>,
}

#[derive(Debug)]
struct Ticks {
    schedule: Arc<dyn Schedule>,
    next: Option<DateTime<Utc>>,
}

/// Up to when ticks are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecidedTo {
    /// But for the jobs that are behind.
    pub(crate) instant: DateTime<Utc>,
    /// These jobs, and the first tick of each that is not decided.
    pub(crate) behind: Vec<(JobName, DateTime<Utc>)>,
    /// More jobs are behind than can be named, so that the instant is earlier than it is for most.
    pub(crate) is_early: bool,
}

impl DueTicks {
    /// All ticks of a job up to its cursor are decided.
    pub(crate) fn enrol(&mut self, job: &JobName, schedule: Arc<dyn Schedule>, cursor: DateTime<Utc>) {
        self.remove(job);
        self.jobs.insert(job.clone(), Ticks { schedule, next: None });
        self.decided(job, cursor);
    }

    /// All ticks of a job up to its cursor are decided; one that is not enrolled is none of this node's.
    pub(crate) fn decided(&mut self, job: &JobName, cursor: DateTime<Utc>) {
        let Some(ticks) = self.jobs.get(job) else { return };
        let schedule = &*ticks.schedule;
        let next = match catch_unwind(AssertUnwindSafe(|| next_after(schedule, cursor))) {
            Ok(Ok(next)) => next.map(|tick| tick.instant()),
            // Nobody knows. The job is broken, and what it missed is for whoever has mended it.
            Ok(Err(_)) | Err(_) => cursor.checked_add_signed(MILLISECOND),
        };
        self.set_next(job, next);
    }

    /// A run of a job has started. If its ticks count from the end of runs, none is due until the cursor moves.
    pub(crate) fn started(&mut self, job: &JobName, cursor: DateTime<Utc>) {
        match self.jobs.get(job) {
            Some(ticks) if ticks.schedule.counts_from_completion() => self.set_next(job, None),
            Some(_) | None => self.decided(job, cursor),
        }
    }

    /// A job is none of this node's any more.
    pub(crate) fn remove(&mut self, job: &JobName) {
        self.set_next(job, None);
        self.jobs.remove(job);
    }

    /// No job is.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn set_next(&mut self, job: &JobName, next: Option<DateTime<Utc>>) {
        let Some(ticks) = self.jobs.get_mut(job) else { return };
        if let Some(former) = std::mem::replace(&mut ticks.next, next) {
            self.queue.remove(&(former, job.clone()));
        }
        if let Some(next) = next {
            self.queue.insert((next, job.clone()));
        }
    }

    /// Up to when ticks are decided, as of `now`.
    pub(crate) fn decided_to(&self, now: DateTime<Utc>) -> DecidedTo {
        let mut due = self.queue.iter().take_while(|(tick, _)| *tick <= now);
        let behind: Vec<_> =
            due.by_ref().take(HANDOVER_BEHIND_MAX).map(|(tick, job)| (job.clone(), *tick)).collect();
        // Of the others nothing is said but that they come later.
        let next = due.next().map(|(tick, _)| *tick);
        let is_early = next.is_some();
        let instant = next.map_or(now, |tick| tick.checked_sub_signed(MILLISECOND).unwrap_or(tick));
        DecidedTo { instant, behind, is_early }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::tests::{Stuck, at},
        testkit::fakes::Period,
    };

    fn name(name: &str) -> JobName {
        JobName::new(name).expect("a good name")
    }

    fn hourly(jobs: usize) -> DueTicks {
        let mut ticks = DueTicks::default();
        for nth in 0..jobs {
            ticks.enrol(&name(&format!("job-{nth:03}")), Arc::new(Period::hours(1)), at("01:00"));
        }
        ticks
    }

    #[test]
    fn a_job_is_behind_from_its_first_undecided_tick_on() {
        let mut ticks = hourly(2);
        let [first, second] = [name("job-000"), name("job-001")];
        let decided = |ticks: &DueTicks, now: &str| {
            let DecidedTo { instant, behind, is_early } = ticks.decided_to(at(now));
            assert_eq!((instant, is_early), (at(now), false));
            behind
        };

        assert_eq!(decided(&ticks, "01:59"), []);
        assert_eq!(decided(&ticks, "02:00"), [(first.clone(), at("02:00")), (second.clone(), at("02:00"))]);
        ticks.decided(&first, at("02:00"));
        assert_eq!(decided(&ticks, "02:30"), [(second.clone(), at("02:00"))]);
        assert_eq!(decided(&ticks, "03:30"), [(second.clone(), at("02:00")), (first.clone(), at("03:00"))]);
        ticks.started(&first, at("04:00"));
        ticks.remove(&second);
        assert_eq!(decided(&ticks, "04:59"), []);
        ticks.decided(&second, at("04:00"));
        assert_eq!(decided(&ticks, "05:00"), [(first, at("05:00"))], "the other one is gone");
    }

    #[test]
    fn beyond_the_bound_the_instant_is_that_of_the_first_job_that_is_not_named() {
        let mut ticks = hourly(HANDOVER_BEHIND_MAX + 2);
        ticks.decided(&name("job-000"), at("02:00"));

        let found = ticks.decided_to(at("02:30"));

        assert_eq!(found.behind.len(), HANDOVER_BEHIND_MAX);
        assert_eq!((found.instant, found.is_early), (at("02:00") - MILLISECOND, true));
        assert_eq!(found.behind[0].0.as_str(), "job-001");
    }

    #[test]
    fn a_schedule_that_breaks_its_contract_decides_nothing() {
        let mut ticks = DueTicks::default();
        let broken = name("broken");
        ticks.enrol(&broken, Arc::new(Stuck(at("00:00"))), at("01:00"));

        assert_eq!(ticks.decided_to(at("03:00")).behind, [(broken, at("01:00") + MILLISECOND)]);
    }
}
