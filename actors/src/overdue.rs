//! The jobs of a node whose due ticks the store does not decide.
//!
//! A job says so itself, when the store has refused or not answered what it asked: those that are well cost nothing, and nobody looks
//! at a million jobs to find one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    core::time::FireTime,
    health::{PROBLEM_JOBS_MAX, Problem, ProblemJobs},
    name::JobName,
};

/// The most jobs that are known by name; the others are counted.
const NAMED_MAX: usize = 10_000;

/// The jobs of a node whose due ticks the store does not decide.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    marks: Arc<Mutex<Marks>>,
    /// Since when, as the leader says, a tick is due and not decided.
    leader_said: Mutex<Option<DateTime<Utc>>>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By name and generation of their actors.
    named: BTreeMap<(JobName, u64), Since>,
    unnamed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    tick: FireTime,
    /// By the monotonic clock.
    marked_at: Duration,
}

/// Marks a job for as long as it lives.
#[derive(Debug)]
pub(crate) struct Mark {
    marks: Arc<Mutex<Marks>>,
    /// Where the cursor stands: once it moves, something is decided.
    pub(crate) cursor: DateTime<Utc>,
    /// `None`: there are too many.
    name: Option<(JobName, u64)>,
}

impl Overdue {
    /// Marks a job of which a tick is due and not decided.
    pub(crate) fn mark(
        &self,
        (job, generation): (&JobName, u64),
        tick: FireTime,
        cursor: DateTime<Utc>,
        now: Duration,
    ) -> Box<Mark> {
        let mut marks = lock(&self.marks);
        let name = (marks.named.len() < NAMED_MAX).then(|| (job.clone(), generation));
        match &name {
            Some(name) => drop(marks.named.insert(name.clone(), Since { tick, marked_at: now })),
            None => marks.unnamed += 1,
        }
        drop(marks);
        Box::new(Mark { marks: self.marks.clone(), cursor, name })
    }

    /// Since when a tick of a job that has been marked for longer than `bound` is due.
    pub(crate) fn since(&self, now: Duration, bound: Duration) -> Option<DateTime<Utc>> {
        self.problem(now, bound)?.since()
    }

    /// What the leader says: since when a tick is due and not decided, if there is one.
    pub(crate) fn leader_said(&self) -> Option<DateTime<Utc>> {
        *self.leader_said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_leader_said(&self, overdue_since: Option<DateTime<Utc>>) {
        *self.leader_said.lock().unwrap_or_else(PoisonError::into_inner) = overdue_since;
    }

    /// The jobs that have been marked for longer than `bound`.
    pub(crate) fn problem(&self, now: Duration, bound: Duration) -> Option<Problem> {
        let marks = lock(&self.marks);
        let mut lasting =
            marks.named.iter().filter(|(_, since)| now.saturating_sub(since.marked_at) > bound).peekable();
        lasting.peek()?;
        let mut jobs = ProblemJobs { first: Vec::new(), count: marks.unnamed };
        let mut since = DateTime::<Utc>::MAX_UTC;
        for ((job, _), mark) in lasting {
            if jobs.first.len() < PROBLEM_JOBS_MAX {
                jobs.first.push(job.clone());
            }
            jobs.count += 1;
            since = since.min(mark.tick.instant());
        }
        Some(Problem::Overdue { jobs, since })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut marks = lock(&self.marks);
        match self.name.take() {
            Some(name) => drop(marks.named.remove(&name)),
            None => marks.unnamed = marks.unnamed.saturating_sub(1),
        }
    }
}

fn lock(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    #[test]
    fn only_jobs_that_stay_marked_are_a_problem_and_the_first_are_named() {
        let overdue = Overdue::default();
        let bound = Duration::from_secs(5);
        let mark = |nth: u64, seconds| {
            let job = JobName::new(format!("job-{nth:05}")).unwrap();
            overdue.mark((&job, nth), FireTime::new(at("01:00")), at("00:00"), Duration::from_secs(seconds))
        };

        let mut marks: Vec<_> = (0..12).map(|nth| mark(nth, 10)).collect();
        let late = mark(12, 16);

        assert_eq!(overdue.problem(Duration::from_secs(15), bound), None);
        let Some(Problem::Overdue { jobs, since }) = overdue.problem(Duration::from_secs(16), bound) else {
            panic!("it is a problem")
        };
        assert_eq!((jobs.first.len(), jobs.count, since), (PROBLEM_JOBS_MAX, 12, at("01:00")));
        assert!(jobs.to_string().ends_with("job-00009 and 2 more"), "{jobs}");
        marks.clear();
        assert_eq!(overdue.problem(Duration::from_secs(20), bound), None);
        drop(late);
    }

    #[test]
    fn very_many_are_counted_without_their_names() {
        let overdue = Overdue::default();
        let job = JobName::new("job").unwrap();
        let tick = FireTime::new(at("01:00"));

        let marks: Vec<_> = (0..NAMED_MAX as u64 + 7)
            .map(|nth| overdue.mark((&job, nth), tick, at("00:00"), Duration::ZERO))
            .collect();

        let problem = overdue.problem(Duration::from_secs(60), Duration::from_secs(5));
        assert!(matches!(problem, Some(Problem::Overdue { jobs, .. }) if jobs.count == NAMED_MAX + 7));
        drop(marks);
        assert_eq!(overdue.problem(Duration::from_secs(60), Duration::from_secs(5)), None);
    }
}
