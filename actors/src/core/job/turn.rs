//! The pace at which a node makes up for missed ticks, as one job sees it.
//!
//! A tick that was missed while nobody decided it, or that a pause held until it was late, waits for its turn once
//! nothing else keeps it from running: then it takes a permit and is claimed as any other. If its time ends while
//! it waits, it is skipped. A tick on time needs no turn; nor does one for which a busy node came late, since the
//! node is busy with those that it starts: to start fewer would make it no sooner.

use chrono::{DateTime, Utc};

use super::{
    Effect, Effects, JobMachine,
    backlog::{CatchUpTurn, Waiting},
    ticks::May,
};
use crate::{
    core::{
        policy::Misfire,
        time::{FireTime, Now},
    },
    port::SkipReason,
};

/// Whether the node is asked for a turn, and whether one is wanted. Which tick it is for is known by that.
#[derive(Debug)]
pub(super) struct TurnRequest {
    pace: Pace,
    wanted: bool,
    requested: bool,
}

/// How fast the node makes up for missed ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Unbounded,
    Bounded,
    /// Bounded, and nobody has decided the job's ticks, or the machine slept, until a moment ago: what is taken in
    /// late in this step was missed.
    AfterGap,
}

impl TurnRequest {
    /// Of a node whose pace is `limited`, or where nobody waits for a turn.
    pub(super) fn new(limited: bool) -> Self {
        let pace = if limited { Pace::Bounded } else { Pace::Unbounded };
        Self { pace, wanted: false, requested: false }
    }

    /// A step begins, in which no turn is wanted yet.
    pub(super) fn want_nothing(&mut self) {
        self.wanted = false;
    }

    /// Nobody has decided the job's ticks until now.
    pub(super) fn on_gap(&mut self) {
        if self.pace == Pace::Bounded {
            self.pace = Pace::AfterGap;
        }
    }

    /// What was missed is taken in.
    pub(super) fn gap_is_over(&mut self) {
        if self.pace == Pace::AfterGap {
            self.pace = Pace::Bounded;
        }
    }

    /// None is wanted, and none was asked for.
    pub(super) fn is_idle(&self) -> bool {
        !self.wanted && !self.requested
    }

    /// The tick that waits first wants one, or still does.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }
}

impl Waiting {
    /// Whose time ends sooner is first to be made up for; who may wait for ever is last.
    fn deadline(&self) -> DateTime<Utc> {
        self.too_late_at().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl JobMachine {
    /// The turn of a tick that is taken in now.
    pub(super) fn turn_of(&self, now: Now, tick: FireTime) -> CatchUpTurn {
        if self.turn.pace == Pace::AfterGap && self.is_late(now, tick) {
            CatchUpTurn::Needed
        } else {
            CatchUpTurn::NotNeeded
        }
    }

    /// Not all that pauses held starts at once where many end together.
    pub(super) fn need_turns(&mut self, now: Now) {
        if self.turn.pace != Pace::Unbounded {
            let after = self.policies.misfire_after;
            self.backlog.need_turns(|tick| tick.lateness(now.wall) > after);
        }
    }

    /// It is the turn of the tick for which it was asked, unless another one has taken its place.
    pub(super) fn on_turn(&mut self) {
        self.turn.requested = false;
        match self.backlog.front_mut() {
            Some(first) if first.turn == CatchUpTurn::Requested => first.turn = CatchUpTurn::Had,
            Some(_) | None => self.backlog.forget_turns(),
        }
    }

    /// At the end of a step, asks for a turn that is wanted, and for no other one.
    pub(super) fn balance_turn(&mut self) -> Option<Effect> {
        let TurnRequest { wanted, requested, .. } = self.turn;
        let first = self.backlog.front_mut().filter(|_| wanted);
        self.turn.requested = first.is_some();
        match first {
            Some(first) if first.turn == CatchUpTurn::Needed => {
                first.turn = CatchUpTurn::Requested;
                Some(Effect::AskTurn { deadline: first.deadline() })
            }
            Some(_) => None,
            None => {
                self.backlog.forget_turns();
                requested.then_some(Effect::LeaveTurn)
            }
        }
    }

    /// What waits for its turn, or after it for one of the node's permits, for so long that it must not run any more
    /// is skipped.
    pub(super) fn skip_waited_too_long(&mut self, now: Now, effects: &mut Effects) {
        if self.pause.is_on() {
            return;
        }
        while self.backlog.front().is_some_and(|first| first.is_too_late(now))
            && self.waits_to_catch_up(now)
            && let Some(first) = self.backlog.pop_front()
        {
            self.skip_waiting(now, first, SkipReason::Misfire, effects);
        }
    }

    /// The tick for whose turn the node was asked.
    pub(crate) fn waiting_for_turn(&self) -> Option<FireTime> {
        let first = self.backlog.front().filter(|first| first.turn == CatchUpTurn::Requested)?;
        Some(first.tick)
    }

    /// The tick that waits first waits for its turn and nothing else, or has had it and waits for a permit.
    pub(super) fn waits_to_catch_up(&self, now: Now) -> bool {
        self.backlog.front().is_some_and(|first| match self.may_start(now, first) {
            May::WaitForTurn => true,
            May::WaitForPermit => first.turn == CatchUpTurn::Had,
            May::Start | May::Skip(_) | May::Wait | May::WaitUntil(_) | May::Replace => false,
        })
    }

    /// The next tick in the backlog, if it is on time: it takes the place of the one before it, unless each missed
    /// tick is to run.
    pub(super) fn waits_for_no_turn(&mut self) -> Option<&mut Waiting> {
        let takes_place = !matches!(self.policies.misfire, Misfire::All { .. });
        self.backlog.front_mut().filter(|next| takes_place && next.turn == CatchUpTurn::NotNeeded)
    }
}
