//! The node's bound on runs in progress, as one job sees it.
//!
//! Whoever is to start (the next attempt of a run, a manual trigger, a tick) needs the one permit that the
//! job may have in hand. A run in progress has its own until its attempt ends.
//!
//! A claim goes out with the permit that its run is to have. If it gets no answer, the permit goes back:
//! other jobs of the node need no store. It is asked again without one, and what is granted then waits for a
//! permit, as an attempt does.

use std::time::Duration;

use super::{Effect, Effects, JobMachine, PermitAnswer, Refusal, backlog::CatchUpTurn, ticks::May};
use crate::{core::time::Now, port::SkipReason};

/// How long an attempt, or a trigger that was queued, waits that the node refused a permit.
const PERMIT_AGAIN: Duration = Duration::from_secs(1);

/// The permit to start something on this node, and whether one is wanted.
#[derive(Debug)]
pub(super) struct Permit {
    /// The node bounds its runs in progress.
    limited: bool,
    pub(super) state: PermitState,
    /// Something would start in this step, were it not for the permit.
    wanted: Wanted,
    /// The node was asked for it to make up for a missed tick.
    requested_late: bool,
}

/// Whether a permit is wanted in a step, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    No,
    /// To make up for a missed tick: what is on time goes first.
    Late,
    OnTime,
}

/// Where the permit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PermitState {
    /// There is none.
    None,
    /// The node was asked for one.
    Requested,
    /// There is one.
    InHand,
    /// There is one, for a claim that is under way.
    Pledged(Claimant),
}

/// Whose claim is under way: at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    Tick,
    Unscheduled,
}

impl Permit {
    /// Of a node that is `limited`, or needs no permits.
    pub(super) fn new(limited: bool) -> Self {
        Self { limited, state: PermitState::None, wanted: Wanted::No, requested_late: false }
    }

    /// A step begins, in which nothing is to start yet.
    pub(super) fn want_nothing(&mut self) {
        self.wanted = Wanted::No;
    }

    /// Something is to start now. Whether it may: if not, a permit is asked for.
    pub(super) fn want(&mut self) -> bool {
        self.wanted = if self.limited { Wanted::OnTime } else { Wanted::No };
        self.allows()
    }

    /// The same of a tick, which may have had to wait for its turn.
    pub(super) fn want_for(&mut self, turn: CatchUpTurn) {
        let wanted = if turn == CatchUpTurn::Had { Wanted::Late } else { Wanted::OnTime };
        if self.limited {
            self.wanted = self.wanted.max(wanted);
        }
    }

    /// What was wanted in a former step is so still.
    pub(super) fn keep_request(&mut self) {
        let as_before = if self.requested_late { Wanted::Late } else { Wanted::OnTime };
        self.wanted = self.wanted.max(as_before);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted != Wanted::No
    }

    /// The node lets something start now.
    pub(super) fn allows(&self) -> bool {
        !self.limited || self.state == PermitState::InHand
    }

    /// The node knows that something is to start, and has no permit for it yet.
    pub(super) fn is_requested(&self) -> bool {
        self.state == PermitState::Requested
    }

    /// A claim goes out with the permit in hand.
    pub(super) fn pledge(&mut self, claimant: Claimant) {
        debug_assert!(self.allows(), "a claim is pledged the permit in hand");
        self.wanted = Wanted::No;
        if self.limited {
            self.state = PermitState::Pledged(claimant);
        }
    }

    /// Nothing came of that claim, or it got no answer.
    pub(super) fn take_back(&mut self, claimant: Claimant) {
        if self.state == PermitState::Pledged(claimant) {
            self.state = PermitState::InHand;
        }
    }

    /// What this claim was granted may start at once.
    pub(super) fn is_pledged_to(&self, claimant: Claimant) -> bool {
        !self.limited || self.state == PermitState::Pledged(claimant)
    }

    /// A run has started: the permit is its own.
    pub(super) fn spend(&mut self) {
        self.wanted = Wanted::No;
        self.state = PermitState::None;
    }

    /// The attempt that had a permit of its own is over.
    pub(super) fn release(&self) -> Option<Effect> {
        self.limited.then_some(Effect::ReleasePermit)
    }

    /// Asks for a permit that is wanted, and gives back one that is not.
    pub(super) fn balance(&mut self, priority: i8) -> Option<Effect> {
        if !self.limited {
            return None;
        }
        match (self.state, self.wanted) {
            (PermitState::None, Wanted::Late | Wanted::OnTime) => {
                self.state = PermitState::Requested;
                self.requested_late = self.wanted == Wanted::Late;
                Some(Effect::AskPermit { priority, catches_up: self.requested_late })
            }
            (PermitState::Requested, Wanted::OnTime) if self.requested_late => {
                self.requested_late = false;
                Some(Effect::HurryPermit { priority })
            }
            (PermitState::InHand, Wanted::No) => {
                self.state = PermitState::None;
                Some(Effect::ReleasePermit)
            }
            (
                PermitState::None | PermitState::Requested | PermitState::InHand | PermitState::Pledged(_),
                Wanted::No | Wanted::Late | Wanted::OnTime,
            ) => None,
        }
    }
}

impl JobMachine {
    /// The node knows that something is to start, and has no permit for it yet.
    pub(crate) fn waits_for_permit(&self) -> bool {
        self.permit.is_requested()
    }

    pub(super) fn on_permit(&mut self, now: Now, answer: PermitAnswer, effects: &mut Effects) {
        if !self.permit.is_requested() {
            // Asked for before the actor died.
            if answer == PermitAnswer::Granted {
                effects.push(Effect::ReleasePermit);
            }
            return;
        }
        match answer {
            PermitAnswer::Granted => self.permit.state = PermitState::InHand,
            PermitAnswer::Wait => self.answer_queued(effects),
            PermitAnswer::NotAdmitted => {
                self.permit.state = PermitState::None;
                self.refuse_callers(&Refusal::Concurrency, effects);
                let later = now.elapsed.saturating_add(PERMIT_AGAIN);
                self.put_unscheduled_off(later);
                self.runs.put_attempts_off(now, later);
                if self.tick_wants_permit(now)
                    && let Some(waiting) = self.backlog.pop_front()
                {
                    self.skip_waiting(now, waiting, SkipReason::Concurrency, effects);
                }
            }
        }
    }

    /// A tick would start, were it not for the permit. It is not its turn while an earlier one has no answer.
    fn tick_wants_permit(&self, now: Now) -> bool {
        let first = self.backlog.front().filter(|_| self.asked.claim().is_none());
        self.fires() && first.is_some_and(|first| self.may_start(now, first) == May::WaitForPermit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [PermitState; 4] = [
        PermitState::None,
        PermitState::Requested,
        PermitState::InHand,
        PermitState::Pledged(Claimant::Tick),
    ];

    fn permit(state: PermitState, wanted: bool) -> Permit {
        let wanted = if wanted { Wanted::OnTime } else { Wanted::No };
        Permit { limited: true, state, wanted, requested_late: false }
    }

    #[test]
    fn a_tick_on_time_hurries_the_permit_that_a_missed_one_waits_for() {
        let mut permit = permit(PermitState::None, false);
        permit.want_for(CatchUpTurn::Had);
        assert_eq!(permit.balance(3), Some(Effect::AskPermit { priority: 3, catches_up: true }));

        permit.want_nothing();
        permit.keep_request();
        assert_eq!(permit.balance(3), None);
        permit.want_for(CatchUpTurn::NotNeeded);

        assert_eq!(permit.balance(3), Some(Effect::HurryPermit { priority: 3 }));
        assert_eq!(permit.balance(3), None, "once");
    }

    #[test]
    fn a_step_ends_with_a_permit_exactly_where_one_is_wanted() {
        let (ask, release) = (Effect::AskPermit { priority: 3, catches_up: false }, Effect::ReleasePermit);
        for (state, wanted, effect, after) in [
            (PermitState::None, false, None, PermitState::None),
            (PermitState::None, true, Some(ask), PermitState::Requested),
            // The answer is to come, whatever is wanted until then.
            (PermitState::Requested, false, None, PermitState::Requested),
            (PermitState::Requested, true, None, PermitState::Requested),
            (PermitState::InHand, false, Some(release), PermitState::None),
            (PermitState::InHand, true, None, PermitState::InHand),
            (STATES[3], false, None, STATES[3]),
            (STATES[3], true, None, STATES[3]),
        ] {
            let mut permit = permit(state, wanted);

            assert_eq!(permit.balance(3), effect, "{state:?} {wanted}");
            assert_eq!(permit.state, after, "{state:?} {wanted}");
        }
    }

    #[test]
    fn only_the_permit_in_hand_lets_something_start() {
        for state in STATES {
            let mut permit = permit(state, false);

            assert_eq!(permit.want(), state == PermitState::InHand, "{state:?}");
            assert!(permit.is_wanted());
        }
    }

    #[test]
    fn a_pledge_comes_back_to_the_claim_that_it_was_made_for() {
        let mut permit = permit(PermitState::InHand, true);
        permit.pledge(Claimant::Tick);
        assert!(!permit.is_wanted() && !permit.allows());
        assert!(permit.is_pledged_to(Claimant::Tick) && !permit.is_pledged_to(Claimant::Unscheduled));

        permit.take_back(Claimant::Unscheduled);
        assert!(!permit.allows());
        permit.take_back(Claimant::Tick);

        assert!(permit.allows());
    }

    #[test]
    fn a_node_without_a_bound_needs_no_permits() {
        let mut permit = Permit::new(false);

        assert!(permit.want() && !permit.is_wanted());
        permit.pledge(Claimant::Tick);
        assert!(permit.is_pledged_to(Claimant::Tick) && permit.allows());
        permit.spend();

        assert_eq!((permit.balance(0), permit.release()), (None, None));
    }
}
