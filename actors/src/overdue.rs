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
    port::Proved,
};

/// The most jobs that are known by name; the others are counted.
const NAMED_MAX: usize = 10_000;
/// In how many different seconds jobs may have been marked that are counted. Beyond it they count from the newest of these.
const SECONDS_MAX: usize = 1_000;

/// For how many leases nobody may have said that what is due is decided. Each node says or hears so once a lease.
pub(crate) const UNDECIDED_LEASES: u32 = 2;

/// The jobs of a node whose due ticks the store does not decide, and what leaders say of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    marks: Arc<Mutex<Marks>>,
    said: Mutex<Said>,
}

/// What leaders have said.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    /// Since when, as the present one says, a tick is due and not decided.
    overdue_since: Option<DateTime<Utc>>,
    /// Up to when, by the monotonic clock, everything that was due was decided. It stays when the leader changes: the next one has to
    /// say it anew. What was before this process counts as its start; `None` until the store has told it.
    decided_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By name and generation of their actors.
    named: BTreeMap<(JobName, u64), Since>,
    /// By the second in which they were marked, rounded up.
    unnamed: BTreeMap<u64, Unnamed>,
}

/// The jobs beyond those that are known by name.
#[derive(Debug, Clone, Copy)]
struct Unnamed {
    count: usize,
    /// The first tick of all that were counted here.
    tick: FireTime,
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
    place: Place,
}

/// Where a job is marked.
#[derive(Debug)]
enum Place {
    Named(JobName, u64),
    Unnamed(u64),
}

impl Marks {
    /// Counts one job more, and answers the second under which it is counted.
    fn count(&mut self, tick: FireTime, now: Duration) -> u64 {
        let second = now.as_secs() + u64::from(now.subsec_nanos() > 0);
        let newest = self.unnamed.last_key_value().map(|(second, _)| *second);
        let full = self.unnamed.len() >= SECONDS_MAX && !self.unnamed.contains_key(&second);
        let second = newest.filter(|_| full).unwrap_or(second);
        let unnamed = self.unnamed.entry(second).or_insert(Unnamed { count: 0, tick });
        unnamed.count += 1;
        unnamed.tick = unnamed.tick.min(tick);
        second
    }

    fn remove(&mut self, place: &Place) {
        match place {
            Place::Named(job, generation) => drop(self.named.remove(&(job.clone(), *generation))),
            Place::Unnamed(second) => {
                let Some(unnamed) = self.unnamed.get_mut(second) else { return };
                unnamed.count -= 1;
                if unnamed.count == 0 {
                    self.unnamed.remove(second);
                }
            }
        }
    }
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
        let place = if marks.named.len() < NAMED_MAX {
            marks.named.insert((job.clone(), generation), Since { tick, marked_at: now });
            Place::Named(job.clone(), generation)
        } else {
            Place::Unnamed(marks.count(tick, now))
        };
        drop(marks);
        Box::new(Mark { marks: self.marks.clone(), cursor, place })
    }

    /// Since when a tick of a job that has been marked for longer than `bound` is due.
    pub(crate) fn since(&self, now: Duration, bound: Duration) -> Option<DateTime<Utc>> {
        self.problem(now, bound)?.since()
    }

    /// What the leader says: since when a tick is due and not decided, if there is one.
    pub(crate) fn leader_said(&self) -> Option<DateTime<Utc>> {
        self.said().overdue_since
    }

    /// Up to when, by the monotonic clock, everything that was due was decided, as far as this node knows.
    pub(crate) fn decided_at(&self) -> Option<Duration> {
        self.said().decided_at
    }

    /// For how long nobody has said that what is due is decided, if that is too long.
    pub(crate) fn undecided_for(&self, now: Duration, lease: Duration) -> Option<Duration> {
        let undecided = now.saturating_sub(self.decided_at()?);
        (undecided > lease * UNDECIDED_LEASES).then_some(undecided)
    }

    /// Keeps what the store was asked for at a reading of the monotonic clock.
    pub(crate) fn hear(&self, Proved { overdue_since, decided_ago }: Proved, asked_at: Duration) {
        let mut said = self.said();
        said.overdue_since = overdue_since;
        said.decided_at = match decided_ago {
            Some(ago) => Some(asked_at.saturating_sub(ago)),
            None => said.decided_at.or(Some(asked_at)),
        };
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first tick that was asked for in vain and is not decided, of any job.
    pub(crate) fn first_tick(&self) -> Option<DateTime<Utc>> {
        let marks = lock(&self.marks);
        let named = marks.named.values().map(|since| since.tick);
        let unnamed = marks.unnamed.values().map(|unnamed| unnamed.tick);
        named.chain(unnamed).min().map(FireTime::instant)
    }

    /// The jobs that have been marked for longer than `bound`.
    pub(crate) fn problem(&self, now: Duration, bound: Duration) -> Option<Problem> {
        let marks = lock(&self.marks);
        let lasts = |marked_at: Duration| now.saturating_sub(marked_at) > bound;
        let mut jobs = ProblemJobs { first: Vec::new(), count: 0 };
        let mut since = DateTime::<Utc>::MAX_UTC;
        for (_, unnamed) in
            marks.unnamed.iter().take_while(|(second, _)| lasts(Duration::from_secs(**second)))
        {
            jobs.count += unnamed.count;
            since = since.min(unnamed.tick.instant());
        }
        for ((job, _), mark) in marks.named.iter().filter(|(_, mark)| lasts(mark.marked_at)) {
            if jobs.first.len() < PROBLEM_JOBS_MAX {
                jobs.first.push(job.clone());
            }
            jobs.count += 1;
            since = since.min(mark.tick.instant());
        }
        (jobs.count > 0).then_some(Problem::Overdue { jobs, since })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        lock(&self.marks).remove(&self.place);
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

    #[test]
    fn those_without_a_name_are_overdue_by_themselves_once_they_last() {
        let overdue = Overdue::default();
        let job = JobName::new("job").unwrap();
        let seconds = Duration::from_secs;
        let mark = |nth, tick: &str, at_second| {
            overdue.mark((&job, nth), FireTime::new(at(tick)), at("00:00"), seconds(at_second))
        };
        let of = |now| match overdue.problem(seconds(now), seconds(5)) {
            Some(Problem::Overdue { jobs, since }) => Some((jobs.count, since)),
            _ => None,
        };
        let named: Vec<_> = (0..NAMED_MAX as u64).map(|nth| mark(nth, "01:00", 0)).collect();
        let (old, young) = (mark(NAMED_MAX as u64, "02:00", 1), mark(NAMED_MAX as u64 + 1, "03:00", 20));

        drop(named);

        assert_eq!((of(6), of(7)), (None, Some((1, at("02:00")))));
        drop(old);
        assert_eq!((of(25), of(26)), (None, Some((1, at("03:00")))));
        drop(young);
        assert_eq!(of(60), None);
    }
}
