//! One job: which tick is decided when, and how.
//!
//! The machine is told what happened ([`Input`]) and answers what is to be done ([`Effect`]), in order. A wake-up that
//! comes early, late or twice is harmless: the machine re-reads its state, then decides. Every tick between two
//! positions of the cursor ends in exactly one claim or one skip.
//!
//! A tick that is due is decided at once, or waits in the backlog: for the end of a run, for the end of a pause, for its turn
//! to catch up, for one of the node's slots. What waits is undecided as far as the store knows: the cursor stays before it.

mod history;
mod leaving;
mod manual;
mod parked;
mod pauses;
mod permit;
mod runs;
mod ticks;
mod verdicts;
mod words;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use self::{
    history::History,
    leaving::Leaving,
    manual::{Manual, QueuedRetry},
    parked::Span,
    permit::Permit,
    ticks::{Asked, May, Waiting},
};
pub use self::{
    history::{HISTORY_MAX, LastRun},
    pauses::PAUSE_CHECK,
    runs::{ActiveRun, RunPhase},
    ticks::FLUSH_AFTER,
    verdicts::{ASK_AGAIN_MAX, ASK_AGAIN_MIN, HOLD_MAX, KEY_AGAIN},
    words::{
        Advance, Claim, Effect, Effects, End, Ended, Input, PermitAnswer, Refusal, Retried, RunEnd, Severity,
        Start, Triggered,
    },
};
use crate::{
    core::{
        contract::{Breach, next_after},
        policy::{Fires, Policies},
        seldom::Seldom,
        time::{FireTime, Now, since},
    },
    name::RunId,
    port::{Authority, Pause, Schedule, Skips, StoredState},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Another node, or nobody, decides the ticks.
    Dormant,
    /// This node decides the ticks: by some right, or by none if the job is local.
    Firing(Option<Authority>),
    /// This node decides, by some right, that no tick after an instant runs: the store refuses the job for its data.
    Parked { authority: Authority, since: DateTime<Utc> },
}

/// Decides the ticks and runs of one job.
#[derive(Debug)]
pub struct JobMachine {
    schedule: Arc<dyn Schedule>,
    policies: Arc<Policies>,
    /// The node bounds its runs in progress.
    limited: bool,
    mode: Mode,
    /// The cursor as the store knows it: every tick up to here is accounted for.
    stored: DateTime<Utc>,
    /// The newest cursor that the store ever named: it is older only if the store was restored from before.
    seen: DateTime<Utc>,
    /// Every tick up to here is decided, asked or waits.
    decided: DateTime<Utc>,
    /// The first tick after `decided`.
    next: Option<FireTime>,
    /// The schedule is to be asked for `next`: not while an input is taken in, since it may panic.
    unread: bool,
    /// The request in flight is obsolete. When its answer comes, the job restarts from this cursor, or from the one in the
    /// answer.
    restart_from: Option<DateTime<Utc>>,
    /// Due ticks that may still run, in their order.
    backlog: VecDeque<Waiting>,
    /// The job is removed, or has another schedule: what it is still to account for.
    leaving: Option<Box<Leaving>>,
    /// The ticks skipped after the last one that waits, or after `stored` if none does.
    skips: Skips,
    flush_at: Option<Duration>,
    /// The ticks that were skipped as parked and of which the store does not know yet, in their order.
    parked: Seldom<Span>,
    /// Nothing is asked before this reading: the store's clock is behind, or somebody else has the key.
    hold_until: Option<Duration>,
    /// No late tick starts before this reading.
    pace_until: Option<Duration>,
    asked: Asked,
    /// Runs without a tick of their own, in their order; only the first is asked for.
    manuals: VecDeque<Manual>,
    /// Lost runs that are to go on, in their order, while this node fires the job; what was owed when it last did, otherwise.
    /// One at a time goes to `manuals`.
    pending_retries: Seldom<QueuedRetry>,
    unanswered: u32,
    permit: Permit,
    /// Something would start, were it not for the node's bound.
    wants_permit: bool,
    pause: Option<Box<Pause>>,
    /// When a tick asks the store whether the job is paused still.
    pause_check_at: Option<Duration>,
    /// The newest tick of which it was said that the pause holds it.
    held_said: Option<FireTime>,
    /// Its body said that it is to stop, and the store may not know yet.
    stop: Option<Box<Pause>>,
    /// The end of a run is being recorded, from which the next tick counts.
    anchoring: bool,
    /// How many ticks of a job without claims have started.
    local_runs: u64,
    /// As many ticks have run as may.
    exhausted: bool,
    /// The cursor up to which every run of the job is known to be over: this machine saw one end that excluded all
    /// others.
    all_ended: Option<DateTime<Utc>>,
    /// Nothing new starts: the engine shuts down, or the job was removed. What is granted already does.
    draining: bool,
    /// The shutdown cancels what runs: what is granted from now on does not start.
    no_more: bool,
    /// The id that this step has given away.
    spent: Option<RunId>,
    runs: Vec<ActiveRun>,
    history: History,
}

impl JobMachine {
    /// A dormant machine, for which everything up to `cursor` is decided. If `limited`, it asks for a permit before
    /// anything starts.
    pub fn new(
        schedule: Arc<dyn Schedule>,
        policies: impl Into<Arc<Policies>>,
        cursor: DateTime<Utc>,
        limited: bool,
    ) -> Self {
        Self {
            schedule,
            policies: policies.into(),
            limited,
            mode: Mode::Dormant,
            stored: cursor,
            seen: DateTime::<Utc>::MIN_UTC,
            decided: cursor,
            next: None,
            unread: true,
            restart_from: None,
            backlog: VecDeque::new(),
            leaving: None,
            skips: Skips::default(),
            flush_at: None,
            parked: Seldom::default(),
            hold_until: None,
            pace_until: None,
            asked: Asked::Nothing,
            manuals: VecDeque::new(),
            pending_retries: Seldom::default(),
            unanswered: 0,
            permit: Permit::None,
            wants_permit: false,
            pause: None,
            pause_check_at: None,
            held_said: None,
            stop: None,
            anchoring: false,
            local_runs: 0,
            exhausted: false,
            all_ended: None,
            draining: false,
            no_more: false,
            spent: None,
            runs: Vec::new(),
            history: History::default(),
        }
    }

    /// The same job after its actor died. The runs in progress go on, and so does what the store was asked; whoever
    /// triggered the job waits no more.
    pub fn revive(mut self) -> Self {
        self.manuals.retain_mut(Manual::forget_caller);
        self.suspend();
        self
    }

    /// Another definition from now on. The attempts in progress go on under the former one. Dormant until it is resumed with
    /// the cursor that the store says.
    pub fn redefine(&mut self, schedule: Arc<dyn Schedule>, policies: impl Into<Arc<Policies>>) {
        self.schedule = schedule;
        self.policies = policies.into();
        self.exhausted = self.policies.fires == Fires::Local && self.local_limit_is_reached();
        if !self.retries_lost() {
            self.forget_pending_retries();
        }
        self.suspend();
    }

    /// Feeds one input and answers what is to be done, in order: [`feed`](Self::feed), then [`decide`](Self::decide).
    pub fn step(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = self.feed(now, input);
        effects.extend(self.decide(now));
        effects
    }

    /// Takes one input in. What it says is to be done before [`decide`](Self::decide) is called: a schedule that
    /// panics there must not undo the end of a run.
    pub fn feed(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = Effects::new();
        self.wants_permit = false;
        match input {
            Input::Resume { cursor, authority, stored } => {
                self.on_resume(now, cursor, authority, *stored, &mut effects);
            }
            Input::Park { since, authority } => self.on_park(since, authority),
            Input::Suspend => {
                self.leaving = None;
                self.suspend();
            }
            Input::Leave { is_removed } => self.on_leave(now, is_removed),
            Input::Drain => {
                self.draining = true;
                self.suspend();
                self.drop_triggers(Refusal::ShuttingDown, &mut effects);
                self.give_callers_up(&mut effects);
            }
            Input::WakeUp => self.on_wake_up(now, &mut effects),
            Input::Trigger => self.on_trigger(now, &mut effects),
            Input::Claimed { run, verdict } => self.on_claimed(now, run, verdict, &mut effects),
            Input::ClaimRefused { run, reason } => self.on_claim_refused(now, run, reason, &mut effects),
            Input::Advanced(moved) => self.on_advanced(now, moved, &mut effects),
            Input::Anchored { cursor } => self.on_anchored(cursor),
            Input::RunEnded(end) => self.on_run_ended(now, end, &mut effects),
            Input::LockLost { run } => self.on_lock_lost(now, run, &mut effects),
            Input::PendingRetry(retry) => self.on_pending_retry(retry),
            Input::Pause(pause) => self.on_pause(now, pause, &mut effects),
            Input::NotificationsLagged => self.on_notifications_lagged(now),
            Input::Permit(answer) => self.on_permit(now, answer, &mut effects),
            Input::Cancel { run, why } => self.on_cancel(now, run, why, &mut effects),
            Input::Abort => self.abort_all(now, &mut effects),
        }
        self.start_attempts(now, &mut effects);
        self.work_off_manuals(now, &mut effects);
        effects
    }

    /// Decides every tick that is due.
    pub fn decide(&mut self, now: Now) -> Effects {
        let mut effects = Effects::new();
        self.decide_due(now, &mut effects);
        self.say_held(now, &mut effects);
        self.balance_permit(&mut effects);
        effects
    }

    /// How long until the machine has something to decide; `None` if only an input can change anything.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        let (again, idle) = match &self.asked {
            Asked::Nothing => (None, true),
            Asked::Claim(asked) => (asked.again_at, false),
            Asked::Advance(asked) => (asked.again_at, false),
        };
        let manual = self.manuals.front().and_then(|manual| manual.wake_at(self, now));
        let runs = self.runs.iter().filter_map(|run| run.changes_at(now, self.is_permitted())).min();
        let leaves = self.can_leave().then_some(now.elapsed);
        let always = [manual, again, runs, leaves].into_iter().flatten().min();
        let always = always.map(|at| at.saturating_sub(now.elapsed));

        // What only a node that decides the ticks does, and only after an answer.
        let decide = if idle { self.decides_in(now) } else { None };
        always.into_iter().chain(decide).min()
    }

    fn decides_in(&self, now: Now) -> Option<Duration> {
        let until = |instant: DateTime<Utc>| since(now.wall, instant);
        match self.mode {
            Mode::Dormant => return None,
            Mode::Parked { .. } => return self.next.map(|next| until(next.instant())),
            Mode::Firing(_) => {}
        }
        let flush = self.flush_at.map(|at| at.saturating_sub(now.elapsed));
        let tick = self.next.map(|next| until(next.instant()));
        let unpaused = self.pause.as_ref().and_then(|pause| pause.until).map(until);
        let held = self.held_until().map(until);
        let waiting = match self.backlog.front().map(|waiting| self.may_start(now, waiting)) {
            Some(May::Start | May::Skip(_)) => Some(Duration::ZERO),
            Some(May::WaitUntil(at)) => Some(at.saturating_sub(now.elapsed)),
            Some(May::Wait | May::WaitForPermit | May::Replace) | None => None,
        };
        [flush, tick, unpaused, held, waiting].into_iter().flatten().min()
    }

    /// The first tick that is not decided yet, while this node decides the ticks.
    pub fn next_fire_time(&self) -> Option<FireTime> {
        let waiting = self.backlog.front().map(|waiting| waiting.tick);
        waiting.or(self.next).filter(|_| self.mode != Mode::Dormant)
    }

    /// The tick that the store is asked to decide, and whether it was in vain so far: the store refused, did not answer, or somebody
    /// else has the row locked.
    pub fn asked_tick(&self) -> Option<(FireTime, bool)> {
        let tick = match &self.asked {
            Asked::Nothing => return None,
            Asked::Claim(asked) => asked.claim.fire_time,
            Asked::Advance(asked) => asked.advance.to,
        };
        (self.mode != Mode::Dormant).then_some((tick, self.unanswered > 0))
    }

    /// The store has not answered, or not decided, what it was asked last.
    pub fn asks_in_vain(&self) -> bool {
        self.unanswered > 0
    }

    /// The instant up to which every tick is decided, or asked about: whoever fires the job after this node goes on from there.
    /// `None` if what follows is known only at the end of a run.
    pub fn left_after(&self) -> Option<DateTime<Utc>> {
        let asked = match &self.asked {
            Asked::Nothing => None,
            Asked::Claim(asked) => Some(asked.claim.fire_time),
            Asked::Advance(asked) => Some(asked.advance.to),
        };
        let is_open = !self.runs.is_empty() || self.anchoring || matches!(self.asked, Asked::Claim(_));
        if self.schedule.counts_from_completion() && is_open {
            return None;
        }
        let asked = asked.map(FireTime::instant);
        [Some(self.stored), asked, self.restart_from].into_iter().flatten().max()
    }

    /// The runs in progress, in the order in which they started.
    pub fn active_runs(&self) -> impl ExactSizeIterator<Item = &ActiveRun> {
        self.runs.iter()
    }

    /// The runs in progress, and those that the store is being asked for.
    pub fn open_runs(&self) -> impl Iterator<Item = RunId> {
        let tick = match &self.asked {
            Asked::Claim(asked) => Some(asked.run),
            Asked::Nothing | Asked::Advance(_) => None,
        };
        let manual = self.manuals.iter().filter(|manual| !manual.is_waiting()).map(|manual| manual.run);
        self.runs.iter().map(|run| run.run).chain(tick).chain(manual)
    }

    /// Whether a run is in progress here, or is to start here.
    pub fn knows(&self, run: RunId) -> bool {
        self.runs.iter().any(|active| active.run == run) || self.waits_as_manual(run)
    }

    /// The last runs that ended on this node, the newest first, at most [`HISTORY_MAX`].
    pub fn last_runs(&self) -> impl Iterator<Item = &LastRun> {
        self.history.runs()
    }

    /// How many of the last runs in a row failed, panicked or timed out.
    pub fn failures(&self) -> u32 {
        self.history.failures()
    }

    /// How many ticks and triggers wait for their turn.
    pub fn waiting(&self) -> usize {
        self.backlog.len() + self.manuals_waiting()
    }

    /// Why the job does not fire, if it is paused.
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_deref()
    }

    /// As many ticks have run as may.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// This node decides the job's ticks, all of them are decided, and nothing of the job is in progress or waits
    /// here. If its lost runs are to go on, nor is anything elsewhere: whoever lets go of the job lets go of what it
    /// owes.
    pub fn is_done(&self) -> bool {
        let has_tick = self.unread || self.next.is_some() && !self.exhausted;
        let decides = matches!(self.mode, Mode::Firing(_)) && matches!(self.asked, Asked::Nothing);
        // What was skipped is accounted for by the store first.
        let is_written = self.flush_at.is_none() && self.restart_from.is_none() && !self.anchoring;
        let waits = !self.backlog.is_empty() || !self.pending_retries.is_empty();
        // The store says nothing of the runs of others, nor of those that were lost and are not closed yet.
        let all_ended = !self.retries_lost() || self.all_ended == Some(self.stored);
        decides && !has_tick && is_written && !waits && self.is_idle() && all_ended
    }

    /// The cursor as the store knows it.
    pub fn cursor(&self) -> DateTime<Utc> {
        self.stored
    }

    /// By what right this node decides the ticks; `None` if it does not.
    pub fn firing(&self) -> Option<Option<Authority>> {
        match self.mode {
            Mode::Dormant | Mode::Parked { .. } => None,
            Mode::Firing(authority) => Some(authority),
        }
    }

    /// Nothing runs and no claim is open.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.manuals.is_empty() && !matches!(self.asked, Asked::Claim(_))
    }

    /// Nothing runs, and nothing that the store is about to answer can make something run. A claim that got no answer
    /// does not count: the end of the session settles it.
    pub fn is_drained(&self) -> bool {
        let manual = self.manuals.iter().any(Manual::is_asked);
        let tick = matches!(&self.asked, Asked::Claim(asked) if asked.again_at.is_none());
        self.runs.is_empty() && !manual && !tick
    }

    fn on_resume(
        &mut self,
        now: Now,
        cursor: DateTime<Utc>,
        authority: Option<Authority>,
        stored: StoredState,
        effects: &mut Effects,
    ) {
        // Others may have taken up what was owed meanwhile.
        self.all_ended = None;
        // An answer of the store may have been under way when the job was told to drain.
        if !self.draining {
            self.mode = Mode::Firing(authority);
            if authority.is_some() {
                let StoredState { pause, failures, pending_retries } = stored;
                self.pause = pause.map(Pause::cut).map(Box::new).or_else(|| self.stop.clone());
                self.outdate_claim();
                self.check_pause_later(now);
                self.history.hear_failures(now.elapsed, failures);
                self.replace_pending_retries(pending_retries);
                self.see(cursor);
            } else {
                // There is no store to tell.
                self.parked = Seldom::default();
            }
            // Nobody but this machine keeps the cursor of a local job, and its clock may have been set back.
            let kept_here = if authority.is_none() { self.stored } else { cursor };
            // The cursor says it; if the end of a run is about to move it, the claim is told.
            self.anchoring = false;
            self.start_over(cursor.max(kept_here));
        }
        match &mut self.asked {
            // The store answers again: find out now what became of the claim.
            Asked::Claim(asked) if asked.again_at.is_some() => {
                asked.again_at = Some(now.elapsed);
                self.ask_again(now, effects);
            }
            Asked::Advance(asked) if asked.again_at.is_some() => {
                asked.again_at = Some(now.elapsed);
                self.ask_again(now, effects);
            }
            Asked::Nothing | Asked::Claim(_) | Asked::Advance(_) => {}
        }
    }

    /// Nothing new starts.
    fn is_closing(&self) -> bool {
        self.draining || self.no_more
    }

    fn suspend(&mut self) {
        self.mode = Mode::Dormant;
        self.hold_until = None;
        // The cursor that it is resumed from says so, now or when it has moved.
        self.anchoring = false;
        // Skips that are not written yet are decided again by whoever resumes from the stored cursor.
        self.start_over(self.stored);
    }

    fn on_wake_up(&mut self, now: Now, effects: &mut Effects) {
        self.ask_again(now, effects);
        self.check_time(now, effects);
    }

    /// Starts over from a cursor, at once or when the open question is answered.
    fn start_over(&mut self, cursor: DateTime<Utc>) {
        let open = !matches!(self.asked, Asked::Nothing);
        let stored = self.stored;
        self.adopt(cursor);
        if open {
            self.stored = stored;
            self.restart_from = Some(self.decided);
        }
    }

    /// The open question is answered: whatever was put off until then is decided now.
    fn on_answered(&mut self) {
        if matches!(self.asked, Asked::Nothing) && (self.mode == Mode::Dormant || self.restart_from.is_some())
        {
            self.adopt(self.stored);
        }
    }

    /// The store names a cursor.
    fn see(&mut self, cursor: DateTime<Utc>) {
        self.seen = self.seen.max(cursor);
    }

    /// Starts over from a cursor that the store named.
    fn adopt(&mut self, cursor: DateTime<Utc>) {
        let cursor = self.restart_from.take().map_or(cursor, |restart_from| restart_from.max(cursor));
        self.stored = cursor;
        // What this machine has seen decided is not decided again, whatever a store that was restored knows of it.
        self.decided = cursor.max(self.seen);
        self.backlog = VecDeque::new();
        self.skips = Skips::default();
        self.flush_at = None;
        self.next = None;
        self.unread = true;
    }

    /// Asks the schedule where to go on from.
    fn read_schedule(&mut self) -> Result<(), Breach> {
        if self.unread {
            self.next = self.following(self.decided)?;
            self.unread = false;
        }
        Ok(())
    }

    /// The first tick after `instant`, if one may follow.
    fn following(&self, instant: DateTime<Utc>) -> Result<Option<FireTime>, Breach> {
        if self.may_follow() { next_after(&*self.schedule, instant) } else { Ok(None) }
    }

    /// The schedule knows which tick follows: as many have not run as may, and it does not count from the end of a run in
    /// progress.
    fn may_follow(&self) -> bool {
        let is_open = !self.runs.is_empty() || self.anchoring;
        let must_end = is_open && self.schedule.counts_from_completion();
        !(self.exhausted || must_end)
    }

    /// An id for a run: one in each step.
    fn spend(&mut self, now: Now) -> Option<RunId> {
        (self.spent.replace(now.spare) != Some(now.spare)).then_some(now.spare)
    }
}

#[cfg(test)]
pub(crate) mod tests;
