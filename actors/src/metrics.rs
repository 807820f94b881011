//! What a scraper sees, through the `metrics` facade only.
//!
//! Ticks and runs are counted where they are decided, never from events, which may be dropped. Series are made
//! when the engine starts and when a job is added, so a recorder must be installed before.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use metrics::{
    Counter, Gauge, Histogram, IntoF64, Label as Pair, SharedString, Unit, counter, gauge, histogram,
};

use crate::{
    core::operation::Operation,
    event::Outcome,
    job_state::JobState,
    labels::{Label, Labelled, Labels},
    name::JobName,
    port::{SkipReason, Skips},
    word::words,
};

pub use crate::labels::{JOB_LABEL_ONCE, JOB_LABEL_OTHER, JOB_LABELS_EVER_FACTOR};

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

const JOBS: &str = "callsheet_jobs";
const TICKS_DUE: &str = "callsheet_ticks_due_total";
const TICKS: &str = "callsheet_ticks_total";
const TICKS_HELD: &str = "callsheet_ticks_held";
const TICKS_ELSEWHERE: &str = "callsheet_ticks_elsewhere_total";
const JOB_OVERDUE: &str = "callsheet_job_overdue";
const JOB_LAST_SUCCESS: &str = "callsheet_job_last_success_timestamp_seconds";
const JOB_LAST_RUN: &str = "callsheet_job_last_run_timestamp_seconds";
const JOB_NEXT_FIRE: &str = "callsheet_job_next_fire_timestamp_seconds";
const JOB_FAILURES: &str = "callsheet_job_consecutive_failures";
const JOB_STATE: &str = "callsheet_job_state";
const JOB_PAUSED: &str = "callsheet_job_paused";
const JOB_RUNNING_SINCE: &str = "callsheet_job_running_since_timestamp_seconds";
const BACKFILL_REMAINING: &str = "callsheet_backfill_remaining";
const JOB_INFO: &str = "callsheet_job_info";
const WAITING_TICKS: &str = "callsheet_waiting_ticks";
const CATCHING_UP: &str = "callsheet_catching_up_jobs";
const OLDEST_UNDECIDED: &str = "callsheet_oldest_undecided_tick_seconds";
const LEADER_OVERDUE: &str = "callsheet_leader_overdue";
const BUILD_INFO: &str = "callsheet_build_info";
/// How often what a job does is shown; what it counts is counted at once.
pub(crate) const SHOWN_EVERY: Duration = Duration::from_secs(10);
const RUNS: &str = "callsheet_runs_total";
const RUN_RETRIES: &str = "callsheet_run_retries_total";
const RUN_DURATION: &str = "callsheet_run_duration_seconds";
const TICK_LATENESS: &str = "callsheet_tick_lateness_seconds";
const RUNS_IN_PROGRESS: &str = "callsheet_runs_in_progress";
const LEADER: &str = "callsheet_leader";
const CANDIDATE: &str = "callsheet_candidate";
const TERM: &str = "callsheet_term";
const LEADERSHIP_CHANGES: &str = "callsheet_leadership_changes_total";
const CLOCK_OFFSET: &str = "callsheet_clock_offset_seconds";
const STORE_ROUND_TRIP: &str = "callsheet_store_round_trip_seconds";
const CLOCK_STEPS: &str = "callsheet_clock_steps_total";
const SNAPSHOT_AGE: &str = "callsheet_store_snapshot_age_seconds";
const CLAIM_DURATION: &str = "callsheet_claim_duration_seconds";
const LOCKS_HELD: &str = "callsheet_locks_held";
const LOCKS_LOST: &str = "callsheet_locks_lost_total";
const HISTORIES_DIVERGED: &str = "callsheet_histories_diverged_total";
const COORDINATION_ERRORS: &str = "callsheet_coordination_errors_total";
const EVENTS_DROPPED: &str = "callsheet_events_dropped_total";
const HISTORY_DROPPED: &str = "callsheet_history_dropped_total";
const HOOKS_FAILED: &str = "callsheet_hooks_failed_total";
const JOB_ACTOR_RESTARTS: &str = "callsheet_job_actor_restarts_total";

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};

    gauge!(JOBS, Unit::Count, "Jobs that this node has");
    counter!(TICKS_DUE, Unit::Count, "Ticks that were decided: the sum of callsheet_ticks_total");
    counter!(TICKS, Unit::Count, "Ticks by what became of them: started, or the reason of the skip");
    gauge!(TICKS_HELD, Unit::Count, "Ticks that are due and wait for the end of a pause");
    counter!(
        TICKS_ELSEWHERE,
        Unit::Count,
        "Ticks that another node claimed before this one, of jobs that any node may fire"
    );
    gauge!(
        JOB_OVERDUE,
        Unit::Count,
        "1 while the job does not do what is expected of it, else 0; of jobs that share a label, how many"
    );
    gauge!(JOB_LAST_SUCCESS, Unit::Seconds, "When a run succeeded last, in seconds since the epoch");
    gauge!(JOB_LAST_RUN, Unit::Seconds, "When a run ended last, in seconds since the epoch");
    gauge!(JOB_NEXT_FIRE, Unit::Seconds, "The next fire time, in seconds since the epoch; 0: none");
    gauge!(JOB_FAILURES, Unit::Count, "Runs in a row that failed");
    gauge!(
        JOB_STATE,
        Unit::Count,
        "1 for the state of the job on this node, 0 for those in which it was before"
    );
    gauge!(JOB_PAUSED, Unit::Count, "1 while the job is paused, else 0");
    gauge!(
        JOB_RUNNING_SINCE,
        Unit::Seconds,
        "When the first of the runs in progress on this node started, in seconds since the epoch; 0: none"
    );
    gauge!(
        BACKFILL_REMAINING,
        Unit::Count,
        "Runs of backfills that have not ended, as the leader knows; 0 on other nodes"
    );
    gauge!(JOB_INFO, Unit::Count, "1 with the schedule of the job, 0 with a former one");
    gauge!(WAITING_TICKS, Unit::Count, "Ticks and triggers that wait on this node for their turn");
    gauge!(CATCHING_UP, Unit::Count, "Jobs of this node whose missed ticks wait for their turn");
    gauge!(
        OLDEST_UNDECIDED,
        Unit::Seconds,
        "How long ago the first tick was due that this node asked the store about in vain, or that was missed and waits; 0: none"
    );
    gauge!(
        LEADER_OVERDUE,
        Unit::Count,
        "1 while the leader, another node, says that ticks are due and not decided, else 0"
    );
    gauge!(BUILD_INFO, Unit::Count, "1, with the versions of the library and of the time zone data");
    counter!(RUNS, Unit::Count, "Runs that ended, by outcome");
    counter!(RUN_RETRIES, Unit::Count, "Attempts of runs that failed and were followed by another one");
    histogram!(RUN_DURATION, Unit::Seconds, "From the start of a body to its end");
    histogram!(TICK_LATENESS, Unit::Seconds, "From a tick's fire time to the start of its body");
    gauge!(RUNS_IN_PROGRESS, Unit::Count, "Runs whose body has not ended");
    gauge!(LEADER, Unit::Count, "1 while this node leads, else 0");
    gauge!(CANDIDATE, Unit::Count, "1 while this node leads or is a candidate, else 0");
    gauge!(TERM, Unit::Count, "The newest term that this node won");
    counter!(LEADERSHIP_CHANGES, Unit::Count, "How often this node gained or lost leadership");
    gauge!(
        CLOCK_OFFSET,
        Unit::Seconds,
        "How much this node's clock is ahead of the store's; negative: behind"
    );
    gauge!(STORE_ROUND_TRIP, Unit::Seconds, "The shortest of the last three round trips to the store");
    counter!(CLOCK_STEPS, Unit::Count, "How often this node found that its clock was set or had drifted");
    gauge!(
        SNAPSHOT_AGE,
        Unit::Seconds,
        "Age of the oldest snapshot, which keeps the store from removing dead row versions"
    );
    histogram!(CLAIM_DURATION, Unit::Seconds, "One round trip of claims to the store");
    gauge!(LOCKS_HELD, Unit::Count, "Lock keys that runs of this node hold");
    counter!(LOCKS_LOST, Unit::Count, "Lock keys whose session was lost during the run");
    counter!(
        HISTORIES_DIVERGED,
        Unit::Count,
        "How often the store no longer knew what it had granted to this node"
    );
    counter!(
        COORDINATION_ERRORS,
        Unit::Count,
        "Calls to the store that failed or got no answer, by operation"
    );
    counter!(EVENTS_DROPPED, Unit::Count, "Events that a listener missed because it did not keep up");
    counter!(HISTORY_DROPPED, Unit::Count, "Records of history that were not written");
    counter!(HOOKS_FAILED, Unit::Count, "Calls of hooks that failed, by hook and reason");
    counter!(JOB_ACTOR_RESTARTS, Unit::Count, "Job actors that died and were started again");
}

/// The labels of every metric of an engine: the scope of its backend, and the name of the backend if it has one.
#[derive(Clone)]
struct Common(Arc<[Pair]>);

impl Common {
    fn new(scope: Arc<str>, backend: Option<&Arc<str>>) -> Self {
        let backend = backend.map(|name| Pair::new("backend", SharedString::from(name.clone())));
        Self([Pair::new("scope", SharedString::from(scope))].into_iter().chain(backend).collect())
    }

    /// These, and others.
    fn and(&self, others: impl IntoIterator<Item = (&'static str, SharedString)>) -> Vec<Pair> {
        let others = others.into_iter().map(|(key, value)| Pair::new(key, value));
        self.0.iter().cloned().chain(others).collect()
    }
}

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
            labels: Mutex::new(Labels::new(job_labels_max)),
            common,
        }
    }

    /// How many jobs of a node wait for their turn.
    pub(crate) fn catching_up(&self) -> GaugeShare {
        GaugeShare { gauge: gauge!(CATCHING_UP, self.common.and([])), count: 0 }
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

/// The label `hook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    Before,
    AfterSuccess,
    AfterFailure,
    OnSkip,
    OnOverdue,
}

impl HookKind {
    const ALL: [Self; 5] =
        [Self::Before, Self::AfterSuccess, Self::AfterFailure, Self::OnSkip, Self::OnOverdue];
}

words!(pub(crate) HookKind {
    Before: "before",
    AfterSuccess: "after_success",
    AfterFailure: "after_failure",
    OnSkip: "on_skip",
    OnOverdue: "on_overdue"
});

/// The label `reason` of a call of a hook that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookFault {
    /// It answered an error.
    Error,
    Panic,
    Timeout,
    /// It was not called.
    Dropped,
}

impl HookFault {
    const ALL: [Self; 4] = [Self::Error, Self::Panic, Self::Timeout, Self::Dropped];
}

words!(pub(crate) HookFault { Error: "error", Panic: "panic", Timeout: "timeout", Dropped: "dropped" });

/// The label `outcome` of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TickOutcome {
    Started,
    Skipped(SkipReason),
}

impl TickOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Skipped(reason) => reason.as_str(),
        }
    }
}

/// The metrics of one label.
///
/// All of its series are made at once, so that each is there from the first scrape on: one that first appears
/// with the first error has no increase to alert on. The handles to count with are looked up again when there
/// is something to count, and kept from then on: most labels of a node that has just started, and of jobs that
/// are seldom due, have nothing to count.
pub(crate) struct JobMeters {
    common: Common,
    label: SharedString,
    of_runs: OnceLock<Box<RunMeters>>,
    of_rest: OnceLock<Box<RestMeters>>,
}

/// What counts whenever a tick runs as it is meant to.
struct RunMeters {
    ticks_due: Counter,
    ticks_started: Counter,
    succeeded: Counter,
    run_duration: Histogram,
    tick_lateness: Histogram,
}

/// All others.
struct RestMeters {
    ticks_skipped: [Counter; SkipReason::ALL.len()],
    ticks_held: Gauge,
    ticks_elsewhere: Counter,
    overdue: Gauge,
    runs: [Counter; Outcome::ALL.len()],
    run_retries: Counter,
}

impl JobMeters {
    fn new(common: &Common, label: &str) -> Self {
        let label = SharedString::from(Arc::<str>::from(label));
        let meters =
            Self { common: common.clone(), label, of_runs: OnceLock::new(), of_rest: OnceLock::new() };
        drop((meters.look_up_of_runs(), meters.look_up_of_rest()));
        meters
    }

    fn look_up_of_runs(&self) -> RunMeters {
        let histogram = |metric: &'static str| histogram!(metric, self.labels([]));
        RunMeters {
            ticks_due: self.counter(TICKS_DUE),
            ticks_started: self.counter_of(TICKS, TickOutcome::Started.as_str()),
            succeeded: self.counter_of(RUNS, Outcome::Succeeded.as_str()),
            run_duration: histogram(RUN_DURATION),
            tick_lateness: histogram(TICK_LATENESS),
        }
    }

    fn look_up_of_rest(&self) -> RestMeters {
        RestMeters {
            ticks_skipped: SkipReason::ALL
                .map(|reason| self.counter_of(TICKS, TickOutcome::Skipped(reason).as_str())),
            ticks_held: gauge!(TICKS_HELD, self.labels([])),
            ticks_elsewhere: self.counter(TICKS_ELSEWHERE),
            overdue: gauge!(JOB_OVERDUE, self.labels([])),
            runs: Outcome::ALL.map(|outcome| self.counter_of(RUNS, outcome.as_str())),
            run_retries: self.counter(RUN_RETRIES),
        }
    }

    /// The labels of a series of these, besides which there may be one more.
    fn labels<const N: usize>(&self, more: [(&'static str, SharedString); N]) -> Vec<Pair> {
        self.common.and([("name", self.label.clone())].into_iter().chain(more))
    }

    fn counter(&self, metric: &'static str) -> Counter {
        counter!(metric, self.labels([]))
    }

    fn counter_of(&self, metric: &'static str, outcome: &'static str) -> Counter {
        counter!(metric, self.labels([("outcome", outcome.into())]))
    }

    fn of_runs(&self) -> &RunMeters {
        self.of_runs.get_or_init(|| Box::new(self.look_up_of_runs()))
    }

    fn of_rest(&self) -> &RestMeters {
        self.of_rest.get_or_init(|| Box::new(self.look_up_of_rest()))
    }

    /// Counts ticks that were decided: `started` of them run, the others do not.
    pub(crate) fn decided(&self, started: u64, skips: &Skips) {
        let of_runs = self.of_runs();
        of_runs.ticks_due.increment(started + skips.total());
        of_runs.ticks_started.increment(started);
        if skips.total() > 0 {
            for (reason, counter) in SkipReason::ALL.iter().zip(&self.of_rest().ticks_skipped) {
                if skips.of(*reason) > 0 {
                    counter.increment(skips.of(*reason));
                }
            }
        }
    }

    /// Counts ticks whose decision the store has committed. Those of a parked job were counted when they were
    /// skipped.
    pub(crate) fn committed(&self, started: u64, skips: &Skips) {
        self.decided(started, &skips.without(SkipReason::Parked));
    }

    /// A share of the gauge of held ticks, zero at first.
    pub(crate) fn held_ticks(&self) -> GaugeShare {
        GaugeShare { gauge: self.of_rest().ticks_held.clone(), count: 0 }
    }

    /// Counts a tick that another node claimed before.
    pub(crate) fn elsewhere(&self) {
        self.of_rest().ticks_elsewhere.increment(1);
    }

    /// The gauge of overdue jobs.
    pub(crate) fn overdue(&self) -> &Gauge {
        &self.of_rest().overdue
    }

    /// Notes how late the body of a tick starts.
    pub(crate) fn late(&self, lateness: Duration) {
        self.of_runs().tick_lateness.record(lateness.as_secs_f64());
    }

    /// Notes how long an attempt took.
    pub(crate) fn took(&self, took: Duration) {
        self.of_runs().run_duration.record(took.as_secs_f64());
    }

    /// Counts an attempt that is followed by another one.
    pub(crate) fn retried(&self) {
        self.of_rest().run_retries.increment(1);
    }

    /// Counts a run that ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        if outcome == Outcome::Succeeded {
            return self.of_runs().succeeded.increment(1);
        }
        let runs = Outcome::ALL.iter().zip(&self.of_rest().runs);
        if let Some((_, counter)) = runs.into_iter().find(|(known, _)| **known == outcome) {
            counter.increment(1);
        }
    }
}

/// What is shown of a job beside what is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobFacts {
    /// When a run succeeded last, and when one ended last.
    pub(crate) last_success: Option<DateTime<Utc>>,
    pub(crate) last_run: Option<DateTime<Utc>>,
    pub(crate) next_fire_time: Option<DateTime<Utc>>,
    /// How many runs failed in a row.
    pub(crate) failures: u64,
    pub(crate) state: Option<JobState>,
    pub(crate) is_paused: bool,
    /// When the first of the runs in progress on this node started.
    pub(crate) running_since: Option<DateTime<Utc>>,
    /// Ticks and triggers that wait for their turn.
    pub(crate) waiting: usize,
}

impl JobMeters {
    /// Shows a job that has this label for itself, and was shown in another state before.
    pub(crate) fn show(&self, facts: &JobFacts, former: Option<JobState>) {
        let set = |metric: &'static str, value: f64| {
            gauge!(metric, self.labels([])).set(value);
        };
        let seconds = |at: DateTime<Utc>| at.timestamp_millis() as f64 / 1_000.0;
        // What never happened has no series: zero would be an instant, long ago.
        for (metric, at) in [(JOB_LAST_SUCCESS, facts.last_success), (JOB_LAST_RUN, facts.last_run)] {
            if let Some(at) = at {
                set(metric, seconds(at));
            }
        }
        set(JOB_NEXT_FIRE, facts.next_fire_time.map_or(0.0, seconds));
        set(JOB_FAILURES, facts.failures as f64);
        set(JOB_PAUSED, f64::from(u8::from(facts.is_paused)));
        set(JOB_RUNNING_SINCE, facts.running_since.map_or(0.0, seconds));
        set(WAITING_TICKS, facts.waiting as f64);
        // A state in which it never was has no series.
        for state in [former, facts.state].into_iter().flatten() {
            gauge!(JOB_STATE, self.labels([("state", state.as_str().into())]))
                .set(f64::from(u8::from(facts.state == Some(state))));
        }
    }

    /// A share of the gauge of runs of backfills that have not ended, zero at first.
    pub(crate) fn backfill_remaining(&self) -> GaugeShare {
        let gauge = gauge!(BACKFILL_REMAINING, self.labels([]));
        GaugeShare { gauge, count: 0 }
    }

    /// Shows that the job has this schedule, or has it no more.
    pub(crate) fn describe(&self, schedule: &Arc<str>, is_so: bool) {
        let schedule = SharedString::from(schedule.clone());
        gauge!(JOB_INFO, self.labels([("schedule", schedule)])).set(f64::from(u8::from(is_so)));
    }
}

/// How much one job, or backfill, adds to a gauge; nothing once it is dropped.
pub(crate) struct GaugeShare {
    gauge: Gauge,
    count: usize,
}

impl GaugeShare {
    pub(crate) fn set(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.count, count);
        if count != before {
            self.gauge.increment(count as f64 - before as f64);
        }
    }
}

impl Drop for GaugeShare {
    fn drop(&mut self) {
        self.set(0);
    }
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
