//! One job: which tick is decided when, and how.
//!
//! The machine is told what happened ([`Input`]) and answers what is to be done ([`Effect`]), in order. A
//! wake-up that comes early, late or twice is harmless: the machine re-reads its state, then decides. Every
//! tick between two positions of the cursor ends in exactly one claim or one skip.
//!
//! A tick that is due is decided at once, or waits in the backlog: for the end of a run, for the end of a
//! pause, for its turn to catch up, for one of the node's permits. What waits is undecided as far as the
//! store knows: the cursor stays before it.

mod asked;
mod attempts;
mod backlog;
mod cancelling;
mod closing;
mod cursor;
mod forecast;
mod history;
mod inspection;
mod leaving;
mod lifecycle;
mod lost_runs;
mod overdue_mark;
mod parked;
mod pauses;
mod permit;
mod refusals;
mod resuming;
mod runs;
mod skip_missed;
mod skipped_spans;
mod skips;
mod ticks;
mod timers;
mod triggers;
mod turn;
mod unscheduled;
mod unscheduled_verdicts;
mod verdicts;
mod vocabulary;
mod waking;

use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use self::runs::RunPhase;
use self::{
    asked::Asked,
    backlog::Backlog,
    closing::Closing,
    cursor::Cursor,
    pauses::JobPause,
    permit::Permit,
    runs::Runs,
    timers::{Timer, Timers},
    turn::TurnRequest,
    unscheduled::{Unscheduled, UnscheduledRun},
};
pub(crate) use self::{
    backlog::Missed,
    history::LastRun,
    lifecycle::{Farewell, Lifecycle, Progress},
    overdue_mark::OverdueMark,
    runs::ActiveRun,
    skip_missed::{NotSkipped, Skipped},
    skips::FLUSH_AFTER,
    verdicts::{ASK_AGAIN_MAX, CLAIM_LATER_MAX, KEY_AGAIN},
    vocabulary::{
        Advance, BodyEnd, BodyEnded, Claim, Effect, Effects, Input, NodeBounds, PermitAnswer, Refusal,
        Retried, RunEnded, RunFacts, Severity, Start, TriggerAnswer,
    },
};
#[cfg(test)]
use self::{forecast::GivenAway, pauses::PAUSE_CHECK, verdicts::ASK_AGAIN_MIN};
use crate::{
    core::{
        policy::{Fires, Policies},
        time::Now,
    },
    port::{Authority, Schedule},
};

/// Whether this node decides the ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Another node, or nobody, decides the ticks.
    Dormant,
    /// This node decides the ticks: by some authority, or by none if the job is local.
    Firing(Option<Authority>),
    /// This node decides, by some authority, that no tick after an instant runs: the store refuses the job
    /// for its data.
    Parked { authority: Authority, since: DateTime<Utc> },
}

/// Decides the ticks and runs of one job.
#[derive(Debug)]
pub(crate) struct JobMachine {
    /// When the job's ticks are due.
    schedule: Arc<dyn Schedule>,
    /// What else the job's definition says.
    policies: Arc<Policies>,
    /// Whether this node decides the ticks.
    mode: Mode,
    /// How far the store has decided the ticks, how far this machine has taken them in, and which is next.
    cursor: Cursor,
    /// The due ticks that wait, and the skipped ones between them.
    backlog: Backlog,
    /// What the store is asked about the ticks and the cursor.
    asked: Asked,
    /// When to do what by the monotonic clock.
    timers: Timers,
    /// A tick is claimed later ([`Timer::ClaimLater`]) because its key was busy.
    key_is_busy: bool,
    /// Why the job does not fire, if it is paused.
    pause: JobPause,
    /// The runs that wait to start and that no tick starts: triggers, and lost runs that go on.
    unscheduled: Unscheduled,
    /// The permit to start something on this node.
    permit: Permit,
    /// Whether the node is asked for a turn to make up for a missed tick.
    turn: TurnRequest,
    /// The runs in progress, and the last ones that ended.
    runs: Runs,
    /// Why nothing new starts, and what is still to be accounted for, if the job comes to its end here.
    closing: Closing,
}

impl JobMachine {
    /// A dormant machine, for which everything up to `cursor` is decided.
    pub(crate) fn new(
        schedule: Arc<dyn Schedule>,
        policies: impl Into<Arc<Policies>>,
        cursor: DateTime<Utc>,
        bounds: NodeBounds,
    ) -> Self {
        Self {
            schedule,
            policies: policies.into(),
            mode: Mode::Dormant,
            cursor: Cursor::new(cursor),
            backlog: Backlog::default(),
            asked: Asked::default(),
            timers: Timers::default(),
            key_is_busy: false,
            pause: JobPause::default(),
            unscheduled: Unscheduled::default(),
            permit: Permit::new(bounds.runs),
            turn: TurnRequest::new(bounds.catch_ups),
            runs: Runs::default(),
            closing: Closing::default(),
        }
    }

    /// The same job after its actor died. The runs in progress go on, and so does what the store was asked;
    /// whoever triggered the job waits no more.
    pub(crate) fn revive(mut self) -> Self {
        self.unscheduled.queue.retain_mut(UnscheduledRun::forget_caller);
        self.suspend();
        self
    }

    /// Another definition from now on. The attempts in progress go on under the former one. Dormant until it
    /// is resumed with the cursor that the store says.
    pub(crate) fn redefine(&mut self, schedule: Arc<dyn Schedule>, policies: impl Into<Arc<Policies>>) {
        self.schedule = schedule;
        self.policies = policies.into();
        self.cursor.exhausted = self.policies.fires == Fires::Local && self.local_limit_is_reached();
        if !self.retries_lost() {
            self.forget_pending_retries();
        }
        self.suspend();
    }

    /// Feeds one input and answers what is to be done, in order: [`feed`](Self::feed), then
    /// [`decide`](Self::decide).
    #[cfg(test)]
    pub(crate) fn step(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = self.fed(now, input);
        effects.extend(self.decided(now));
        effects
    }

    /// What [`feed`](Self::feed) says is to be done.
    #[cfg(test)]
    pub(crate) fn fed(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = Effects::new();
        self.feed(now, input, &mut effects);
        effects
    }

    /// What [`decide`](Self::decide) says is to be done.
    #[cfg(test)]
    pub(crate) fn decided(&mut self, now: Now) -> Effects {
        let mut effects = Effects::new();
        self.decide(now, &mut effects);
        effects
    }

    /// Takes one input in. What it adds to `effects` is to be done before [`decide`](Self::decide) is called: a schedule
    /// that panics there must not undo the end of a run.
    pub(crate) fn feed(&mut self, now: Now, input: Input, effects: &mut Effects) {
        self.permit.want_nothing();
        self.turn.want_nothing();
        self.runs.id_is_spent = false;
        match input {
            Input::Resume { cursor, authority, stored } => {
                self.on_resume(now, cursor, authority, *stored, effects);
            }
            Input::Park { since, authority } => self.on_park(since, authority),
            Input::Suspend => {
                self.closing.leaving = None;
                self.suspend();
            }
            Input::Leave { is_removed } => self.on_leave(now, is_removed),
            Input::Drain => {
                self.closing.draining = true;
                self.suspend();
                self.drop_triggers(&Refusal::Closing, effects);
                self.give_callers_up(effects);
            }
            Input::WakeUp => self.on_wake_up(now, effects),
            Input::ClockMoved => {
                self.turn.on_gap();
                self.on_wake_up(now, effects);
            }
            Input::Trigger => self.on_trigger(now, effects),
            Input::Backfill { run } => self.on_backfill(now, run, effects),
            Input::Claimed { run, verdict } => self.on_claimed(now, run, verdict, effects),
            Input::ClaimRefused { run, reason } => self.on_claim_refused(now, run, reason, effects),
            Input::Advanced(moved) => self.on_advanced(now, moved, effects),
            Input::Anchored { cursor } => self.on_anchored(cursor),
            Input::BodyEnded(end) => self.on_body_ended(now, end, effects),
            Input::LockLost { run } => self.on_lock_lost(now, run, effects),
            Input::PendingRetry(retry) => self.on_pending_retry(retry),
            Input::Pause(pause) => self.on_pause(now, pause, effects),
            Input::NotificationsLagged => self.on_notifications_lagged(now),
            Input::Permit(answer) => self.on_permit(now, answer, effects),
            Input::Turn => self.on_turn(),
            Input::Cancel { run, why } => self.on_cancel(now, run, why, effects),
            Input::Abort => self.abort_all(now, effects),
        }
        self.start_attempts(now, effects);
        self.drain_unscheduled(now, effects);
    }

    /// Decides every tick that is due.
    pub(crate) fn decide(&mut self, now: Now, effects: &mut Effects) {
        self.decide_due(now, effects);
        self.say_held(now, effects);
        if let Some(effect) = self.permit.balance(self.policies.priority) {
            effects.push(effect);
        }
        // Nearly always there is nothing to balance.
        if !self.turn.is_idle()
            && let Some(effect) = self.balance_turn()
        {
            effects.push(effect);
        }
    }

    fn on_wake_up(&mut self, now: Now, effects: &mut Effects) {
        self.ask_again(now, effects);
        self.check_time(now, effects);
    }
}

#[cfg(test)]
pub(crate) mod tests;
