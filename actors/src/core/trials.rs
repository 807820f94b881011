//! When parked jobs are tried again.
//!
//! Each about a minute after it was refused, together with those that are due with it. A group that is
//! refused is halved, so that many jobs are back at once when what refused them is gone, and those that are
//! still bad cost at most ten calls a second in all.
//!
//! ```text
//! a, b, c are parked     a minute later   [a b c] ✓                        all are back
//! b is still bad         a minute later   [a b c] ✗  [a c] ✓  [b] ✗        b is tried a minute later
//! ```

use std::{collections::VecDeque, time::Duration};

use crate::{core::bisect::Bisect, name::JobName};

/// How long after the store has refused a parked job it is tried again. With more than a few hundred of them
/// it takes longer: ten calls a second are made for all of them at most.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Parked jobs. Readings are of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Trials {
    /// In the order of their readings.
    waiting: VecDeque<(Duration, JobName)>,
    groups: Bisect<JobName>,
    /// The most jobs of a group.
    group_max: usize,
}

impl Trials {
    /// None is parked.
    pub(crate) fn new(group_max: usize) -> Self {
        Self { waiting: VecDeque::new(), groups: Bisect::default(), group_max }
    }

    /// A job is to be tried again. Answers when, at the earliest.
    pub(crate) fn wait(&mut self, now: Duration, job: JobName) -> Duration {
        let at = now.saturating_add(TRY_AGAIN_AFTER);
        self.waiting.push_back((at, job));
        at
    }

    /// A job whose time has come, and which time that was.
    pub(crate) fn next_due(&mut self, now: Duration) -> Option<(Duration, JobName)> {
        let is_due = self.waiting.front().is_some_and(|(at, _)| *at <= now);
        if is_due { self.waiting.pop_front() } else { None }
    }

    /// These are to be tried now.
    pub(crate) fn add(&mut self, now: Duration, jobs: Vec<JobName>) {
        let mut rest = jobs.into_iter().peekable();
        while rest.peek().is_some() {
            self.groups.add(now, rest.by_ref().take(self.group_max).collect());
        }
    }

    /// The group to be tried now, if it is time for one.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Vec<JobName>> {
        self.groups.take(now)
    }

    /// The store refused a group for its data. Answers the job, if it stood alone.
    pub(crate) fn refused(&mut self, now: Duration, jobs: Vec<JobName>) -> Option<JobName> {
        self.groups.refused(now, jobs)
    }

    /// When there is something to be done next, if there is.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let due = self.waiting.front().map(|(at, _)| *at);
        due.into_iter().chain(self.groups.wake_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Tries all of them for a span, each call at once when it is time. Answers when each call was made, and
    /// when each job was taken.
    fn try_for(
        span: Duration,
        trials: &mut Trials,
        is_bad: impl Fn(&JobName, Duration) -> bool,
    ) -> (Vec<Duration>, BTreeMap<JobName, Duration>) {
        let (mut calls, mut taken, mut now) = (Vec::new(), BTreeMap::new(), Duration::ZERO);
        while let Some(at) = trials.wake_at().filter(|at| *at <= span) {
            now = now.max(at);
            let due: Vec<_> = std::iter::from_fn(|| trials.next_due(now)).map(|(_, job)| job).collect();
            trials.add(now, due);
            let Some(group) = trials.take(now) else { continue };
            calls.push(now);
            if group.iter().any(|job| is_bad(job, now)) {
                if let Some(bad) = trials.refused(now, group) {
                    trials.wait(now, bad);
                }
            } else {
                taken.extend(group.into_iter().map(|job| (job, now)));
            }
        }
        (calls, taken)
    }

    fn parked(count: usize) -> (Trials, Vec<JobName>) {
        let mut trials = Trials::new(1_000);
        let jobs: Vec<_> = (0..count).map(|nth| JobName::new(format!("job {nth:05}")).unwrap()).collect();
        for job in &jobs {
            trials.wait(Duration::ZERO, job.clone());
        }
        (trials, jobs)
    }

    #[test]
    fn a_job_is_tried_once_a_minute_until_the_store_takes_it() {
        let (mut trials, jobs) = parked(1);
        let mended_at = Duration::from_secs(200);

        let (calls, taken) = try_for(Duration::from_secs(600), &mut trials, |_, now| now < mended_at);

        assert_eq!(calls, [60, 120, 180, 240].map(Duration::from_secs));
        assert_eq!(taken[&jobs[0]], calls[3]);
        assert_eq!(trials.wake_at(), None);
    }

    #[test]
    fn two_thousand_that_stay_bad_cost_ten_calls_a_second() {
        let (mut trials, _) = parked(2_000);

        let (calls, taken) = try_for(Duration::from_secs(600), &mut trials, |_, _| true);

        assert!(taken.is_empty());
        for (nth, at) in calls.iter().enumerate() {
            let within = calls[nth..].iter().take_while(|other| **other - *at < Duration::from_secs(1));
            assert!(within.count() <= 10, "from {at:?} on");
        }
    }

    #[test]
    fn ten_thousand_are_back_in_seconds_once_nothing_refuses_them() {
        let (mut trials, jobs) = parked(10_000);

        let (calls, taken) = try_for(Duration::from_secs(600), &mut trials, |_, _| false);

        assert_eq!((taken.len(), calls.len()), (jobs.len(), 10));
        assert!(taken.values().all(|at| *at <= Duration::from_secs(61)));
    }

    #[test]
    fn one_good_job_among_those_that_stay_bad_is_found() {
        let (mut trials, jobs) = parked(300);

        let (_, taken) = try_for(Duration::from_secs(180), &mut trials, |job, _| *job != jobs[123]);

        assert_eq!(taken.keys().collect::<Vec<_>>(), [&jobs[123]]);
    }
}
