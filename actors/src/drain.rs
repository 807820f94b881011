//! The runs that a shutdown waits for.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    core::{
        job::{BodyEnd, RunEnded},
        text::FirstOf,
        time::FireTime,
    },
    name::{JobName, RunId},
    word::words,
};

/// The most runs, and the most fire times, that a report names one by one.
pub const REPORTED_RUNS_MAX: usize = 1_000;

/// So many entries of each list of a report are shown.
const SHOWN_MAX: usize = 10;

/// How a run ended during a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HowDrained {
    /// It ended by itself, or by its own timeout, before the deadline.
    Drained,
    /// It was told to stop, and did; or it never started, because it was not wanted any more.
    Cancelled,
    /// It was dropped.
    Aborted,
}

words!(HowDrained { Drained: "drained", Cancelled: "cancelled", Aborted: "aborted" });

impl HowDrained {
    pub(crate) fn of(ended: &RunEnded) -> Self {
        use crate::event::CancelReason::{NotStarted, Shutdown};
        match (&ended.cancelled, &ended.end) {
            _ if ended.aborted => Self::Aborted,
            // There was nothing to drop.
            (Some(NotStarted), _) => Self::Cancelled,
            (_, BodyEnd::Aborted) => Self::Aborted,
            (Some(Shutdown), _) => Self::Cancelled,
            (
                _,
                BodyEnd::Returned
                | BodyEnd::Failed { .. }
                | BodyEnd::Panicked(_)
                | BodyEnd::BetweenAttempts
                | BodyEnd::NotStarted { .. },
            ) => Self::Drained,
        }
    }
}

/// What became of the runs that were in progress when the engine was told to stop, and what it does not fire
/// any more.
///
/// `Debug` shows the first ten of each list.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many ended by themselves before the deadline.
    pub drained: u64,
    /// How many were told to stop, and did, or waited to start and were dropped.
    pub cancelled: u64,
    /// How many had to be dropped.
    pub aborted: u64,
    /// How many have not ended yet: bodies that block, and actors that do not answer.
    pub still_running: u64,
    /// The runs that did not drain, one by one; at most [`REPORTED_RUNS_MAX`].
    pub stopped: Vec<(JobName, RunId, HowDrained)>,
    /// The jobs of the runs that have not ended yet; at most [`REPORTED_RUNS_MAX`].
    pub stuck: Vec<JobName>,
    /// How many jobs this node was about to fire for the cluster: their fire times are given to the node that
    /// leads next. Jobs that are [`Local`](crate::Fires::Local) do not count, nor those on a store of one
    /// node: nobody takes them over.
    pub given_to_others: u64,
    /// The jobs of these and the fire time of each that comes next, the soonest first; at most
    /// [`REPORTED_RUNS_MAX`].
    pub left: Vec<(JobName, FireTime)>,
    /// The scheduler's thread did not answer: code of the application, such as a schedule, blocks it. Nothing
    /// is known of any run, so nothing is counted, and the threads are left behind; they stop when that code
    /// returns. With [named backends](crate::EngineOptions::named) it is the thread of one of them, and those of
    /// the others are counted.
    pub unanswered: bool,
}

impl ShutdownReport {
    /// What became of the runs of several engines.
    pub(crate) fn of_all(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut reports = reports.into_iter();
        let first = reports.next().unwrap_or_default();
        reports.fold(first, Self::and)
    }

    fn and(mut self, other: Self) -> Self {
        self.drained += other.drained;
        self.cancelled += other.cancelled;
        self.aborted += other.aborted;
        self.still_running += other.still_running;
        self.given_to_others += other.given_to_others;
        self.unanswered |= other.unanswered;
        self.stopped.extend(other.stopped);
        self.stuck.extend(other.stuck);
        self.stuck.sort();
        self.left.extend(other.left);
        self.left.sort_by(|(one, fires), (other, then)| (fires, one).cmp(&(then, other)));
        self.stopped.truncate(REPORTED_RUNS_MAX);
        self.stuck.truncate(REPORTED_RUNS_MAX);
        self.left.truncate(REPORTED_RUNS_MAX);
        self
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drained, cancelled, aborted, still_running, given_to_others, unanswered, .. } = self;
        if *unanswered {
            return f
                .write_str("the scheduler's thread did not answer, so that nothing is known of the runs");
        }
        write!(f, "drained {drained}, cancelled {cancelled}, aborted {aborted}")?;
        if *still_running > 0 {
            write!(f, ", still running {still_running}")?;
        }
        if *given_to_others > 0 {
            let times = if *given_to_others == 1 { "fire time" } else { "fire times" };
            write!(f, ", left {given_to_others} {times}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            drained,
            cancelled,
            aborted,
            still_running,
            stopped,
            stuck,
            given_to_others,
            left,
            unanswered,
        } = self;
        f.debug_struct("ShutdownReport")
            .field("drained", drained)
            .field("cancelled", cancelled)
            .field("aborted", aborted)
            .field("still_running", still_running)
            .field("stopped", &FirstOf(stopped, SHOWN_MAX))
            .field("stuck", &FirstOf(stuck, SHOWN_MAX))
            .field("given_to_others", given_to_others)
            .field("left", &FirstOf(left, SHOWN_MAX))
            .field("unanswered", unanswered)
            .finish()
    }
}

/// Each job actor holds a share of it from the moment it hears of the shutdown until nothing of the job runs;
/// the last share that is dropped ends the wait.
pub(crate) struct Drain {
    tally: Arc<Mutex<Tally>>,
    /// There may be other nodes that fire the jobs.
    others: bool,
    _over: oneshot::Sender<()>,
}

/// What became of the runs so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    report: ShutdownReport,
    running: HashMap<RunId, JobName>,
    /// The soonest fire times that are left, up to [`REPORTED_RUNS_MAX`].
    left: BTreeSet<(FireTime, JobName)>,
}

impl Drain {
    /// The drain, its tally, and a receiver that resolves (with an error: nothing is ever sent) when it is
    /// over.
    pub(crate) fn new(others: bool) -> (Self, Arc<Mutex<Tally>>, oneshot::Receiver<()>) {
        let (sender, over) = oneshot::channel();
        let tally = Arc::<Mutex<Tally>>::default();
        (Self { tally: tally.clone(), others, _over: sender }, tally, over)
    }

    /// A run is in progress.
    pub(crate) fn expect(&self, job: &JobName, run: RunId) {
        self.tally().running.insert(run, job.clone());
    }

    /// This node would have fired the job next at this time.
    pub(crate) fn leave(&self, job: &JobName, fire_time: FireTime) {
        if !self.others {
            return;
        }
        let mut tally = self.tally();
        tally.report.given_to_others += 1;
        tally.left.insert((fire_time, job.clone()));
        if tally.left.len() > REPORTED_RUNS_MAX {
            tally.left.pop_last();
        }
    }

    /// A run is over.
    pub(crate) fn record(&self, job: &JobName, run: RunId, how: HowDrained) {
        let mut tally = self.tally();
        tally.running.remove(&run);
        let report = &mut tally.report;
        match how {
            HowDrained::Drained => report.drained += 1,
            HowDrained::Cancelled => report.cancelled += 1,
            HowDrained::Aborted => report.aborted += 1,
        }
        if how != HowDrained::Drained && report.stopped.len() < REPORTED_RUNS_MAX {
            report.stopped.push((job.clone(), run, how));
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// The report as of now.
    pub(crate) fn report(&self) -> ShutdownReport {
        let mut report = self.report.clone();
        report.still_running = self.running.len() as u64;
        report.stuck = self.running.values().take(REPORTED_RUNS_MAX).cloned().collect();
        report.stuck.sort();
        report.left = self.left.iter().map(|(fire_time, job)| (job.clone(), *fire_time)).collect();
        report
    }
}
