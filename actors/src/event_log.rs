//! What of the events is logged, and at which level.
//!
//! The log is independent of those who listen. Below WARN the lines tell what a healthy node does now and
//! then; what it does all the time is at DEBUG, and not even looked at unless somebody wants it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    core::{
        log_budget::{Asked, LeftOut, LogBudget},
        text::one_line,
    },
    event::EventKind,
    name::{JobName, NodeId},
    port::SkipReason,
};

/// The longest line, in bytes, without what the subscriber adds.
const LINE_MAX: usize = 1_024;

/// How much somebody who reads the log wants to know of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    fn is_enabled(self) -> bool {
        match self {
            Self::Error => tracing::enabled!(target: "callsheet", tracing::Level::ERROR),
            Self::Warn => tracing::enabled!(target: "callsheet", tracing::Level::WARN),
            Self::Info => tracing::enabled!(target: "callsheet", tracing::Level::INFO),
            Self::Debug => tracing::enabled!(target: "callsheet", tracing::Level::DEBUG),
        }
    }

    fn write(self, node: NodeId, line: &dyn fmt::Display) {
        match self {
            Self::Error => tracing::error!(target: "callsheet", %node, "{line}"),
            Self::Warn => tracing::warn!(target: "callsheet", %node, "{line}"),
            Self::Info => tracing::info!(target: "callsheet", %node, "{line}"),
            Self::Debug => tracing::debug!(target: "callsheet", %node, "{line}"),
        }
    }
}

impl EventKind {
    /// What it is logged at. The table in the docs of [`EventKind`] is this.
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::RunPanicked { .. }
            | Self::JobRestarted { .. } | Self::JobBroken { .. } | Self::JobOverdue { .. } | Self::LeaderOverdue { .. } => {
                Level::Error
            },
            Self::HistoryDiverged { .. }
            | Self::RunFailed { .. }
            | Self::RunTimedOut { .. }
            | Self::RunLost { .. }
            | Self::LockLost { .. }
            | Self::JobConflicting { .. }
            | Self::JobParked { .. }
            | Self::ClockStepped { .. }
            | Self::LeaseTooShort { .. }
            | Self::ZoneDataChanged { .. }
            | Self::ZoneDataDiffers { .. }
            | Self::JobSetDrift { .. }
            | Self::TickSkipped { reason: SkipReason::Misfire, .. } => Level::Warn,
            Self::LeadershipGained { .. }
            | Self::LeadershipLost { .. }
            | Self::LeaderRecovered { .. }
            | Self::LeaseLongEnough { .. }
            | Self::CandidacyWithdrawn { .. }
            | Self::CandidacyRestored
            | Self::JobPaused { .. }
            | Self::JobResumed { .. }
            | Self::JobRevived { .. }
            | Self::JobUnparked { .. }
            | Self::JobRecovered { .. }
            | Self::JobUpdated { .. }
            | Self::BackfillStarted { .. }
            | Self::BackfillFinished { .. }
            | Self::BackfillCancelled { .. }
            | Self::TickHeld { .. }
            | Self::RunRetried { .. }
            | Self::RunCancelled { .. }
            | Self::ShutdownStarted { .. }
            | Self::ShutdownFinished { .. } => Level::Info,
            Self::JobAdded { .. }
            | Self::JobRemoved { .. }
            | Self::TickSkipped { .. }
            | Self::RunStarted { .. }
            | Self::RunProgressed { .. }
            | Self::RunSucceeded { .. }
            | Self::LockContended { .. }
            // Said of each job. Of the store itself it is said once.
            | Self::LockUnavailable { .. }
            | Self::LeadershipUnavailable { .. } => Level::Debug,
        }
    }
}

/// Writes what happens on a node into the log, of each kind and job so many lines a minute.
pub(crate) struct EventLog {
    node: NodeId,
    budget: Mutex<LogBudget<Level>>,
}

impl EventLog {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, budget: Mutex::default() }
    }

    /// Whether anything is logged at all.
    pub(crate) fn is_enabled() -> bool {
        Level::Error.is_enabled()
    }

    /// Whether what happens all the time is logged.
    pub(crate) fn is_enabled_for_routine() -> bool {
        Level::Debug.is_enabled()
    }

    /// Whether an event of this kind is logged.
    pub(crate) fn logs(kind: &EventKind) -> bool {
        kind.level().is_enabled()
    }

    /// Logs an event. If it is the first one in its minute that is left out, answers how long until the
    /// [minute is over](Self::close_period).
    pub(crate) fn event(&self, now: Duration, kind: &EventKind) -> Option<Duration> {
        self.log(now, kind.name().as_str(), kind.level(), kind.job(), kind)
    }

    /// Logs a line of some kind about a job, as [`event`](Self::event) does.
    pub(crate) fn log(
        &self,
        now: Duration,
        kind: &'static str,
        level: Level,
        job: Option<&JobName>,
        line: &dyn fmt::Display,
    ) -> Option<Duration> {
        if !level.is_enabled() {
            return None;
        }
        if level == Level::Debug {
            // Whoever asks for these asks for all.
            level.write(self.node, &one_line(line, LINE_MAX));
            return None;
        }
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let Asked { logged, over, close_in } = budget.ask(now, kind, level, job);
        drop(budget);
        self.left_out(&over);
        if logged {
            level.write(self.node, &one_line(line, LINE_MAX));
        }
        close_in
    }

    /// Says what was left out of a minute that is over.
    pub(crate) fn close_period(&self, now: Duration) {
        let over = self.budget.lock().unwrap_or_else(PoisonError::into_inner).close_period(now);
        self.left_out(&over);
    }

    /// Says what was left out so far.
    pub(crate) fn close(&self) {
        let over = self.budget.lock().unwrap_or_else(PoisonError::into_inner).close();
        self.left_out(&over);
    }

    fn left_out(&self, over: &[LeftOut<Level>]) {
        over.iter().for_each(|left_out| left_out.level.write(self.node, left_out));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::{
        core::backfill::BackfillId,
        core::{alarm::Expectation, control::JobSet, time::FireTime},
        event::{CancelReason, EventName, Outcome, StepDownReason},
        name::{By, FencingToken, LockKey, RunId, RunIds, Term},
        port::Pause,
        port::{DivergedRun, GrantedRun},
    };

    fn run() -> RunId {
        RunIds::of(NodeId::numbered(1)).next(DateTime::UNIX_EPOCH)
    }

    /// An event of each kind.
    pub(crate) fn sample(name: EventName) -> EventKind {
        let job = JobName::new("mail").expect("a good name");
        let (run, took, term) = (run(), Duration::from_nanos(1_500_001), Term(u64::MAX));
        let text: Arc<str> = "text".into();
        let by = Some(By::new("alice").expect("a good name"));
        let reason = || text.to_string();
        let fire_time = FireTime::new(DateTime::UNIX_EPOCH);
        match name {
            EventName::JobAdded => EventKind::JobAdded { job, by },
            EventName::JobRemoved => EventKind::JobRemoved { job, by },
            EventName::JobUpdated => EventKind::JobUpdated { job, by },
            EventName::JobPaused => EventKind::JobPaused {
                job,
                pause: Pause { until: Some(DateTime::UNIX_EPOCH), note: Some(reason()), by },
            },
            EventName::JobResumed => EventKind::JobResumed { job, by },
            EventName::JobRestarted => EventKind::JobRestarted { job, restarts: 1 },
            EventName::JobBroken => EventKind::JobBroken { job, reason: text },
            EventName::JobRevived => EventKind::JobRevived { job },
            EventName::JobConflicting => EventKind::JobConflicting { job, reason: text },
            EventName::JobParked => EventKind::JobParked { job, reason: text },
            EventName::JobUnparked => EventKind::JobUnparked { job },
            EventName::JobOverdue => EventKind::JobOverdue {
                job,
                expectation: Expectation::Start,
                within: took,
                since: DateTime::UNIX_EPOCH,
            },
            EventName::JobRecovered => EventKind::JobRecovered {
                job,
                expectation: Expectation::AtLeast,
                since: DateTime::UNIX_EPOCH,
            },
            EventName::BackfillStarted => {
                EventKind::BackfillStarted { job, backfill: BackfillId::new(run), ticks: 24, by }
            }
            EventName::BackfillFinished => {
                EventKind::BackfillFinished { job, backfill: BackfillId::new(run), ticks: 24, failed: 1 }
            }
            EventName::BackfillCancelled => {
                EventKind::BackfillCancelled { job, backfill: BackfillId::new(run), remaining: 7, by }
            }
            EventName::LeaderOverdue => EventKind::LeaderOverdue { since: DateTime::UNIX_EPOCH },
            EventName::LeaderRecovered => EventKind::LeaderRecovered { since: DateTime::UNIX_EPOCH },
            EventName::TickHeld => {
                let reason = SkipReason::Paused;
                EventKind::TickHeld { job, fire_time, reason }
            }
            EventName::TickSkipped => {
                let reason = SkipReason::Overlap;
                EventKind::TickSkipped { job, fire_time, reason, count: 1, at_least: false }
            }
            EventName::RunStarted => {
                let (fire_time, token) = (Some(fire_time), Some(FencingToken(u64::MAX)));
                let names = fire_time;
                EventKind::RunStarted { job, run, fire_time, lateness: took, attempt: 1, token, by, names }
            }
            EventName::RunProgressed => EventKind::RunProgressed { job, run, progress: 0.25 },
            EventName::RunRetried => {
                let outcome = Outcome::Failed;
                EventKind::RunRetried { job, run, attempt: 1, outcome, took, wait: took, error: text }
            }
            EventName::RunSucceeded => EventKind::RunSucceeded { job, run, took },
            EventName::RunFailed => EventKind::RunFailed { job, run, took, error: text },
            EventName::RunPanicked => EventKind::RunPanicked { job, run, took, message: text },
            EventName::RunTimedOut => EventKind::RunTimedOut { job, run, took },
            EventName::RunCancelled => {
                EventKind::RunCancelled { job, run, took, why: CancelReason::Vetoed, reason: Some(text) }
            }
            EventName::RunLost => EventKind::RunLost { job, run, fire_time: None },
            EventName::LockContended => EventKind::LockContended { job, holder: None },
            EventName::LockUnavailable => EventKind::LockUnavailable { job, reason: reason() },
            EventName::LockLost => EventKind::LockLost { job, run },
            EventName::LeadershipGained => EventKind::LeadershipGained { term },
            EventName::LeadershipLost => EventKind::LeadershipLost { term, why: StepDownReason::Resigned },
            EventName::CandidacyWithdrawn => {
                EventKind::CandidacyWithdrawn { why: StepDownReason::Refused, reason: text }
            }
            EventName::CandidacyRestored => EventKind::CandidacyRestored,
            EventName::LeadershipUnavailable => EventKind::LeadershipUnavailable { reason: reason() },
            EventName::LeaseTooShort => EventKind::LeaseTooShort { round_trip: took, lease_min: took },
            EventName::LeaseLongEnough => EventKind::LeaseLongEnough { round_trip: took },
            EventName::ClockStepped => EventKind::ClockStepped { by: -TimeDelta::milliseconds(1_500) },
            EventName::ZoneDataChanged => EventKind::ZoneDataChanged { from: reason(), to: reason() },
            EventName::ZoneDataDiffers => {
                EventKind::ZoneDataDiffers { own: reason(), other: reason(), other_node: NodeId::numbered(1) }
            }
            EventName::JobSetDrift => {
                let own = JobSet { count: 12, ..JobSet::default() };
                EventKind::JobSetDrift { own, other: JobSet::default(), other_node: NodeId::numbered(1) }
            }
            EventName::HistoryDiverged => {
                let granted = GrantedRun {
                    job,
                    key: LockKey::new("key").expect("a good name"),
                    run,
                    fire_time: None,
                    token: FencingToken(7),
                };
                let runs = vec![DivergedRun::new(&granted)];
                EventKind::HistoryDiverged { term: Some(term), count: 1, runs }
            }
            EventName::ShutdownStarted => EventKind::ShutdownStarted { deadline: took },
            EventName::ShutdownFinished => {
                EventKind::ShutdownFinished { drained: 0, cancelled: 0, aborted: 0 }
            }
        }
    }

    /// The rows of the table in the docs of [`EventKind`]: the level of each event.
    fn documented() -> BTreeMap<String, String> {
        let rows = include_str!("event/kind.rs").lines().filter_map(|line| line.strip_prefix("/// | "));
        let rows = rows.filter_map(|row| row.strip_suffix(" |")?.split_once(" | "));
        let rows = rows.filter(|(level, _)| *level != "level");
        let events = rows.flat_map(|(level, row)| row.split(", ").map(move |event| (event, level)));
        events.map(|(event, level)| (event.replace('`', ""), level.to_owned())).collect()
    }

    #[test]
    fn the_docs_tell_the_level_of_every_event() {
        let mut documented = documented();
        let mut misfire = sample(EventName::TickSkipped);
        if let EventKind::TickSkipped { reason, .. } = &mut misfire {
            *reason = SkipReason::Misfire;
        }
        let all = EventName::ALL.iter().map(|name| (name.to_string(), sample(*name)));

        for (name, kind) in all.chain([("TickSkipped by Misfire".to_owned(), misfire)]) {
            let level = format!("{:?}", kind.level()).to_uppercase();
            assert_eq!(documented.remove(&name), Some(level), "{name}");
        }

        assert_eq!(documented, BTreeMap::new(), "each event is named once");
    }
}
