//! Whether this node is to lead: what the application, the store and the node itself have against it.
//!
//! The machine decides what follows from the [`Objections`]; here they are collected, and the node's
//! [`Candidacy`] is shown.

use std::sync::PoisonError;

use actix::prelude::*;

use super::{ElectionActor, StandAside, answer_of};
use crate::{
    candidacy::Candidacy,
    core::{
        election::{Input, Objections},
        operation::Operation,
    },
    event::{EventKind, StepDownReason},
    port::Observation,
};

const REQUESTED: &str = "it was asked to resign";
const YIELDED: &str = "it prefers not to lead, and another node stands as a candidate";
const BODIES_BLOCKED: &str = "no body starts here, and another node stands as a candidate";

impl ElectionActor {
    /// Whether there is anything to find out before this node campaigns.
    pub(super) fn considers(&self) -> bool {
        self.check.is_some() || !self.announced || self.reluctance().is_some()
    }

    /// Why this node would rather not lead, if it would not.
    pub(super) fn reluctance(&self) -> Option<StepDownReason> {
        if self.node.bodies.longest_silence() > self.stall_max {
            return Some(StepDownReason::BodiesBlocked);
        }
        self.prefers_not.then_some(StepDownReason::Yielded)
    }

    /// Finds out whether this node is to lead: from the application, and from the store if there is anything
    /// to say to it or to hear from it.
    pub(super) fn consider(&mut self, ctx: &mut Context<Self>) {
        let now = self.node.clock.elapsed();
        let leads = self.machine.term(now).is_some();
        let (aside, reluctance) = (self.machine.is_aside(now), self.reluctance());
        let unfit = !leads && self.examine(ctx).is_some();
        let check = self.check.as_ref().map(|check| check.ask(&self.node));
        let (elector, announced) = (self.elector.clone(), self.announced);
        let call = async move {
            let allowed = match check {
                Some(check) => check.await,
                None => Ok(()),
            };
            let stands = allowed.is_ok() && !aside && !unfit && reluctance.is_none();
            let silent = leads && stands == announced && reluctance.is_none();
            let observed = match silent {
                true => None,
                false => Some(answer_of(async { elector.observe(stands).await }).await),
            };
            (allowed, stands, observed)
        };
        let considered = call.into_actor(self).map(move |(allowed, stands, observed), actor, ctx| {
            actor.considering = None;
            let observed = observed.and_then(|answer| {
                let observed = actor.noted(Operation::Observe, answer)?;
                actor.announced = stands;
                Some(observed)
            });
            let Observation { leader, candidate } = observed.unwrap_or_default();
            let led = leader.filter(|leader| *leader != actor.node.id);
            if let Some(leader) = led {
                actor.node.leader.heard(leader, actor.node.clock.elapsed());
            }
            let yields = reluctance.filter(|_| candidate);
            let withdrawn = match (aside, allowed, yields) {
                (true, ..) => Some((StepDownReason::Requested, REQUESTED)),
                (false, Err(reason), _) => Some((StepDownReason::Refused, reason)),
                (false, Ok(()), Some(StepDownReason::BodiesBlocked)) => {
                    Some((StepDownReason::BodiesBlocked, BODIES_BLOCKED))
                }
                (false, Ok(()), Some(why)) => Some((why, YIELDED)),
                (false, Ok(()), None) => None,
            };
            actor.set_withdrawn(withdrawn);
            let outlook = Objections { refused: allowed.is_err(), led: led.is_some(), yields };
            actor.step(Input::Considered(outlook), ctx);
        });
        if let Some(former) = self.considering.replace(ctx.spawn(considered)) {
            ctx.cancel_future(former);
        }
    }

    /// Considers it while this node leads, unless it still does: nothing is given up for being slow.
    pub(super) fn consider_leading(&mut self, ctx: &mut Context<Self>) {
        if self.considers() && self.considering.is_none() {
            self.consider(ctx);
        }
    }

    pub(super) fn reconsider_later(&mut self, ctx: &mut Context<Self>) {
        let timer = ctx.run_later(self.lease / 2, |actor, ctx| {
            actor.consider_leading(ctx);
            actor.reconsider_later(ctx);
        });
        if let Some(former) = self.reconsider.replace(timer) {
            ctx.cancel_future(former);
        }
    }

    /// Shows whether, and why, this node does not campaign, and says so if it is news.
    pub(super) fn set_withdrawn(&self, withdrawn: Option<(StepDownReason, &'static str)>) {
        let node = &self.node;
        let mut candidacy = node.candidacy.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &*candidacy {
            Candidacy::Withdrawn { reason, .. } => Some(&**reason),
            Candidacy::Stands | Candidacy::Reluctant => None,
        };
        if known == withdrawn.map(|(_, reason)| reason) {
            return;
        }
        *candidacy = match withdrawn {
            Some((why, reason)) => {
                Candidacy::Withdrawn { why, reason: reason.into(), since: node.clock.now() }
            }
            None if self.prefers_not => Candidacy::Reluctant,
            None => Candidacy::Stands,
        };
        drop(candidacy);
        node.meters.candidate.set(u8::from(withdrawn.is_none()));
        node.publisher.publish(|| match withdrawn {
            Some((why, reason)) => EventKind::CandidacyWithdrawn { why, reason: reason.into() },
            None => EventKind::CandidacyRestored,
        });
    }
}

impl Handler<StandAside> for ElectionActor {
    type Result = ResponseActFuture<Self, bool>;

    fn handle(&mut self, _: StandAside, ctx: &mut Self::Context) -> Self::Result {
        self.set_withdrawn(Some((StepDownReason::Requested, REQUESTED)));
        let until = self.node.clock.elapsed().saturating_add(self.resign_pause);
        self.give_up(Input::StandAside { until }, ctx)
    }
}
