//! The metrics of the jobs of one label.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use metrics::{Counter, Gauge, Histogram, Label as Pair, SharedString, counter, gauge, histogram};

use super::{common::Common, gauge_share::GaugeShare, series::*};
use crate::{
    event::Outcome,
    job_state::JobState,
    port::{SkipReason, Skips},
};

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
    pub(super) fn new(common: &Common, label: &str) -> Self {
        let label = SharedString::from(Arc::<str>::from(label));
        let meters =
            Self { common: common.clone(), label, of_runs: OnceLock::new(), of_rest: OnceLock::new() };
        drop((meters.look_up_of_runs(), meters.look_up_of_rest()));
        meters
    }

    fn look_up_of_runs(&self) -> RunMeters {
        let histogram = |metric: &'static str| histogram!(metric, self.labels());
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
            ticks_held: gauge!(TICKS_HELD, self.labels()),
            ticks_elsewhere: self.counter(TICKS_ELSEWHERE),
            overdue: gauge!(JOB_OVERDUE, self.labels()),
            runs: Outcome::ALL.map(|outcome| self.counter_of(RUNS, outcome.as_str())),
            run_retries: self.counter(RUN_RETRIES),
        }
    }

    /// The labels of a series of these.
    fn labels(&self) -> Vec<Pair> {
        self.common.and([("name", self.label.clone())])
    }

    /// The labels of a series of these that has one more.
    fn labels_and(&self, key: &'static str, value: SharedString) -> Vec<Pair> {
        self.common.and([("name", self.label.clone()), (key, value)])
    }

    fn counter(&self, metric: &'static str) -> Counter {
        counter!(metric, self.labels())
    }

    fn counter_of(&self, metric: &'static str, outcome: &'static str) -> Counter {
        counter!(metric, self.labels_and("outcome", outcome.into()))
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
        GaugeShare::of(self.of_rest().ticks_held.clone())
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
            gauge!(metric, self.labels()).set(value);
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
            gauge!(JOB_STATE, self.labels_and("state", state.as_str().into()))
                .set(f64::from(u8::from(facts.state == Some(state))));
        }
    }

    /// A share of the gauge of runs of backfills that have not ended, zero at first.
    pub(crate) fn backfill_remaining(&self) -> GaugeShare {
        let gauge = gauge!(BACKFILL_REMAINING, self.labels());
        GaugeShare::of(gauge)
    }

    /// Shows that the job has this schedule, or has it no more.
    pub(crate) fn describe(&self, schedule: &Arc<str>, is_so: bool) {
        let schedule = SharedString::from(schedule.clone());
        gauge!(JOB_INFO, self.labels_and("schedule", schedule)).set(f64::from(u8::from(is_so)));
    }
}
