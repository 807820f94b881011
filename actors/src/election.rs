//! The election actor owns the term.
//!
//! It campaigns, renews and resigns through the elector port, and says when this node starts or stops to
//! lead: by its [reports](Report), since it knows no other actor. Its answer to "does this node lead?" stands
//! in [`Leadership`](crate::node::Leadership), so that nobody has to ask it. The supervisor tells it about
//! sessions and refused terms. It is not started again when it dies: its node leads no more, and is not live.

mod candidacy;
mod check;
mod report;
mod span;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};
use tracing::Instrument;

use self::check::Check;
pub(crate) use self::report::Report;
use crate::{
    CALL_DEADLINE,
    candidacy::MayLead,
    contained::contained_within,
    core::{
        election::{Effect, Effects, ElectionMachine, Input},
        operation::Operation,
        text::{TEXT_MAX, bounded},
        zone_data::changed,
    },
    event::{EventKind, StepDownReason},
    name::Term,
    node::Node,
    port::{Campaign, Decision, DecisionRecord, Elector},
};

/// The session with the store was opened or lost.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum SessionChanged {
    Opened,
    Lost,
}

/// Kills the actor, for a rig.
#[cfg(any(test, feature = "testkit"))]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Die;

/// The store refused a claim of this node's term.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TermRefused(pub(crate) Term);

/// Gives the term up for good. Answers when the store knows, or does not answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EndCandidacy;

/// Gives the term up and does not campaign for a while. Answers whether this node led, when the store knows
/// that it does not any more, or does not answer.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct StandAside;

/// This node must not go on leading.
#[derive(Message)]
#[rtype(result = "()")]
struct Unfit(StepDownReason);

/// Asks whether the actor is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PingElection;

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopElection;

/// How a node stands for the lead.
pub(crate) struct CandidacyOptions {
    pub(crate) may_lead: Option<MayLead>,
    pub(crate) prefer_not_to_lead: bool,
    pub(crate) resign_pause: Duration,
    pub(crate) lease: Duration,
}

/// Performs the effects of one [`ElectionMachine`].
pub(crate) struct ElectionActor {
    node: Arc<Node>,
    reports: Recipient<Report>,
    elector: Arc<dyn Elector>,
    machine: ElectionMachine,
    timer: Option<SpawnHandle>,
    /// The campaign or renewal under way. It ends with its session.
    call: Option<SpawnHandle>,
    /// Since when the threads of the job actors are asked whether they turn; `None` once all have answered.
    asked_arbiters_at: Option<Duration>,
    stall_max: Duration,
    check: Option<Check>,
    prefers_not: bool,
    resign_pause: Duration,
    lease: Duration,
    /// What the store knows: whether this node stands as a candidate.
    announced: bool,
    /// The question under way whether this node is to lead.
    considering: Option<SpawnHandle>,
    /// When the leader of a term without renewals considers it again.
    reconsider: Option<SpawnHandle>,
}

impl ElectionActor {
    pub(crate) fn new(
        node: Arc<Node>,
        elector: Arc<dyn Elector>,
        reports: Recipient<Report>,
        candidature: CandidacyOptions,
    ) -> Self {
        let CandidacyOptions { may_lead, prefer_not_to_lead, resign_pause, lease } = candidature;
        node.meters.candidate.set(1);
        Self {
            node,
            reports,
            elector,
            machine: ElectionMachine::new(lease),
            timer: None,
            call: None,
            asked_arbiters_at: None,
            stall_max: STALL_MAX,
            check: may_lead.map(Check::new),
            prefers_not: prefer_not_to_lead,
            resign_pause,
            lease,
            announced: true,
            considering: None,
            reconsider: None,
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.machine.set_considers(self.considers());
        let effects = self.machine.step(self.node.clock.elapsed(), input);
        self.show();
        self.perform(effects, ctx);
        let now = self.node.clock.elapsed();
        if self.machine.term(now).is_some() {
            // If the term runs out before this actor notices, nobody leads since.
            self.node.leader.led(now);
        }
        self.arm(ctx);
    }

    /// Shows the machine's answer to everybody, before anybody is told.
    fn show(&self) {
        let term = self.machine.term(self.node.clock.elapsed());
        self.node.leadership.set(term.map(|(term, _)| term), term.and_then(|(_, until)| until));
    }

    fn perform(&mut self, effects: Effects, ctx: &mut Context<Self>) {
        let node = self.node.clone();
        let meters = &node.meters;
        for effect in effects {
            match effect {
                Effect::Consider => self.consider(ctx),
                Effect::Campaign => self.campaign(ctx),
                Effect::Renew(term) => self.renew(term, ctx),
                Effect::Resign(term) => {
                    let elector = self.elector.clone();
                    // Whether the store heard it or not, the term lapses.
                    let resigned = async move { answer_of(async { elector.resign(term).await }).await };
                    ctx.spawn(resigned.into_actor(self).map(|resigned, actor, _| actor.resigned(&resigned)));
                }
                Effect::Gained(term, former, undecided_from) => {
                    self.set_withdrawn(None);
                    self.record_gap(term, undecided_from);
                    if self.machine.lease().is_none() && self.check.is_some() {
                        self.reconsider_later(ctx);
                    }
                    meters.leader.set(1);
                    meters.term.set(term.0 as f64);
                    meters.leadership_changes.increment(1);
                    node.publisher.publish(|| EventKind::LeadershipGained { term });
                    if let Some((from, to)) = changed(former, &node.zone_data) {
                        let (from, to) = (from.to_string(), to.to_string());
                        node.publisher.publish(|| EventKind::ZoneDataChanged { from, to });
                    }
                    self.reports.do_send(Report::LeadershipChanged(Some(term)));
                }
                Effect::Lost(term, why) => {
                    if let Some(timer) = self.reconsider.take() {
                        ctx.cancel_future(timer);
                    }
                    node.leader.led(node.clock.elapsed());
                    meters.leader.set(0);
                    meters.leadership_changes.increment(1);
                    node.publisher.publish(|| EventKind::LeadershipLost { term, why });
                    self.reports.do_send(Report::LeadershipChanged(None));
                }
            }
        }
    }

    /// Records for how long nobody was known to lead, or, if the store knows it, to decide ticks.
    fn record_gap(&self, term: Term, undecided_from: Option<DateTime<Utc>>) {
        // Whoever has a lease may be succeeded.
        if self.machine.lease().is_none() {
            return;
        }
        let node = &self.node;
        node.recorder.decision(0, node.clock.elapsed(), || {
            let (to, since) = (node.store_time(), node.clock.elapsed().saturating_sub(node.leader.last().at));
            let from = to.checked_sub_signed(TimeDelta::from_std(since).unwrap_or_default()).unwrap_or(to);
            let from = undecided_from.map_or(from, |undecided| undecided.min(from));
            let record = DecisionRecord::new(None, to, node.id, Decision::LeaderGap { from, to });
            DecisionRecord { term: Some(term), ..record }
        });
    }

    fn campaign(&mut self, ctx: &mut Context<Self>) {
        let elector = self.elector.clone();
        let started = self.node.clock.elapsed();
        let patience = self.patience();
        let unfit = self.examine(ctx);
        let withdraws = unfit.is_some() && self.announced;
        // Who would rather not lead must not wait for this node.
        self.announced &= !withdraws;
        let span = span::of(self.node.id);
        let call = async move {
            match unfit {
                Some((_, reason)) if withdraws => {
                    // No answer: it says so again when it considers the next campaign.
                    drop(answer_of(async { elector.observe(false).await }).await);
                    Err(reason)
                }
                Some((_, reason)) => Err(reason),
                None => {
                    let campaign = async { elector.campaign(patience).await };
                    answer_within(CALL_DEADLINE.saturating_add(patience), campaign).await
                }
            }
        };
        let call = call.instrument(span.clone());
        let answered = call.into_actor(self).map(move |answer, actor, ctx| {
            let answer = actor.unless_unfit(answer, ctx);
            span::ended(&span, &answer);
            let answer = actor.heard(Operation::Campaign, answer);
            if let Some(Campaign::Lost { leader: Some(leader), .. }) = answer {
                actor.node.leader.heard(leader, actor.node.clock.elapsed());
            }
            // Whichever term it was, it is not renewed any more.
            actor.node.failures.dropped(Operation::Renew);
            actor.step(Input::CampaignEnded { started, answer }, ctx);
        });
        if let Some(former) = self.call.replace(ctx.spawn(answered)) {
            ctx.cancel_future(former);
        }
    }

    /// How long a campaign may wait for the present leader. What may speak against this node, except its
    /// clock, is looked at between two campaigns only; and who leads is to be known again well within the
    /// lease.
    fn patience(&self) -> Duration {
        let of_lease = self.lease * 7 / 10;
        match self.considers() || self.node.job_threads.exist() {
            true => of_lease.min(PATIENCE_MAX),
            false => of_lease,
        }
    }

    /// Gives a term back that was won after this node became unfit to lead: no answer, and the reason.
    fn unless_unfit(
        &mut self,
        answer: Result<Campaign, String>,
        ctx: &mut Context<Self>,
    ) -> Result<Campaign, String> {
        let Ok(Campaign::Won(grant)) = &answer else { return answer };
        let Some((_, reason)) = self.examine(ctx) else { return answer };
        self.perform(Effects::from_iter([Effect::Resign(grant.term)]), ctx);
        Err(reason)
    }

    fn renew(&mut self, term: Term, ctx: &mut Context<Self>) {
        if let Some((why, reason)) = self.examine(ctx) {
            tracing::warn!(target: "callsheet", %term, reason, "this node is not fit to lead");
            ctx.notify(Unfit(why));
            return;
        }
        self.consider_leading(ctx);
        let elector = self.elector.clone();
        let started = self.node.clock.elapsed();
        let call = async move { answer_of(async { elector.renew(term).await }).await };
        let answered = call.into_actor(self).map(move |answer, actor, ctx| {
            let answer = actor.heard(Operation::Renew, answer);
            actor.step(Input::RenewalEnded { term, started, answer }, ctx);
        });
        if let Some(former) = self.call.replace(ctx.spawn(answered)) {
            ctx.cancel_future(former);
        }
    }

    /// Why this node must not lead at present, if it must not.
    fn examine(&mut self, ctx: &mut Context<Self>) -> Option<(StepDownReason, String)> {
        if self.node.measure_store_clock() {
            self.reports.do_send(Report::StoreClockMoved);
        }
        let now = self.node.clock.elapsed();
        let asked_at = match self.asked_arbiters_at {
            Some(asked_at) => asked_at,
            None => {
                let turned = self.node.job_threads.ping();
                ctx.spawn(turned.into_actor(self).map(|_, actor, _| actor.asked_arbiters_at = None));
                *self.asked_arbiters_at.insert(now)
            }
        };
        let silent = now.saturating_sub(asked_at);
        if let Some(lease) = self.machine.lease() {
            self.stall_max = lease.duration * STALL_LEASES;
        }
        if silent > self.stall_max {
            let reason = format!("a thread of the job actors has not answered for {silent:.1?}");
            return Some((StepDownReason::Stalled, reason));
        }
        self.node.clock_offset.refusal().map(|reason| (StepDownReason::ClockOffset, reason))
    }

    fn heard<T>(&mut self, operation: Operation, answer: Result<T, String>) -> Option<T> {
        self.call = None;
        self.noted(operation, answer)
    }

    fn noted<T>(&self, operation: Operation, answer: Result<T, String>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.node.failures.succeeded(operation);
                Some(answer)
            }
            Err(reason) => {
                self.node.failures.failed(operation, &reason);
                self.node.publisher.publish(|| EventKind::LeadershipUnavailable { reason });
                None
            }
        }
    }

    /// What could not be given up must lapse.
    fn resigned(&self, answer: &Result<(), String>) {
        match answer {
            Ok(()) => self.node.failures.succeeded(Operation::Resign),
            Err(reason) => self.node.failures.failed(Operation::Resign, reason),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = self.machine.wake_in(self.node.clock.elapsed()).map(|wait| {
            ctx.run_later(wait.max(TIMER_MIN), |actor, ctx| {
                actor.timer = None;
                actor.step(Input::WakeUp, ctx);
            })
        });
    }
}

/// A leader whose job actors have not answered for so many leases leaves the lead to another node.
const STALL_LEASES: u32 = 2;
/// The same for a node that never led.
const STALL_MAX: Duration = Duration::from_secs(10);
/// The shortest timer: a reading just before an instant must not make the actor spin.
const TIMER_MIN: Duration = Duration::from_millis(1);

/// A node that looks at more than its clock before it campaigns looks again after so long.
const PATIENCE_MAX: Duration = Duration::from_millis(3_500);

/// The answer of the elector, or why there is none.
async fn answer_of<T, E: std::error::Error>(call: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    answer_within(CALL_DEADLINE, call).await
}

async fn answer_within<T, E: std::error::Error>(
    deadline: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match contained_within(deadline, call).await {
        Ok(answer) => answer.map_err(|error| bounded(error, TEXT_MAX)),
        Err(none) => Err(none.as_str().to_owned()),
    }
}

impl Actor for ElectionActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        // It was told to, and has given the term up before. Or it dies of a panic, and nobody renews the term
        // any more: during the unwinding nothing here may panic again, as clocks and metrics of others may.
        if let Some(term) = self.machine.abandon() {
            self.node.leadership.set(None, None);
            self.reports.do_send(Report::Died(term));
        }
    }
}

#[cfg(any(test, feature = "testkit"))]
impl Handler<Die> for ElectionActor {
    type Result = ();

    fn handle(&mut self, _: Die, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("the rig killed the election actor"));
    }
}

impl Handler<SessionChanged> for ElectionActor {
    type Result = ();

    fn handle(&mut self, change: SessionChanged, ctx: &mut Self::Context) {
        for call in [self.call.take(), self.considering.take()].into_iter().flatten() {
            ctx.cancel_future(call);
        }
        // As the store takes it of a new session.
        self.announced = true;
        match change {
            SessionChanged::Opened => self.step(Input::SessionOpened, ctx),
            SessionChanged::Lost => {
                // Neither is asked without a session; that there is none is said by itself.
                self.node.failures.dropped(Operation::Observe);
                self.node.failures.dropped(Operation::Campaign);
                self.node.failures.dropped(Operation::Renew);
                self.step(Input::SessionLost, ctx);
            }
        }
    }
}

impl Handler<TermRefused> for ElectionActor {
    type Result = ();

    fn handle(&mut self, TermRefused(term): TermRefused, ctx: &mut Self::Context) {
        self.step(Input::Deposed { term }, ctx);
    }
}

impl Handler<Unfit> for ElectionActor {
    type Result = ();

    fn handle(&mut self, Unfit(why): Unfit, ctx: &mut Self::Context) {
        self.step(Input::Unfit { why }, ctx);
    }
}

impl Handler<EndCandidacy> for ElectionActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: EndCandidacy, ctx: &mut Self::Context) -> Self::Result {
        let resigned = self.give_up(Input::Resign, ctx);
        Box::pin(resigned.map(|_, _, _| ()))
    }
}

impl ElectionActor {
    /// Gives the term up, if there is one. Answers whether there was, when the store knows, or does not
    /// answer.
    fn give_up(&mut self, input: Input, ctx: &mut Context<Self>) -> ResponseActFuture<Self, bool> {
        // The call under way goes on: a renewal that is given up half-way may have been made, and an elector
        // that gave up its connection with it could not end the term any more; a term that is won now is
        // given back.
        let term = self.machine.term(self.node.clock.elapsed()).map(|(term, _)| term);
        let effects = self.machine.step(self.node.clock.elapsed(), input);
        self.show();
        let others = effects.into_iter().filter(|effect| !matches!(effect, Effect::Resign(_))).collect();
        self.perform(others, ctx);
        self.arm(ctx);
        let elector = self.elector.clone();
        let resigned = async move {
            match term {
                Some(term) => answer_of(async { elector.resign(term).await }).await,
                None => Ok(()),
            }
        };
        Box::pin(resigned.into_actor(self).map(move |resigned, actor, _| {
            actor.resigned(&resigned);
            term.is_some()
        }))
    }
}

impl Handler<PingElection> for ElectionActor {
    type Result = ();

    fn handle(&mut self, _: PingElection, _: &mut Self::Context) {}
}

impl Handler<StopElection> for ElectionActor {
    type Result = ();

    fn handle(&mut self, _: StopElection, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
