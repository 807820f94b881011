//! The node's bound on runs in progress, as one job sees it.
//!
//! Whoever is to start (the next attempt of a run, a manual trigger, a tick) needs the one permit that the job may have in
//! hand. A run in progress has its own until its attempt ends.
//!
//! A claim goes out with the permit that its run is to have. If it gets no answer, the permit goes back: other jobs of the node
//! need no store. It is asked again without one, and what is granted then waits for a permit, as an attempt does.

use std::time::Duration;

use super::{
    Effect, Effects, JobMachine, PermitAnswer, Refusal,
    ticks::{Asked, May},
};
use crate::{core::time::Now, port::SkipReason};

/// How long an attempt, or a trigger that was queued, waits that the node refused a permit.
const PERMIT_AGAIN: Duration = Duration::from_secs(1);

/// The permit in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// There is none.
    None,
    /// The node was asked for one.
    Asked,
    /// There is one.
    InHand,
    /// There is one, for a claim that is under way.
    Pledged(Claimant),
}

/// Whose claim is under way: at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    Tick,
    Manual,
}

impl JobMachine {
    /// Something is to start now. Whether it may: if not, a permit is asked for.
    pub(super) fn has_permit(&mut self) -> bool {
        self.wants_permit = self.limited;
        self.is_permitted()
    }

    /// The node lets something start now.
    pub(super) fn is_permitted(&self) -> bool {
        !self.limited || self.permit == Permit::InHand
    }

    /// The node knows that something is to start, and has no slot for it yet.
    pub fn waits_for_permit(&self) -> bool {
        self.permit == Permit::Asked
    }

    /// A claim goes out with the permit in hand.
    pub(super) fn pledge_permit(&mut self, claimant: Claimant) {
        debug_assert!(self.is_permitted(), "a claim is pledged the permit in hand");
        self.wants_permit = false;
        if self.limited {
            self.permit = Permit::Pledged(claimant);
        }
    }

    /// Nothing came of that claim, or it got no answer.
    pub(super) fn take_permit_back(&mut self, claimant: Claimant) {
        if self.permit == Permit::Pledged(claimant) {
            self.permit = Permit::InHand;
        }
    }

    /// What this claim was granted may start at once.
    pub(super) fn has_pledge(&self, claimant: Claimant) -> bool {
        !self.limited || self.permit == Permit::Pledged(claimant)
    }

    /// A run has started: the permit is its own.
    pub(super) fn spend_permit(&mut self) {
        self.wants_permit = false;
        self.permit = Permit::None;
    }

    /// The attempt that had a permit of its own is over.
    pub(super) fn release_permit(&self, effects: &mut Effects) {
        if self.limited {
            effects.push(Effect::ReleasePermit);
        }
    }

    /// Asks for a permit that is wanted, and gives back one that is not.
    pub(super) fn balance_permit(&mut self, effects: &mut Effects) {
        if !self.limited {
            return;
        }
        match (self.permit, self.wants_permit) {
            (Permit::None, true) => {
                self.permit = Permit::Asked;
                effects.push(Effect::AskPermit { priority: self.policies.priority });
            }
            (Permit::InHand, false) => {
                self.permit = Permit::None;
                effects.push(Effect::ReleasePermit);
            }
            (Permit::None | Permit::Asked | Permit::InHand | Permit::Pledged(_), _) => {}
        }
    }

    pub(super) fn on_permit(&mut self, now: Now, answer: PermitAnswer, effects: &mut Effects) {
        if self.permit != Permit::Asked {
            // Asked for before the actor died.
            if answer == PermitAnswer::Granted {
                effects.push(Effect::ReleasePermit);
            }
            return;
        }
        match answer {
            PermitAnswer::Granted => self.permit = Permit::InHand,
            PermitAnswer::Wait => self.answer_queued(effects),
            PermitAnswer::NotAdmitted => {
                self.permit = Permit::None;
                self.refuse_callers(&Refusal::Concurrency, effects);
                let later = now.elapsed.saturating_add(PERMIT_AGAIN);
                self.put_trigger_off(later);
                self.put_attempts_off(now, later);
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
        let first = self.backlog.front().filter(|_| !matches!(self.asked, Asked::Claim(_)));
        self.firing().is_some() && first.is_some_and(|first| self.may_start(now, first) == May::WaitForPermit)
    }
}
