//! The runs in progress: their attempts, their time, their ends.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BodyEnd, RunFacts, Start, history::History};
use crate::{
    core::time::{FireTime, Now},
    event::{CancelReason, Outcome},
    name::{FencingToken, RunId, Term},
    word::words,
};

/// What a run in progress does on its node.
///
/// | phase | the body | what it waits for | what ends it |
/// |---|---|---|---|
/// | `waiting_for_permit` | does not run | one of the node's permits, for an attempt that is due | a permit, cancelling |
/// | `attempting` | runs | | its end, cancelling |
/// | `waiting_for_retry` | does not run: an attempt failed | the end of the [pause](crate::Retry) | time, cancelling |
/// | `stopping` | runs, and was told to stop | the body, for [`abort_after`](crate::Job::abort_after) | its end, aborting |
/// | `still_running` | was aborted, and has not ended | the body: it blocks, or cannot be aborted | its end |
///
/// A node has as many permits as it may have [concurrent runs](crate::EngineOptions::max_concurrent_runs). In
/// each phase the run holds its lock key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunPhase {
    /// No attempt is in progress: the node has no permit for the one that is due.
    WaitingForPermit,
    /// An attempt is in progress.
    Attempting,
    /// No attempt is in progress: one failed, and the pause before the next one is not over.
    WaitingForRetry,
    /// An attempt is in progress that was asked to stop.
    Stopping,
    /// An attempt was aborted and has not ended yet.
    StillRunning,
}

words!(RunPhase {
    WaitingForPermit: "waiting_for_permit",
    Attempting: "attempting",
    WaitingForRetry: "waiting_for_retry",
    Stopping: "stopping",
    StillRunning: "still_running",
});

/// A run in progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActiveRun {
    /// The run.
    pub(crate) run: RunId,
    /// The tick, or `None` for a manual trigger.
    pub(crate) tick: Option<FireTime>,
    /// When it was granted, then when its first attempt here was let start: by the clock
    /// that decides the job's ticks.
    pub(crate) started_at: DateTime<Utc>,
    /// The number of the try within the run, from 1.
    pub(crate) attempt: u32,
    /// Which of the key's slots it holds, from 0.
    pub(super) slot: u32,
    /// `Some` while no attempt is in progress: when the next one starts, or asks the node for a permit again.
    pub(super) next_attempt_at: Option<Duration>,
    /// Its next attempt was due, and the node had no permit for it.
    pub(super) put_off: bool,
    /// Its first attempt on this node has started.
    pub(super) begun: bool,
    /// When the body of its first attempt started, by the node's own clock.
    pub(super) first_started_at: Option<DateTime<Utc>>,
    pub(super) term: Option<Term>,
    pub(super) token: Option<FencingToken>,
    pub(super) deadline: Option<Duration>,
    pub(super) told_to_stop: Option<CancelReason>,
    /// It was told to end, not only to end this attempt.
    pub(super) ends: bool,
    pub(super) abort_at: Option<Duration>,
    /// It was told to end at once and has not ended yet.
    pub(crate) aborted: bool,
    /// The session that held its key is gone.
    pub(super) lost: bool,
}

impl ActiveRun {
    /// When the run is to be cancelled, aborted or tried again. An attempt that is due waits for the permit,
    /// not for a time.
    pub(super) fn changes_at(&self, now: Now, is_permitted: bool) -> Option<Duration> {
        let next_attempt_at = self.next_attempt_at.filter(|due| *due > now.elapsed || is_permitted);
        [self.deadline, self.abort_at, next_attempt_at].into_iter().flatten().min()
    }

    /// What it does.
    pub(crate) fn phase(&self, now: Now) -> RunPhase {
        match self.next_attempt_at {
            Some(due) if self.begun && !self.put_off && due > now.elapsed => RunPhase::WaitingForRetry,
            Some(_) => RunPhase::WaitingForPermit,
            None if self.aborted => RunPhase::StillRunning,
            None if self.told_to_stop.is_some() => RunPhase::Stopping,
            None => RunPhase::Attempting,
        }
    }

    /// The number of the attempt that is in progress, or of the next one if none is.
    pub(crate) fn current_attempt(&self) -> u32 {
        let failed = self.begun && self.next_attempt_at.is_some();
        self.attempt + u32::from(failed)
    }

    /// Why it was asked to stop, if it was.
    pub(crate) fn cancelled(&self) -> Option<CancelReason> {
        self.told_to_stop
    }

    /// What is known of it at its end.
    pub(super) fn facts(&self, now: Now) -> RunFacts {
        let Self { tick, term, token, attempt, slot, .. } = *self;
        RunFacts { tick, is_known: true, term, token, attempt, slot, ended_at: Some(now.wall) }
    }

    pub(super) fn outcome(&self, end: &BodyEnd) -> Outcome {
        end.outcome(self.told_to_stop)
    }
}

/// The runs of a job on this node.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Those in progress, in the order in which they started.
    pub(super) active: Vec<ActiveRun>,
    /// Those that ended.
    pub(super) history: History,
    /// How many ticks of a job without claims have started.
    pub(super) started_without_claim: u64,
    /// This step has given its id away.
    pub(super) id_is_spent: bool,
}

impl Runs {
    /// An id for a run: one in each step.
    pub(super) fn spend_id(&mut self, now: Now) -> Option<RunId> {
        (!std::mem::replace(&mut self.id_is_spent, true)).then_some(now.spare)
    }

    /// It is in progress.
    pub(super) fn has(&self, run: RunId) -> bool {
        self.active.iter().any(|active| active.run == run)
    }

    /// The oldest one in progress.
    pub(super) fn first(&self) -> Option<RunId> {
        self.active.first().map(|run| run.run)
    }

    /// When the first of them is to be cancelled, aborted or tried again.
    pub(super) fn change_at(&self, now: Now, is_permitted: bool) -> Option<Duration> {
        self.active.iter().filter_map(|run| run.changes_at(now, is_permitted)).min()
    }

    /// The lowest of so many slots, from `from` on, that no run of this job holds; none while as many runs
    /// are in progress as may be. A job that was changed may have runs in slots that its policy does not know
    /// any more.
    pub(super) fn lowest_free_slot(&self, slots: u32, from: u32) -> Option<u32> {
        // More than that may go on since the policy was changed.
        if usize::try_from(slots).is_ok_and(|slots| self.active.len() >= slots) {
            return None;
        }
        (from..slots).find(|slot| self.active.iter().all(|run| run.slot != *slot))
    }

    pub(super) fn add(&mut self, now: Now, start: &Start, begun: bool) {
        debug_assert!(!self.has(start.run), "a run starts once");
        if self.active.is_empty() {
            // Most jobs have one run at a time, and keep the room for it: a vector would make room for four.
            self.active.reserve_exact(1);
        }
        self.active.push(ActiveRun {
            run: start.run,
            tick: start.tick,
            started_at: now.wall,
            attempt: start.attempt,
            slot: start.slot,
            next_attempt_at: (!begun).then_some(now.elapsed),
            put_off: false,
            begun,
            first_started_at: None,
            term: start.term,
            token: start.token,
            deadline: start.deadline,
            told_to_stop: None,
            ends: false,
            abort_at: None,
            aborted: false,
            lost: false,
        });
    }

    /// The node has no permit for the attempts that are due.
    pub(super) fn put_attempts_off(&mut self, now: Now, later: Duration) {
        for run in &mut self.active {
            if run.next_attempt_at.is_some_and(|due| due <= now.elapsed) {
                run.next_attempt_at = Some(later);
                run.put_off = true;
            }
        }
    }
}
