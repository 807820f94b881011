//! All jobs of the node at one instant, looked at once for all who ask.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{HealthReport, JobStatus, ListJobs, OverdueJob, Problem};
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::view::Row;
use crate::{error::Error, handle::Callsheet};

/// For how long a look at a few jobs is good enough.
const AGE_MIN: Duration = Duration::from_millis(240);
/// A look at many jobs is good enough for so many times the time that it took: it costs a twentieth of a processor.
const AGE_FACTOR: u32 = 20;
/// No look is good enough for longer, however long it took: it may have waited for a job that does not answer.
const AGE_MAX: Duration = Duration::from_secs(3);

/// All jobs of the node at one instant.
pub(crate) struct Snapshot {
    pub(crate) rows: BTreeMap<String, Row>,
    /// The runs in progress.
    pub(crate) active: Vec<Active>,
    pub(crate) health: HealthReport,
    pub(crate) as_of: DateTime<Utc>,
    looked_at: Instant,
    took: Duration,
    /// How many changes had been made when it was begun.
    changes: u64,
}

impl Snapshot {
    /// When it was complete.
    pub(crate) fn looked_at(&self) -> Instant {
        self.looked_at
    }
}

/// A run in progress on this node.
pub(crate) struct Active {
    pub(crate) run: String,
    /// How many ticks and triggers of its job wait on this node.
    pub(crate) waiting: usize,
}

/// Looks at the jobs when somebody asks, and not more often than is fit.
pub(crate) struct Board {
    jobs: Callsheet,
    last: Mutex<Option<Arc<Snapshot>>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// How many changes the console has made: what is older than one is not shown after it.
    changes: AtomicU64,
}

impl Board {
    pub(crate) fn new(jobs: Callsheet) -> Self {
        Self {
            jobs,
            last: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Something was changed: the next look sees it.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// How many changes the console has made.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All jobs as they are now, for somebody who is about to change them.
    pub(crate) async fn fresh(&self) -> Result<Arc<Snapshot>, Error> {
        self.changed();
        self.snapshot().await
    }

    /// The last look, if it is still good enough.
    fn recent(&self) -> Option<Arc<Snapshot>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let age_max = last.took.saturating_mul(AGE_FACTOR).clamp(AGE_MIN, AGE_MAX);
        let is_recent = last.looked_at.elapsed() < age_max;
        (is_recent && last.changes == self.changes()).then_some(last)
    }

    /// All jobs, as they were a moment ago.
    pub(crate) async fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        if let Some(recent) = self.recent() {
            return Ok(recent);
        }
        let _one = self.looking.lock().await;
        if let Some(recent) = self.recent() {
            return Ok(recent);
        }
        let snapshot = Arc::new(self.look().await?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn look(&self) -> Result<Snapshot, Error> {
        let (started, as_of) = (Instant::now(), Utc::now());
        let changes = self.changes();
        let health = self.jobs.health().await?;
        let late: std::collections::BTreeSet<_> = overdue(&health).map(|job| job.job.as_str()).collect();
        let (mut rows, mut active) = (BTreeMap::new(), Vec::new());
        let mut after = None;
        loop {
            let page = self.jobs.list(ListJobs::default().after(after)).await?;
            for job in &page.jobs {
                rows.insert(job.name.to_string(), Row::of(job, late.contains(job.name.as_str())));
                active.extend(active_of(job));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let took = started.elapsed();
        Ok(Snapshot { rows, active, health, as_of, looked_at: Instant::now(), took, changes })
    }
}

fn active_of(job: &JobStatus) -> impl Iterator<Item = Active> + '_ {
    job.active_runs
        .iter()
        .chain(&job.former_runs)
        .map(|run| Active { run: run.run.to_string(), waiting: job.waiting })
}

/// How many expectations of jobs are not met: all of them, and those of jobs that the health does not name.
pub(crate) fn overdue_counts(health: &HealthReport) -> (usize, usize) {
    let total = health.problems.iter().map(|problem| match problem {
        Problem::Overdue { count, .. } => *count,
        _ => 0,
    });
    let total = total.sum::<usize>();
    (total, total.saturating_sub(overdue(health).count()))
}

/// The jobs that are overdue, as far as the health names them.
pub(crate) fn overdue(health: &HealthReport) -> impl Iterator<Item = &OverdueJob> {
    health.problems.iter().flat_map(|problem| match problem {
        Problem::Overdue { jobs, .. } => jobs.as_slice(),
        _ => &[],
    })
}
