//! The jobs of a node whose runs fail, one after the other.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, Utc};

use crate::{
    health::{FAILING_RUNS_MIN, FailingJob, PROBLEM_JOBS_MAX, Problem},
    name::JobName,
};

/// The most jobs that are known; the others are no problem until one of these is well again.
const FAILING_MAX: usize = 10_000;

/// The jobs of a node whose runs fail, one after the other. Those whose runs succeed cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    jobs: Mutex<BTreeMap<JobName, Failed>>,
    /// There is one.
    any: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    failures: u32,
    since: DateTime<Utc>,
}

impl Failing {
    /// So many runs of a job failed in a row, the first of which started at an instant.
    pub(crate) fn failed(&self, job: &JobName, failures: u32, since: DateTime<Utc>) {
        if failures < FAILING_RUNS_MIN {
            return;
        }
        let mut jobs = self.jobs();
        if let Some(failed) = jobs.get_mut(job) {
            failed.failures = failures;
        } else if jobs.len() < FAILING_MAX {
            jobs.insert(job.clone(), Failed { failures, since });
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// A job is well again, or its failures are counted anew.
    pub(crate) fn well(&self, job: &JobName) {
        if self.any.load(Ordering::Relaxed) {
            let mut jobs = self.jobs();
            jobs.remove(job);
            self.any.store(!jobs.is_empty(), Ordering::Relaxed);
        }
    }

    /// The jobs that fail, of those that this node fires.
    pub(crate) fn problem(&self, fires: impl Fn(&JobName) -> bool) -> Option<Problem> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut jobs = self.jobs();
        // Another node fires them now, and knows.
        jobs.retain(|job, _| fires(job));
        self.any.store(!jobs.is_empty(), Ordering::Relaxed);
        let first = jobs.iter().take(PROBLEM_JOBS_MAX);
        let first = first.map(|(job, Failed { failures, since })| FailingJob {
            job: job.clone(),
            failures: *failures,
            since: *since,
        });
        (!jobs.is_empty()).then(|| Problem::Failing { jobs: first.collect(), count: jobs.len() })
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobName, Failed>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
