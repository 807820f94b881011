//! What a scraper sees, through the `metrics` facade only.
//!
//! Ticks and runs are counted where they are decided, never from events, which may be dropped. Series are made
//! when the engine starts and when a job is added, so a recorder must be installed before.

mod common;
mod gauge_share;
mod hook;
mod job;
mod series;

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, IntoF64, SharedString, counter, gauge, histogram};

use self::{common::Common, series::*};
pub(crate) use self::{
    gauge_share::GaugeShare,
    hook::{HookFault, HookKind},
    job::{JobFacts, JobMeters},
};
pub use crate::labels::{JOB_LABEL_ONCE, JOB_LABEL_OTHER, JOB_LABELS_EVER_FACTOR};
use crate::{
    core::operation::Operation,
    labels::{Label, Labelled, Labels},
    name::JobName,
};

/// The label `scope` of a node of the embedded backend, which shares its leader with nobody.
pub const SCOPE_LABEL_LOCAL: &str = "_local";
/// The default of the greatest number of `name` labels that are in use at once.
pub const JOB_LABELS_DEFAULT: usize = 1_000;
/// Recommended buckets for `callsheet_run_duration_seconds`: 1 ms to 1 h.
pub const RUN_DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Recommended buckets for `callsheet_tick_lateness_seconds`: 0.5 ms to 5 min.
pub const TICK_LATENESS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0];
/// Recommended buckets for `callsheet_claim_duration_seconds`: 10 µs to 5 s.
pub const CLAIM_DURATION_BUCKETS: [f64; 14] =
    [0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 0.5, 1.0, 5.0];
/// The histograms and their recommended buckets, for a recorder's configuration.
pub const HISTOGRAMS: [(&str, &[f64]); 3] = [
    (RUN_DURATION, &RUN_DURATION_BUCKETS),
    (TICK_LATENESS, &TICK_LATENESS_BUCKETS),
    (CLAIM_DURATION, &CLAIM_DURATION_BUCKETS),
];

/// How often what a job does is shown; what it counts is counted at once.
pub(crate) const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// The metrics of one engine.
pub(crate) struct Meters {
    common: Common,
    /// Whether anybody keeps them: a recorder was installed before the engine started.
    pub(crate) are_kept: bool,
    pub(crate) jobs: Gauge,
    pub(crate) runs_in_progress: Gauge,
    pub(crate) leader: Gauge,
    pub(crate) candidate: Gauge,
    pub(crate) term: Gauge,
    pub(crate) leadership_changes: Counter,
    pub(crate) clock_offset: Gauge,
    pub(crate) store_round_trip: Gauge,
    pub(crate) clock_steps: Counter,
    pub(crate) snapshot_age: Gauge,
    pub(crate) claim_duration: Histogram,
    pub(crate) locks_held: Gauge,
    pub(crate) locks_lost: Counter,
    pub(crate) histories_diverged: Counter,
    pub(crate) events_dropped: Counter,
    pub(crate) history_dropped: Counter,
    pub(crate) job_actor_restarts: Counter,
    pub(crate) oldest_undecided: Gauge,
    pub(crate) leader_overdue: Gauge,
    pub(crate) job_set_drift: Gauge,
    labels: Mutex<Labels<JobMeters>>,
}

impl Meters {
    /// `backend` is the name of the engine's backend, if it has one.
    pub(crate) fn new(
        scope: Arc<str>,
        backend: Option<&Arc<str>>,
        job_labels_max: usize,
        zone_data: &Arc<str>,
    ) -> Self {
        describe();
        let common = Common::new(scope, backend);
        let zone_data = SharedString::from(zone_data.clone());
        let build = [("version", env!("CARGO_PKG_VERSION").into()), ("zone_data", zone_data)];
        gauge!(BUILD_INFO, common.and(build)).set(1.0);
        let counter = |name: &'static str| counter!(name, common.and([]));
        let gauge = |name: &'static str| gauge!(name, common.and([]));
        // Zero from the first scrape on: a series that first appears with the first error has no increase to
        // alert on.
        Operation::ALL.iter().for_each(|operation| {
            coordination_errors(&common, *operation).increment(0);
        });
        for hook in HookKind::ALL {
            for reason in HookFault::ALL {
                hooks_failed(&common, hook, reason).increment(0);
            }
        }
        let oldest_undecided = gauge(OLDEST_UNDECIDED);
        Self {
            are_kept: is_kept(&oldest_undecided),
            jobs: gauge(JOBS),
            runs_in_progress: gauge(RUNS_IN_PROGRESS),
            leader: gauge(LEADER),
            candidate: gauge(CANDIDATE),
            term: gauge(TERM),
            leadership_changes: counter(LEADERSHIP_CHANGES),
            clock_offset: gauge(CLOCK_OFFSET),
            store_round_trip: gauge(STORE_ROUND_TRIP),
            clock_steps: counter(CLOCK_STEPS),
            snapshot_age: gauge(SNAPSHOT_AGE),
            claim_duration: histogram!(CLAIM_DURATION, common.and([])),
            locks_held: gauge(LOCKS_HELD),
            locks_lost: counter(LOCKS_LOST),
            histories_diverged: counter(HISTORIES_DIVERGED),
            events_dropped: counter(EVENTS_DROPPED),
            history_dropped: counter(HISTORY_DROPPED),
            job_actor_restarts: counter(JOB_ACTOR_RESTARTS),
            oldest_undecided,
            leader_overdue: gauge(LEADER_OVERDUE),
            job_set_drift: gauge(JOB_SET_DRIFT),
            labels: Mutex::new(Labels::new(job_labels_max)),
            common,
        }
    }

    /// How many jobs of a node wait for their turn.
    pub(crate) fn catching_up(&self) -> GaugeShare {
        GaugeShare::of(gauge!(CATCHING_UP, self.common.and([])))
    }

    /// The metrics of a job, under the label that it is to have if that is free. Whether it is the first one
    /// for which none is.
    pub(crate) fn of_job(&self, label: Label<'_>, keeps: bool) -> (Arc<Labelled<JobMeters>>, bool) {
        let mut labels = self.labels();
        let exceeded = labels.are_exceeded();
        let meters = labels.of(label, keeps, |name| JobMeters::new(&self.common, name));
        (meters, labels.are_exceeded() && !exceeded)
    }

    /// The metrics of a job that this node does not have: those of its label if some job of this process had
    /// it, else those of `_other`. Which names a store holds is not for this node to say, so that they take
    /// no label of their own.
    pub(crate) fn of_stranger(&self, job: &JobName) -> Arc<JobMeters> {
        self.labels().known(job.as_str(), |name| JobMeters::new(&self.common, name))
    }

    fn labels(&self) -> MutexGuard<'_, Labels<JobMeters>> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call to the store that failed or got no answer.
    pub(crate) fn coordination_error(&self, operation: Operation) {
        coordination_errors(&self.common, operation).increment(1);
    }

    /// Counts a call of a hook that failed, or was not made.
    pub(crate) fn hook_failed(&self, hook: HookKind, reason: HookFault) {
        hooks_failed(&self.common, hook, reason).increment(1);
    }
}

/// Whether somebody keeps the values of a gauge. Sets it to zero.
///
/// The facade does not tell, but a gauge that nobody keeps does not look at what it is set to.
fn is_kept(gauge: &Gauge) -> bool {
    struct Zero<'a>(&'a Cell<bool>);

    impl IntoF64 for Zero<'_> {
        fn into_f64(self) -> f64 {
            self.0.set(true);
            0.0
        }
    }

    let is_looked_at = Cell::new(false);
    gauge.set(Zero(&is_looked_at));
    is_looked_at.get()
}

fn coordination_errors(common: &Common, operation: Operation) -> Counter {
    counter!(COORDINATION_ERRORS, common.and([("operation", operation.as_str().into())]))
}

fn hooks_failed(common: &Common, hook: HookKind, reason: HookFault) -> Counter {
    let call = [("hook", hook.as_str().into()), ("reason", reason.as_str().into())];
    counter!(HOOKS_FAILED, common.and(call))
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[test]
    fn a_gauge_is_kept_if_a_recorder_was_installed_before() {
        let before = gauge!("before");
        let is_kept_by =
            |recorder: &DebuggingRecorder| with_local_recorder(recorder, || is_kept(&gauge!("after")));

        assert!(is_kept_by(&DebuggingRecorder::new()));
        assert!(!is_kept(&before));
    }
}
