//! An event as a line that people read.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{Event, EventKind};
use crate::{
    core::backfill::BackfillId,
    name::{By, Term},
    port::DivergedRun,
};

/// One readable line, without the instant and the node: `RunSucceeded hello took 1.2ms`.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().as_str())?;
        if let Some(job) = self.job() {
            write!(f, " {job}")?;
        }
        match self {
            Self::JobAdded { by, .. }
            | Self::JobRemoved { by, .. }
            | Self::JobUpdated { by, .. }
            | Self::JobResumed { by, .. } => write_by(f, by.as_ref()),
            Self::JobRevived { .. }
            | Self::JobUnparked { .. }
            | Self::LockLost { .. }
            | Self::CandidacyRestored => Ok(()),
            Self::JobPaused { pause, .. } => {
                if let Some(until) = pause.until {
                    write!(f, " until {}", until.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
                }
                write_by(f, pause.by.as_ref())?;
                pause.note.as_ref().map_or(Ok(()), |note| write!(f, ": {note}"))
            }
            Self::JobConflicting { reason, .. } | Self::JobBroken { reason, .. } => write!(f, ": {reason}"),
            Self::BackfillStarted { backfill, ticks, by, .. } => {
                write!(f, " {backfill}, {ticks} fire times")?;
                write_by(f, by.as_ref())
            }
            Self::BackfillFinished { backfill, ticks, failed, .. } => {
                write!(f, " {backfill}, {ticks} fire times, {failed} failed")
            }
            Self::BackfillCancelled { backfill, remaining, by, .. } => {
                write!(f, " {backfill}, {remaining} fire times left")?;
                write_by(f, by.as_ref())
            }
            Self::TickHeld { fire_time, reason, .. } => write!(f, " {fire_time} {reason}"),
            Self::JobParked { reason, .. } => {
                write!(
                    f,
                    ": the store refuses its data; update it, or mend the store and resume it: {reason}"
                )
            }
            Self::JobOverdue { expectation, within, since, .. } => {
                write!(f, " {expectation} within {within:.1?}, since {}", instant(*since))
            }
            Self::JobRecovered { expectation, since, .. } => {
                write!(f, " {expectation}, overdue since {}", instant(*since))
            }
            Self::JobRestarted { restarts, .. } => write!(f, " restarts {restarts}"),
            Self::TickSkipped { fire_time, reason, count, at_least, .. } => {
                let at_least = if *at_least { "at least " } else { "" };
                write!(f, " {fire_time} {reason} {at_least}{count}")
            }
            Self::RunStarted { run, fire_time, lateness, attempt, by, names, .. } => {
                match (fire_time, BackfillId::of_run(*run)) {
                    (_, Some((backfill, _))) => write!(f, " of backfill {backfill}")?,
                    (Some(fire_time), None) => write!(f, " {fire_time} late {lateness:.1?}")?,
                    (None, None) => f.write_str(" triggered")?,
                }
                write_by(f, by.as_ref())?;
                names.map_or(Ok(()), |names| write!(f, " for {names}"))?;
                if *attempt > 1 { write!(f, ", attempt {attempt}") } else { Ok(()) }
            }
            Self::RunProgressed { progress, .. } => write!(f, " {:.0} %", progress * 100.0),
            Self::RunRetried { attempt, outcome, took, wait, error, .. } => {
                write!(f, " attempt {attempt} {outcome}, took {took:.1?}, next in {wait:.1?}: {error}")
            }
            Self::RunSucceeded { took, .. } | Self::RunTimedOut { took, .. } => write!(f, " took {took:.1?}"),
            Self::RunFailed { took, error: text, .. } | Self::RunPanicked { took, message: text, .. } => {
                write!(f, " took {took:.1?}: {text}")
            }
            Self::RunCancelled { took, why, reason: None, .. } => write!(f, " took {took:.1?}: {why}"),
            Self::RunCancelled { took, why, reason: Some(reason), .. } => {
                write!(f, " took {took:.1?}: {why}: {reason}")
            }
            Self::RunLost { fire_time: Some(fire_time), .. } => write!(f, " {fire_time}"),
            Self::RunLost { fire_time: None, .. } => f.write_str(" triggered"),
            Self::LockContended { holder: Some(holder), .. } => write!(f, " held by {holder}"),
            Self::LockContended { holder: None, .. } => Ok(()),
            Self::LockUnavailable { reason, .. } | Self::LeadershipUnavailable { reason } => {
                write!(f, ": {reason}")
            }
            Self::LeaderOverdue { since } => {
                write!(
                    f,
                    ": ticks are due since {}, and not decided; look at the health of the leader",
                    instant(*since)
                )
            }
            Self::LeaderRecovered { since } => write!(f, ", overdue since {}", instant(*since)),
            Self::LeadershipGained { term } => write!(f, " term {term}"),
            Self::LeadershipLost { term, why } => write!(f, " term {term}: {why}"),
            Self::CandidacyWithdrawn { reason, .. } => write!(f, ": {reason}"),
            Self::LeaseTooShort { round_trip, lease_min } => {
                write!(
                    f,
                    ": a round trip to the store takes {round_trip:.1?}; give all nodes a lease of at least {lease_min:?}"
                )
            }
            Self::LeaseLongEnough { round_trip } => {
                write!(f, ": a round trip to the store takes {round_trip:.1?}")
            }
            Self::ClockStepped { by } => {
                let direction = if *by < TimeDelta::zero() { "back" } else { "ahead" };
                write!(f, " {:.1?} {direction}", by.abs().to_std().unwrap_or_default())
            }
            Self::ZoneDataChanged { from, to } => {
                let effect = "a tick whose instant differs between them may run twice, or be skipped";
                write!(f, " from {from} to {to}: {effect}")
            }
            Self::ZoneDataDiffers { own, other, other_node } => {
                write!(f, " {own} here, {other} on node {other_node}: give all nodes the same")
            }
            Self::JobSetDrift { own, other, other_node } => {
                write!(f, " {own} here, {other} on node {other_node}: deploy the same code on all nodes")
            }
            Self::HistoryDiverged { term, count, runs } => write_diverged(f, *term, *count, runs),
            Self::ShutdownStarted { deadline } => write!(f, " deadline {deadline:.1?}"),
            Self::ShutdownFinished { drained, cancelled, aborted } => {
                write!(f, " drained {drained}, cancelled {cancelled}, aborted {aborted}")
            }
        }
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn write_by(f: &mut fmt::Formatter<'_>, by: Option<&By>) -> fmt::Result {
    by.map_or(Ok(()), |by| write!(f, " by {by}"))
}

/// How many runs a line names.
const DIVERGED_RUNS_SHOWN: usize = 5;

fn write_diverged(
    f: &mut fmt::Formatter<'_>,
    term: Option<Term>,
    count: u64,
    runs: &[DivergedRun],
) -> fmt::Result {
    f.write_str(": the store does not know what it granted to this node:")?;
    if let Some(term) = term {
        write!(f, " term {term};")?;
    }
    write!(f, " {count} runs")?;
    for (nth, run) in runs.iter().rev().take(DIVERGED_RUNS_SHOWN).enumerate() {
        let DivergedRun { job, run, fire_time, token, token_also, tick_also } = run;
        write!(f, "{} {job}", if nth == 0 { ":" } else { "," })?;
        fire_time.map_or(Ok(()), |fire_time| write!(f, " {fire_time}"))?;
        write!(f, " run {run} token {token}")?;
        token_also.map_or(Ok(()), |other| write!(f, ", which run {other} has as well"))?;
        tick_also.map_or(Ok(()), |other| write!(f, ", whose tick ran as run {other} as well"))?;
    }
    f.write_str("; see that no node can reach the former database, and check what these runs did")
}

/// One readable line with the instant: `2026-01-01T00:00:00.000Z RunSucceeded hello took 1.2ms`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at.to_rfc3339_opts(SecondsFormat::Millis, true), self.kind)
    }
}
