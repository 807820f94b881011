//! What a job's machine is told, and what it answers.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::{
    core::{contract::Breach, end_text::EndText, time::FireTime},
    event::{CancelReason, Outcome},
    name::{FencingToken, RunId, Term},
    port::{Advanced, Authority, Pause, PendingRetry, SkipReason, Skips, StoredState, TickClaim, Verdict},
};

/// What of a job the node bounds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeBounds {
    /// The runs in progress: a permit is asked for before anything starts.
    pub(crate) runs: bool,
    /// How fast it makes up for missed ticks: a turn is asked for before one starts.
    pub(crate) catch_ups: bool,
}

/// What the machine is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// The job may fire from here on: everything up to `cursor` is decided.
    Resume {
        /// Everything up to here is decided.
        cursor: DateTime<Utc>,
        /// By what authority the job fires; `None` for a job that is local to its node.
        authority: Option<Authority>,
        /// What else the store keeps of it.
        stored: Box<StoredState>,
    },
    /// The store refuses the job for its data: its ticks are skipped from here on, without asking the store,
    /// until it is resumed or suspended. Its runs go on.
    Park {
        /// Since when, as far as is known, this node is to decide the job's ticks.
        since: DateTime<Utc>,
        /// By what authority.
        authority: Authority,
    },
    /// The job may not fire any more. Its runs go on.
    Suspend,
    /// The job is removed, or goes by another schedule from now on: what is due by now is skipped, unless it
    /// is being claimed. Its runs go on.
    Leave {
        /// It is removed.
        is_removed: bool,
    },
    /// Nothing starts any more. As `Suspend`, but what the job still accounts for stays; triggers that wait
    /// are refused.
    Drain,
    /// A timer fired, or something may have changed.
    WakeUp,
    /// The clock by which the job is due was set, or the machine slept.
    ClockMoved,
    /// Somebody wants a run now.
    Trigger,
    /// The leader wants this run of a backfill now.
    Backfill {
        /// The run.
        run: RunId,
    },
    /// The store answered a claim.
    Claimed {
        /// The run that was claimed.
        run: RunId,
        /// The answer.
        verdict: Verdict,
    },
    /// The store refused a claim for its data, and granted nothing by it. Perhaps it refuses everybody: the
    /// job is not to blame.
    ClaimRefused {
        /// The run that was claimed.
        run: RunId,
        /// What the store says.
        reason: String,
    },
    /// The store answered a move of the cursor.
    Advanced(Advanced),
    /// The store answered the end of a run that was to move the cursor.
    Anchored {
        /// The cursor; `None` if the store knows none, or did not record that end.
        cursor: Option<DateTime<Utc>>,
    },
    /// A body is really over: nothing of it runs any more.
    BodyEnded(BodyEnded),
    /// The session that held the key of this run is gone.
    LockLost {
        /// The run.
        run: RunId,
    },
    /// A run of this job was lost and is to go on with its next attempt.
    PendingRetry(PendingRetry),
    /// The job is paused, or resumed.
    Pause(Option<Pause>),
    /// It may have been resumed: some notifications did not come through.
    NotificationsLagged,
    /// The node's answer to [`Effect::AskPermit`].
    Permit(PermitAnswer),
    /// It is the turn of this job to make up for a missed tick: the answer to [`Effect::AskTurn`].
    Turn,
    /// Runs in progress are to stop.
    Cancel {
        /// This one; `None`: all, and what waits to be started by hand.
        run: Option<RunId>,
        /// Why.
        why: CancelReason,
    },
    /// The runs in progress are to be dropped.
    Abort,
}

/// What the node says to a job that wants to start something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PermitAnswer {
    /// It may.
    Granted,
    /// Not yet: another answer follows.
    Wait,
    /// Not now.
    NotAdmitted,
}

/// The end of a body.
#[derive(Debug, Clone)]
pub(crate) struct BodyEnded {
    /// The run.
    pub(crate) run: RunId,
    /// What the body did.
    pub(crate) end: BodyEnd,
    /// When the body started, by the clock that decides the job's ticks; `None` if it never did.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// How long it took by the monotonic clock.
    pub(crate) took: Duration,
}

/// What a body did at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// It returned without an error.
    Returned,
    /// It returned an error.
    Failed {
        /// The whole chain in one text.
        error: EndText,
        /// What follows from it.
        severity: Severity,
    },
    /// It panicked with this message.
    Panicked(EndText),
    /// It was dropped before it returned.
    Aborted,
    /// There was none: the run waited for its next attempt, or for a permit for its first one.
    BetweenAttempts,
    /// It never started: a hook vetoed it with this reason, or the run was told to stop before. It is not
    /// tried again.
    NotStarted {
        /// The reason of the veto, if it was one.
        veto: Option<EndText>,
    },
}

impl BodyEnd {
    /// What a run came to that was `cancelled`, or was not.
    ///
    /// One that was cancelled counts as such whatever its body made of it, unless it panicked: nobody can
    /// tell an answer that was given in time from one that was given up.
    pub(crate) fn outcome(&self, cancelled: Option<CancelReason>) -> Outcome {
        match (self, cancelled) {
            (Self::Panicked(_), _) => Outcome::Panicked,
            (Self::NotStarted { .. }, _) => Outcome::Cancelled,
            (_, Some(CancelReason::TimedOut)) => Outcome::TimedOut,
            (_, Some(_)) | (Self::Aborted | Self::BetweenAttempts, None) => Outcome::Cancelled,
            (Self::Returned, None) => Outcome::Succeeded,
            (Self::Failed { .. }, None) => Outcome::Failed,
        }
    }
}

impl BodyEnd {
    /// What went wrong, in words, if something did.
    pub(crate) fn error(&self) -> Option<&EndText> {
        match self {
            Self::Failed { error, .. } | Self::Panicked(error) => Some(error),
            Self::Returned | Self::Aborted | Self::BetweenAttempts | Self::NotStarted { .. } => None,
        }
    }
}

/// What follows from an error, besides the failure of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Nothing: another attempt may succeed.
    Transient,
    /// Another attempt would fail as well: the run fails.
    Permanent,
    /// So would every later run: the run fails, and the job takes no more ticks.
    Stop,
}

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Ask the store for this run.
    Claim(Claim),
    /// Ask the store to move the cursor over skipped ticks.
    Advance(Advance),
    /// Start the body.
    Start(Start),
    /// Fire the cancellation token of the run.
    Cancel {
        /// The run.
        run: RunId,
        /// Why.
        why: CancelReason,
    },
    /// Drop the body of the run.
    Abort {
        /// The run.
        run: RunId,
    },
    /// Record the end of the run and free its key.
    Complete {
        /// The run.
        run: RunId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Say that an attempt failed and that another one will follow.
    Retried(Retried),
    /// Say that the run ended.
    RunEnded(RunEnded),
    /// Say that ticks were skipped.
    Skipped {
        /// The first of them.
        first: FireTime,
        /// The newest of them.
        newest: FireTime,
        /// Why.
        reason: SkipReason,
        /// How many.
        count: u64,
        /// There may have been more.
        at_least: bool,
    },
    /// Say that a tick is due and waits: it runs, or is skipped with this reason.
    Held {
        /// The tick.
        fire_time: FireTime,
        /// Why it waits.
        reason: SkipReason,
    },
    /// The schedule broke its contract. The machine decides nothing until it is resumed.
    Broken(Breach),
    /// Count ticks that the store does not hear of: nobody else will.
    Count {
        /// How many started.
        started: u64,
        /// How many did not.
        skips: Skips,
    },
    /// Count a tick that another node has decided.
    Elsewhere,
    /// Say that the job has paused itself after too many failures. Only a job without claims does: of others
    /// the store decides.
    Paused(Pause),
    /// Pause the job on all nodes: its body said that it is to stop for good.
    Stop(Pause),
    /// Ask the node for a permit to start something.
    AskPermit {
        /// The greater goes first.
        priority: i8,
        /// It is for a tick that was missed: those of the same priority on time go first.
        catches_up: bool,
    },
    /// The permit that the job waits for is wanted for a tick that is on time.
    HurryPermit {
        /// As it was asked for.
        priority: i8,
    },
    /// Ask the node when it is the job's turn to make up for a missed tick.
    AskTurn {
        /// The tick may run until then: whose time ends sooner goes first.
        deadline: DateTime<Utc>,
    },
    /// No turn is wanted any more.
    LeaveTurn,
    /// Give a permit back: an attempt ended, or nothing is to start any more.
    ReleasePermit,
    /// Say that the key was held by somebody else.
    Contended {
        /// The run that holds it, if known.
        holder: Option<RunId>,
    },
    /// Say that the store did not answer.
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// Answer whoever triggered the job.
    Answer {
        /// The run that was asked for.
        run: RunId,
        /// What became of it.
        answer: Result<TriggerAnswer, Refusal>,
    },
}

/// The effects of one step, in order.
pub(crate) type Effects = SmallVec<[Effect; 2]>;

/// A claim of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The run's id.
    pub(crate) run: RunId,
    /// The tick, or `None` for a run without one of its own.
    pub(crate) tick: Option<TickClaim>,
    /// Ask only whether it was granted before.
    pub(crate) recheck: bool,
    /// The run was lost, and is to go on.
    pub(crate) resume_lost: bool,
    /// Whoever holds the key is to stop.
    pub(crate) replace: bool,
    /// Which of the key's slots to take, from 0.
    pub(crate) slot: u32,
    /// The fire time that a run without a tick names, which only the shell knows.
    pub(crate) named: Option<FireTime>,
    /// The greatest lateness at which the tick may run.
    pub(crate) window: Duration,
}

impl Claim {
    /// A claim without a tick.
    pub(crate) fn new(run: RunId) -> Self {
        let (recheck, resume_lost, replace) = (false, false, false);
        let window = Duration::ZERO;
        Self { run, tick: None, recheck, resume_lost, replace, slot: 0, named: None, window }
    }
}

/// What became of a manual trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TriggerAnswer {
    /// The run has started.
    Started,
    /// It starts when its turn comes.
    Queued,
}

/// A move of the cursor over skipped ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    /// Its own id, the same however often it is asked.
    pub(crate) id: Uuid,
    /// The cursor before.
    pub(crate) expected: DateTime<Utc>,
    /// The cursor after.
    pub(crate) to: FireTime,
    /// The ticks between.
    pub(crate) skips: Skips,
    /// By what authority.
    pub(crate) authority: Authority,
}

/// A run that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The run.
    pub(crate) run: RunId,
    /// The tick, or `None` for a manual trigger.
    pub(crate) tick: Option<FireTime>,
    /// The term under which it was claimed.
    pub(crate) term: Option<Term>,
    /// The token that it was granted; `None` for a job without claims.
    pub(crate) token: Option<FencingToken>,
    /// The monotonic reading at which its time is over.
    pub(crate) deadline: Option<Duration>,
    /// The number of the try within the run, from 1.
    pub(crate) attempt: u32,
    /// It is the first of the run on this node.
    pub(crate) begins: bool,
    /// Which of the key's slots it holds, from 0.
    pub(crate) slot: u32,
}

/// An attempt that failed and is followed by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retried {
    /// The run.
    pub(crate) run: RunId,
    /// The attempt that failed, from 1.
    pub(crate) attempt: u32,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// When it ended, by the clock that decides the job's ticks.
    pub(crate) ended_at: DateTime<Utc>,
    /// How long until the next one.
    pub(crate) wait: Duration,
    /// What the body did.
    pub(crate) end: BodyEnd,
    /// How long it took.
    pub(crate) took: Duration,
}

/// As what a run was claimed, and how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunFacts {
    /// The tick, or `None` for a manual trigger.
    pub(crate) tick: Option<FireTime>,
    /// It is known whether it was a tick or a trigger.
    pub(crate) is_known: bool,
    /// The term under which it was claimed.
    pub(crate) term: Option<Term>,
    /// The token that it was granted; `None` if it was not claimed.
    pub(crate) token: Option<FencingToken>,
    /// The number of its last attempt, from 1.
    pub(crate) attempt: u32,
    /// Which of the key's slots it held, from 0.
    pub(crate) slot: u32,
    /// When it ended, by the clock that decides the job's ticks; `None` if nobody read it then.
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunEnded {
    /// The run.
    pub(crate) run: RunId,
    /// What else is known of it; `None` if its machine died.
    pub(crate) facts: Option<RunFacts>,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why it was cancelled, if it was.
    pub(crate) cancelled: Option<CancelReason>,
    /// It had to be dropped.
    pub(crate) aborted: bool,
    /// This node says how it ended. If its session was lost, whoever takes over does: as lost.
    pub(crate) recorded: bool,
    /// What the body did in its last attempt.
    pub(crate) end: BodyEnd,
    /// When it started, by the clock that decides the job's ticks; `None` if the body never did.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// How long the body took.
    pub(crate) took: Duration,
}

impl RunEnded {
    /// How this node says that it ended: a run whose end is not recorded here is closed as lost by whoever
    /// takes over; what was never claimed is cancelled.
    pub(crate) fn outcome_told(&self) -> Outcome {
        let is_lost = !self.recorded && self.cancelled == Some(CancelReason::LockLost);
        if is_lost { Outcome::Lost } else { self.outcome }
    }

    /// It only closes a run that was lost before, and cannot go on since nobody knows its arguments any more: that run
    /// stays lost.
    pub(crate) fn closes_lost_for_good(&self) -> bool {
        let is_after_loss = self.facts.is_some_and(|facts| facts.attempt > 1);
        let is_unstarted = self.started_at.is_none() && self.cancelled == Some(CancelReason::NotStarted);
        is_after_loss && is_unstarted && self.run.has_own_arguments()
    }
}

/// Why a manual trigger started nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A run of the same lock key is in progress, or is being claimed.
    Overlap {
        /// That run, if known.
        holder: Option<RunId>,
    },
    /// The node runs as many bodies as it may.
    Concurrency,
    /// The engine shuts down, or the job was removed.
    Closing,
    /// Somebody asked for the end of the job's runs before it started.
    Cancelled,
    /// The store did not answer.
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The store refuses the job for its data.
    Parked {
        /// What the store says.
        reason: Arc<str>,
    },
    /// The job is paused: only a run of a backfill waits for that.
    Paused,
    /// The run was granted before: only that of a backfill is asked for twice.
    RanBefore {
        /// How it ended; `None` if it goes on.
        outcome: Option<Outcome>,
    },
}

impl Start {
    /// What is known of its run, should it never start.
    pub(super) fn facts(&self) -> RunFacts {
        let Self { tick, term, token, attempt, slot, .. } = *self;
        RunFacts { tick, is_known: true, term, token, attempt, slot, ended_at: None }
    }

    /// A run without a tick, a term and a token.
    pub(crate) fn new(run: RunId) -> Self {
        Self { run, tick: None, term: None, token: None, deadline: None, attempt: 1, begins: true, slot: 0 }
    }
}
