//! One job: which tick is decided when, and how.
//!
//! The machine is told what happened ([`Input`]) and answers what is to be done ([`Effect`]), in order. A wake-up that
//! comes early, late or twice is harmless: the machine re-reads its state, then decides. Every tick between two
//! positions of the cursor ends in exactly one claim or one skip.

mod words;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

pub use self::words::{
    Advance, Effect, Effects, End, Ended, Input, Refusal, Retried, RunEnd, Severity, Start,
};
use crate::{
    core::{
        misfire::{Due, next_after},
        policy::{Fires, Overlap, Policies},
        time::{FireTime, Now},
    },
    event::{CancelReason, Outcome},
    name::{FencingToken, RunId, Term},
    port::{Moved, Schedule, SkipReason, Skips, TickClaim, Verdict},
};

/// How long skipped ticks may wait before the cursor is moved over them, so that a job moves it at most once in this
/// time for ticks that nobody runs.
pub const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// The first pause before a claim that got no answer is asked again; it doubles up to [`ASK_AGAIN_MAX`].
pub const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);
/// The longest pause after a tick was found not to be due by the store's clock.
pub const HOLD_MAX: Duration = Duration::from_secs(1);
/// The longest pause before a claim that got no answer is asked again.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// The last run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
}

/// The run in progress.
#[derive(Debug, Clone, Copy)]
pub struct ActiveRun {
    /// The run.
    pub run: RunId,
    /// The tick, or `None` for a manual trigger.
    pub tick: Option<FireTime>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// The number of the try within the run, from 1.
    pub attempt: u32,
    /// `Some` between two attempts: when the next one starts.
    retry_at: Option<Duration>,
    /// When the first attempt started, by its own reading of the clock.
    first_started_at: Option<DateTime<Utc>>,
    term: Option<Term>,
    token: Option<FencingToken>,
    deadline: Option<Duration>,
    cancelled: Option<CancelReason>,
    /// It was told to end, not only to end this attempt.
    last_attempt: bool,
    abort_at: Option<Duration>,
    /// It was told to end at once and has not ended yet.
    pub aborted: bool,
    lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Another node, or nobody, decides the ticks.
    Dormant,
    /// This node decides the ticks: under a term, or without one if the job is local.
    Firing(Option<Term>),
}

/// What the store is being asked about the cursor: one thing at a time. Boxed, as the run in progress is, so that an
/// idle job is small.
#[derive(Debug)]
enum Asked {
    Nothing,
    Claim(Box<TickAsked>),
    Advance(Box<AdvanceAsked>),
}

#[derive(Debug, Clone, Copy)]
struct AdvanceAsked {
    advance: Advance,
    /// `Some` while there is no answer to wait for: when to ask again, for the very same move.
    again_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct TickAsked {
    run: RunId,
    claim: TickClaim,
    /// What was decided before this claim, to return to if nothing came of it.
    decided: DateTime<Utc>,
    skips: Skips,
    misfired: u64,
    at_least: bool,
    /// `Some` while there is no answer to wait for: when to ask again.
    again_at: Option<Duration>,
}

/// A manual trigger on its way through the store.
#[derive(Debug, Clone, Copy)]
struct Manual {
    run: RunId,
    /// Its caller was told that the store did not answer: what is granted from now on is closed.
    abandoned: bool,
    again_at: Option<Duration>,
}

/// Decides the ticks and runs of one job.
#[derive(Debug)]
pub struct JobMachine {
    schedule: Arc<dyn Schedule>,
    policies: Policies,
    mode: Mode,
    /// The cursor as the store knows it: every tick up to here is accounted for.
    stored: DateTime<Utc>,
    /// Every tick up to here is decided; beyond `stored` they are all skips.
    decided: DateTime<Utc>,
    /// The first tick after what is decided or asked.
    next: Option<FireTime>,
    /// The ticks between `stored` and `decided`.
    skips: Skips,
    flush_at: Option<Duration>,
    /// No tick is decided before this reading: the store's clock is behind.
    hold_until: Option<Duration>,
    asked: Asked,
    manual: Option<Box<Manual>>,
    unanswered: u32,
    /// The shutdown cancels what runs: what is granted from now on does not start.
    no_more: bool,
    run: Option<Box<ActiveRun>>,
    last: Option<Box<LastRun>>,
}

impl JobMachine {
    /// A dormant machine, for which everything up to `cursor` is decided.
    pub fn new(schedule: Arc<dyn Schedule>, policies: Policies, cursor: DateTime<Utc>) -> Self {
        Self {
            schedule,
            policies,
            mode: Mode::Dormant,
            stored: cursor,
            decided: cursor,
            next: None,
            skips: Skips::default(),
            flush_at: None,
            hold_until: None,
            asked: Asked::Nothing,
            manual: None,
            unanswered: 0,
            no_more: false,
            run: None,
            last: None,
        }
    }

    /// The same job after its actor died. The run in progress goes on, and so does what the store was asked; whoever
    /// triggered the job waits no more.
    pub fn revive(mut self) -> Self {
        if let Some(manual) = &mut self.manual {
            manual.abandoned = true;
        }
        Self { mode: Mode::Dormant, next: None, hold_until: None, flush_at: None, ..self }
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
        match input {
            Input::Resume { cursor, term } => self.on_resume(now, cursor, term, &mut effects),
            Input::Suspend => self.on_suspend(),
            Input::WakeUp => self.on_wake_up(now, &mut effects),
            Input::Trigger => self.on_trigger(now, &mut effects),
            Input::Claimed { run, verdict } => self.on_claimed(now, run, verdict, &mut effects),
            Input::Advanced(moved) => self.on_advanced(now, moved, &mut effects),
            Input::RunEnded(end) => self.on_run_ended(now, end, &mut effects),
            Input::LockLost { run } => self.on_lock_lost(now, run, &mut effects),
            // The shutdown keeps a clock of its own for all runs of the node.
            Input::Cancel(why @ CancelReason::Shutdown) => {
                self.no_more = true;
                self.cancel(None, why, &mut effects);
            }
            Input::Cancel(why) => self.cancel(Some(now), why, &mut effects),
            Input::Abort => self.abort(&mut effects),
        }
        effects
    }

    /// Decides every tick that is due.
    pub fn decide(&mut self, now: Now) -> Effects {
        let mut effects = Effects::new();
        self.decide_due(now, &mut effects);
        effects
    }

    /// How long until the machine has something to decide; `None` if only an input can change anything.
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        let manual = self.manual.as_ref().and_then(|manual| manual.again_at);
        let (again, idle) = match &self.asked {
            Asked::Nothing => (None, true),
            Asked::Claim(asked) => (asked.again_at, false),
            Asked::Advance(asked) => (asked.again_at, false),
        };
        let run = self.run.as_ref().and_then(|run| run.changes_at());
        let always = [manual, again, run].into_iter().flatten().min();
        let always = always.map(|at| at.saturating_sub(now.elapsed));

        // What only a node that decides the ticks does, and only after a hold.
        let may_decide = idle && self.mode != Mode::Dormant;
        let flush = self.flush_at.map(|at| at.saturating_sub(now.elapsed));
        let tick = self.next.map(|next| (next.instant() - now.wall).to_std().unwrap_or_default());
        let held = self.hold_until.unwrap_or_default().saturating_sub(now.elapsed);
        let decide = flush.into_iter().chain(tick).min().filter(|_| may_decide).map(|wait| wait.max(held));
        always.into_iter().chain(decide).min()
    }

    /// The first tick that is not decided yet, while this node decides the ticks.
    pub fn next_fire_time(&self) -> Option<FireTime> {
        self.next.filter(|_| self.mode != Mode::Dormant)
    }

    /// The run in progress.
    pub fn active_run(&self) -> Option<&ActiveRun> {
        self.run.as_deref()
    }

    /// The last run that ended on this node.
    pub fn last_run(&self) -> Option<&LastRun> {
        self.last.as_deref()
    }

    /// The cursor as the store knows it.
    pub fn cursor(&self) -> DateTime<Utc> {
        self.stored
    }

    /// This node decides the ticks.
    pub fn is_firing(&self) -> bool {
        self.mode != Mode::Dormant
    }

    /// Nothing runs and no claim is open.
    pub fn is_idle(&self) -> bool {
        self.run.is_none() && self.manual.is_none() && !matches!(self.asked, Asked::Claim(_))
    }

    /// Nothing runs, and nothing that the store is about to answer can make something run. A claim that got no answer
    /// does not count: the end of the session settles it.
    pub fn is_drained(&self) -> bool {
        let manual = self.manual.as_ref().is_some_and(|manual| manual.again_at.is_none());
        let tick = matches!(&self.asked, Asked::Claim(asked) if asked.again_at.is_none());
        self.run.is_none() && !manual && !tick
    }

    fn on_resume(&mut self, now: Now, cursor: DateTime<Utc>, term: Option<Term>, effects: &mut Effects) {
        self.mode = Mode::Firing(term);
        match &mut self.asked {
            Asked::Nothing => self.adopt(cursor),
            // The store answers again: find out now what became of the claim.
            Asked::Claim(asked) if asked.again_at.is_some() => {
                asked.again_at = Some(now.elapsed);
                self.ask_again(now, effects);
            }
            Asked::Advance(asked) if asked.again_at.is_some() => {
                asked.again_at = Some(now.elapsed);
                self.ask_again(now, effects);
            }
            // It will be answered with the cursor as it then is.
            Asked::Claim(_) | Asked::Advance(_) => {}
        }
    }

    fn on_suspend(&mut self) {
        self.mode = Mode::Dormant;
        self.hold_until = None;
        // Skips that are not written yet are decided again by whoever resumes from the stored cursor.
        if matches!(self.asked, Asked::Nothing) {
            self.adopt(self.stored);
        }
    }

    fn on_wake_up(&mut self, now: Now, effects: &mut Effects) {
        self.ask_again(now, effects);
        let Some(run) = &self.run else { return };
        if run.deadline.is_some_and(|deadline| deadline <= now.elapsed) {
            self.cancel(Some(now), CancelReason::TimedOut, effects);
        }
        if self.run.as_ref().and_then(|run| run.abort_at).is_some_and(|at| at <= now.elapsed) {
            self.abort(effects);
        }
        if self.run.as_ref().and_then(|run| run.retry_at).is_some_and(|at| at <= now.elapsed) {
            self.try_again(now, effects);
        }
    }

    fn on_trigger(&mut self, now: Now, effects: &mut Effects) {
        let busy = match (&self.run, &self.manual) {
            (Some(run), _) => Some(run.run),
            (None, Some(manual)) => Some(manual.run),
            (None, None) => None,
        };
        if let (Some(holder), Overlap::Skip) = (busy, self.policies.overlap) {
            effects.push(Effect::Answer(Err(Refusal::Overlap { holder: Some(holder) })));
            return;
        }
        match self.policies.fires {
            Fires::Leader => {
                self.manual = Some(Box::new(Manual { run: now.spare, abandoned: false, again_at: None }));
                effects.push(Effect::Claim { run: now.spare, tick: None, settle: false });
            }
            Fires::Local => {
                effects.push(Effect::Answer(Ok(now.spare)));
                self.start(now, Start::manual(now.spare, None, None), effects);
            }
        }
    }

    fn on_claimed(&mut self, now: Now, run: RunId, verdict: Verdict, effects: &mut Effects) {
        if !matches!(verdict, Verdict::Unavailable { .. } | Verdict::Locked { .. }) {
            self.unanswered = 0;
        }
        let verdict = match verdict {
            // Another run had the key all the time.
            Verdict::Locked { holder: Some(holder) } if holder != run => {
                Verdict::Busy { holder: Some(holder) }
            }
            other => other,
        };
        if let Some(manual) = self.manual.take_if(|manual| manual.run == run) {
            self.on_manual_claimed(now, *manual, verdict, effects);
            return;
        }
        match &self.asked {
            Asked::Claim(asked) if asked.run == run => {
                let asked = **asked;
                self.on_tick_claimed(now, asked, verdict, effects);
            }
            Asked::Claim(_) | Asked::Advance(_) | Asked::Nothing => {
                // Asked before the actor died. A grant that nobody waits for must not hold its key.
                if let Verdict::Granted { token, .. } = verdict {
                    close_unstarted(Start::manual(run, None, Some(token)), effects);
                }
            }
        }
    }

    fn on_tick_claimed(&mut self, now: Now, asked: TickAsked, verdict: Verdict, effects: &mut Effects) {
        let TickAsked { run, claim, .. } = asked;
        self.asked = Asked::Nothing;
        match verdict {
            Verdict::Granted { token, .. } => {
                self.settle_misfired(asked, effects);
                self.stored = claim.fire_time.instant();
                self.decided = self.stored;
                self.skips = Skips::default();
                self.flush_at = None;
                let lateness = claim.fire_time.lateness(now.wall);
                let start = Start {
                    run,
                    tick: Some(claim.fire_time),
                    term: Some(claim.term),
                    token: Some(token),
                    deadline: None,
                    attempt: 1,
                };
                // Granted at last, after the store was silent for long; or a run whose lock is lost still goes on.
                let in_time = self.policies.misfire.admits(lateness, self.policies.grace);
                if self.run.is_some() || self.no_more || !in_time {
                    close_unstarted(start, effects);
                } else {
                    self.start(now, start, effects);
                }
            }
            Verdict::AlreadyRun { cursor, .. } | Verdict::Moved { cursor } => {
                self.adopt(cursor);
                if cursor == claim.expected {
                    // The store does not know the job any more: nothing is gained by asking again at once.
                    self.hold_until = Some(now.elapsed.saturating_add(FLUSH_AFTER));
                }
            }
            Verdict::Busy { holder } if self.mode == Mode::Dormant => {
                // Whoever leads now decides the tick.
                effects.push(Effect::Contended { holder });
                self.adopt(self.stored);
            }
            Verdict::Busy { holder } => {
                self.settle_misfired(asked, effects);
                self.skips = claim.skips;
                effects.push(Effect::Contended { holder });
                self.skip(now, claim.fire_time, SkipReason::Overlap, 1, false, effects);
            }
            Verdict::Deposed { .. } => {
                // Resumed under a newer term meanwhile: that one decides.
                if self.mode == Mode::Firing(Some(claim.term)) {
                    self.mode = Mode::Dormant;
                }
                self.adopt(self.stored);
            }
            Verdict::NotGranted => match self.mode {
                Mode::Firing(_) => self.undo(asked),
                Mode::Dormant => self.adopt(self.stored),
            },
            Verdict::NotYet { wait } => {
                self.undo(asked);
                // If the tick is not due here either, by a clock that was corrected meanwhile, its timer is armed anew. The
                // clock may be wrong by hours, so that another tick is due long before this one.
                if claim.fire_time.instant() <= now.wall {
                    self.hold_until = Some(now.elapsed.saturating_add(wait.min(HOLD_MAX)));
                }
            }
            // The same run again: an earlier claim of it that got no answer may have been taken.
            Verdict::Locked { .. } => {
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Claim(Box::new(TickAsked { again_at, ..asked }));
            }
            Verdict::Unavailable { reason } => {
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Claim(Box::new(TickAsked { again_at, ..asked }));
                effects.push(Effect::Unavailable { reason });
            }
        }
    }

    fn on_manual_claimed(&mut self, now: Now, manual: Manual, verdict: Verdict, effects: &mut Effects) {
        let refused = |refusal, effects: &mut Effects| {
            if !manual.abandoned {
                effects.push(Effect::Answer(Err(refusal)));
            }
        };
        match verdict {
            Verdict::Granted { token, .. } => {
                let start = Start::manual(manual.run, None, Some(token));
                if manual.abandoned {
                    close_unstarted(start, effects);
                } else if let Some(run) = &self.run {
                    refused(Refusal::Overlap { holder: Some(run.run) }, effects);
                    close_unstarted(start, effects);
                } else if self.no_more {
                    refused(Refusal::Unavailable { reason: "the engine shuts down".to_owned() }, effects);
                    close_unstarted(start, effects);
                } else {
                    effects.push(Effect::Answer(Ok(manual.run)));
                    self.start(now, start, effects);
                }
            }
            Verdict::Busy { holder } => {
                effects.push(Effect::Contended { holder });
                refused(Refusal::Overlap { holder }, effects);
            }
            Verdict::AlreadyRun { run, .. } => refused(Refusal::Overlap { holder: Some(run) }, effects),
            // It was abandoned, or the store forgot it.
            Verdict::NotGranted => refused(Refusal::Overlap { holder: None }, effects),
            // A claim without a tick depends on no cursor, no term and no time.
            Verdict::Moved { .. } | Verdict::Deposed { .. } | Verdict::NotYet { .. } => {
                let reason = format!("the store answered a manual claim with {verdict:?}");
                refused(Refusal::Unavailable { reason }, effects);
            }
            // Nothing was taken, and whoever triggered it has waited long enough.
            Verdict::Locked { .. } => {
                let reason = "somebody else has locked its key".to_owned();
                refused(Refusal::Unavailable { reason }, effects);
            }
            Verdict::Unavailable { reason } => {
                effects.push(Effect::Unavailable { reason: reason.clone() });
                refused(Refusal::Unavailable { reason }, effects);
                // It may have been granted: find out, and close it.
                let again_at = Some(self.again_at(now));
                self.manual = Some(Box::new(Manual { abandoned: true, again_at, ..manual }));
            }
        }
    }

    fn on_advanced(&mut self, now: Now, moved: Moved, effects: &mut Effects) {
        let Asked::Advance(asked) = &self.asked else { return };
        let asked = asked.advance;
        self.asked = Asked::Nothing;
        match moved {
            Moved::Done => {
                self.unanswered = 0;
                self.stored = asked.to.instant();
            }
            Moved::Elsewhere { cursor } => self.adopt(cursor),
            Moved::Deposed { .. } => {
                if self.mode == Mode::Firing(Some(asked.term)) {
                    self.mode = Mode::Dormant;
                }
                self.adopt(self.stored);
            }
            Moved::Locked => {
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Advance(Box::new(AdvanceAsked { advance: asked, again_at }));
                return;
            }
            Moved::Unavailable { reason } => {
                effects.push(Effect::Unavailable { reason });
                let again_at = Some(self.again_at(now));
                self.asked = Asked::Advance(Box::new(AdvanceAsked { advance: asked, again_at }));
                return;
            }
        }
        if self.mode == Mode::Dormant {
            self.adopt(self.stored);
        }
    }

    fn on_run_ended(&mut self, now: Now, end: RunEnd, effects: &mut Effects) {
        let Some(mut run) = self.run.take_if(|run| run.run == end.run) else { return };
        run.first_started_at = run.first_started_at.or(end.started_at);
        if let Some(pause) = self.pause_before_next(&run, &end.end) {
            let RunEnd { run: id, end, took, .. } = end;
            let outcome = run.outcome(&end);
            effects.push(Effect::Retried(Retried {
                run: id,
                attempt: run.attempt,
                outcome,
                pause,
                end,
                took,
            }));
            run.retry_at = Some(now.elapsed.saturating_add(pause));
            run.deadline = None;
            run.cancelled = None;
            run.abort_at = None;
            run.aborted = false;
            self.run = Some(run);
            return;
        }
        self.conclude(*run, end, effects);
    }

    /// How long to wait before the next attempt, if there is to be one.
    fn pause_before_next(&self, run: &ActiveRun, end: &End) -> Option<Duration> {
        let again = match (run.cancelled, end) {
            (_, End::NotStarted { .. }) => false,
            (Some(CancelReason::TimedOut), _) | (None, End::Panicked(_)) => true,
            (None, End::Failed { severity, .. }) => *severity == Severity::Transient,
            (None, End::Returned | End::Aborted | End::BetweenAttempts) | (Some(_), _) => false,
        };
        let again = again && !run.lost && !run.last_attempt && run.attempt < self.policies.retry.attempts;
        again.then(|| self.policies.retry.pause(run.run, run.attempt))
    }

    /// Starts the next attempt of the run that waits for it.
    fn try_again(&mut self, now: Now, effects: &mut Effects) {
        let Some(run) = &mut self.run else { return };
        run.retry_at = None;
        run.attempt += 1;
        run.deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
        let ActiveRun { run, tick, term, token, deadline, attempt, .. } = **run;
        effects.push(Effect::Start(Start { run, tick, term, token, deadline, attempt }));
    }

    /// The run is over.
    fn conclude(&mut self, run: ActiveRun, end: RunEnd, effects: &mut Effects) {
        let RunEnd { end, took, .. } = end;
        let outcome = run.outcome(&end);
        let started_at = run.first_started_at;
        if let (Some(token), false) = (run.token, run.lost) {
            effects.push(Effect::Complete { run: run.run, token, outcome });
        }
        if let Some(started_at) = started_at {
            self.last = Some(Box::new(LastRun { run: run.run, outcome, started_at, took }));
        }
        let ActiveRun { run, tick, cancelled, aborted, lost, attempt, .. } = run;
        let recorded = !lost;
        effects.push(Effect::Ended(Ended {
            run,
            tick,
            outcome,
            cancelled,
            aborted,
            recorded,
            attempt,
            end,
            started_at,
            took,
        }));
    }

    fn on_lock_lost(&mut self, now: Now, run: RunId, effects: &mut Effects) {
        if let Some(active) = self.run.as_mut().filter(|active| active.run == run) {
            active.lost = true;
            self.cancel(Some(now), CancelReason::LockLost, effects);
        }
    }

    fn decide_due(&mut self, now: Now, effects: &mut Effects) {
        let Mode::Firing(term) = self.mode else { return };
        if !matches!(self.asked, Asked::Nothing) || self.hold_until.is_some_and(|until| now.elapsed < until) {
            return;
        }
        self.hold_until = None;
        if self.policies.fires == Fires::Leader && (term.is_none() || now.term != term) {
            // Doubt is "not leader". Whoever restores the trust resumes the job from its cursor.
            self.on_suspend();
            return;
        }

        if let Some(next) = self.next.filter(|next| next.instant() <= now.wall) {
            let due = Due::collect(&*self.schedule, next, now.wall);
            self.next = due.following;
            let lateness = due.newest.lateness(now.wall);
            if let (Some(_), Overlap::Skip) = (&self.run, self.policies.overlap) {
                self.skip(now, due.newest, SkipReason::Overlap, due.count, due.at_least, effects);
            } else if self.policies.misfire.admits(lateness, self.policies.grace) {
                self.take(now, due, term, effects);
                return;
            } else {
                self.skip(now, due.newest, SkipReason::Misfire, due.count, due.at_least, effects);
            }
        }
        self.flush(now, term, effects);
    }

    /// The newest due tick is to run; the older ones are not.
    fn take(&mut self, now: Now, due: Due, term: Option<Term>, effects: &mut Effects) {
        let misfired = due.count - 1;
        let mut skips = self.skips;
        if misfired > 0 {
            skips.add(SkipReason::Misfire, misfired);
            skips.at_least |= due.at_least;
        }
        let Some(term) = term else {
            self.stored = due.newest.instant();
            self.decided = self.stored;
            if misfired > 0 {
                effects.push(skipped_before(due.newest, misfired, due.at_least));
            }
            effects.push(Effect::Count { started: 1, skips });
            let start = Start { tick: Some(due.newest), ..Start::manual(now.spare, None, None) };
            self.start(now, start, effects);
            return;
        };
        let claim = TickClaim { fire_time: due.newest, expected: self.stored, skips, term };
        self.asked = Asked::Claim(Box::new(TickAsked {
            run: now.spare,
            claim,
            decided: self.decided,
            skips: self.skips,
            misfired,
            at_least: due.at_least,
            again_at: None,
        }));
        effects.push(Effect::Claim { run: now.spare, tick: Some(claim), settle: false });
    }

    fn start(&mut self, now: Now, start: Start, effects: &mut Effects) {
        debug_assert!(self.run.is_none(), "one run at a time");
        let deadline = self.policies.timeout.map(|timeout| now.elapsed.saturating_add(timeout));
        self.run = Some(Box::new(ActiveRun {
            run: start.run,
            tick: start.tick,
            started_at: now.wall,
            attempt: start.attempt,
            retry_at: None,
            first_started_at: None,
            term: start.term,
            token: start.token,
            deadline,
            cancelled: None,
            last_attempt: false,
            abort_at: None,
            aborted: false,
            lost: false,
        }));
        effects.push(Effect::Start(Start { deadline, ..start }));
    }

    /// Decides that `count` ticks up to `newest` do not run.
    fn skip(
        &mut self,
        now: Now,
        newest: FireTime,
        reason: SkipReason,
        count: u64,
        at_least: bool,
        effects: &mut Effects,
    ) {
        self.decided = newest.instant();
        effects.push(Effect::Skipped { newest, reason, count, at_least });
        if self.policies.fires == Fires::Local {
            self.stored = self.decided;
            effects.push(Effect::Count { started: 0, skips: Skips::new(reason, count, at_least) });
            return;
        }
        self.skips.add(reason, count);
        self.skips.at_least |= at_least;
        self.flush_at.get_or_insert(now.elapsed + FLUSH_AFTER);
    }

    /// Moves the cursor over skipped ticks, if that is due.
    fn flush(&mut self, now: Now, term: Option<Term>, effects: &mut Effects) {
        let (Some(term), true) = (term, self.flush_at.is_some_and(|at| at <= now.elapsed)) else { return };
        self.flush_at = None;
        if self.skips.total() == 0 {
            return;
        }
        let skips = std::mem::take(&mut self.skips);
        let advance = Advance { expected: self.stored, to: FireTime::new(self.decided), skips, term };
        self.asked = Asked::Advance(Box::new(AdvanceAsked { advance, again_at: None }));
        effects.push(Effect::Advance(advance));
    }

    /// Starts over from a cursor that the store named.
    fn adopt(&mut self, cursor: DateTime<Utc>) {
        self.stored = cursor;
        self.decided = cursor;
        self.skips = Skips::default();
        self.flush_at = None;
        self.next = match self.mode {
            Mode::Firing(_) => next_after(&*self.schedule, cursor),
            Mode::Dormant => None,
        };
    }

    /// Nothing came of the claim: its ticks are to be decided again.
    fn undo(&mut self, asked: TickAsked) {
        self.decided = asked.decided;
        self.skips = asked.skips;
        self.next = next_after(&*self.schedule, self.decided);
    }

    fn settle_misfired(&self, asked: TickAsked, effects: &mut Effects) {
        if asked.misfired > 0 {
            effects.push(skipped_before(asked.claim.fire_time, asked.misfired, asked.at_least));
        }
    }

    fn ask_again(&mut self, now: Now, effects: &mut Effects) {
        if let Some(manual) = self.manual.as_mut()
            && manual.again_at.take_if(|at| *at <= now.elapsed).is_some()
        {
            effects.push(Effect::Claim { run: manual.run, tick: None, settle: true });
        }
        if let Asked::Claim(asked) = &mut self.asked
            && asked.again_at.take_if(|at| *at <= now.elapsed).is_some()
        {
            // While it got no answer a newer tick may have become due, or the term may be over: then it is only
            // settled, and what it was to decide is decided anew.
            let newer_is_due = self.next.is_some_and(|next| next.instant() <= now.wall);
            let settle = newer_is_due || self.mode != Mode::Firing(Some(asked.claim.term));
            effects.push(Effect::Claim { run: asked.run, tick: Some(asked.claim), settle });
        }
        if let Asked::Advance(asked) = &mut self.asked
            && asked.again_at.take_if(|at| *at <= now.elapsed).is_some()
        {
            effects.push(Effect::Advance(asked.advance));
        }
    }

    fn again_at(&mut self, now: Now) -> Duration {
        let pause = ASK_AGAIN_MIN.saturating_mul(1 << self.unanswered.min(16)).min(ASK_AGAIN_MAX);
        self.unanswered = self.unanswered.saturating_add(1);
        now.elapsed + pause
    }

    /// Asks the run to stop. With `now` it is aborted after the job's grace; without, whoever cancels aborts.
    fn cancel(&mut self, now: Option<Now>, why: CancelReason, effects: &mut Effects) {
        let Some(run) = &mut self.run else { return };
        run.deadline = None;
        // Of an attempt that is over its time already, too.
        run.last_attempt |= why != CancelReason::TimedOut;
        if let Some(now) = now {
            run.abort_at.get_or_insert(now.elapsed.saturating_add(self.policies.abort_grace));
        }
        if run.cancelled.is_none() {
            run.cancelled = Some(why);
            effects.push(Effect::Cancel { run: run.run, why });
        }
        if run.retry_at.is_some() {
            self.end_between_attempts(effects);
        }
    }

    /// Between two attempts there is no body whose end could be waited for.
    fn end_between_attempts(&mut self, effects: &mut Effects) {
        let Some(run) = self.run.take() else { return };
        let end = RunEnd { run: run.run, end: End::BetweenAttempts, started_at: None, took: Duration::ZERO };
        self.conclude(*run, end, effects);
    }

    fn abort(&mut self, effects: &mut Effects) {
        let Some(run) = &mut self.run else { return };
        if run.retry_at.is_some() {
            self.end_between_attempts(effects);
            return;
        }
        run.abort_at = None;
        if !run.aborted {
            run.aborted = true;
            effects.push(Effect::Abort { run: run.run });
        }
    }
}

impl ActiveRun {
    /// When the run is to be cancelled or aborted.
    fn changes_at(&self) -> Option<Duration> {
        [self.deadline, self.abort_at, self.retry_at].into_iter().flatten().min()
    }

    /// A run that was cancelled counts as such whatever its body made of it, unless it panicked: nobody can tell an
    /// answer that was given in time from one that was given up.
    fn outcome(&self, end: &End) -> Outcome {
        match (end, self.cancelled) {
            (End::Panicked(_), _) => Outcome::Panicked,
            (End::NotStarted { .. }, _) => Outcome::Cancelled,
            (_, Some(CancelReason::TimedOut)) => Outcome::TimedOut,
            (_, Some(_)) | (End::Aborted | End::BetweenAttempts, None) => Outcome::Cancelled,
            (End::Returned, None) => Outcome::Succeeded,
            (End::Failed { .. }, None) => Outcome::Failed,
        }
    }
}

/// A granted run that must not start any more is closed, so that nothing is lost silently.
fn close_unstarted(start: Start, effects: &mut Effects) {
    let outcome = Outcome::Cancelled;
    if let Some(token) = start.token {
        effects.push(Effect::Complete { run: start.run, token, outcome });
    }
    effects.push(Effect::Ended(Ended {
        run: start.run,
        tick: start.tick,
        outcome,
        cancelled: Some(CancelReason::NotStarted),
        aborted: false,
        recorded: true,
        attempt: 1,
        end: End::Aborted,
        started_at: None,
        took: Duration::ZERO,
    }));
}

/// Says that `count` ticks before `fire_time` were missed.
fn skipped_before(fire_time: FireTime, count: u64, at_least: bool) -> Effect {
    Effect::Skipped { newest: fire_time, reason: SkipReason::Misfire, count, at_least }
}

#[cfg(test)]
pub(crate) mod tests;
